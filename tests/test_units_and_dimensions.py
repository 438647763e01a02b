"""How many ReLU units approximate a homogeneous ReLU network on the sphere, against d and ε.

A network f = ∫ relu(w · x) dμ(w), |w| = 1, of depth two and norm |μ| = 1 is approximated by n units
drawn from |μ|, with the signs of μ, as

    E ‖f_n − f‖² = (1/2d − ‖f‖²)/n,    E sup_{|x| = 1} |f_n − f| ≤ 4/√n,

for inputs uniform on the sphere in R^d; the second by symmetrisation and contraction, as Rademacher
averages are below 2/√n, here with units and inputs in each other's place. So n = (4/ε)² units do in
all dimensions. Deeper networks, of which Bruna, Jelassi & Venturi prove a
rate not cursed in d (as told in J. Bruna's lectures), are approximated by shallow ones first, at a
cost that grows with depth and 1/ε: that part is not computed here.
"""

import numpy as np
import pytest
import scipy.special

from limits import fit_power_law

pytestmark = pytest.mark.slow

DIMS, WIDTHS, SEEDS, NEURONS = np.array([2, 3, 4, 6, 8]), np.array([64, 256, 1024]), 24, 32


def sphere(n, d, rng):
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def highest(w, c, rng):
    """max_{|x| = 1} |Σ_j c_j relu(w_j · x)|: from 2,000 points, the best 50 moved along gradients.
    Inside of a cone the maximum is where the gradient points."""
    x = sphere(2000, w.shape[1], rng)
    values = np.maximum(x @ w.T, 0) @ c
    x = x[np.argsort(-np.abs(values))[:50]]
    best = np.abs(values).max()
    for _ in range(20):
        values = np.maximum(x @ w.T, 0) @ c
        best = max(best, np.abs(values).max())
        slope = ((x @ w.T > 0) * c) @ w * np.sign(values)[:, None]
        x = x + 0.3 * slope / np.linalg.norm(slope, axis=1, keepdims=True)
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return best


def squared(w, c):
    """E (Σ_j c_j relu(w_j · x))² on the sphere, in closed form."""
    cosines = np.clip(w @ w.T, -1, 1)
    angles = np.arccos(cosines)
    gram = (np.sin(angles) + (np.pi - angles) * cosines) / (2 * np.pi * w.shape[1])
    return c @ gram @ c


def errors(d, n, seed):
    """sup |f_n − f|, and ‖f_n − f‖² over its expectation."""
    rng = np.random.default_rng([seed, d, n])
    w, signs = sphere(NEURONS, d, rng), rng.choice([-1.0, 1.0], NEURONS)
    c = signs / NEURONS
    off = signs * rng.multinomial(n, np.full(NEURONS, 1 / NEURONS)) / n - c
    return highest(w, off, rng), squared(w, off) / ((1 / (2 * d) - squared(w, c)) / n)


def zonal(d):
    """Norms |μ| and ‖f‖ of the zonal harmonic of degree d, of value 1 at its pole."""
    angles = (np.arange(20_000) + 0.5) * np.pi / 20_000
    weights, t = np.sin(angles) ** (d - 2), np.cos(angles)
    weights = weights / weights.sum()
    if d == 2:
        f = np.cos(2 * angles)
    else:
        f = scipy.special.eval_gegenbauer(d, d / 2 - 1, t)
        f = f / scipy.special.eval_gegenbauer(d, d / 2 - 1, 1.0)
    eigenvalue = weights @ (np.maximum(t, 0) * f)
    return weights @ np.abs(f) / abs(eigenvalue), np.sqrt(weights @ f**2)


def test_units_for_a_network_of_norm_one_do_not_grow_with_the_dimension():
    """Networks of 32 units of norm 1: the largest error falls as n^(-½) in every d, up to a tenth
    in the exponent, below 4/√n, and not with a constant that grows in d. Control: zonal harmonics
    of even degree d with ‖f‖ = 1, of which one even measure is the least: |μ| is exponential in d,
    and so is |μ|²/(2d ε²), the number of drawn units for ‖f_n − f‖ = ε = ½. (With the largest value
    1 in place of ‖f‖, |μ| grows as a power of d.)"""
    found = np.array(
        [[[errors(d, n, s) for n in WIDTHS] for s in range(SEEDS)] for d in DIMS]
    )  # (dims, seeds, widths, 2)
    largest, ratio = found[..., 0], found[..., 1]
    print(f"\n√n sup |f_n − f| for n = {WIDTHS}, {SEEDS} seeds")
    for d, e, r in zip(DIMS, largest, ratio, strict=True):
        rate, scaled = fit_power_law(WIDTHS, e), e * WIDTHS**0.5
        mean, bar = r.mean(), r.std(ddof=1) / r.size**0.5
        print(f"d = {d}: {scaled.mean(0).round(3)} ± "
              f"{(scaled.std(0, ddof=1) / SEEDS**0.5).round(3)}, exponent {rate}; "
              f"‖f_n − f‖² of its expectation {mean:.3f} ± {bar:.3f}", flush=True)  # fmt: skip
        assert rate.low < -0.5 + 0.1 and rate.high > -0.5 - 0.1 and scaled.max() < 4
        assert abs(mean - 1) < 4 * bar
    grows = fit_power_law(DIMS, (largest * WIDTHS**0.5).mean(2).T)
    print(f"exponent of the constant in d {grows}")
    assert grows.high < 0.2  # a constant of √d would have 0.5
    even = np.array([2, 4, 6, 8])
    norm, size = np.array([zonal(d) for d in even]).T
    units = (norm / size) ** 2 / (2 * even) * 4
    print(f"zonal, d = {even}: |μ| {(norm / size).round(1)}, units {units.round()}")
    assert (norm[1:] / size[1:] > 4 * norm[:-1] / size[:-1]).all() and units[-1] > 1e5 * units[0]
