"""Turns request bodies into jobs, one module per endpoint."""
