"""The window fold."""
