"""What the examples share; imported before everything else, since Equinox reads its setting once.
Compiled programs are kept on disk, so that a second run starts at once."""

import os
import time
from pathlib import Path

os.environ.setdefault("EQX_ON_ERROR", "off")  # programs that raise errors cannot be kept

import jax

jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/neuronal-ensembles"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
began = time.perf_counter()


def say(text):
    """Print `text` with the seconds since the start."""
    print(f"{text} [{time.perf_counter() - began:.0f} s]", flush=True)


def save(figure, name):
    """Save a figure as ``examples/figures/<name>.png``."""
    folder = Path(__file__).parent / "figures"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=150)
    say(f"\nfigure: examples/figures/{name}.png")
