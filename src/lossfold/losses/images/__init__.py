"""Losses of images and of other predictions with a target of their kind."""
