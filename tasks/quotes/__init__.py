"""Estimates what requests cost and how long they take."""
