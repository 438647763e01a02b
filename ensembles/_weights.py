"""Weight functions: initial weights and biases as functions of neurons' labels."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

WeightFunction = Callable[..., Array]


def on_labels(weight: WeightFunction, *labels: Float[Array, "n dim"]) -> Array:
    """The values of a weight function on all combinations of labels.

    With one set of labels `weight(c)` gives shape (n, ...); with two, `weight(c, c')` gives
    (n, n', ...), for whatever trailing shape the function returns.
    """
    for axis in reversed(range(len(labels))):
        weight = jax.vmap(weight, [0 if i == axis else None for i in range(len(labels))])
    return weight(*labels)
