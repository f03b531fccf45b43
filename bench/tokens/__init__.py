"""Measures token estimates against a tokenizer."""
