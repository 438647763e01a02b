"""Distances between measures, by optimal transport."""

import numpy as np
import scipy

from ._checks import kind, on_host
from ._measures import Measure

_PRECISE = {"dual_feasibility_tolerance": 1e-10, "primal_feasibility_tolerance": 1e-10}
_PAIRS = 250_000  # of points with unequal masses, for which the linear program takes seconds


def wasserstein(mu: Measure, nu: Measure, order: float = 2.0) -> float:
    """The Wasserstein distance W_q, (min over couplings of E ‖X − Y‖^q)^(1/q), q = `order` ≥ 1.

    On the host: an assignment where both have n points of mass 1/n, exact to rounding; otherwise a
    linear program (HiGHS), whose W_q^q is exact to 1e-10 of the largest distance to the power q.
    Points of mass 0 do not count. Raises `ValueError` for measures on spaces of different
    dimensions, orders below 1, and more than 250,000 pairs of unequal masses (draw equal masses
    with `measure.resample(n, key=key)`).
    """
    kind("mu", mu, Measure, "write network.measure(0), or Measure(points, masses)")
    kind("nu", nu, Measure, "write network.measure(0), or Measure(points, masses)")
    on_host("wasserstein", mu, nu)
    if not 1 <= order < float("inf"):
        raise ValueError(f"order must be a finite number of at least 1, got {order}: write 2.0")
    (x, p), (y, q) = _massive(mu), _massive(nu)
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"nu must live where mu does, in R^{x.shape[1]}, got points in R^{y.shape[1]}"
        )
    apart = scipy.spatial.distance.cdist(x, y)
    scale = apart.max()
    if scale == 0:
        return 0.0
    costs = (apart / scale) ** order
    same = all(np.ptp(m) <= 8 * np.finfo(float).eps * m.max() for m in (p, q))
    if same and len(p) == len(q):
        rows, columns = scipy.optimize.linear_sum_assignment(costs)
        return float(scale * costs[rows, columns].mean() ** (1 / order))
    if costs.size > _PAIRS:
        raise ValueError(
            f"mu and nu must have at most {_PAIRS} pairs of points where masses are unequal, got "
            f"{len(p)} × {len(q)}: write mu.resample(n, key=key) for equal masses"
        )
    n, m = costs.shape
    sums = scipy.sparse.vstack(
        [
            scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m))),
            scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m)),
        ]
    )
    totals = np.concatenate([p / p.sum(), q / q.sum()])
    found = scipy.optimize.linprog(
        costs.ravel(), A_eq=sums.tocsr()[:-1], b_eq=totals[:-1], options=_PRECISE
    )
    if found.x is None:
        raise RuntimeError(
            f"The transport program was not solved: {found.message}. Measures of equal masses, "
            "mu.resample(n, key=key), take an assignment."
        )
    return float(scale * max(found.fun, 0.0) ** (1 / order))


def relative_measure_distance(mu: Measure, nu: Measure) -> float:
    """RMD(μ, ν) = W_2(μ, ν) / (2 E‖X‖² + 2 E‖Y‖²)^½, a number in [0, 1]; 0 where both are δ_0.

    Source: Maass & Fontbona (arXiv:2405.19995), who show its square. Errors as in `wasserstein`.
    """
    apart = wasserstein(mu, nu)
    size = sum(float((p[:, None] * x**2).sum()) for x, p in (_massive(mu), _massive(nu)))
    return apart / (2 * size) ** 0.5 if apart > 0 else 0.0


def _massive(measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    masses = np.asarray(measure.masses, float)
    return np.asarray(measure.points, float)[masses > 0], masses[masses > 0]
