"""The children of keys that are reserved: which part of a study draws with which.

`jax.random.fold_in(key, n)` with n = 0, 1, … are seeds, widths and steps, and whatever draws with a
key may split it, whose children are such as well. The numbers here, from the last ones down, are no
child of any of them.
"""

import jax
from jaxtyping import PRNGKeyArray

# Of a study's key
NODES = 2**32 - 1  # random nodes of the limit
FINER = (2**32 - 2, 2**32 - 4, 2**32 - 5)  # finer ones, which tell its error
PROBE = 2**32 - 3  # many nodes at time 0
TOLERANCE = 2**32 - 6  # nodes that `limit` refines

# Of the key of a step, or of a draw from an energy
NOISE = 2**31 - 1  # Gaussians of an Euler–Maruyama step
TERMS = 2**31 - 2  # the terms of a sum of energies, from the second on
JUMPS = 2**31 - 3  # births and deaths
AGAIN = 2**31 - 4  # a second batch in a step


def reserved(key: PRNGKeyArray, use: int) -> PRNGKeyArray:
    """The child of `key` that is reserved for a use, one of the numbers above."""
    return jax.random.fold_in(key, use)
