"""How far a neuron of a neuron is from balls of S_2 (Zweig & Bruna, arXiv:2008.06952), in d.

The theorem, as J. Bruna's lectures print it: some f_1 with ‖f_1‖_1 ≤ 1 has
inf {‖f_1 − f‖_∞ : ‖f‖_2 ≤ δ} ≳ |1/d − δ 2^(−d/2)|. Here f_1(μ) = relu(<μ, φ_1>), φ_1 = relu(e · x), on
measures μ of the unit sphere in R^d. Its distance D(δ) is that of φ_1 from a ball of F_2, nearly:

- a φ in the δ-ball of F_2 gives f = relu(<μ, φ>), so D(δ) ≤ inf ‖φ_1 − φ‖_∞;
- any f in the δ-ball of S_2 has |f(μ) − f(μ')| ≤ δ M(μ, μ') with M = sup {<μ − μ', φ> : ‖φ‖ ≤ 1 in
  F_2}, so 2 D(δ) ≥ <μ − μ', φ_1> − δ M for all μ, μ'. The largest such bound is, by duality, the
  distance of φ_1 from the ball plus constants: D(δ) ≥ inf over φ and c of ‖φ_1 − φ − c‖_∞.

Averages over rotations around e keep both, so φ = Σ_k a_k λ_k √N_k P_k(e · x) with |a| ≤ δ: P_k are
Gegenbauer's polynomials with P_k(1) = 1, N_k the dimension of harmonics of degree k and λ_k the
mean of relu(x₁) P_k(x₁), zero for odd k ≥ 3. Two programs in one dimension remain.
"""

import clarabel
import numpy as np
import pytest
import scipy
from scipy.special import gammaln

from limits import fit_power_law

DEGREES, MORE, POINTS = 120, 4000, 400


def polynomials(t, d, most):
    """P_k(t), k = 0, …, most."""
    P = [np.ones_like(t), t]
    for k in range(1, most):
        P.append(((2 * k + d - 2) * t * P[k] - k * P[k - 1]) / (k + d - 2))
    return np.array(P)


def scales(d, degrees):
    """λ_k √N_k for k in `degrees`, which are 1 or even.

    For even k, by Rodrigues' formula, |λ_k| is (k − 2)!/(2^k (k/2 − 1)!) Γ(d/2)/(√π Γ((k + d + 1)/2))
    from the derivative of (1 − t²)^(k + (d − 3)/2) at 0; λ_0 = Γ(d/2)/(2√π Γ((d + 1)/2)).
    """
    k = np.asarray(degrees, float)
    N = np.log(2 * k + d - 2) + gammaln(k + d - 2) - gammaln(k + 1) - gammaln(d - 1)
    even = np.maximum(k, 2)
    size = (gammaln(even - 1) - even * np.log(2) - gammaln(even / 2) + gammaln(d / 2)
            - gammaln((even + d + 1) / 2) - np.log(np.pi) / 2)  # fmt: skip
    zero = gammaln(d / 2) - gammaln((d + 1) / 2) - np.log(np.pi) / 2 - np.log(2)
    size = np.where(k == 0, zero, np.where(k == 1, -np.log(2 * d), size))
    sign = np.where(k < 2, 1, np.where(k % 4 == 2, 1, -1))
    return sign * np.exp(size + N / 2)


def points():
    """Abscissae t = x₁, close to each other at both ends and at the kink."""
    half = (1 - np.cos(np.linspace(0, np.pi, POINTS // 2))) / 2
    return np.unique(np.concatenate([-half, half]))


def program(d, delta, constants):
    """inf sup_t |relu(t) − φ(t) − c| on the points: a, c and the dual measure on them."""
    t, k = points(), np.r_[0, 1, 2:DEGREES:2]
    basis = (polynomials(t, d, DEGREES)[k] * scales(d, k)[:, None]).T
    n, m = basis.shape
    ones = np.ones((n, 1))
    above = np.hstack([-basis, -ones, -ones])  # relu − φ − c ≤ s
    below = np.hstack([basis, ones, -ones])
    ball = np.vstack([np.zeros((1, m + 2)), np.eye(m, m + 2)])
    rows, right = [above, below, -ball], [-np.maximum(t, 0), np.maximum(t, 0), [delta], np.zeros(m)]
    cones = [clarabel.NonnegativeConeT(2 * n), clarabel.SecondOrderConeT(m + 1)]
    if not constants:
        rows, right = [np.eye(1, m + 2, m), *rows], [[0.0], *right]
        cones = [clarabel.ZeroConeT(1), *cones]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    found = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix((m + 2, m + 2)), np.eye(m + 2)[-1],
        scipy.sparse.csc_matrix(np.vstack(rows)), np.concatenate(right), cones, settings,
    ).solve()  # fmt: skip
    z, x = np.array(found.z)[0 if constants else 1 :], np.array(found.x)
    return k, x[:m], z[:n] - z[n : 2 * n]


def distance(d, delta):
    """Bounds of D(δ): by a φ, on a finer grid, and by a pair μ, μ', with all degrees of M."""
    k, a, _ = program(d, delta, False)
    a = a * min(1.0, delta / np.linalg.norm(a))
    fine = np.linspace(-1, 1, 20_001)
    phi = (a * scales(d, k)) @ polynomials(fine, d, DEGREES)[k]
    t, (_, _, rho) = points(), program(d, delta, True)
    rho = rho - rho.mean()
    rho = rho / np.abs(rho).sum()
    more = np.r_[0, 1, 2:MORE:2]
    M = np.linalg.norm(scales(d, more) * (polynomials(t, d, MORE)[more] @ rho))
    low = abs(np.maximum(t, 0) @ rho) - delta * M
    return low, np.abs(np.maximum(fine, 0) - phi).max()
