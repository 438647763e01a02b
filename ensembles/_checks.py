"""What the public boundary checks: concrete values only, with errors that name the remedy."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def concrete(x: Any) -> np.ndarray | None:
    """The values of `x` on the host, or None while `x` is being traced."""
    try:
        return np.asarray(x)
    except jax.errors.TracerArrayConversionError:
        return None


def floating(name: str, x: Any, ndim: int | None = None) -> Array:
    """`x` as a finite floating array of `ndim` axes; a `ValueError` naming `name` otherwise."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be floating, got dtype {x.dtype}: write {name}.astype(float) "
            "(class labels: jax.nn.one_hot(labels, classes))"
        )
    if ndim is not None and x.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} axes, got shape {x.shape}"
            + (f": write {name}[:, None]" if x.ndim == ndim - 1 else "")
        )
    values = concrete(x)
    if values is not None and not np.isfinite(values).all():
        raise ValueError(
            f"{name} has {np.count_nonzero(~np.isfinite(values))} NaN or infinite entries out of "
            f"{values.size}: remove or impute them first"
        )
    return x


def probabilities(name: str, masses: Any, like: Array) -> Array:
    """`masses` as one non-negative number per row of `like`, in its dtype, summing to 1."""
    masses = jnp.asarray(masses)
    n = like.shape[0]
    if masses.shape != (n,):
        raise ValueError(
            f"{name} must have shape ({n},), one mass per point, got shape {masses.shape}"
        )
    masses = masses.astype(like.dtype)
    values = concrete(masses)
    if values is not None:
        if not (values >= 0).all():
            raise ValueError(
                f"{name} must be non-negative, got {values.min()}: a measure has no negative mass "
                "(put signs into the weights)"
            )
        total = values.sum(dtype=float)
        slack = 1e-9 if values.dtype.itemsize >= 8 else 1e-4
        if abs(total - 1) > slack:
            raise ValueError(
                f"{name} must sum to 1, got a sum of {total}: write {name} / {name}.sum()"
            )
    return masses


def count(name: str, n: Any) -> int:
    """`n` as an int of at least 1."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"{name} must be an int of at least 1, got {n!r}: write {name}=8")
    return int(n)


def counts(name: str, n: Any, layers: int, each: str = "hidden layer") -> tuple[int, ...]:
    """`n` as one int per hidden layer (or `each`); a single int stands for all."""
    if isinstance(n, Sequence | np.ndarray) and not isinstance(n, str):
        if len(n) != layers:
            raise ValueError(
                f"{name} must be an int or one int per {each} ({layers}), got {len(n)}: {n!r}"
            )
        return tuple(count(name, k) for k in n)
    return (count(name, n),) * layers


def randomness(key: Any, reason: str) -> Array:
    """The key that `reason` needs."""
    if key is None:
        raise ValueError(f"key is required: {reason}; write key=jax.random.key(0)")
    return key


def kind(name: str, value: Any, wanted: type | tuple[type, ...], remedy: str) -> None:
    """Raise `ValueError` unless `value` is of a kind that is `wanted`."""
    if isinstance(value, wanted):
        return
    names = [w.__name__ for w in (wanted if isinstance(wanted, tuple) else (wanted,))]
    asked = " or ".join(f"{'an' if n[0] in 'AEIOU' else 'a'} {n}" for n in names)
    if isinstance(value, type):
        found = f"the class {value.__name__} itself"
        remedy = f"write {value.__name__}(...)" if issubclass(value, wanted) else remedy
    else:
        found = type(value).__name__
    raise ValueError(f"{name} must be {asked}, got {found}: {remedy}")
