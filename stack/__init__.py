"""The local stack: embedded Valkey and Postgres as our own children, and the Procfile under one supervisor."""
