"""Stores jobs, attempts, ledger, files and batches in Postgres. No other package imports sqlalchemy."""
