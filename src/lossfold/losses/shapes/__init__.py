"""Losses of shapes: of boundaries, distances and skeletons, which are made of the targets alone."""
