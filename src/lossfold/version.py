"""The version, apart so that building needs no torch."""

VERSION = "0.1.0"
