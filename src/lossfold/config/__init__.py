"""Configurations: losses from dicts and files, back to them, and the schema that editors read."""
