"""How far a neuron of a neuron is from balls of S_2 (Zweig & Bruna, arXiv:2008.06952), in d.

The theorem, as J. Bruna's lectures print it: some f_1 with ‖f_1‖_1 ≤ 1 has
inf {‖f_1 − f‖_∞ : ‖f‖_2 ≤ δ} ≳ |1/d − δ 2^(−d/2)|. Here f_1(μ) = relu(<μ, φ_1>), φ_1(x) =
relu(e · x), on probability measures μ of the unit sphere in R^d. Its distance D(δ) is that of φ_1
from a ball of F_2, up to constants:

- a φ in the δ-ball of F_2 gives f = relu(<μ, φ>), so D(δ) ≤ inf ‖φ_1 − φ‖_∞;
- any f in the δ-ball of S_2 has |f(μ) − f(μ')| ≤ δ M(μ, μ') with M = sup {<μ − μ', φ> : ‖φ‖ ≤ 1 in
  F_2}, so 2 D(δ) ≥ <μ − μ', φ_1> − δ M for all μ, μ'. The largest such bound is, by duality, the
  distance of φ_1 from the ball plus constants: D(δ) ≥ inf over φ and c of ‖φ_1 − φ − c‖_∞.

Averages over rotations around e keep both, so φ = Σ_k a_k λ_k √N_k P_k(e · x) with |a| ≤ δ: P_k are
Gegenbauer's polynomials with P_k(1) = 1, N_k the dimension of harmonics of degree k and λ_k the
mean of relu(x₁) P_k(x₁), zero for odd k ≥ 3. Two programs in one dimension remain.

The bound cannot hold with the absolute value, which grows with δ while D(δ) falls: what is meant is
the positive part.
"""

import clarabel
import numpy as np
import pytest
import scipy
from scipy.special import comb, gammaln

DEGREES, MORE, POINTS = 120, 4000, 400


def polynomials(t, d, most):
    """P_k(t), k = 0, …, most."""
    P = [np.ones_like(t), t]
    for k in range(1, most):
        P.append(((2 * k + d - 2) * t * P[k] - k * P[k - 1]) / (k + d - 2))
    return np.array(P)


