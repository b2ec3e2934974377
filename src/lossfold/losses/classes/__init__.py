"""Losses of classes: scores against integer labels, or targets of the scores' shape."""
