"""Rates: numbers or functions of time, one for all layers or one for each."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembles.internal import concrete, is_number, shape_of, shown, takes

_SAMPLES, _TURNS, _SHARES = 2**12, 256, 16

Schedule = Callable[[Array], Array]
Rates = ArrayLike | Schedule | Sequence[ArrayLike | Schedule]


def schedules(
    name: str, rates: Rates, zero: str, per: str | None = "layer"
) -> tuple[Array | Schedule, ...]:
    """`rates` as finite numbers ≥ 0 or functions of time; one or several, one for each `per` (one
    alone where that is None); `zero` says what 0 is."""
    given: Any = rates
    one = isinstance(given, str) or not isinstance(given, Sequence)
    each: tuple[Any, ...] = (given,) if one else tuple(given)
    lists = "" if per is None else f", or a list of them, one per {per}"
    asked = f"{name} must be a number{' or' if per is None else ','} a function of time{lists}"
    array = isinstance(given, jax.Array | np.ndarray) and given.ndim
    if array or isinstance(given, Mapping):
        raise ValueError(f"{asked}, got {shown(given)}: write {_as_list(given, per)}")
    if per is None and len(each) > 1:
        raise ValueError(f"{asked}, got a list of {len(each)}: write one of them")
    message = f"{name} must be finite numbers ≥ 0 or functions of time, got {{}}: 0 {zero}"
    if not each:
        raise ValueError(message.format("none"))
    for r in each:
        if callable(r):
            takes(name, r, 1, "the time", "write lambda t: 1 / (1 + t)")
            time = jax.ShapeDtypeStruct((), jnp.result_type(float))
            shape_of(f"{name} must fit a time ()", lambda t, f=r: jnp.asarray(f(t)), time)
    held: list[Any] = [r if callable(r) else scalar(r, message) for r in each]
    return tuple(held)


def _as_list(given: Any, per: str | None) -> str:
    """What to write for the rates in an array or a dictionary."""
    if per is None:
        return "1.0, or lambda t: 1 / (1 + t)"
    if isinstance(given, Mapping):
        return f"a list, [1.0, 0.1, ...], in the order of the {per}s"
    entries = [f"r[{i}]" for i in range(len(given))]
    return f"[{', '.join(entries if len(entries) <= 3 else [entries[0], '...', entries[-1]])}]"


def scalar(rate: ArrayLike, message: str) -> Array:
    """`rate` as a finite scalar ≥ 0, an error with `message` and what to write otherwise."""
    known = concrete(rate)
    if not is_number(rate) or (known is not None and not 0 <= known < float("inf")):
        raise ValueError(f"{message.format(shown(rate))}; write {_in_place_of(rate)}")
    return jnp.asarray(rate, jnp.result_type(float))


def _in_place_of(rate: Any) -> str:
    """What to write in place of something that is no number ≥ 0, where that can be told."""
    try:
        meant = abs(float(rate))
    except (TypeError, ValueError):
        return "1.0"
    return f"{meant!r}" if 0 < meant < float("inf") else "1.0"


def check_schedules(
    name: str, rates: tuple[Array | Schedule, ...], layers: int, what: str = "layers"
) -> None:
    """Raise `ValueError` unless there is one rate, or one for each of so many layers, and those
    that are functions of time give one number. `check_values` asks which, over a run."""
    if len(rates) not in (1, layers):
        raise ValueError(
            f"{name} must be one for all or one for each of the {layers} {what}, got {len(rates)}"
        )
    for schedule in varying(rates):
        rate = jnp.asarray(schedule(jnp.asarray(0.0)))
        known = concrete(rate)
        if rate.shape != () or jnp.iscomplexobj(rate):
            raise ValueError(
                f"{name} must be functions of time that return one finite number ≥ 0, got "
                f"{rate if known is None else known} at t = 0: write lambda t: 1 / (1 + t), or a "
                "list of functions, one for each layer"
            )


def check_values(timed: dict[str, tuple[Schedule, ...]], t0: ArrayLike, t1: ArrayLike) -> None:
    """Raise `ValueError` unless rates that are functions of time are finite and ≥ 0 at 4,097 times
    from t0 to t1; `timed` has them by name. Times and rates that are being traced pass."""
    ends = concrete(t0), concrete(t1)
    if ends[0] is None or ends[1] is None or not any(timed.values()):
        return
    given = jnp.result_type(t1)
    dtype = given if jnp.issubdtype(given, jnp.floating) else jnp.result_type(float)
    grid = jnp.linspace(t0, t1, _SAMPLES + 1, dtype=dtype)
    for name, each in timed.items():
        for schedule in each:
            rates = concrete(_sampled(schedule, grid))
            if rates is None:
                continue
            finite = np.isfinite(rates)
            rounding = 64 * np.finfo(rates.dtype).eps * np.abs(rates[finite]).max(initial=0)
            good = finite & (rates >= -rounding)  # 1 - 0.1 t may end a little below 0
            if good.all():
                continue
            first = int((~good).argmax())
            raise ValueError(
                f"{name} must be functions of time that return one finite number ≥ 0 from "
                f"t0={ends[0]:.6g} to t1={ends[1]:.6g}, got {rates[first]} at t = "
                f"{float(grid[first]):.6g}: write lambda t: 1 / (1 + t), or jnp.maximum(0, ...)"
            )


def rates_at(
    rates: tuple[Array | Schedule, ...], layers: int, t: Float[Array, ""], dtype: jnp.dtype
) -> list[Float[Array, ""]]:
    """The rate of every layer at time t; NaN for a negative number, which only one that is traced
    can be."""
    each = rates if len(rates) == layers else rates * layers

    def at(rate: Array | Schedule) -> Array:
        if callable(rate):
            return jnp.asarray(_value(rate, t), dtype)
        held = jnp.asarray(rate, dtype)
        return held if concrete(held) is not None else jnp.where(held >= 0, held, jnp.nan)

    return [at(rate) for rate in each]


def zero(rate: Array | Schedule) -> bool:
    """Whether a rate is known to be 0 at all times."""
    known = None if callable(rate) else concrete(rate)
    return known is not None and bool(known == 0)


def varying(rates: tuple[Array | Schedule, ...]) -> tuple[Schedule, ...]:
    """Those of the rates that are functions of time."""
    return tuple(r for r in rates if callable(r))


def turning_points(
    schedules: tuple[Schedule, ...], t0: Float[Array, ""], t1: Float[Array, ""]
) -> Float[Array, " points"]:
    """Where schedules turn, and where each has passed another sixteenth of its variation, sampled
    at 4,097 times from t0 to t1; filled up with t1.

    A pulse has its peak among them, however small it is compared with others.
    """
    grid = jnp.linspace(t0, t1, _SAMPLES + 1)
    found = []
    for schedule in schedules:
        rates = _sampled(schedule, grid)
        steps = jnp.diff(rates)
        size = jnp.abs(steps)
        moves = jnp.where(size > 1e-6 * size.max(), jnp.sign(steps), 0)
        order = jnp.arange(_SAMPLES, dtype=jnp.int32)
        last = jax.lax.cummax(jnp.where(moves != 0, order, jnp.int32(-1)))  # where it moved last
        before = jnp.concatenate([jnp.full(1, -1, jnp.int32), last[:-1]])
        turns = (moves != 0) & (before >= 0) & (moves[before] != moves)
        passed = jnp.cumsum(size)
        shares = jnp.arange(1, _SHARES, dtype=grid.dtype) / _SHARES * passed[-1]
        quantiles = jnp.searchsorted(passed, shares).astype(jnp.int32) + 1
        quantiles = jnp.where(passed[-1] > 0, quantiles, _SAMPLES)
        places = jnp.nonzero(turns, size=_TURNS, fill_value=_SAMPLES)[0]
        found += [places.astype(jnp.int32), quantiles]
    return jax.lax.stop_gradient(grid[jnp.sort(jnp.concatenate(found))])


@eqx.filter_jit
def _sampled(schedule: Schedule, grid: Float[Array, " n"]) -> Float[Array, " n"]:
    return jax.lax.map(lambda t: _value(schedule, t), grid).astype(grid.dtype)


def _value(schedule: Schedule, t: Float[Array, ""]) -> Array:
    rate = jnp.asarray(schedule(t))
    if rate.shape != ():
        raise ValueError(
            f"rates: a schedule must return one number, got shape {rate.shape}: give a list of "
            "functions, one for each layer"
        )
    return rate
