"""Measures statements and duties on a full database."""
