"""Replays, exports and imports dead letters."""
