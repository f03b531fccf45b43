"""Records budget thresholds and delivers webhooks."""
