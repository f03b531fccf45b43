"""The words of the product as types. No I/O, no clocks, no chance."""
