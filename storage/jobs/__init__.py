"""Writes and reads jobs and their attempts."""
