"""A fault campaign: real processes under load, faults at random moments, and the provider's meter as the judge."""
