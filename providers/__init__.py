"""Calls models and judges their replies. No other package of the service imports openai."""
