"""Reads and writes dead letters and their replays."""
