"""Runs embedded Valkey, Postgres and the Procfile under one supervisor."""
