"""Losses of discriminators' outputs, and penalties on their gradients."""
