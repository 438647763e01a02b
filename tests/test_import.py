"""What an import costs."""

import subprocess
import sys


def test_what_takes_long_to_load_is_loaded_when_it_is_used():
    heavy = (
        "scipy.stats",
        "scipy.sparse",
        "scipy.optimize",
        "matplotlib",
        "optax",
        "ott",
        "xarray",
    )
    code = f"import ensembles, limits, sys; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
