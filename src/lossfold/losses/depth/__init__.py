"""Losses of depth, disparity and flow, whose targets have holes."""
