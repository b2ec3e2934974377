"""Frozen networks whose features losses compare, and where their weights come from."""
