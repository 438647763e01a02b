"""Spaces of functions of two-layer ReLU networks, on samples: F_1 and F_2, how large they are, and
what the norm of F_1 bounds.

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
    of x₁ has the bound 2√d (g = 2d w₁; the control), and F_1 norms are 1 and 2: at most, by
    interpolants, and at least, since λ |f| is above the least energy under a penalty λ over all
    directions, certified by duality. (Indeed the even part |x₁|/2 of a neuron has an even measure
    of its own, of mass 1, and ∫ w dμ = 2 e₁ for x₁.)"""
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
        best = sparse_relu(Data(x, y[:, None]), 1e-4)
        low = (best.value - best.gap) / 1e-4
        print(f"F_1 norm between {low:.4f} and {least:.4f} on 24 points, of {most}; "
              f"F_2 {hilbert_norm(x, y):.4f}")  # fmt: skip
        assert 0.99 * most < low <= least < most + 1e-6 and least < hilbert_norm(x, y)


def circle(m):
    angles = np.arange(m) * 2 * np.pi / m
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def drawn(atoms, n, draws, rng):
    """Means over n units drawn from laws of (a, values of a relu(w · x) on the data), p."""
    p, outputs = atoms
    return rng.multinomial(n, p, size=draws) / n @ outputs


@pytest.mark.slow
def test_draws_of_a_minimiser_lose_less_than_the_square_of_the_norm_of_the_target():
    """Rotskoff, Chen, Bruna & Vanden-Eijnden, as in Bruna's lectures: ∫ U(θ, θ) dμ_* ≤ C ‖f_*‖₁²,
    for θ = (a, w), |w| = 1, and U(θ, θ) = a² E relu(w · x)². The constant is C = max_w E relu(w ·
    x)²: a penalty on ∫ a² dμ makes |a| = ‖f‖₁ for all neurons of a minimiser, and ‖f‖₁ ≤ ‖f_*‖₁
    where f_* has no risk. n draws lose (∫ U(θ, θ) dμ_* − ‖f‖²)/n in the square of the distance.
    ‖f_*‖₁ is from below, as the norm under a small penalty. Control: a law of the same f with the
    same ∫ |a| dμ, of which a hundredth of the neurons carry a half, so that |a| alone is too little
    of a penalty."""
    ratios, lost, uneven = [], [], []
    for seed in range(8):
        rng = np.random.default_rng([4, seed])
        x = sphere(12, 2, rng)
        y = np.maximum(x @ sphere(3, 2, rng).T, 0) @ rng.choice([-1.0, 1.0], 3)
        data = Data(x, y[:, None])
        norm = sparse_relu(data, 1e-4).total_variation
        bound = (np.maximum(circle(20_000) @ x.T, 0) ** 2).mean(1).max() * norm**2
        for penalty in (0.1, 0.03, 0.01, 0.001):
            best = sparse_relu(data, penalty)
            size = best.total_variation
            if size == 0:
                continue
            p = np.abs(best.charges) / size
            outputs = best.charges[:, None] / p[:, None] * np.maximum(best.directions @ x.T, 0)
            ratios.append(p @ (outputs**2).mean(1) / bound)
            f, n = p @ outputs, 16
            loss = n * ((drawn((p, outputs), n, 400, rng) - f) ** 2).mean(1)
            lost.append([loss.mean() / bound, loss.std(ddof=1) / 20 / bound])
            shares = np.concatenate([0.01 * p, 0.99 * p])
            charges = np.concatenate([50 * outputs, outputs / 1.98])
            assert np.allclose(shares @ charges, f) and size <= norm + 1e-6
            uneven.append(shares @ (charges**2).mean(1) / bound)
    lost = np.array(lost)
    print(f"\n∫ U(θ, θ) dμ_* over C ‖f_*‖₁²: {np.min(ratios):.3f} to {np.max(ratios):.3f} in "
          f"{len(ratios)} minimisers; loss × n {lost[:, 0].min():.3f} to {lost[:, 0].max():.3f} "
          f"(± {lost[:, 1].max():.3f}); of uneven laws {np.min(uneven):.2f} to "
          f"{np.max(uneven):.2f}")  # fmt: skip
    assert max(ratios) < 1 and (lost[:, 0] + 4 * lost[:, 1] < 1).all()
    assert np.max(uneven) > 1 and len(ratios) > 20


