"""Serves HTTP: OpenAI-compatible under /v1, and native resources. The only home of fastapi."""
