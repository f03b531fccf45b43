"""Applies the shares and quotas of tenants."""