def scales(d, degrees):
    """λ_k √N_k for k in `degrees`, which are 1 or even.

    By Rodrigues' formula and the derivative of (1 − t²)^(k + (d − 3)/2) at 0, for even k ≥ 2
    |λ_k| = (k − 2)! Γ(d/2)/(2^k (k/2 − 1)! √π Γ((k + d + 1)/2)), of signs + − + …; and
    λ_0 = Γ(d/2)/(2√π Γ((d + 1)/2)), λ_1 = 1/(2d).
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


def program(y, d, delta, constants):
    """inf sup_t |y(t) − φ(t) − c| on the points: a and the dual measure on them."""
    t, k = points(), np.r_[0, 1, 2:DEGREES:2]
    basis = (polynomials(t, d, DEGREES)[k] * scales(d, k)[:, None]).T
    n, m = basis.shape
    ones, column = np.ones((n, 1)), np.full((n, 1), float(constants))
    rows = np.vstack([
        np.hstack([-basis, -column, -ones]),  # y − φ − c ≤ s
        np.hstack([basis, column, -ones]),
        np.zeros((1, m + 2)), -np.eye(m, m + 2),  # |a| ≤ δ
    ])  # fmt: skip
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    found = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix((m + 2, m + 2)), np.eye(m + 2)[-1], scipy.sparse.csc_matrix(rows),
        np.concatenate([-y(t), y(t), [delta], np.zeros(m)]),
        [clarabel.NonnegativeConeT(2 * n), clarabel.SecondOrderConeT(m + 1)], settings,
    ).solve()  # fmt: skip
    z = np.array(found.z)
    return np.array(found.x)[:m], z[:n] - z[n : 2 * n]


def relu(t):
    return np.maximum(t, 0)


def above(d, delta, y=relu):
    """An upper bound of D(δ): a φ of the ball, on a finer grid."""
    a, _ = program(y, d, delta, constants=False)
    a = a * min(1.0, delta / np.linalg.norm(a))
    fine, k = np.linspace(-1, 1, 20_001), np.r_[0, 1, 2:DEGREES:2]
    return np.abs(y(fine) - (a * scales(d, k)) @ polynomials(fine, d, DEGREES)[k]).max()


def below(d, delta):
    """A lower bound of D(δ): a pair of measures, μ − μ' = 2ρ. What M has beyond the degrees is at
    most what the kernel has there, whose trace is E relu² = 1/(2d)."""
    t, k = points(), np.r_[0, 1, 2:MORE:2]
    _, rho = program(relu, d, delta, constants=True)
    rho = rho - rho.mean()
    rho = rho / np.abs(rho).sum()
    size = scales(d, k)
    rest = 1 / (2 * d) - size @ size
    M = np.sqrt(np.sum((size * (polynomials(t, d, MORE)[k] @ rho)) ** 2) + max(rest, 0.0))
    return abs(relu(t) @ rho) - delta * M


def needed(d, far):
    """The largest δ that is found to leave a distance of at least `far`, by bisection."""
    low, high = np.log(0.5), 10.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if below(d, np.exp(middle)) > far else (low, middle)
    return np.exp(low)


def test_scales_are_those_of_quadrature():
    nodes, weights = np.polynomial.legendre.leggauss(200)
    t, k = (nodes + 1) / 2, np.r_[0, 1, 2:12:2]
    for d in (3, 5, 9):
        density = weights * (1 - t**2) ** ((d - 3) / 2)
        eigenvalues = polynomials(t, d, 12)[k] @ (density * t) / (2 * density.sum())
        N = np.array([comb(d + j - 1, j) - (comb(d + j - 3, j - 2) if j > 1 else 0) for j in k])
        np.testing.assert_allclose(eigenvalues * np.sqrt(N), scales(d, k), rtol=1e-9)


@pytest.mark.slow
def test_a_neuron_of_a_neuron_is_far_from_balls_of_exponential_radius():
    """f_1 is in the unit ball of S_1. At a fixed δ its distance from a δ-ball of S_2 grows with d,
    where the theorem's bound, 1/d at most, falls or is negative. What the bound says is how large δ
    has to be: D(δ) is above 0.2/d until log δ is larger, by at least (log 2)/2 for each dimension
    (above 0.3/d, by 0.34). The two bounds of D(δ) are apart at small δ, where constants matter, and
    equal to three digits at large ones. A constant of 1 in the theorem's ≳ does up to d = 16; at
    d = 30 and δ = 2^(d/2)/(2d), D is 0.51/d where the theorem has 0.50/d, so that it may have to
    be smaller beyond.

    Controls: a linear φ_1 = e · x has norm 2√d in F_2, and its f_1 is in a ball of polynomial
    radius; as printed, with the absolute value, the bound fails for large δ."""
    dims, radii = np.array([4, 6, 8, 10, 12, 14, 16]), (1.0, 4.0, 16.0, 64.0)
    print(f"\nD(δ) for δ = {radii}; the largest δ with D(δ) > 0.2/d")
    rows, most = [], []
    for d in dims:
        rows.append([(below(d, delta), above(d, delta)) for delta in radii])
        most.append(needed(d, 0.2 / d))
        print(f"d = {d:2d}: " + "  ".join(f"{a:.4f} … {b:.4f}" for a, b in rows[-1])
              + f"   {most[-1]:.1f}", flush=True)  # fmt: skip
        for delta, (low, high) in zip(radii, rows[-1], strict=True):
            assert max(1 / d - delta * 2 ** (-d / 2), 0) < low < high
        for part in (0.25, 0.5, 0.75):
            assert below(d, part * 2 ** (d / 2) / d) > (1 - part) / d
        assert above(d, 2 * d**0.5, lambda t: t) < 1e-4
    low, high = np.moveaxis(np.array(rows), 2, 0)
    assert (np.diff(low, axis=0) > 0).all() and (low[1:, 2:] > high[:-1, 2:]).all()
    rates = np.diff(np.log(most)) / np.diff(dims)
    print(f"log δ grows by {rates.round(3)} a dimension; (log 2)/2 is {np.log(2) / 2:.3f}")
    assert (rates > np.log(2) / 2).all() and (most[1:] > 2 * dims[1:] ** 0.5).all()
    assert high[0, -1] < abs(1 / dims[0] - radii[-1] * 2 ** (-dims[0] / 2))
