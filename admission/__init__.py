"""Admits calls through Redis: gate, token buckets, ledger counters. No other package imports redis."""
