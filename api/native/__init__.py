"""Serves Penstock's own resources."""
