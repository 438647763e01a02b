"""Many seeds of one run: their keys, and how many of them are solved together."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble

from .._dynamics.dynamics import Update
from .._energies.energy import Energy
from .solver import Solver
from .time import Observe
from .trajectory import Trajectory

T = TypeVar("T")

_ENTRIES = 2**26  # weights per layer that runs solved together hold
_CACHED = 2**17  # the same on processors, in whose cache they should stay


@eqx.filter_jit
def seed_keys(key: PRNGKeyArray, seeds: int) -> PRNGKeyArray:
    """Two keys for each s = 0, …, seeds − 1, the split of `fold_in(key, s)`: one for the network,
    one for what else is random in its run."""
    each = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(seeds))
    return jax.vmap(jax.random.split)(each)


@eqx.filter_jit
def samples(
    ensemble: NeuronalEnsemble, keys: PRNGKeyArray, width: tuple[int, ...], room: tuple[int, ...]
) -> Network:
    """A finite network for the first of each two keys, padded to `room`."""
    return jax.vmap(lambda key: ensemble.sample(width, key=key).padded(room))(keys[:, 0])


def together(width: int, seeds: int) -> int:
    """How many of so many runs of layers of `width` go together, in batches of bounded memory that
    are about equal."""
    entries = _CACHED if jax.default_backend() == "cpu" else _ENTRIES
    most = int(np.clip(entries // width**2, 1, seeds))
    return -(-seeds // -(-seeds // most))


def batches(keys: int, size: int) -> int:
    """How many batches of `size` hold so many keys."""
    return -(-keys // size)


def map_over_seeds(
    run: Callable[[PRNGKeyArray], T],
    keys: PRNGKeyArray,
    size: int,
    done: Callable[[], None] = lambda: None,
) -> T:
    """`run` of batches of `size` keys, in NumPy arrays; the last batch repeats the last key.
    `done` is called after each.

    On processors a batch for every core at once, after the first, which compiles; one after another
    where JAX has settings of this thread alone (`with jax.enable_x64(True)`).
    """

    def batch(first: int) -> Any:
        some = jnp.take(keys, np.arange(first, first + size), axis=0, mode="clip")
        found = jax.tree.map(np.asarray, run(some))
        done()
        return found

    parts, rest = [batch(0)], range(size, len(keys), size)
    cores = os.cpu_count() if jax.default_backend() == "cpu" else 1
    with ThreadPoolExecutor(cores) as pool:
        parts += (pool.map if alike_elsewhere() else map)(batch, rest)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(keys)], *parts)


def alike_elsewhere() -> bool:
    """Whether JAX has the same settings in other threads as in this one."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(_settings).result() == _settings()


def _settings() -> dict[str, Any]:
    """JAX's, as they are in this thread."""
    return dict(jax.config.values)


@eqx.filter_jit
def run_all(
    solver: Solver,
    networks: Network,
    energy: Energy,
    dynamics: Update,
    times: Array,
    observe: Observe,
    keys: PRNGKeyArray | None = None,
) -> Trajectory:
    """The trajectories of a stack of networks, each with its own steps (and second of two keys)."""
    keys = None if keys is None else keys[:, 1]

    def one(network: Network, key: PRNGKeyArray | None) -> Trajectory:
        return solver.run(network, energy, dynamics, times=times, observe=observe, key=key)

    if jax.tree.leaves(networks)[0].shape[0] == 1:
        alone, key = jax.tree.map(lambda a: a[0], (networks, keys))
        return jax.tree.map(lambda a: a[None], one(alone, key))
    return jax.vmap(one)(networks, keys)
