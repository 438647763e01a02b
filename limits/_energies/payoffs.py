"""What payoffs promise on the spaces of players: to be finite on walls, periodic on circles."""

from collections.abc import Callable, Sequence
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ensembles import Product, Space, Torus

_TRIED = 8  # points of every space
_FAR = 1e6  # times a point's size, from where points are brought back to walls


def check_payoffs(
    losses: Sequence[Callable[..., Array]], spaces: Sequence[Space | None], points: Sequence[Array]
) -> None:
    """Raise `ValueError` unless payoffs of strategies such as `points` are finite on walls of their
    spaces, and have period 1, with their derivative, in coordinates on a `Torus`."""
    pairs = enumerate(zip(spaces, points, strict=True))
    drawn = [_draw(space, point, player) for player, (space, point) in pairs]
    for i, space in enumerate(spaces):
        if space is None:
            continue
        walls = _walls(space, drawn[i])
        circles = np.flatnonzero(_circles(space))
        for which, loss in enumerate(losses):
            name = "payoff" if which == 0 else f"payoff {which + 1}"
            if walls is not None:
                seen = np.asarray(_values(loss, [*drawn[:i], walls, *drawn[i + 1 :]]))
                if not np.isfinite(seen).all():
                    worst = walls[int((~np.isfinite(seen)).argmax())]
                    raise ValueError(
                        f"{name} must be finite on the walls of the space {type(space).__name__}("
                        f"{space.dim}) of player {i + 1}, where strategies may come to rest, got "
                        f"{seen[~np.isfinite(seen)][0]} at {worst}: give a smaller space, or "
                        "bound the payoff there"
                    )
            for j in circles:
                turned = [*drawn[:i], drawn[i].at[:, j].add(1), *drawn[i + 1 :]]
                if _differ(_with_slopes(loss, drawn, i), _with_slopes(loss, turned, i)):
                    raise ValueError(
                        f"{name} must have period 1 in coordinate {j} of player {i + 1}, who "
                        "lives on a Torus, but a whole turn changed it, or its derivative: write "
                        "jnp.cos(2 * jnp.pi * x), or spaces=Uniform(0.0, 1.0) for an interval"
                    )


def _draw(space: Space | None, point: Float[Array, " dim"], player: int) -> Float[Array, "n dim"]:
    """Points of a space; `point`, where it is not known which there are."""
    if space is None:
        return jnp.broadcast_to(point, (_TRIED, *point.shape))
    return space.draw(_TRIED, jax.random.key(player)).astype(point.dtype)


def _walls(space: Space, drawn: Float[Array, "n dim"]) -> Float[Array, "n dim"] | None:
    """Points on walls, where far ones are brought back to; None where there are none."""
    if not space.bounded:
        return None
    signs = np.random.default_rng(0).choice([-1.0, 1.0], drawn.shape)
    signs[:2] = [[1.0], [-1.0]]
    size = _FAR * jnp.maximum(jnp.abs(drawn).max(), 1)
    return space.project(drawn + size * jnp.asarray(signs, drawn.dtype)).astype(drawn.dtype)


def _circles(space: Space) -> Bool[np.ndarray, " dim"]:
    """Which coordinates are on circles R/Z."""
    if isinstance(space, Product):
        return np.concatenate([_circles(part) for part in space.spaces])
    return np.full(space.dim, isinstance(space, Torus))


@eqx.filter_jit
def _values(loss: Callable[..., Array], points: list[Array]) -> Float[Array, " n"]:
    return jax.vmap(loss)(*points)


@eqx.filter_jit
def _with_slopes(loss: Callable[..., Array], points: list[Array], i: int) -> tuple[Array, Array]:
    """The payoff, and its derivative in the strategy of player i."""
    return jax.vmap(partial(jax.value_and_grad(loss, argnums=i)))(*points)


def _differ(here: tuple[Array, Array], there: tuple[Array, Array]) -> bool:
    """Whether payoffs or their slopes differ, by more than a part of the largest of them: on
    circles of length 1 they have one scale."""
    pairs = [tuple(map(np.asarray, pair)) for pair in zip(here, there, strict=True)]
    known = [np.isfinite(a) & np.isfinite(b) for a, b in pairs]
    pairs = [(np.where(k, a, 0), np.where(k, b, 0)) for k, (a, b) in zip(known, pairs, strict=True)]
    slack = 1e-6 if pairs[0][0].dtype.itemsize >= 8 else 1e-2
    size = max(np.abs(one).max() for pair in pairs for one in pair)
    return any((np.abs(a - b) > slack * size).any() for a, b in pairs)
