"""Moves jobs between states: due work, backlog, early wake, isolation, controls."""
