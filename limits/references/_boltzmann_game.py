"""Regularised games on grids: the stationary measures of noisy players.

The first player lowers what the second raises, as in `Game(payoff)`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from ensembles import Measure, Network
from ensembles.internal import concrete, count, dot, kind, matmul, positive

from .._energies.game import Game
from ._cells import box
from ._walls import cut_off, real_walls, warn_of_cuts

_HALVINGS = 25  # of a step of Newton's


def boltzmann_game(
    game: Game,
    *,
    low: ArrayLike,
    high: ArrayLike,
    cells: int | tuple[int, ...],
    temperature: float,
    tol: float = 1e-8,
    max_steps: int = 1_000,
) -> Network:
    """The stationary measures of noisy players, μ_i ∝ exp(−Ψ_i/τ), on a grid of cells.

    Each is the Gibbs measure given the other. In a zero-sum game of two there is exactly one such
    pair, the equilibrium of L + τ ∫ μ_1 log μ_1 − τ ∫ μ_2 log μ_2 (Domingo-Enrich, Jelassi, Mensch,
    Rotskoff & Bruna, arXiv:2002.06277). It is found by Newton's method with a line search, from the
    flat measures of a high temperature on by factors of two, on the stored matrix of payoffs.
    `low`, `high` and `cells` are as in `grid_flow`, the box of both players (a torus is the box
    from 0 to 1), or a list of two of each, `low=[[0.0], [-1.0, -1.0]]`.

    Where walls that are none of `game.spaces` cut off mass, a warning says so
    (`limits.warnings.CutDomain`). Returns a network of `players` whose measures are on the centres
    of the cells. `tol` bounds the total variation between a measure and the answer to its answer.
    Raises `ValueError` for arguments that do not fit, other games among them, `RuntimeError` where
    `max_steps` are too few.
    """
    kind("game", game, Game, "write Game(payoff)")
    if len(game.losses) != 2:
        raise ValueError(f"game must be of two players, got {len(game.losses)}")
    ends = list(zip(_both(low), _both(high), strict=True))
    sides = [box(*end, n) for end, n in zip(ends, _both(cells, int), strict=True)]
    (x, *_), (y, *_) = sides
    dtype = x.dtype
    real = [
        real_walls(f"spaces[{i}] of the game", space, *end)
        for i, (space, end) in enumerate(zip(game.spaces, ends, strict=True))
    ]
    tau, accuracy = positive("temperature", temperature, dtype), positive("tol", tol, dtype)
    count("max_steps", max_steps)
    flat = Network.players(*(Measure(z, jnp.full(len(z), 1 / len(z), dtype)) for z in (x, y)))
    game.check(flat)
    first, second = _payoffs(game, x, y)
    sums, highest = concrete(jnp.abs(first + second).max()), concrete(jnp.abs(first).max())
    if sums is not None and highest is not None and not sums <= 1e-6 * highest:
        raise ValueError(
            f"game must be zero-sum (and finite), got losses that sum to {sums:.3g}: write "
            "Game(payoff)"
        )
    p, q, off = _answers(first, tau, accuracy, max_steps)
    known = concrete(off)
    if known is not None and not known <= accuracy:
        raise RuntimeError(
            f"The fixed point was not found to tol={tol:g} within max_steps={max_steps}: total "
            f"variation {known:.3g} is left. A higher temperature or more max_steps help, or a "
            "larger tol where rounding is in the way."
        )
    psi = dot(first, q), -dot(first.T, p)
    for i, (mass, v, (_, h, shape), walls) in enumerate(zip((p, q), psi, sides, real, strict=True)):
        cut = cut_off(mass.reshape(shape), v.reshape(shape), h, tau, jnp.inf, walls)
        remedy = f"give the game the box, or a torus, as spaces[{i}]"
        warn_of_cuts(cut, remedy, stacklevel=2)
    return flat.weighed((p, q))


def _both(value: Any, dtype: type = float) -> list:
    """One for each player."""
    nested = isinstance(value, list | tuple) and all(np.ndim(v) for v in value)
    if not nested:
        return [value, value]
    if len(value) != 2:
        raise ValueError(
            f"low, high and cells must be of one box, or a list of two, got {value}: write "
            "low=[[0.0], [-1.0, -1.0]]"
        )
    return [tuple(map(dtype, v)) for v in value]


@eqx.filter_jit
def _payoffs(game: Game, x: Array, y: Array) -> tuple[Array, Array]:
    """The losses of both players at all pairs of strategies."""
    first, second = (
        jax.lax.map(lambda u, loss=loss: jax.vmap(lambda v: loss(u, v))(y), x)
        for loss in game.losses
    )
    return first, second


@eqx.filter_jit
def _answers(
    payoffs: Array, temperature: Array, tol: Array, max_steps: int
) -> tuple[Array, Array, Array]:
    """The two measures, and the larger total variation between one and the answer to its answer.

    The first is the minimiser of the convex G(p) = Σ p log p + log Σ_j exp((payoffs' p)_j/τ).
    Newton's step for log p + payoffs q(p)/τ = const, in log p, is always a direction in which G
    falls, however small masses are.
    """

    def answer(p: Array, tau: Array) -> Array:
        return jax.nn.softmax(dot(payoffs.T, p) / tau)

    def height(log: Array, tau: Array) -> Array:
        p = jnp.exp(log)
        return dot(p, log) + jax.nn.logsumexp(dot(payoffs.T, p) / tau)

    def off(log: Array, tau: Array) -> Array:
        p = jnp.exp(log)
        q = answer(p, tau)
        back = jax.nn.softmax(-dot(payoffs, q) / tau)
        first, second = jnp.abs(p - back).sum() / 2, jnp.abs(q - answer(back, tau)).sum() / 2
        return jnp.maximum(first, second)

    def step(log: Array, tau: Array) -> Array:
        p = jnp.exp(log)
        q = answer(p, tau)
        pull = dot(payoffs, q) / tau
        weighted = payoffs * (q / tau)[None]
        bend = matmul(weighted, payoffs.T) / tau - jnp.outer(pull, pull)
        slope = jnp.eye(len(p), dtype=p.dtype) + (bend - dot(bend, p)[:, None]) * p[None]
        change = jnp.linalg.solve(slope, -(log + pull))
        sizes = 0.5 ** jnp.arange(_HALVINGS, dtype=p.dtype)
        tried = jax.nn.log_softmax(log[None] + sizes[:, None] * change[None])
        lowest = tried[jnp.argmin(jax.vmap(lambda u: height(u, tau))(tried))]
        return jnp.where(off(tried[0], tau) < off(log, tau) / 2, tried[0], lowest)

    def solved(log: Array, tau: Array, tol: Array, steps: Array) -> tuple[Array, Array]:
        return jax.lax.while_loop(
            lambda at: (off(at[0], tau) > tol) & (at[1] < max_steps),
            lambda at: (step(at[0], tau), at[1] + 1),
            (log, steps),
        )

    def cooler(at: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        log, steps, tau = at
        return *solved(log, tau, jnp.maximum(tol, 1e-3), steps), tau / 2

    n = len(payoffs)
    flat = jnp.full(n, -np.log(n), payoffs.dtype)
    begin = flat, jnp.asarray(0), jnp.ptp(payoffs)
    log, steps, _ = jax.lax.while_loop(lambda at: at[2] > temperature, cooler, begin)
    log, _ = solved(log, temperature, tol, steps)
    p = jnp.exp(log)
    return p, answer(p, temperature), off(log, temperature)
