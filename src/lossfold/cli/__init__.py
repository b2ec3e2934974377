"""The command ``lossfold``."""
