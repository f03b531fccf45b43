"""Decides which budget counters a job counts against, and what follows when one is spent. Pure."""
