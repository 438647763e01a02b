"""The best measure over ReLU units, its total variation penalised: a finite convex program."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from ensembles.internal import floating, kind, on_host, positive

from .._energies.data import Data
from .._result import Result
from .._solvers.trajectory import FailedRun
from ._cones import Cones, cones, peak
from ._programs import least, on_directions, over_cones, units

Samples = tuple[np.ndarray, np.ndarray, np.ndarray]  # x (n, d), y (n,) and masses q (n,)


class SparseReLU(Result):
    """A signed measure Σ_j c_j δ_{w_j} over units relu(w · x), |w| = 1, with a certificate.

    - `directions` (atoms, d) and `charges` (atoms,): w_j and c_j ≠ 0, in double precision.
    - `value`: what it attains; `gap`: how far above the optimum that is at most, to rounding.
    - `certificate`: max_w |Σ_k p_k relu(w · x_k)| for the dual variables p. Scaled so that it is at
      most the penalty, or 1 for interpolations, p gives the lower bound that is behind `gap`. At
      the optimum it is equal to the penalty, or below it where there are no atoms.
    """

    value: float
    gap: float
    certificate: float
    directions: Float[np.ndarray, "atoms dim"]
    charges: Float[np.ndarray, " atoms"]

    def _words(self) -> list[str]:
        return [
            f"{len(self.charges)} atoms in R^{self.directions.shape[1]}, "
            f"total variation {self.total_variation:.6g}",
            f"value {self.value:.6g}, gap at most {self.gap:.2g}, "
            f"certificate {self.certificate:.6g}",
        ]

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """The outputs (n, 1) at inputs `x` (n, d)."""
        x = np.asarray(x, float)
        d = self.directions.shape[1]
        if x.ndim != 2 or x.shape[1] != d:
            raise ValueError(f"x must have shape (n, {d}), got {x.shape}: write x.reshape(-1, {d})")
        return (units(self.directions, x) @ self.charges)[:, None]

    @property
    def total_variation(self) -> float:
        return float(np.abs(self.charges).sum())


def sparse_relu(
    data: Data, penalty: float, *, directions: ArrayLike | None = None, tol: float = 1e-6
) -> SparseReLU:
    """Minimise Σ_k q_k |f(x_k) − y_k|²/2 + penalty · |μ|, f(x) = ∫ relu(w · x) dμ(w), over μ.

    μ ranges over all signed measures on the sphere |w| = 1, of any number of atoms, and |μ| is its
    total variation. The hyperplanes w · x_k = 0 cut the sphere into cones C_i, within which only
    the moments u_i = ∫_{C_i} w dμ₊ and v_i = ∫_{C_i} w dμ₋ count, of length at most the mass. So
    the optimum is that of a conic program in u_i, v_i ∈ C_i with penalty Σ_i |u_i| + |v_i|. It has
    at most one atom per cone and sign, and at most n in all (de Dios & Bruna, arXiv:2006.10225).
    `value` includes the penalty; `gap` is certified from the dual, whatever the solver.

    With `directions` (m, d), of which the lengths do not count, μ lives on these only: a quadratic
    program, for any number of cones. Certificate and gap are then of this smaller problem.

    Needs `clarabel`. Raises `ValueError` for vector outputs, a penalty that is not positive, or
    too many cones; `FailedRun` where the gap exceeds `tol` times the value.
    """
    x, y, q = samples = _samples("sparse_relu", data, penalty)
    positive("penalty", penalty, jnp.result_type(float))
    positive("tol", tol, jnp.result_type(float))
    penalty = float(penalty)
    regions, candidates, highest = _where(x, directions)
    none = np.empty((0, x.shape[1])), np.empty(0)
    result = certified(*none, samples, penalty, highest)
    if result.certificate <= penalty:
        return result
    size, scale = np.linalg.norm(x, axis=1).max(), np.sqrt(q @ y**2)
    unit = penalty / (scale * size)  # inputs, targets and penalty are of order one to the solver
    problem = x / size, y / scale, q / unit
    (atoms, charges), p = (
        on_directions(candidates, *problem) if regions is None else over_cones(regions, *problem)
    )
    result = certified(
        atoms, charges * (scale / size), samples, penalty, highest, p * (unit * scale)
    )
    if not result.gap <= tol * result.value:
        raise FailedRun(
            f"the gap {result.gap:.3g} exceeds tol={tol} of the value {result.value:.6g}: write "
            "a larger tol or penalty; .partial has the result",
            result,
        )
    return result


def minimal_interpolation(data: Data, directions: ArrayLike) -> SparseReLU:
    """Minimise |μ| subject to ∫ relu(w · x_k) dμ(w) = y_k, over signed μ on `directions` (m, d).

    A linear program; the lengths of the directions do not count. `value` is |μ|. It is the limit
    of `sparse_relu` on these directions for penalty → 0, divided by the penalty. Raises
    `ValueError` where the directions do not interpolate, `RuntimeError` where the solver's do so
    only to more than 1e-9 of the largest target.
    """
    x, y, _ = _samples("minimal_interpolation", data, directions)
    _, candidates, highest = _where(x, directions)
    size, scale = np.linalg.norm(x, axis=1).max() or 1.0, np.abs(y).max() or 1.0
    charges, p = least(units(candidates, x / size), y / scale)
    atoms, charges = candidates[charges != 0], charges[charges != 0] * (scale / size)
    wrong = np.abs(units(atoms, x) @ charges - y).max(initial=0.0)
    if not wrong <= 1e-9 * scale:
        raise RuntimeError(
            f"The measure that was found misses targets by up to {wrong:.3g}, {wrong / scale:.3g} "
            "of the largest: smaller ones are below the tolerance of the linear program. Directions"
            " further apart, or targets of fewer orders of magnitude, help."
        )
    certificate = highest(p / size)
    value, bound = np.abs(charges).sum(), p @ y / size / max(certificate, 1.0)
    return SparseReLU(float(value), float(value - bound), certificate, atoms, charges)


def certified(
    directions: np.ndarray,
    charges: np.ndarray,
    samples: Samples,
    penalty: float,
    highest: Callable[[np.ndarray], float],
    p: np.ndarray | None = None,
) -> SparseReLU:
    """A measure with its value and gap, whether or not it is optimal.

    For all s with |s| max_w |Σ_k p_k relu(w · x_k)| ≤ penalty, the dual objective
    s Σ_k p_k y_k − s² Σ_k p_k²/(2 q_k) is below the optimum, and s is the best. By default p is
    the measure's own, q_k (y_k − f(x_k)).
    """
    x, y, q = samples
    r = y - units(directions, x) @ charges
    p = q * r if p is None else p
    certificate = highest(p)
    slope, curvature = p @ y, p @ (p / q)
    most = penalty / certificate if certificate > 0 else np.inf
    s = np.clip(slope / curvature, -most, most) if curvature > 0 else 0.0
    value = q @ r**2 / 2 + penalty * np.abs(charges).sum()
    gap = value - s * slope + s**2 * curvature / 2
    return SparseReLU(float(value), float(gap), float(certificate), directions, charges)


def _where(
    x: np.ndarray, directions: ArrayLike | None
) -> tuple[Cones | None, np.ndarray, Callable[[np.ndarray], float]]:
    """The cones or the unit directions, and max_w |Σ_k p_k relu(w · x_k)| there as a function."""
    if directions is None:
        regions = cones(x)
        return regions, x[:0], lambda p: peak(p, x, regions)
    given = np.asarray(floating("directions", directions, ndim=2), float)
    lengths = np.linalg.norm(given, axis=1)
    if given.shape[1] != x.shape[1] or not lengths.all() or not len(given):
        raise ValueError(
            f"directions must be vectors (m, {x.shape[1]}), m ≥ 1, none of them 0; got shape "
            f"{given.shape} with {np.count_nonzero(lengths == 0)} of length 0"
        )
    unit = given / lengths[:, None]
    return None, unit, lambda p: float(np.abs(p @ units(unit, x)).max())


def _samples(function: str, data: Data, *others: Any) -> Samples:
    """The samples that have mass, in double precision, for a `function` on the host."""
    kind("data", data, Data, "write Data(x, y)")
    on_host(function, data, others, jnp.zeros(()))
    x, y, q = (np.asarray(a, float) for a in (data.x, data.y, data.masses))
    if x.ndim != 2 or y.shape[1] != 1:
        raise ValueError(
            f"data must have inputs (n, d) and scalar targets (n, 1), got {x.shape} and {y.shape}: "
            "write one problem per output, Data(x, y[:, :1])"
        )
    return x[q > 0], y[q > 0, 0], q[q > 0]
