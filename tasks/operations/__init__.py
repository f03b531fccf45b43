"""Serves operators: controls, status, limits, tenants and accounts."""
