"""What one pass over the pixels collects: one file a fold."""
