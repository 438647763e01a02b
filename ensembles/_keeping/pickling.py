"""Activations in pickles: functions of JAX are found again by their names.

A jitted function pickles as the function it wraps, which Python then finds under its name and
does not find, since that name is the jitted one: `pickle.dumps(jnp.tanh)` fails. The reducers here
say the name itself where it leads back to the very function, and leave everything else as it was.
"""

import copyreg
import sys
from typing import Any

import jax
import jax.numpy as jnp


def _named(function: Any) -> Any:
    """How to pickle `function`: by its name where this finds it."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", "")
    if name and getattr(module, name, None) is function:
        return name
    return function.__reduce_ex__(2)


for kind in (type(jnp.tanh), jnp.ufunc, jax.custom_jvp, jax.custom_vjp):
    copyreg.pickle(kind, _named)  # pyright: ignore[reportArgumentType]
