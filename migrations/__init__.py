"""Alembic migrations, forward only, one idea each."""
