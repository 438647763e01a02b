"""The energy of ReLU units is strongly convex around its sparse minimiser (de Dios & Bruna,
arXiv:2006.10225).

With vectors u_j = |c_j| w_j, one in each cone and sign of the minimiser, the energy
½ Σ_k q_k (Σ_j ± u_j · x_k 1[w_j · x_k > 0] − y_k)² + λ Σ_j |u_j| is convex. The penalty is curved
across w_j, by λ/|u_j|, and flat along it, where only masses change, and the risk is curved in them
exactly where the features relu(w_j · x) of the atoms are linearly independent on the data: then the
least eigenvalue of the Hessian is positive. Where they are dependent the minimiser is not unique.

With an atom on a kink, w_j · x_k = 0, the energy has one Hessian on each side of it, and across it
a jump of the slope by ± p_k |x_k|, p_k = q_k (f(x_k) − y_k). At a minimiser ± p_k ≥ 0, as the
function Σ_k ± p_k relu(w · x_k) + λ |w| is nowhere negative and 0 at w_j (if the inputs that w_j is
orthogonal to are linearly independent). So the energy is strongly convex around it if ± p_k > 0 on
all kinks and the features are independent: the Hessians of all sides are positive then.
"""

from itertools import product

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


def on_kinks(best, data):
    """The u_j with those on kinks exactly there, their signs, which are on kinks, and ± p_k."""
    x, w = np.asarray(data.x), best.directions.copy()
    kinks = np.abs(w @ x.T) < 1e-4
    for j in np.flatnonzero(kinks.any(1)):
        w[j] -= np.linalg.pinv(x[kinks[j]]) @ (x[kinks[j]] @ w[j])
    u, signs = w * np.abs(best.charges)[:, None], np.sign(best.charges)
    residuals = np.asarray(data.y)[:, 0] - np.maximum(x @ u.T, 0) @ signs
    return u, signs, kinks, -signs[:, None] * np.asarray(data.masses) * residuals


def sides(u, signs, kinks, data):
    """The Hessian on every side of all kinks."""
    x, size = np.asarray(data.x), np.linalg.norm(u, axis=1)
    curved = np.zeros((len(u), u.shape[1], len(u), u.shape[1]))
    for j, w in enumerate(u / size[:, None]):
        curved[j, :, j] = LAMBDA / size[j] * (np.eye(len(w)) - np.outer(w, w))
    for on in product([False, True], repeat=kinks.sum()):
        active = u @ x.T > 0
        active[kinks] = on
        slopes = ((signs[:, None] * active)[:, :, None] * x).transpose(1, 0, 2).reshape(len(x), -1)
        yield slopes.T * np.asarray(data.masses) @ slopes + curved.reshape(u.size, u.size)


def convexity(u, signs, kinks, data, hessians, rng):
    """The least of 8 (½ F(a) + ½ F(b) − F((a + b)/2))/|a − b|² over pairs close to u: random ones,
    and along the eigenvectors of the least eigenvalues and across the kinks, from u or from the
    opposite side."""
    x = np.asarray(data.x)
    heights = np.where(kinks, np.inf, np.abs(u @ x.T) / np.linalg.norm(x, axis=1))
    reach = 0.02 * min(heights.min(), np.linalg.norm(u, axis=1).min())
    ways = [np.linalg.eigh(h)[1][:, 0] for h in hessians]
    ways += [
        np.outer(np.eye(len(u))[j], x[k] / np.linalg.norm(x[k])) for j, k in np.argwhere(kinks)
    ]
    ways = np.stack([way.reshape(u.shape) for way in ways])
    first, second = rng.standard_normal((2, 2000, *u.shape))
    first, second = (v / np.linalg.norm(v, axis=(1, 2), keepdims=True) for v in (first, second))
    a = u + reach * np.concatenate([ways, ways, -ways, first])
    b = u + reach * np.concatenate([-ways, 0 * ways, 0 * ways, second])
    F = jax.jit(jax.vmap(lambda v: energy(v, jnp.asarray(signs), data)))
    low = (F(a) + F(b)) / 2 - F((a + b) / 2)
    return float((8 * low / ((a - b) ** 2).sum((1, 2))).min())


@pytest.mark.slow
def test_the_energy_is_strongly_convex_around_minimisers_with_atoms_on_kinks():
    """At those of the same random problems that have atoms on kinks, ± p_k > 0 on all of these, the
    Hessians of all sides are positive, and the energy is strongly convex with the least of their
    eigenvalues, within a tenth, by midpoints of pairs nearby. Control: the same network, and the
    targets at its kinks on the other side of its outputs, so that ± p_k < 0: it is no minimiser,
    its Hessians are the same, and midpoints are above."""
    rng, rows = np.random.default_rng(3), []
    print("\nseed, d: ± p_k on kinks, least eigenvalue of all sides, least by midpoints, control")
    for seed, dim in [(s, d) for d in (2, 3) for s in range(8)]:
        data = problem(seed, dim)
        best = sparse_relu(data, LAMBDA, tol=1e-7)
        u, signs, kinks, jumps = on_kinks(best, data)
        if not kinks.any():
            continue
        hessians = list(sides(u, signs, kinks, data))
        least = min(np.linalg.eigvalsh(h)[0] for h in hessians)
        found = convexity(u, signs, kinks, data, hessians, rng)
        outputs = np.maximum(np.asarray(data.x) @ u.T, 0) @ signs
        other = np.where(kinks.any(0), 2 * outputs - np.asarray(data.y)[:, 0], data.y[:, 0])
        turned = Data(data.x, jnp.asarray(other[:, None]))
        control = convexity(u, signs, kinks, turned, hessians, rng)
        print(f"{seed}, {dim}: {jumps[kinks].round(4)}, {least:.5f}, {found:.5f}, {control:.3g}")
        rows.append((jumps[kinks].min(), least, found, control))
    jump, least, found, control = np.array(rows).T
    assert len(rows) >= 4 and jump.min() > 0 and least.min() > 1e-4
    assert (np.abs(found / least - 1) < 0.1).all() and (control < 0).all()
