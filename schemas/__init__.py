"""The types of the domain. No I/O, no clocks, no randomness."""
