"""Games with known answers: finite ones, quadratic ones on spheres, and regularised ones on grids.

The first player lowers what the second raises, as in `Game(payoff)`.
"""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float

from ensembles import Measure, Network, players
from ensembles.internal import concrete, count, dot, floating, kind, matmul

from .._checks import positive
from .._energies.game import Game
from .._result import Result
from .cells import box

_HALVINGS = 25  # of a step of Newton's


class MatrixGame(Result):
    """An equilibrium of a finite game: mixed strategies `p` (n,) and `q` (m,), and its `value`;
    `p, q, value = matrix_game(payoff)` takes it apart."""

    p: Float[np.ndarray, " rows"]
    q: Float[np.ndarray, " columns"]
    value: float

    def __iter__(self) -> Iterator[Any]:
        return iter((self.p, self.q, self.value))

    def _words(self) -> list[str]:
        sides = ((name, a, np.count_nonzero(a)) for name, a in (("p", self.p), ("q", self.q)))
        return [
            f"value {self.value:.6g}",
            *(f"{name} mixes {some} of {len(a)} strategies" for name, a, some in sides),
        ]


def matrix_game(payoff: ArrayLike) -> MatrixGame:
    """An equilibrium of the game in which `p` lowers and `q` raises p · payoff q, payoff (n, m).

    Two linear programs (von Neumann), solved at a vertex by HiGHS, and by pivots of our own where
    its tolerance of 1e-7 shows: exact to rounding of the range of payoffs. `value` is unique, p and
    q need not be. Raises `ValueError` for anything but a finite matrix, `RuntimeError` where a
    player could still gain 1e-9 of the range.
    """
    A = np.asarray(floating("payoff", payoff, ndim=2), float)
    if not A.size:
        raise ValueError(f"payoff must have a row and a column, got shape {A.shape}")
    shift, scale = A.mean(), np.ptp(A) or 1.0
    unit = (A - shift) / scale
    p, q = _safest(unit), _safest(-unit.T)
    if _gain(unit, p, q) > 1e-12:
        p, q = _pivoted(unit, p, q)
    gain = _gain(unit, p, q)
    if not gain <= 1e-9:
        raise RuntimeError(
            f"The equilibrium was not found to rounding: players could gain {gain * scale:.3g}, "
            f"{gain:.3g} of the range of payoffs. Payoffs of fewer orders of magnitude help."
        )
    return MatrixGame(p, q, float(p @ A @ q))


def _safest(A: np.ndarray) -> np.ndarray:
    """The p of least max_j (A' p)_j."""
    n, m = A.shape
    lp = scipy.optimize.linprog(
        np.append(np.zeros(n), 1.0),
        A_ub=np.column_stack([A.T, -np.ones(m)]),
        b_ub=np.zeros(m),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * n + [(None, None)],
        method="highs-ds",
    )
    if lp.status != 0:
        raise RuntimeError(f"The linear program of the game was not solved: {lp.message}")
    p = np.maximum(lp.x[:n], 0)
    return p / p.sum()


