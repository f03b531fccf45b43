"""Measures a whole stack."""
