"""Builds the objects of each process. Only this package chooses the class for each protocol."""
