"""Distances between measures, by optimal transport."""

import numpy as np
import scipy

from ._checks import is_number, kind, on_host, shown
from ._measures import Measure

_FINER = 1e-4  # of the costs that a program saw, those that the next one sees
_ROUNDS = 8
_PRECISE = {"dual_feasibility_tolerance": 1e-10, "primal_feasibility_tolerance": 1e-10}
_PAIRS = 250_000  # of points with unequal masses, for which the linear program takes seconds


def wasserstein(mu: Measure, nu: Measure, order: float = 2.0) -> float:
    """The Wasserstein distance W_q, (min over couplings of E ‖X − Y‖^q)^(1/q), q = `order` ≥ 1.

    On the host: an assignment where both have n points of mass 1/n, exact to rounding; otherwise a
    linear program (HiGHS) with the bound of its dual, from which W_q^q is known to 1e-9 of itself
    however far single points are. Points of mass 0 do not count. Raises `ValueError` for measures
    on spaces of different dimensions, orders below 1, and more than 250,000 pairs of unequal masses
    (draw equal masses with `measure.resample(n, key=key)`), `RuntimeError` where the program was
    not solved to 1e-9.
    """
    kind("mu", mu, Measure, "write network.measure(0), or Measure(points, masses)")
    kind("nu", nu, Measure, "write network.measure(0), or Measure(points, masses)")
    on_host("wasserstein", mu, nu, order)
    if not (is_number(order) and 1 <= order < float("inf")):
        raise ValueError(
            f"order must be a finite number of at least 1, got {shown(order)}: write 2.0"
        )
    (x, p), (y, q) = _massive(mu), _massive(nu)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"nu must live where mu does, in R^{x.shape[1]}, got points in R^{y.shape[1]}"
        )
    largest = max(np.abs(x).max(), np.abs(y).max())  # squares of coordinates are to be numbers
    size = 2.0 ** np.floor(np.log2(largest)) if largest > 0 else 1.0  # which rounds none of them
    apart = scipy.spatial.distance.cdist(x / size, y / size)
    scale = apart.max()
    if scale == 0:
        return 0.0
    costs = (apart / scale) ** order
    same = all(np.ptp(m) <= 8 * np.finfo(float).eps * m.max() for m in (p, q))
    if same and len(p) == len(q):
        rows, columns = scipy.optimize.linear_sum_assignment(costs)
        least = costs[rows, columns].mean()
    elif costs.size <= _PAIRS:
        least = _least(costs, p / p.sum(), q / q.sum())
    else:
        raise ValueError(
            f"mu and nu must have at most {_PAIRS} pairs of points where masses are unequal, got "
            f"{len(p)} × {len(q)}: write mu.resample(n, key=key) for equal masses"
        )
    return float(size * scale * least ** (1 / order))


def _least(costs: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """min Σ c_ij π_ij over couplings π of masses p and q, c ≤ 1.

    The program is solved to 1e-10 of its largest cost, which one far point makes too large for the
    others. With its dual variables u, v the reduced costs r = c − u − v differ from c by a constant
    on couplings, and are small where there is mass: those above 1e-4 of the largest cost are cut
    there, where no coupling of least cost has mass, and the program is solved again, until
    the gap Σ r π, r ≥ 0, shows that no coupling is better than π.
    """
    n, m = costs.shape
    reduced, most, u, v = costs, 1.0, np.zeros(n), np.zeros(m)
    least, gap = np.inf, np.inf
    for _ in range(_ROUNDS):
        plan, marginals = _solved(np.minimum(reduced / most, 1.0), p, q)
        u = u + most * marginals
        u = u - np.median(u)  # near ones are not rounded as far ones
        v = (costs - u[:, None]).min(0)
        u = (costs - v[None]).min(1)
        reduced = np.maximum(costs - u[:, None] - v[None], 0)
        plan = _coupling(plan, p, q, reduced)
        least, gap = min((least, gap), ((plan * costs).sum(), (plan * reduced).sum()), key=_last)
        if gap <= 1e-12 * least:
            break
        most = most * _FINER
    if not gap <= 1e-9 * least:
        raise RuntimeError(
            f"The transport program was solved to {gap / least:.3g} of its value only: distances "
            "of fewer orders of magnitude, or measures of equal masses, mu.resample(n, key=key), "
            "help."
        )
    return least


def _solved(costs: np.ndarray, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A plan of least cost, of marginals p and q up to 1e-10, and the dual variables of p."""
    n, m = costs.shape
    sums = scipy.sparse.vstack(
        [
            scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m))),
            scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m)),
        ]
    )
    found = scipy.optimize.linprog(
        costs.ravel(), A_eq=sums.tocsr()[:-1], b_eq=np.concatenate([p, q])[:-1], options=_PRECISE
    )
    if found.x is None:
        raise RuntimeError(
            f"The transport program was not solved: {found.message}. Measures of equal masses, "
            "mu.resample(n, key=key), take an assignment."
        )
    return np.maximum(found.x, 0).reshape(n, m), found.eqlin.marginals[:n]


def _coupling(plan: np.ndarray, p: np.ndarray, q: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """A coupling of p and q near a plan that has these marginals up to 1e-10 only.

    What rows and columns have too much of is taken off; what is missing then, of masses 1e-12, say,
    all that they are, is coupled at least cost as a program of its own, of masses 1 in all; and
    what this one misses, independently.
    """
    for solve in (True, False):
        rows = plan.sum(1, keepdims=True)
        plan = plan * np.minimum(1, p[:, None] / np.where(rows > 0, rows, 1))
        columns = plan.sum(0, keepdims=True)
        plan = plan * np.minimum(1, q[None] / np.where(columns > 0, columns, 1))
        left, right = (np.maximum(a, 0) for a in (p - plan.sum(1), q - plan.sum(0)))
        total = min(left.sum(), right.sum())
        if not total > 0:
            break
        left, right = left / left.sum(), right / right.sum()
        more = _solved(costs, left, right)[0] if solve else np.outer(left, right)
        plan = plan + total * more
    return plan


def _last(pair: tuple[float, float]) -> float:
    return pair[-1]


def relative_measure_distance(mu: Measure, nu: Measure) -> float:
    """RMD(μ, ν) = W_2(μ, ν) / (2 E‖X‖² + 2 E‖Y‖²)^½, a number in [0, 1]; 0 where both are δ_0.

    Source: Maass & Fontbona (arXiv:2405.19995), who show its square. Errors as in `wasserstein`.
    """
    apart = wasserstein(mu, nu)
    both = _massive(mu), _massive(nu)
    largest = max(np.abs(x).max() for x, _ in both) or 1.0
    size = sum(float((p[:, None] * (x / largest) ** 2).sum()) for x, p in both)
    return apart / largest / (2 * size) ** 0.5 if apart > 0 else 0.0


def _massive(measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    masses = np.asarray(measure.masses, float)
    return np.asarray(measure.points, float)[masses > 0], masses[masses > 0]
