"""Probability spaces that labels live in, one a file."""
