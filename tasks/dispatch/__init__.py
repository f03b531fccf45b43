"""Publishes waiting jobs within a prefetch window per flow."""
