"""Spaces of functions of two-layer ReLU networks, on samples: F_1 and F_2, and how large they are.

F_1 has the total variation of a signed measure on |w| = 1 as its norm, f = ∫ relu(w · x) dμ(w); F_2
is the Hilbert space of the kernel E relu(w · x) relu(w · x') (Bach, arXiv:1412.8690). A Rademacher
average of the unit ball of F_1 is E max_w |Σ_k ε_k relu(w · x_k)|/L, exactly the certificate of
`sparse_relu` with random signs for targets, under a penalty so large that the optimum is zero.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from limits import Data, fit_power_law
from limits.references import minimal_interpolation, sparse_relu


def sphere(n, d, rng):
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def highest(x, signs):
    return sparse_relu(Data(x, signs[:, None]), 1e3).certificate


def averages(d, n, draws, seed):
    """Rademacher averages of L = n inputs of length 1, one for each draw of inputs and signs."""
    rng = np.random.default_rng([d, n, seed])
    return np.array([highest(sphere(n, d, rng), rng.choice([-1.0, 1.0], n)) for _ in range(draws)])


@pytest.mark.slow
def test_rademacher_averages_of_the_ball_fall_as_the_root_of_samples():
    """By contraction they are below 2/√L for inputs of length 1, whatever d (seen for d = 2, 3).
    Control: signs that are all the same, whose
    maximum tends to 1/π on the circle and not to 0."""
    sizes, draws = np.array([8, 16, 32]), 24
    print(f"\nRademacher averages × √L, {draws} draws, for L = {sizes}")
    for d in (2, 3):
        found = np.stack([averages(d, n, draws, 0) for n in sizes], 1)
        mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(draws)
        rate = fit_power_law(sizes, found)
        print(f"d = {d}: {(mean * np.sqrt(sizes)).round(3)} ± {(error * np.sqrt(sizes)).round(3)}, "
              f"exponent in L {rate}", flush=True)  # fmt: skip
        assert rate.low <= -0.5 <= rate.high and (mean + 4 * error < 2 / np.sqrt(sizes)).all()
        assert rate.high < -0.25
    rng = np.random.default_rng(1)
    still = [highest(sphere(n, 2, rng), np.ones(n)) for n in sizes]
    print(f"without random signs: {np.round(still, 3)}")
    assert min(still) > 0.25


def test_the_average_is_the_maximum_over_directions():
    """The certificate against 20,000 directions on the circle."""
    rng = np.random.default_rng(0)
    x, signs = sphere(12, 2, rng), rng.choice([-1.0, 1.0], 12)
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    w = np.stack([np.cos(angles), np.sin(angles)], 1)
    largest = np.abs(np.maximum(w @ x.T, 0) @ signs / 12).max()
    assert largest <= highest(x, signs) + 1e-12 < largest + 1e-6


@jax.jit
def losses(weights, x, signs):
    """−⟨ε, f⟩/L of networks Σ_j a_j relu(⟨w_j, x⟩)/M over their mean path norm, with gradients."""

    def loss(weights):
        a, w = weights[0], weights[1:]
        correlations = signs @ jax.nn.relu(x @ w) / len(signs)
        return -(a @ correlations) / (jnp.abs(a) @ jnp.linalg.norm(w, axis=0))

    return jax.value_and_grad(loss)(weights)


def ascended(m, x, signs, rng):
    """The largest correlation with the signs that networks of m neurons find by ascent."""
    x, signs = jnp.asarray(x), jnp.asarray(signs)

    def loss(flat):
        value, slope = losses(jnp.asarray(flat.reshape(3, m)), x, signs)
        return float(value), np.asarray(slope).ravel()

    ends = [minimize(loss, rng.standard_normal(3 * m), jac=True) for _ in range(8 + 64 // m)]
    return -min(end.fun for end in ends)


@pytest.mark.slow
def test_rademacher_averages_of_networks_do_not_grow_with_neurons_in_the_scaling_of_the_mean():
    """Networks of M neurons, L = 12 inputs on the circle: with Σ|a_j| |w_j|/M ≤ 1 none correlates
    more with the signs than the best neuron alone, and ascent in all weights comes close at every M
    (maxima are at kinks, where it may stop early). Control: Σ_j a_j relu(⟨w_j, x⟩)/√M with each
    |a_j| |w_j| ≤ 1, whose maximum, M copies of the best neuron, is √M times as large: n_0 √(d/m)
    and n_0 √(M d/m) in Montanari's notes."""
    sizes, draws, n = np.array([1, 4, 16]), 16, 12
    found, best = np.zeros((draws, 3)), np.zeros(draws)
    for k in range(draws):
        rng = np.random.default_rng([k, 70])
        x, signs = sphere(n, 2, rng), rng.choice([-1.0, 1.0], n)
        best[k] = highest(x, signs)
        found[k] = [ascended(m, x, signs, rng) for m in sizes]
    parts, error = found / best[:, None], found.std(0, ddof=1) / np.sqrt(draws)
    mean, lazy = fit_power_law(sizes, parts), fit_power_law(sizes, parts * np.sqrt(sizes))
    print(f"\nRademacher averages of networks, M = {sizes}: {found.mean(0).round(4)} ± "
          f"{error.round(4)}, of a neuron {best.mean():.4f}; smallest part {parts.min():.3f}\n"
          f"exponent in M {mean}, in the scaling 1/√M {lazy}")  # fmt: skip
    assert (parts <= 1 + 1e-9).all() and found.mean(0).min() > 0.95 * best.mean()
    assert abs(mean.exponent) < 0.05 and lazy.low > 0.4


