"""Which degrees kernel regression learns from n samples in d dimensions, by harmonics."""

import numpy as np
import pytest
from scipy.special import comb, eval_gegenbauer, roots_gegenbauer

DEGREES, SEEDS = 14, 4


def harmonics(d):
    """The numbers B_k of harmonics of degree k on the sphere in R^d."""
    k = np.arange(DEGREES)
    return comb(d + k - 1, k) - np.where(k > 1, comb(d + k - 3, np.maximum(k - 2, 0)), 0)


def gegenbauer(d, k, t):
    """Of degree k, 1 at t = 1; E P_k(⟨x, w⟩)² = 1/B_k for x uniform and |w| = 1."""
    a = (d - 2) / 2
    return eval_gegenbauer(k, a, t) / eval_gegenbauer(k, a, 1.0)


def sigma(u):
    """A neuron whose degrees have the weights of Poisson's law of mean 2 as d → ∞."""
    return np.sqrt(2) * np.cos(np.sqrt(2) * u + np.pi / 4)


def coefficients(d):
    """b_k of σ(√d t) = Σ b_k P_k(t), and E σ², by quadrature."""
    t, w = roots_gegenbauer(200, (d - 2) / 2)
    values, w = sigma(np.sqrt(d) * t), w / w.sum()
    b = [w @ (values * gegenbauer(d, k, t)) for k in range(DEGREES)]
    return b * harmonics(d), w @ values**2


def lazy_kernel(cosines):
    """Of the tangent features of ReLU units with inputs (x, 1)/√2: all degrees are in it."""
    c = np.clip((1 + cosines) / 2, -1, 1)
    return (2 * c * (np.pi - np.arccos(c)) + np.sqrt(1 - c**2)) / (2 * np.pi)


def sphere(n, d, draw):
    x = draw.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def errors(degree, d, n, seed):
    """Of σ(√d x₁) and of its part of degree ≤ ℓ: the least over ridges on the test set itself."""
    draw, (b, _) = np.random.default_rng([degree, d, seed]), coefficients(d)
    x, z = sphere(n, d, draw), sphere(2000, d, draw)

    def targets(v):
        low = sum(b[k] * gegenbauer(d, k, v[:, 0]) for k in range(degree + 1))
        return np.stack([sigma(np.sqrt(d) * v[:, 0]), low], 1)

    values, vectors = np.linalg.eigh(lazy_kernel(x @ x.T))
    features, wanted = lazy_kernel(z @ x.T) @ vectors, targets(z)
    found = []
    for ridge in np.logspace(-5, 1, 13) * values.mean():
        fits = features @ (vectors.T @ targets(x) / (values + ridge)[:, None])
        found.append(((fits - wanted) ** 2).mean(0))
    return np.min(found, 0)


@pytest.mark.slow
def test_the_parts_above_a_degree_are_not_learned_from_samples_between_the_harmonics():
    """From n = √(B_ℓ B_{ℓ+1}), of the order d^(ℓ+1/2), the error of the best ridge is above
    ‖P_{>ℓ}σ‖² for ℓ = 1, 2, 3, and at every d above Σ_k (1 − n/B_k)₊ ‖P_kσ‖², since the span of n
    functions k(x_i, ·) holds at most n/B_k of a harmonic of degree k, on average over its
    direction. It is below ‖P_{>ℓ−1}σ‖²: degree ℓ is learned in part.

    Control: the part of degree ≤ ℓ alone, of the same samples, which is learned: to a fifth of its
    variance at least, and better in larger d. The approach to the floor itself is not asserted."""
    print("\nℓ, d, n: error of σ; floor for n → ∞, for this n; error of the part ≤ ℓ over its size")
    for degree, dims in ((1, (20, 40, 80)), (2, (10, 15, 25)), (3, (7, 10, 14))):
        relative = []
        for d in dims:
            (b, total), numbers = coefficients(d), harmonics(d)
            n = round(np.sqrt(numbers[degree] * numbers[degree + 1]))
            parts = b**2 / numbers
            assert abs(parts.sum() - total) < 1e-6
            floor, most = parts[degree + 1 :].sum(), parts[degree:].sum()
            exact = np.maximum(1 - n / numbers, 0) @ parts
            found = np.array([errors(degree, d, n, s) for s in range(SEEDS)])
            mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(SEEDS)
            relative.append(mean[1] / parts[1 : degree + 1].sum())
            print(f"{degree}, {d}, {n}: {mean[0]:.3f} ± {error[0]:.3f}; {floor:.3f}, {exact:.3f}; "
                  f"{relative[-1]:.4f}", flush=True)  # fmt: skip
            assert mean[0] - 2 * error[0] > exact and mean[0] + 2 * error[0] > floor
            assert mean[0] < most
        assert max(relative) < 0.2 and relative[-1] < relative[0]
