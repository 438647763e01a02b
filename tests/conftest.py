"""Tests run in float64 with strict promotion; `JAX_ENABLE_X64=0` would be the float32 leg, which
`test_single_precision.py` runs in a process of its own."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

CHECKED = ["ensembles._layers", "ensembles._network.backpropagate", "limits._energies"]
with install_import_hook(CHECKED, "beartype.beartype"):
    import ensembles  # noqa: F401
    import limits  # noqa: F401

from contextlib import contextmanager  # noqa: E402

import jax.monitoring  # noqa: E402
import pytest  # noqa: E402

_COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **kwargs: _COMPILED.append(event) if "backend_compile" in event else None
)


def pytest_configure(config):
    """Programs of small shapes take longer to compile than to run; slow studies are optimised."""
    jax.config.update("jax_disable_most_optimizations", "not slow" in config.getoption("-m"))


@pytest.fixture(scope="module", autouse=True)
def _release_programs():
    """Forget compiled programs after every file: they hold memory maps, which systems limit."""
    yield
    jax.clear_caches()


@pytest.fixture
def compilations():
    """A context manager whose value counts the programs XLA compiled within it."""

    @contextmanager
    def counting():
        before = len(_COMPILED)
        yield lambda: len(_COMPILED) - before

    return counting
