"""The client of Penstock's HTTP API."""
