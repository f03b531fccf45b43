"""Runs the periodic duties, and suspect jobs in processes of their own."""
