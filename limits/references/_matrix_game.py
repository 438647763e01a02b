"""Finite games: equilibria in mixed strategies.

The first player lowers what the second raises, as in `Game(payoff)`.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import ArrayLike, Float

from ensembles.internal import floating, on_host

from .._result import Result


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
    on_host("matrix_game", payoff, jnp.zeros(()))
    A = np.asarray(floating("payoff", payoff), float)
    if A.ndim != 2:
        raise ValueError(
            f"payoff must be a matrix (n, m), got shape {A.shape}: write one row for each of the n "
            "strategies of the first player, jnp.array([[0.0, 1.0], [1.0, 0.0]])"
        )
    if not A.size:
        raise ValueError(f"payoff must have a row and a column, got shape {A.shape}")
    largest = np.abs(A).max() or 1.0
    A = A / largest  # else differences of payoffs may be beyond all numbers
    shift, scale = A.mean(), np.ptp(A) or 1.0
    unit = (A - shift) / scale
    p, q = _safest(unit), _safest(-unit.T)
    if _gain(unit, p, q) > 1e-12:
        p, q = _pivoted(unit, p, q)
    gain = _gain(unit, p, q)
    if not gain <= 1e-9:
        raise RuntimeError(
            "The equilibrium was not found to rounding: players could gain "
            f"{gain * scale * largest:.3g}, {gain:.3g} of the range of payoffs. Payoffs of fewer "
            "orders of magnitude help."
        )
    return MatrixGame(p, q, float(largest * (p @ A @ q)))


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
