"""Runs embedded Valkey and Postgres, and the Procfile, under one supervisor."""
