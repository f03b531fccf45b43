"""Serves the resources of OpenAI's API under `/v1`, so that the official SDK works unchanged."""
