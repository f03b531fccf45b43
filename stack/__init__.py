"""Runs the local stack: embedded Valkey and Postgres as child processes, and the Procfile under one supervisor."""
