"""Losses of shapes: of boundaries, distances and skeletons."""
