"""The dense fold."""
