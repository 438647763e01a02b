"""What is pickled in double precision comes back in it, or not at all."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp


class Kept(eqx.Module):
    """The base of what users pickle: networks, measures, ensembles, data and results.

    JAX makes arrays of double precision single where it has no other, without an error. Unpickled
    there, these raise `ValueError`, as `load` does.
    """

    def __getstate__(self) -> dict[str, Any]:
        double = any(
            isinstance(leaf, jax.Array) and leaf.dtype in (jnp.float64, jnp.int64)
            for leaf in jax.tree.leaves(self)
        )
        return vars(self) | {"__double__": double}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        if state.pop("__double__", False) and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError(
                f"{type(self).__name__} was pickled in double precision, and would be in single "
                'precision here: write jax.config.update("jax_enable_x64", True) before loading'
            )
        for name, value in state.items():
            object.__setattr__(self, name, value)
