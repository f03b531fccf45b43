"""Settings and other facts fixed at a process's start. Imports nothing of ours."""
