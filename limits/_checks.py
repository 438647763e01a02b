"""What runs and studies check of their arguments, with errors that name the remedy."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float

from ensembles.internal import positive


def tolerance(name: str, value: ArrayLike | None, dtype: jnp.dtype) -> Float[Array, ""]:
    """`value` as a positive scalar; for None 1e-7, and 1e-5 in single precision."""
    if value is None:
        value = 1e-7 if dtype.itemsize >= 8 else 1e-5
    return positive(name, value, dtype)


def flag(name: str, value: object) -> None:
    """Raise `ValueError` unless `value` is True or False: any word is true."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}: write {name}=False")


def layer_ratios(ratios: Sequence[float] | None, layers: int) -> tuple[float, ...]:
    """r_i > 0 for every hidden layer of widths N_i = r_i N; 1 by default."""
    given = np.ones(layers) if ratios is None else np.asarray(ratios)
    numbers = given.ndim == 1 and given.dtype.kind in "iuf"
    each = tuple(float(r) for r in given) if numbers else ()
    if len(each) != layers or not all(0 < r < float("inf") for r in each):
        raise ValueError(
            f"ratios must be {layers} positive numbers r_i, one per hidden layer (N_i = r_i N), "
            f"got {ratios!r}"
        )
    return each


def confidence(level: float) -> float:
    """`level` as a probability between 0 and 1."""
    known = np.asarray(level)
    number = known.ndim == 0 and np.issubdtype(known.dtype, np.number)
    if not (number and 0 < known < 1):
        percent = number and 1 < known < 100
        raise ValueError(
            f"level must be between 0 and 1, got {level!r}: write level="
            + (f"{float(known) / 100:.6g}" if percent else "0.95")
        )
    return float(known)


def quantile(level: float) -> float:
    """z with P(|Z| ≤ z) = level, Z standard Gaussian."""
    return float(scipy.stats.norm.ppf((1 + confidence(level)) / 2))
