"""The pair fold."""
