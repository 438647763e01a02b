"""The layer maps φ, one a file."""
