"""Checks large replies in child processes, which can be killed."""
