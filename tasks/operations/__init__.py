"""Serves operators: controls, status, limits, tenants and provider accounts."""
