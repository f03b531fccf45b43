"""Measures the gate alone, with light driver processes."""
