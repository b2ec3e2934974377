"""Losses together: sets that share passes, and building them from configurations."""
