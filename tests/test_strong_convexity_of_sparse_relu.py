"""The energy of ReLU units is strongly convex around its sparse minimiser (de Dios & Bruna,
arXiv:2006.10225).

With vectors u_j = |c_j| w_j, one in each cone and sign of the minimiser, the energy
½ Σ_k q_k (Σ_j ± u_j · x_k 1[w_j · x_k > 0] − y_k)² + λ Σ_j |u_j| is convex. The penalty is curved
across w_j, by λ/|u_j|, and flat along it, where only masses change, and the risk is curved in them
exactly where the features relu(w_j · x) of the atoms are linearly independent on the data: then the
least eigenvalue of the Hessian is positive. Where they are dependent the minimiser is not unique.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from limits import Data
from limits.references import sparse_relu

LAMBDA = 0.05


def energy(u, signs, data):
    """Of vectors u (atoms, d), in the order of `signs`."""
    f = jax.nn.relu(data.x @ u.T) @ signs
    return data.masses @ (f - data.y[:, 0]) ** 2 / 2 + LAMBDA * jnp.linalg.norm(u, axis=1).sum()


def curvature(directions, charges, data):
    """The gradient and the eigenvalues of the Hessian in the u_j; atoms are inside of cones."""
    u, signs = jnp.asarray(directions * np.abs(charges)[:, None]), jnp.asarray(np.sign(charges))
    assert np.abs(directions @ np.asarray(data.x).T).min() > 1e-4
    slope = jax.grad(energy)(u, signs, data)
    hessian = jax.hessian(energy)(u, signs, data).reshape(u.size, u.size)
    return float(jnp.abs(slope).max()), np.linalg.eigvalsh(np.asarray(hessian))


def problem(seed, dim):
    """Eight random data with targets of two neurons of their own, and noise."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((8, dim)), rng.standard_normal((2, dim))
    y = np.maximum(x @ w.T, 0) @ [1.0, -1.0] + 0.1 * rng.standard_normal(8)
    return Data(jnp.asarray(x), jnp.asarray(y[:, None]))


@pytest.mark.slow
def test_the_hessian_at_the_sparse_minimiser_is_positive():
    """At the minimisers of random problems that have no atom on a hyperplane w · x_k = 0, where the
    energy has a kink and no Hessian. A quarter of a turn maps four inputs to one another: of the
    four atoms between them two opposite ones are enough, and the Hessian has a kernel."""
    least, kinks = [], 0
    for seed, dim in [(s, d) for d in (2, 3) for s in range(8)]:
        data = problem(seed, dim)
        best = sparse_relu(data, LAMBDA, tol=1e-7)
        inside = np.abs(best.directions @ np.asarray(data.x).T).min() > 1e-4
        kinks += not inside
        if inside:
            slope, values = curvature(best.directions, best.charges, data)
            assert slope < 1e-4  # a stationary point
            least.append(values[0])
    print(
        f"\n{len(least)} minimisers inside of cones, {kinks} with atoms on kinks; least eigenvalues"
    )
    print(np.sort(least).round(5))
    assert len(least) >= 4 and min(least) > 1e-4
    cross = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    data = Data(jnp.asarray(cross), jnp.ones((4, 1)))
    best = sparse_relu(data, LAMBDA)
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / np.sqrt(2)
    each = best.total_variation / 4
    mixed = energy(jnp.asarray(corners * each), jnp.ones(4), data)
    slope, values = curvature(corners, np.full(4, each), data)
    print(
        f"not unique: value {best.value:.6f} and of four atoms {mixed:.6f}, least {values[0]:.1e}"
    )
    assert abs(mixed - best.value) < 1e-5 and slope < 1e-4 and abs(values[0]) < 1e-9
