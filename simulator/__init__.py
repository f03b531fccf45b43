"""Simulates an OpenAI-compatible provider with real limits, a meter and faults by name."""
