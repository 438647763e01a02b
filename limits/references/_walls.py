"""Walls of grids: which of them are the problem's, and how much mass the others hold."""

import warnings
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembles import Gaussian, Product, Space, Torus, Uniform
from ensembles.internal import concrete

_MUCH = 1e-3
_SMEARED = 3  # cells of a wall in which mass sits that is pushed against it

Real = tuple[tuple[bool, bool], ...]


class CutDomain(UserWarning):
    """Walls of a box hold mass, and are only numerical."""


def real_walls(name: str, space: Space | None, low: ArrayLike, high: ArrayLike) -> Real:
    """Which walls, low and high, of each axis of a box are walls of `space`; none where it is None.

    Raises `ValueError` for spaces that are no boxes, and boxes that are not inside of them.
    """
    box = [np.atleast_1d(np.asarray(end, float)) for end in (low, high)]
    dim = len(box[0])
    ends = [(-np.inf, np.inf)] * dim if space is None else list(_ends(name, space))
    if len(ends) != dim:
        raise ValueError(f"{name} must have the dimension {dim} of the grid, got {len(ends)}")
    walls = np.array(ends).T
    slack = 1e-6 * (box[1] - box[0])
    if (box[0] < walls[0] - slack).any() or (box[1] > walls[1] + slack).any():
        raise ValueError(
            f"low and high must be inside of {name}, from {walls[0]} to {walls[1]}, got {low} and "
            f"{high}: nothing lives beyond its walls"
        )
    at = (box[0] <= walls[0] + slack, box[1] >= walls[1] - slack)
    return tuple((bool(a), bool(b)) for a, b in zip(*at, strict=True))


def _ends(name: str, space: Space) -> Iterator[tuple[float, float]]:
    if isinstance(space, Product):
        for factor in space.spaces:
            yield from _ends(name, factor)
    elif isinstance(space, Uniform):
        yield from zip(np.asarray(space.low).tolist(), np.asarray(space.high).tolist(), strict=True)
    elif isinstance(space, Torus | Gaussian):
        flat = (0.0, 1.0) if isinstance(space, Torus) else (-np.inf, np.inf)
        yield from [flat] * space.dim
    else:
        raise ValueError(
            f"{name} must be a box for a grid, got {type(space).__name__}({space.dim}): write "
            "coordinates of which it is one, an angle say"
        )


def cut_off(
    masses: Array, psi: Array, widths: Array, temperature: Array, time: ArrayLike, real: Real
) -> Float[Array, "dim 2"]:
    """About how much mass each wall, low and high, of each axis holds that would be beyond it; 0 at
    those that are real.

    With ρ the density at the wall and s = ∂_n Ψ outward: at a temperature τ the mass of the
    tail, ρ τ/s for s > 0, of ρ e^{−s r/τ} at distances r beyond, at most that of as much room again
    as the box has, and what diffuses in `time`, ρ √(τ t/π); without, what would have crossed in
    `time` for s < 0, at most what is in the last three cells. At most 1.
    """
    each = []
    for axis, (h, walls) in enumerate(zip(widths, real, strict=True)):
        for side, is_real in zip((1, -1), walls, strict=True):
            m, v = (jnp.moveaxis(a, axis, 0)[::side] for a in (masses, psi))
            rise = (2 * (v[0] - v[1]) - (v[1] - v[2])) / h  # linear, to the wall itself
            room, density = h * m.shape[0], m[0] / h
            steep = rise * room > temperature
            length = jnp.where(steep, temperature / jnp.where(steep, rise, 1), room)
            tail = density * jnp.minimum(length, jnp.sqrt(temperature * time / jnp.pi))
            pushed = jnp.minimum(
                m[:_SMEARED].sum(0), density * jnp.where(rise < 0, -rise * time, 0)
            )
            held = jnp.where(temperature > 0, tail, pushed).sum()
            each.append(jnp.zeros_like(held) if is_real else jnp.minimum(held, 1))
    return jnp.stack(each).reshape(-1, 2)


def warn_of_cuts(cut: Float[Array, "*times dim 2"], remedy: str, stacklevel: int) -> None:
    """Warn (`CutDomain`) of walls that hold 1e-3 of the mass or more."""
    known = concrete(cut)
    if known is None:
        return
    most = known.reshape(-1, *known.shape[-2:]).max(0)
    named = [
        f"{end}[{axis}]: {most[axis, side]:.2g}"
        if len(most) > 1
        else f"{end}: {most[axis, side]:.2g}"
        for axis in range(len(most))
        for side, end in enumerate(("low", "high"))
        if most[axis, side] >= _MUCH
    ]
    if named:
        warnings.warn(
            "Walls of the box hold mass that would be beyond them, about this share of it at "
            f"{', '.join(named)}. Move them outward; where they are constraints, {remedy}.",
            CutDomain,
            stacklevel=stacklevel + 1,
        )
