"""Norms of functions of sets, S_3 ⊂ S_2 ⊂ S_1 (Zweig & Bruna, arXiv:2008.06952), on a few sets.

Functions are f(μ) = ∫ relu(<μ, φ>) dχ(φ) of the empirical measures μ of sets. For S_1, φ lives in
the unit ball of F_1, φ = ∫ relu(w · x) dν(w) with |ν| ≤ 1; for S_2 in that of F_2, φ =
Σ_j p_j relu(w_j · x)/√r with r frozen directions and |p| ≤ 1; both norms are the least |χ|. For S_3
χ = g χ_0 with χ_0 uniform on |p| = 1, and the norm is that of g in L²(χ_0). By Jensen's inequality,
twice, norms are ordered, ‖f‖_1 ≤ ‖f‖_2 ≤ ‖f‖_3, without a constant.

The least norm of what interpolates y on n sets is a finite program. Of φ only z_i = <μ_i, φ>
counts, and the signs of z cut its unit ball into 2^n cones, in which relu(z) is linear:

1. z is in the convex hull of ±m(w), m(w)_i = mean of relu(w · x) over set i: a linear program for
   given w. On the circle, between angles of a grid that has all kinks of m, at most h apart, m(w)
   is a combination of its neighbours with weights of sum at most 1/cos(h/2), so the norm is at
   most the program's value and at least cos(h/2) times it.
2. z = K^(1/2) u with |u| ≤ 1, K_ij = Σ_l m_i(w_l) m_j(w_l)/r: `sparse_relu` on rows of K^(1/2).
3. A kernel, that of relu(<u, ·>) on the rows of K^(1/2), u uniform on a sphere in R^r.
"""

from itertools import product

import numpy as np
import pytest
import scipy

from limits import Data
from limits.references import sparse_relu

FROZEN, PENALTY = 32, 1e-5


def circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], -1)


def averages(sets, angles):
    """m(w), (sets, angles)."""
    return np.maximum(sets @ circle(angles).T, 0).mean(1)


def grid(sets, most):
    """Angles with all kinks of m among them, and the largest distance of neighbours."""
    kinks = np.arctan2(sets[..., 1], sets[..., 0]).ravel()
    regular = np.arange(0, 2 * np.pi, most)
    angles = np.concatenate([regular, kinks + np.pi / 2, kinks - np.pi / 2])
    angles = np.unique(angles % (2 * np.pi))
    return angles, np.diff(angles, append=angles[0] + 2 * np.pi).max()


def free(sets, y):
    """Bounds of the norm in S_1."""
    angles, h = grid(sets, 2 * np.pi / 120)
    m = averages(sets, angles)
    m = np.concatenate([m, -m], 1)
    cones = [np.array(s) for s in product([0, 1], repeat=len(sets)) if any(s)]
    sums = np.concatenate([c * s[:, None] * m for s in cones for c in (1, -1)], 1)
    inside = [scipy.sparse.csr_matrix((1 - 2 * s)[:, None] * m) for s in cones for _ in (1, -1)]
    walls = scipy.sparse.block_diag(inside, format="csc")
    found = scipy.optimize.linprog(
        np.ones(sums.shape[1]), walls, np.zeros(walls.shape[0]), sums, y, method="highs"
    )
    assert found.status == 0
    return np.cos(h / 2) * found.fun - 1e-6, found.fun + 1e-6


def gram(sets, frozen):
    m = averages(sets, frozen)
    return m @ m.T / len(frozen)


def half_frozen(K, y):
    """Bounds of the norm in S_2: what is left of y has at most its norm in S_3."""
    values, vectors = np.linalg.eigh(K)
    roots = (vectors * np.sqrt(values)) @ vectors.T
    penalty = PENALTY * np.abs(y).max() * values.max() ** 0.5
    best = sparse_relu(Data(roots, y[:, None]), penalty, tol=1e-3)
    rest = y - best(roots)[:, 0]
    return (best.value - best.gap) / penalty, best.total_variation + frozen_all(K, rest)


def frozen_all(K, y):
    """The norm in S_3."""
    size = np.sqrt(np.diag(K))
    cosines = np.clip(K / np.outer(size, size), -1, 1)
    angles = np.arccos(cosines)
    kernel = np.outer(size, size) * (np.sin(angles) + (np.pi - angles) * cosines)
    return np.sqrt(y @ np.linalg.solve(kernel / (2 * np.pi * FROZEN), y))


def example(n, seed):
    rng = np.random.default_rng([n, seed])
    sets = circle(rng.uniform(0, 2 * np.pi, (n, 4)))
    targets = {
        "neuron": averages(sets, rng.uniform(0, 2 * np.pi, 1))[:, 0],
        "longest": sets[..., 0].max(1),
        "random": rng.standard_normal(n),
    }
    return sets, gram(sets, rng.uniform(0, 2 * np.pi, FROZEN)), targets


@pytest.mark.slow
def test_norms_on_sets_are_ordered_as_the_spaces_are():
    """Sets of 4 elements on the circle. A neuron of a neuron has a norm of at most 1 in S_1, at any
    number of sets. The norms of S_1 and S_2 lie between the bounds printed, and the order is that
    of bounds. Control: with φ = Σ_j p_j relu(w_j · x), |p| ≤ 1, not divided by √r, the ball of F_2
    has each of its neurons in it and is not in that of F_1: the order of S_1 and S_2 is reversed.
    """
    print("\nn: S_1, S_2 (bounds), S_3, S_2 of the control")
    for n, seed in product((2, 3, 4, 5), range(3)):
        sets, K, targets = example(n, seed)
        for title, y in targets.items():
            one, two, three = free(sets, y), half_frozen(K, y), frozen_all(K, y)
            control = two[1] / FROZEN**0.5
            print(f"{n} {title:>8}: {one[0]:.5f} … {one[1]:.5f}  {two[0]:.5f} … {two[1]:.5f}  "
                  f"{three:.4f}  {control:.4f}", flush=True)  # fmt: skip
            assert one[1] < two[0] and two[1] < three
            assert one[1] / one[0] < 1.001 and two[1] / two[0] < 1.05
            assert title != "neuron" or one[0] < 1
            assert control < one[0]