def _gain(A: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """What both players could gain alone."""
    return float((p @ A).max() - (A @ q).min())


def _pivoted(A: np.ndarray, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best of (p, q) and what the simplex method meets, without tolerances.

    With B = A' + const > 0 it maximises Σ x subject to B x ≤ 1, x ≥ 0, and p = x/Σ x; q is the same
    of the dual variables, minus the last row.
    """
    n, m = A.shape
    best = _gain(A, p, q), p, q
    table = np.zeros((m + 1, n + m + 1))
    table[:m, :n], table[:m, n:-1], table[:m, -1] = A.T - A.min() + 1, np.eye(m), 1
    table[-1, :n] = -1
    basis = n + np.arange(m)
    for pivots in range(50 * (n + m)):
        costs = table[-1, :-1]
        if not (costs < 0).any():
            break
        # the steepest; in the end the first (Bland), which cannot circle
        enters = costs.argmin() if pivots < 10 * (n + m) else np.flatnonzero(costs < 0)[0]
        column = table[:m, enters]
        ratios = np.where(column > 0, table[:m, -1] / np.where(column > 0, column, 1), np.inf)
        leaves = np.lexsort((basis, ratios))[0]
        table[leaves] /= table[leaves, enters]
        others = np.arange(m + 1) != leaves
        table[others] -= table[others, enters, None] * table[leaves]
        basis[leaves] = enters
        x = np.zeros(n + m)
        x[basis] = np.maximum(table[:m, -1], 0)
        y = np.maximum(table[-1, n:-1], 0)
        if x[:n].any() and y.any():
            found = x[:n] / x[:n].sum(), y / y.sum()
            best = min(best, (_gain(A, *found), *found), key=lambda one: one[0])
    return best[1:]


class QuadraticGame(eqx.Module):
    """The payoff ℓ(x, y) = x · A x + x · B y + y · C y + a · x + b · y on two unit spheres.

    Write `Game(quadratic, spaces=(Sphere(n), Sphere(m)))`. A (n, n) and C (m, m) need not be
    symmetric or definite; None is 0. Best answers to mixed strategies are then known: see
    `best_values`. Raises `ValueError` for shapes that do not fit.
    """

    B: Float[Array, "n m"]
    A: Float[Array, "n n"]
    C: Float[Array, "m m"]
    a: Float[Array, " n"]
    b: Float[Array, " m"]

    def __init__(
        self,
        B: ArrayLike,
        *,
        A: ArrayLike | None = None,
        C: ArrayLike | None = None,
        a: ArrayLike | None = None,
        b: ArrayLike | None = None,
    ):
        self.B = floating("B", B, ndim=2)
        n, m = self.B.shape
        given = {"A": (A, (n, n)), "C": (C, (m, m)), "a": (a, (n,)), "b": (b, (m,))}
        for name, (value, shape) in given.items():
            zero = jnp.zeros(shape, self.B.dtype)
            known = zero if value is None else floating(name, value, ndim=len(shape))
            if known.shape != shape:
                raise ValueError(
                    f"{name} must have shape {shape} for B of shape {(n, m)}, got {known.shape}"
                )
            setattr(self, name, known.astype(self.B.dtype))

    def __call__(self, x: Float[Array, " n"], y: Float[Array, " m"]) -> Float[Array, ""]:
        pairs = dot(x, dot(self.A, x) + dot(self.B, y)) + dot(y, dot(self.C, y))
        return pairs + dot(self.a, x) + dot(self.b, y)

    def best_values(self, mu: Measure, nu: Measure) -> tuple[float, float]:
        """(min_x ∫ ℓ(x, y) dν(y), max_y ∫ ℓ(x, y) dμ(x)), over unit x and y, to rounding.

        Second minus first is the Nikaidô–Isoda error of (μ, ν); where A, C, a, b are 0 it is
        |B' m_μ| + |B m_ν|, m the means.
        """
        A, B, C, a, b = (np.asarray(v, float) for v in (self.A, self.B, self.C, self.a, self.b))
        (x, p), (y, q) = ((np.asarray(m.points), np.asarray(m.masses)) for m in (mu, nu))
        mean_x, mean_y = p @ x, q @ y
        own_x = p @ np.einsum("ki,ij,kj->k", x, A, x) + a @ mean_x
        own_y = q @ np.einsum("ki,ij,kj->k", y, C, y) + b @ mean_y
        lowest, _ = quadratic_on_sphere(A, a + B @ mean_y)
        highest, _ = quadratic_on_sphere(-C, -(b + B.T @ mean_x))
        return lowest + float(own_y), float(own_x) - highest


def quadratic_on_sphere(matrix: ArrayLike, vector: ArrayLike) -> tuple[float, np.ndarray]:
    """The minimum of x · matrix x + vector · x over unit x (dim,), and a minimiser; to rounding.

    With eigenvalues λ_1 ≤ λ_2 ≤ … of the symmetric part and c = vector/2 in its eigenvectors, the
    minimum is max_{s ≥ 0} λ_1 − s − Σ_i c_i²/(λ_i − λ_1 + s), without duality gap. Inside, the
    derivative is the secular equation Σ_i c_i²/(λ_i − λ_1 + s)² = 1; in the hard case (no root,
    c_1 = 0) s is 0, and any multiple of the first eigenvector that makes x unit will do. Raises
    `ValueError` for shapes that do not fit.
    """
    M = np.asarray(floating("matrix", matrix, ndim=2), float)
    v = np.asarray(floating("vector", vector, ndim=1), float)
    if not len(v) or M.shape != (len(v), len(v)):
        raise ValueError(
            f"matrix must have shape (dim, dim) and vector (dim,), dim ≥ 1, got {M.shape} and "
            f"{v.shape}"
        )
    scale = max(np.abs(M).max(), np.abs(v).max()) or 1.0
    M, v = M / scale, v / scale
    eigenvalues, basis = np.linalg.eigh((M + M.T) / 2)
    above, c = eigenvalues - eigenvalues[0], basis.T @ v / 2
    size = float(np.linalg.norm(c))
    noise = 1e-15 * max(size, float(np.abs(eigenvalues).max()))
    c = np.where((above <= noise) & (np.abs(c) <= noise), 0.0, c)

    def unscaled(s: float) -> np.ndarray:
        """−c/(above + s), 0 where c is."""
        return -np.divide(c, above + s, out=np.zeros_like(c), where=c != 0)

    def short(s: float) -> float:
        """Positive where x is longer than 1; nearly linear in s."""
        return 1 - 1 / float(np.linalg.norm(unscaled(s)))

    lowest = float(np.linalg.norm(c[above <= noise]))
    hard = lowest == 0 and float(np.linalg.norm(unscaled(0.0))) <= 1
    # at s = |c_1| what is in the lowest eigenspace alone is unit, at s = |c| all is at most unit
    s = 0.0 if hard else _root(short, lowest, size)
    x = unscaled(s)
    if hard:
        x[0] += np.sqrt(max(1 - x @ x, 0.0))
    return float(scale * (eigenvalues[0] - s + c @ unscaled(s))), basis @ (x / np.linalg.norm(x))


def _root(f, low: float, high: float) -> float:
    if f(high) >= 0:
        return high
    if low > 0 and f(low) <= 0:
        return low
    root = scipy.optimize.brentq(f, low, high, xtol=1e-300, rtol=np.float64(1e-15), maxiter=500)
    return float(root)  # pyright: ignore[reportArgumentType]


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

    Returns a network of `players` whose measures are on the centres of the cells. `tol` bounds the
    total variation between a measure and the answer to its answer. Raises `ValueError` for
    arguments that do not fit, other games among them, `RuntimeError` where `max_steps` are too few.
    """
    kind("game", game, Game, "write Game(payoff)")
    if len(game.losses) != 2:
        raise ValueError(f"game must be of two players, got {len(game.losses)}")
    sides = zip(_both(low), _both(high), _both(cells, int), strict=True)
    (x, *_), (y, *_) = (box(*side) for side in sides)
    dtype = x.dtype
    tau, accuracy = positive("temperature", temperature, dtype), positive("tol", tol, dtype)
    count("max_steps", max_steps)
    flat = players(*(Measure(z, jnp.full(len(z), 1 / len(z), dtype)) for z in (x, y)))
    assert isinstance(flat, Network)
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
