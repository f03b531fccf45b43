"""Notices budget thresholds and delivers webhooks."""
