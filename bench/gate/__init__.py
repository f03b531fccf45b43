"""Measures the admission gate alone, with light driver processes."""
