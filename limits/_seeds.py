"""Many seeds of one run: their keys, and how many of them go together."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

_ENTRIES = 2**19  # weights per layer that a batch of seeds holds at once


def seed_keys(key: PRNGKeyArray, seeds: int) -> PRNGKeyArray:
    """`fold_in(key, s)` for s = 0, …, seeds − 1."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(seeds))


def over_seeds(run: Callable[[PRNGKeyArray], Any], keys: PRNGKeyArray, width: int) -> Any:
    """`run` of every key, in batches that hold a bounded number of weights at layers of `width`."""
    together = int(np.clip(_ENTRIES // width**2, 1, keys.shape[0]))
    return jax.lax.map(run, keys, batch_size=None if together == 1 else together)
