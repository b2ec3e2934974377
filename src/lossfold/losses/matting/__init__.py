"""Losses of alpha mattes."""