def hilbert_norm(x, y):
    """The F_2 norm of the interpolant of least norm, w uniform on the sphere."""
    cosines = np.clip(x @ x.T, -1.0, 1.0)
    angles = np.arccos(cosines)
    gram = (np.sin(angles) + (np.pi - angles) * cosines) / (2 * np.pi * x.shape[1])
    return np.sqrt(y @ np.linalg.solve(gram, y))


@pytest.mark.slow
def test_a_neuron_has_norm_one_in_the_ball_and_none_in_the_hilbert_space():
    """On L points of the sphere in R³: the F_2 norm of a neuron relu(x₁) grows without bound, that
    of x₁ has the bound 2√d (g = 2d w₁; the control), and F_1 norms are at most 1 and 2."""
    sizes, seeds = np.array([32, 128, 512]), 6
    norms = np.zeros((2, seeds, len(sizes)))
    for s in range(seeds):
        for i, n in enumerate(sizes):
            x = sphere(n, 3, np.random.default_rng([n, s]))
            norms[:, s, i] = [hilbert_norm(x, y) for y in (np.maximum(x[:, 0], 0), x[:, 0])]
    neuron, line = norms
    rate = fit_power_law(sizes, neuron)
    print(f"\nF_2 norms for L = {sizes}: neuron {neuron.mean(0).round(2)}, exponent {rate}; "
          f"x₁ {line.mean(0).round(4)} of {2 * 3**0.5:.4f}")  # fmt: skip
    assert rate.low > 0.05 and (neuron[:, 1:] > neuron[:, :-1]).all()
    assert (line < 2 * 3**0.5 + 1e-9).all() and line[:, -1].min() > 0.9 * 2 * 3**0.5
    x = sphere(24, 3, np.random.default_rng(0))
    others = np.concatenate([np.eye(3), -np.eye(3), sphere(200, 3, np.random.default_rng(1))])
    for y, most in ((np.maximum(x[:, 0], 0), 1), (x[:, 0], 2)):
        least = minimal_interpolation(Data(x, y[:, None]), others).value
        print(f"F_1 norm {least:.4f} on 24 points, at most {most}; F_2 {hilbert_norm(x, y):.4f}")
        assert least < most + 1e-6 and least < hilbert_norm(x, y)
