"""Serves OpenAI's API under `/v1` for the unchanged SDK."""
