"""Builds the concrete objects of each process. Nothing else knows which class stands behind a protocol."""
