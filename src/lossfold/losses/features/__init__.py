"""Losses of what frozen networks make of images."""
