"""Examples in the gallery share a process; each begins as if it were alone."""

import sys

import jax


def begin(gallery, file):
    """In single precision, and with a clock of its own."""
    sys.modules.pop("_setup", None)
    jax.config.update("jax_enable_x64", False)
