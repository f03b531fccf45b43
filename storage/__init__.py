"""Stores everything durable in Postgres. No other package imports sqlalchemy."""
