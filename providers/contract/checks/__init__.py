"""Checks large replies in child processes that can be given up."""
