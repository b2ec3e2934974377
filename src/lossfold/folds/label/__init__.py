"""The label fold."""