DELTA = 2.5


def fitted(d, n, penalty, seed):
    """E |f_L − f_*|² for three neurons, of norm 2.5, from n inputs on the sphere, and |f_L|₁."""
    w, c = sphere(3, d, np.random.default_rng([7, d])), np.array([1.0, -1.0, 0.5])
    rng = np.random.default_rng([d, n, seed, 6])
    x, test = sphere(n, d, rng), sphere(20_000, d, rng)
    best = sparse_relu(Data(x, np.maximum(x @ w.T, 0) @ c[:, None]), penalty, tol=1e-5)
    return ((best(test)[:, 0] - np.maximum(test @ w.T, 0) @ c) ** 2).mean(), best.total_variation


@pytest.mark.slow
def test_the_error_from_samples_is_below_its_bound_by_the_norm():
    """Of the same authors, for f_L the minimiser of ½ E_L (f − f_*)² + λ ‖f‖₁ and inputs of length
    1: E ‖f_L − f_*‖² ≤ 2 δ (4 δ A_L + λ), δ = ‖f_*‖₁, A_L the Rademacher average of the unit ball,
    of which √L A_L ≤ 2, so that R_1 ≤ 8 and R_2 = 0. Indeed ‖f_L‖₁ ≤ δ and E_L (f_L − f_*)² ≤ 2 λ δ
    as f_* is admissible, and E sup |E − E_L| (f − f_*)² ≤ 2 · 4δ · δ A_L, the square having the
    Lipschitz constant 4δ where |f − f_*| ≤ 2δ. δ is exactly Σ|c_j| for different lines w_j, as an
    even measure is determined by its function. With λ = 0.1/√L, errors fall as L^(-½) or faster,
    within their interval, and are a hundredth to a thousandth of the bound. In three dimensions
    f_L has a fifth of the norm of f_* still: most of the error is the penalty's.

    Controls: with few samples and a tiny λ the bound without A_L fails; with many samples and a
    large λ, one neuron in the plane, f_L = 0, it fails without λ."""
    sizes, seeds = np.array([8, 16, 32]), 12
    print(f"\nE |f_L − f_*|² for L = {sizes}, {seeds} seeds, and its bound")
    for d in (2, 3):
        found = np.array([[fitted(d, n, 0.1 / n**0.5, s) for n in sizes] for s in range(seeds)])
        mean, bar = found[..., 0].mean(0), found[..., 0].std(0, ddof=1) / seeds**0.5
        average = np.stack([averages(d, n, 24, 3) for n in sizes], 1)
        low = average.mean(0) - 4 * average.std(0, ddof=1) / 24**0.5
        bound = 2 * DELTA * (4 * DELTA * low + 0.1 / sizes**0.5)
        rate = fit_power_law(sizes, found[..., 0])
        print(f"d = {d}: {mean.round(4)} ± {bar.round(4)} of {bound.round(2)}, exponent {rate}; "
              f"norms {found[..., 1].mean(0).round(3)} of {DELTA}", flush=True)  # fmt: skip
        assert (mean + 4 * bar < bound).all() and rate.low <= -0.5
        assert found[..., 1].max() <= DELTA + 1e-6
        few = np.array([fitted(d, 8, 1e-5, s)[0] for s in range(seeds)])
        error = few.std(ddof=1) / seeds**0.5
        print(f"L = 8, λ = 1e-5: {few.mean():.4f} ± {error:.4f}, 2 δ λ = {2 * DELTA * 1e-5:.5f}")
        assert few.mean() - 2 * error > 2 * DELTA * 1e-5
    rng, n = np.random.default_rng(8), 4000
    x, w = sphere(n, 2, rng), circle(720)
    nothing = sparse_relu(Data(x, np.maximum(x[:, :1], 0)), 1.0, directions=w)
    signs = rng.choice([-1.0, 1.0], (n, 24)) / n
    average = np.abs(np.maximum(w @ x.T, 0) @ signs).max(0).mean()
    print(f"L = {n}, λ = 1: {1 / 4} of {8 * average + 2:.3f}, without λ {8 * average:.3f}")
    assert len(nothing.charges) == 0 and 8 * average < 1 / 4 < 8 * average + 2
