"""The times of a run: from where to where, when to observe, and what was reached."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembles import Network
from ensembles.internal import called, concrete, is_number, shown, takes

# A function of a network, or a dictionary (or other tree) of functions.
Observe = Callable[[Network], Any] | dict[str, Any] | None


def checkpoints(
    times: ArrayLike | None, t0: ArrayLike, t1: ArrayLike, dtype: jnp.dtype
) -> tuple[Float[Array, ""], Float[Array, " T"]]:
    """t0, and `times` in order as an array in [t0, t1]; t0 and t1 for None. Where only rounding
    takes them beyond an end, or back, they are moved to it, or to the time before."""
    first, last = concrete(t0), concrete(t1)
    for name, given in (("t0", t0), ("t1", t1)):
        if not is_number(given):
            raise ValueError(f"{name} must be a number, got {shown(given)}: write {name}=1.0")
    if first is None or last is None:
        return _traced(times, jnp.asarray(t0, dtype), jnp.asarray(t1, dtype))
    if not (np.isfinite(first) and first >= 0):
        raise ValueError(f"t0 must be a finite time of at least 0, got {first}: write t0=0.0")
    if not (np.isfinite(last) and last > first):
        after = "positive finite time" if first == 0 else f"finite time after t0={first}"
        raise ValueError(f"t1 must be a {after}, got {last}: write t1={first + 1.0}")
    held = np.array([first, last], dtype) if times is None else concrete(times)
    if held is not None and held.dtype.kind not in "iuf":
        raise ValueError(f"times must be numbers, got {times!r}: write jnp.linspace(0, t1, 11)")
    if held is None:
        return _traced(times, jnp.asarray(t0, dtype), jnp.asarray(t1, dtype))
    _check_shape(held)
    slack = 1e-6 * last
    ordered = (np.diff(held) >= -_back(held, last)).all()
    if not (ordered and held[0] >= first - slack and held[-1] <= last + slack):
        raise ValueError(
            f"times must not decrease, from at least {first:.6g} to at most t1={last}, got {held}: "
            f"write jnp.linspace({first:.6g}, t1, 11)"
        )
    ends = np.asarray(first, dtype), np.asarray(last, dtype)
    span = ends[0], np.clip(np.maximum.accumulate(held).astype(dtype), *ends)
    return jnp.asarray(span[0]), jnp.asarray(span[1])


def _traced(times: ArrayLike | None, t0: Array, t1: Array) -> tuple[Array, Array]:
    held = jnp.stack([t0, t1]) if times is None else jnp.asarray(times, t1.dtype)
    _check_shape(held)
    ordered = (jnp.diff(held) >= -_back(held, t1)).all()
    fit = (held[0] >= t0 - t1 * 1e-6) & (held[-1] <= t1 * (1 + 1e-6)) & ordered
    wrong = ~(fit & (t0 >= 0) & (t1 > t0) & jnp.isfinite(t1))
    held = eqx.error_if(
        held, wrong, "times must not decrease, from at least t0 to at most t1, and t1 be after t0"
    )
    return t0, jnp.clip(jax.lax.cummax(held), t0, t1)


def _back(times: Any, last: Any) -> Any:
    """How far rounding may take one of `times` before the one before it."""
    floats = jnp.issubdtype(times.dtype, jnp.floating)
    return 8 * float(jnp.finfo(times.dtype if floats else float).eps) * last


def _check_shape(times: Array | np.ndarray) -> None:
    if times.ndim != 1 or times.size == 0:
        raise ValueError(
            f"times must be an array of at least one time, got shape {times.shape}: write "
            "jnp.linspace(0, t1, 11)"
        )


def observed(observe: Observe, network: Network) -> Any:
    """What `observe`, a function or a tree of functions, gives for `network`."""

    def value(f: Any) -> Any:
        if not callable(f):
            raise ValueError(
                "observe must be a function of a network, or a dictionary of functions, got "
                f"{shown(f)}: write observe=lambda network: network(x)"
            )
        takes("observe", f, 1, "the network", "write observe=lambda network: network(x)")
        with called("observe must fit the network"):
            seen = f(network)
        wrong = [leaf for leaf in jax.tree.leaves(seen) if not eqx.is_array_like(leaf)]
        if wrong:
            raise ValueError(f"observe must return arrays (or trees of them), got {wrong[0]!r}")
        return jax.tree.map(jnp.asarray, seen)

    return jax.tree.map(value, observe, is_leaf=callable)


def nan_after(tree: Any, reached: Array) -> Any:
    """`tree` with every entry along the leading axis set to NaN where not `reached` (T,)."""

    def mask(a: Array) -> Array:
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        return jnp.where(reached.reshape((-1,) + (1,) * (a.ndim - 1)), a, jnp.nan)

    return jax.tree.map(mask, tree)


@jax.custom_jvp
def failing(a: Array, failed: Array, given: Any) -> Array:
    """`a`, which a run found from what is `given`; its derivatives in that are NaN where it has
    `failed`."""
    return a


@failing.defjvp
def _of_failing(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (a, failed, _), (slope, _, moved) = primals, tangents
    leaves = [d for d in jax.tree.leaves(moved) if d.dtype != jax.dtypes.float0]
    lost = jnp.where(failed, jnp.nan, 0).astype(a.dtype)
    return a, slope + sum((lost * d.sum().astype(a.dtype) for d in leaves), start=lost * 0)


def whole_steps(times: Array, step: Array, name: str = "times and t1") -> Array:
    """How many steps reach each of `times`."""
    known, size = concrete(times), concrete(step)
    if known is None or size is None:
        return jnp.round(times / step).astype(int)
    exact = known / size
    off = np.abs(exact - np.round(exact)) > 1e-3 + 1e-6 * exact
    if off.any():
        raise ValueError(
            f"{name} must be multiples of step={float(size):.6g}, got {known[off]}: the nearest "
            f"are {(np.round(exact) * size)[off]}; write times = step * jnp.arange(0, n, k)"
        )
    return jnp.asarray(np.round(exact).astype(jnp.result_type(int)))
