"""Reads batch files, stores their jobs and writes their result files."""
