"""The finite programs of signed measures over ReLU units, solved to rounding."""

from typing import Any

import numpy as np
import scipy

from ._cones import Cones

_DROPPED = 1e-6  # of the largest charge: what an interior point leaves where there is no atom
_MERGED = 1e-4  # atoms of one sign whose directions are nearer are one, on a wall of two cones

Atoms = tuple[np.ndarray, np.ndarray]  # unit directions (atoms, d) and charges (atoms,)


def units(directions: np.ndarray, x: np.ndarray) -> np.ndarray:
    """relu(w_j · x_k), (n, atoms)."""
    return np.maximum(x @ directions.T, 0)


def over_cones(
    cones: Cones, x: np.ndarray, y: np.ndarray, q: np.ndarray
) -> tuple[Atoms, np.ndarray]:
    """The best atoms in all of the sphere for Σ_k q_k (f_k − y_k)²/2 + |μ|, and the dual variables.

    A conic program: the moments of both signs over every cone, their lengths bounded by masses.
    """
    clarabel = _clarabel()
    (n, d), m = x.shape, 2 * len(cones.patterns)
    linear = (cones.patterns.T[:, :, None] * x[:, None, :]).reshape(n, -1)
    facets = 2 * sum(map(len, cones.walls))
    walls = scipy.sparse.block_diag([scipy.sparse.csr_matrix(w) for w in cones.walls] * 2)
    inside = scipy.sparse.hstack([scipy.sparse.csr_matrix((facets, m)), walls])
    each = np.column_stack([np.arange(m), m + np.arange(m * d).reshape(m, d)])  # mass, moment
    z, p = _solve(
        np.hstack([np.zeros((n, m)), linear, -linear]),
        np.repeat([1.0, 0.0], [m, m * d]),
        scipy.sparse.vstack([inside, scipy.sparse.eye(m * (d + 1), format="csr")[each.ravel()]]),
        [clarabel.NonnegativeConeT(facets), *[clarabel.SecondOrderConeT(d + 1)] * m],
        y, q,
    )  # fmt: skip
    atoms: list[tuple[np.ndarray, float]] = []
    for sign, moments in zip((1.0, -1.0), z[m:].reshape(2, -1, d), strict=True):
        for u in _merged(moments, _DROPPED * np.abs(z[:m]).max()):
            length = float(np.linalg.norm(u))
            atoms.append((u / length, sign * length))
    directions = np.array([w for w, _ in atoms]).reshape(-1, d)
    return independent((directions, np.array([c for _, c in atoms])), x), p


def on_directions(
    directions: np.ndarray, x: np.ndarray, y: np.ndarray, q: np.ndarray
) -> tuple[Atoms, np.ndarray]:
    """The same on given unit `directions`: a quadratic program in the charges of both signs."""
    clarabel = _clarabel()
    features, m = units(directions, x), len(directions)
    z, p = _solve(
        np.hstack([features, -features]), np.ones(2 * m), scipy.sparse.eye(2 * m),
        [clarabel.NonnegativeConeT(2 * m)], y, q,
    )  # fmt: skip
    return independent(charged(directions, z[:m] - z[m:]), x), p


def least(features: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The c of least Σ|c_j| with features c = outputs, a vertex; and the dual variables."""
    m = features.shape[1]
    lp = scipy.optimize.linprog(
        np.ones(2 * m), A_eq=np.hstack([features, -features]), b_eq=outputs, method="highs-ds"
    )
    if lp.status != 0:
        raise ValueError(
            f"directions must interpolate the data, and these {m} do not: write more directions, "
            "or sparse_relu(data, penalty), as inputs that are multiples of each other may allow "
            "no interpolation"
        )
    c = lp.x[:m] - lp.x[m:]
    used, p = np.flatnonzero(c), lp.eqlin.marginals
    vertex = features[:, used]  # independent; the solver is to 1e-7 only
    c[used] = np.linalg.lstsq(vertex, outputs, rcond=None)[0]
    return c, p + np.linalg.lstsq(vertex.T, np.sign(c[used]) - p @ vertex, rcond=None)[0]


def charged(directions: np.ndarray, charges: np.ndarray) -> Atoms:
    """The atoms that have charge."""
    keep = np.abs(charges) > _DROPPED * np.abs(charges).max(initial=0.0)
    return directions[keep], charges[keep]


def independent(atoms: Atoms, x: np.ndarray) -> Atoms:
    """Atoms of independent outputs, at most n, of the same sum and no more total variation.

    Charges move along a dependence until one of them is 0 (Carathéodory).
    """
    directions, charges = atoms
    while len(charges) > np.linalg.matrix_rank(features := units(directions, x)):
        v = np.linalg.svd(features)[2][-1]
        v = -v if np.sign(charges) @ v > 0 else v
        steps = np.where(charges * v < 0, -charges / np.where(v == 0, 1.0, v), np.inf)
        keep = np.arange(len(charges)) != steps.argmin()
        directions, charges = directions[keep], (charges + steps.min() * v)[keep]
    return charged(directions, charges)


def _merged(moments: np.ndarray, least: float) -> list[np.ndarray]:
    """The moments longer than `least`, of one sign, those along one direction summed."""
    sums: list[np.ndarray] = []
    for u in moments[np.linalg.norm(moments, axis=1) > least]:
        for i, v in enumerate(sums):
            if np.linalg.norm(u / np.linalg.norm(u) - v / np.linalg.norm(v)) < _MERGED:
                sums[i] = v + u
                break
        else:
            sums.append(u)
    return sums


def _solve(
    features: np.ndarray, costs: np.ndarray, rows: Any, sets: list, y: np.ndarray, q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise Σ_k q_k (f_k − y_k)²/2 + costs · z with f = features z and rows z in `sets`: z, and
    the dual variables p = q (y − f)."""
    clarabel = _clarabel()
    n, m = features.shape
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    solution = clarabel.DefaultSolver(
        scipy.sparse.block_diag(
            [scipy.sparse.diags(q), scipy.sparse.csc_matrix((m, m))], format="csc"
        ),
        np.concatenate([-q * y, costs]),
        scipy.sparse.bmat(
            [[scipy.sparse.eye(n), -scipy.sparse.csr_matrix(features)], [None, -rows]], format="csc"
        ),
        np.zeros(n + rows.shape[0]),
        [clarabel.ZeroConeT(n), *sets],
        settings,
    ).solve()
    return np.array(solution.x)[n:], np.array(solution.z)[:n]


def _clarabel() -> Any:
    """The conic solver, imported where it is needed."""
    try:
        import clarabel
    except ImportError as error:
        raise ImportError(
            "sparse_relu needs the conic solver clarabel: "
            "pip install clarabel, or neuronal-ensembles[references]"
        ) from error
    return clarabel
