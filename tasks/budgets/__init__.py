"""Chooses a job's budget counters, and decides what follows when one is exhausted. Pure."""
