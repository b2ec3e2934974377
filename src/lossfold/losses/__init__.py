"""The formulas, one family a file."""
