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
    size = max(np.abs(x).max(), np.abs(y).max()) or 1.0  # squares of coordinates are numbers
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
    sums = scipy.sparse.vstack(
        [
            scipy.sparse.kron(scipy.sparse.eye(n), np.ones((1, m))),
            scipy.sparse.kron(np.ones((1, n)), scipy.sparse.eye(m)),
        ]
    )
    totals, sums = np.concatenate([p, q]), sums.tocsr()[:-1]
    reduced, most, u, v = costs, 1.0, np.zeros(n), np.zeros(m)
    least, gap = np.inf, np.inf
    for _ in range(_ROUNDS):
        found = scipy.optimize.linprog(
            np.minimum(reduced / most, 1.0).ravel(), A_eq=sums, b_eq=totals[:-1], options=_PRECISE
        )
        if found.x is None:
            raise RuntimeError(
                f"The transport program was not solved: {found.message}. Measures of equal masses, "
                "mu.resample(n, key=key), take an assignment."
            )
        plan = np.maximum(found.x, 0).reshape(n, m)
        u = u + most * found.eqlin.marginals[:n]
        u = u - np.median(u)  # near ones are not rounded as far ones
        v = (costs - u[:, None]).min(0)
        u = (costs - v[None]).min(1)
        reduced = np.maximum(costs - u[:, None] - v[None], 0)
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
