"""Postgres: jobs, attempts, ledger rows, files and batches. The only home of sqlalchemy."""
