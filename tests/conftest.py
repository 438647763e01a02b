"""Tests run in float64 with strict promotion; `JAX_ENABLE_X64=0` would be the float32 leg, which
`test_single_precision.py` runs in a process of its own."""

import gc
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.monitoring
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

CHECKED = ["ensembles._layers", "ensembles._network.backpropagate", "limits._energies"]
with install_import_hook(CHECKED, "beartype.beartype"):
    import ensembles  # noqa: F401
    import limits  # noqa: F401

PLAIN = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"

_COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **kwargs: _COMPILED.append(event) if "backend_compile" in event else None
)


def pytest_configure(config):
    """Programs of small shapes take longer to compile than to run; slow studies are optimised."""
    quick = "not slow" in config.getoption("-m")
    jax.config.update("jax_disable_most_optimizations", quick)
    if quick and not hasattr(config, "workerinput"):  # workers inherit it
        flags = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {PLAIN}"}
        if _starts(flags):
            os.environ.update(flags)


def _starts(settings):
    """Whether JAX knows the settings: it ends a process whose flags it does not know."""
    return not subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, **settings, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
    ).returncode


def pytest_collection_finish():
    """What is there by now stays: looking for garbage in it takes a tenth of the time of a run."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


@pytest.fixture(scope="module", autouse=True)
def _release_programs():
    """Forget compiled programs when they hold three quarters of the memory maps of a process."""
    yield
    if _crowded():
        jax.clear_caches()


def _crowded():
    try:
        taken = Path("/proc/self/maps").read_bytes().count(b"\n")
        return 4 * taken > 3 * int(Path("/proc/sys/vm/max_map_count").read_text())
    except OSError:  # another system, whose limits are not known
        return True


@pytest.fixture
def compilations():
    """A context manager whose value counts the programs XLA compiled within it."""

    @contextmanager
    def counting():
        before = len(_COMPILED)
        yield lambda: len(_COMPILED) - before

    return counting
