"""Chooses a job's budget counters and the steps after exhaustion. Pure."""
