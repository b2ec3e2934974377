"""Losses of masks: every channel a yes or no of its own."""
