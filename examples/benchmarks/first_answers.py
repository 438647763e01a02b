"""How long the first answer takes
==================================

The first call of everything compiles it. Each call below is timed in a fresh process (median of
three) and printed as a ratio to the first call of ``train``, split into what JAX traces, what XLA
compiles and the rest, with the second, warm call beside. Before them: the import, beyond JAX's own.
"""

import multiprocessing
import time
from collections import defaultdict

import numpy as np

REPEATS = 3


# %%
# What is called: the network of the README, at the smallest sizes.


def calls():
    """Functions without arguments, by name."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from ensembles import Affine, NeuronalEnsemble, Uniform
    from limits import Data, Risk, coupling, flow, fluctuations, limit, train

    jax.config.update("jax_enable_x64", True)
    ensemble = NeuronalEnsemble(
        [Uniform(-1.0, 1.0), Uniform(-1.0, 1.0)],
        [
            lambda c: jnp.stack([jnp.sin(2 * c[0]), c[0]]),
            lambda c, e: 1 + jnp.sin(c[0] + 2 * e[0]),
            lambda c: jnp.cos(3 * c),
        ],
        layers=Affine(jnp.tanh),
    )
    x = jax.random.normal(jax.random.key(0), (32, 2))
    risk = Risk(Data(x, jnp.sin(x[:, :1] * x[:, 1:])))
    network = ensemble.sample(16, key=jax.random.key(1))
    times = jnp.linspace(0, 1, 11)

    def outputs(network):
        return network(x[:4])[:, 0]

    @eqx.filter_jit
    def slope(network):
        return eqx.filter_grad(lambda n: flow(n, risk, t1=1.0, times=times).energies[-1])(network)

    def couple(widths):
        return coupling(
            ensemble, risk, widths=widths, seeds=4, t1=1.0, nodes=8, key=jax.random.key(2)
        ).sup

    return {
        "train": lambda: train(network, risk, step=0.1, t1=1.0, times=times).energies,
        "flow": lambda: flow(network, risk, t1=1.0, times=times).energies,
        "gradient of a flow": lambda: slope(network),
        "fluctuations, 8 nodes": lambda: (
            fluctuations(ensemble, risk, outputs, t1=1.0, times=times[::5], nodes=8).variance
        ),
        "limit": lambda: limit(ensemble, risk, t1=1.0, times=times).energies,
        "coupling, 2 widths": lambda: couple([8, 16]),
        "coupling, 5 widths": lambda: couple([8, 16, 32, 64, 128]),
    }


# %%
# One measurement, in a process of its own.


def measure(name):
    """Seconds: the first call, of it tracing and compiling, and a warm call."""
    import jax

    spent = defaultdict(float)
    call = calls()[name]
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: spent.__setitem__(event, spent[event] + seconds)
    )
    start = time.perf_counter()
    jax.block_until_ready(call())
    first = time.perf_counter() - start
    parts = [spent[f"/jax/core/compile/{what}_duration"] for what in PARTS]
    warm = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(call())
        warm.append(time.perf_counter() - start)
    return first, parts[0] + parts[1], parts[2], float(np.median(warm))


PARTS = ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
NAMES = (
    "train", "flow", "gradient of a flow", "fluctuations, 8 nodes", "limit", "coupling, 2 widths",
    "coupling, 5 widths",
)  # fmt: skip

# %%
# The import.


def importing():
    """Seconds of importing JAX, and the library after it."""
    began = time.perf_counter()
    import jax.numpy  # noqa: F401

    middle = time.perf_counter()
    import ensembles  # noqa: F401
    import limits  # noqa: F401

    return middle - began, time.perf_counter() - middle


# %%
# All of them, one after the other.

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    print(f"{'first call':>24}{'ratio':>8}{'s':>8}{'trace':>8}{'compile':>9}{'rest':>7}{'warm':>9}")
    rows = []
    for _ in range(REPEATS):
        with spawn.Pool(1) as pool:
            rows.append(pool.apply(importing))
    print("import: JAX {:.2f} s, this library after it {:.2f} s".format(*np.median(rows, axis=0)))
    unit = None
    for name in NAMES:
        rows = []
        for _ in range(REPEATS):
            with spawn.Pool(1) as pool:
                rows.append(pool.apply(measure, (name,)))
        first, trace, compiling, warm = np.median(rows, axis=0)
        unit = first if unit is None else unit
        print(
            f"{name:>24}{first / unit:8.1f}{first:8.2f}{trace:8.2f}{compiling:9.2f}"
            f"{first - trace - compiling:7.2f}{warm:9.4f}",
            flush=True,
        )
