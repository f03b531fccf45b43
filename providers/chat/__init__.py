"""Reads and writes the wire format of chat completions. Pure."""
