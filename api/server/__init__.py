"""The HTTP server: connections with time-outs and a cap, in place of uvicorn's, which have neither."""
