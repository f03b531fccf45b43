"""Settings and other facts that are fixed when a process starts. Imports nothing of ours."""
