"""DOOR: HTTP, OpenAI-compatible under /v1 and native beside it. The only home of fastapi."""
