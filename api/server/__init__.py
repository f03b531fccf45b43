"""The HTTP server: uvicorn with connection time-outs and caps."""
