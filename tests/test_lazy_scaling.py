"""Networks (α/M) Σ_k a_k φ(⟨w_k, x⟩) from the mean-field scaling α = 1 to the lazy one, α = √M.

A network that is multiplied by α and descends M/α² times as fast in each weight follows its
linearisation at the start as α → ∞ (Chizat, Oyallon & Bach, arXiv:1812.07956), and then learns no
features: lecture notes on Mei, Misiakiewicz & Montanari (arXiv:1902.06015) have a figure in which
one neuron is learned worse by more of them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from ensembles import Measure, Network
from limits import Data, GradientFlow, Risk, fit_power_law, train

D, SAMPLES, SEEDS, WIDTHS = 10, 120, 4, np.array([1, 10, 100, 400])


def scaled(point, x):
    """α a φ(⟨w, x⟩) of a neuron (α, a, w), whose α stands still."""
    alpha = jax.lax.stop_gradient(point[:1])
    return alpha * point[1:2] * jax.scipy.special.erf(jnp.dot(point[2:], x) / np.sqrt(2.0))


def linearised(pair, x):
    """The same to first order in δ, of a neuron (α, a, w, δ) in which only δ moves."""
    point, delta = jax.lax.stop_gradient(pair[: 2 + D]), pair[2 + D :]
    value, slope = jax.jvp(lambda p: scaled(p, x), (point,), (delta,))
    return value + slope


def samples(seed):
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((SAMPLES + 1000, D))
    return x, erf(x[:, :1] / np.sqrt(2))


@eqx.filter_jit
def learned(points, alpha, x, y):
    """Test error in units of the variance, relative movement, and the distance in outputs from the
    linearised network, relative to what training changed."""
    risk, (fresh, wanted) = Risk(Data(x[:SAMPLES], y[:SAMPLES])), (x[SAMPLES:], y[SAMPLES:])
    n, still = len(points), jnp.full((len(points), 1), alpha)
    begin = jnp.concatenate([still, points], 1)
    pairs = jnp.concatenate([begin, jnp.zeros_like(begin)], 1)
    ends, outputs = [], []
    for sigma, first in ((scaled, begin), (linearised, pairs)):
        start = Network.shallow(sigma, Measure(first, jnp.full(n, 1 / n)))
        rates = GradientFlow(learning_rates=1 / alpha**2)
        final = train(start, risk, rates, step=0.5, t1=100.0).final
        ends.append(final)
        outputs.append((start(fresh), final(fresh)))
    (before, after), (_, flat) = outputs
    moved = ends[0].points(0)[:, 1:] - points
    return jnp.stack([
        3 * ((after - wanted) ** 2).mean(),
        jnp.sqrt((moved**2).sum() / (points**2).sum()),
        jnp.sqrt(((after - flat) ** 2).mean() / ((after - before) ** 2).mean()),
    ])  # fmt: skip


@pytest.mark.slow
def test_more_neurons_are_lazy_in_the_scaling_of_roots_and_not_in_the_mean():
    """α = M^s: for s = 1/2 neurons move by M^(−1/2), networks approach their linearisation (faster
    than M^(−1/2) at these widths), and their test error rises from M = 10 to 100 (from 100 to 400
    no more is seen); for s = 0 movement settles, the error does not rise, and the linearisation
    stays off by more than a tenth. In between neurons move by M^(−s). The neuron alone, M = 1, is
    the same for all s and of the teacher's class: that it is best compares nothing."""
    found = {}
    print(f"\nM = {WIDTHS}: test error, relative movement, distance from the linearisation")
    for s in (0.0, 0.25, 0.5):
        values = np.zeros((SEEDS, len(WIDTHS), 3))
        for seed in range(SEEDS):
            x, y = map(jnp.asarray, samples(seed))
            for i, m in enumerate(WIDTHS):
                scales = jnp.append(jnp.ones(1), jnp.full(D, D**-0.5))
                points = jax.random.normal(jax.random.key(seed), (int(m), 1 + D)) * scales[None]
                values[seed, i] = learned(points, jnp.array(float(m) ** s), x, y)
        found[s] = values
        rates = [fit_power_law(WIDTHS[1:], values[:, 1:, k]) for k in (1, 2)]
        mean, error = values.mean(0), values.std(0, ddof=1) / np.sqrt(SEEDS)
        cells = (f"{m.round(4)} ± {e.round(4)}" for m, e in zip(mean.T, error.T, strict=True))
        print(f"α = M^{s}: " + "; ".join(cells) + f"; exponents {rates[0]}, {rates[1]}", flush=True)
        found[s, "movement"], found[s, "linear"] = rates
    assert abs(found[0.0, "movement"].exponent) < 0.1
    assert abs(found[0.25, "movement"].exponent + 0.25) < 0.1
    assert abs(found[0.5, "movement"].exponent + 0.5) < 0.1
    assert found[0.5, "linear"].high < -0.2 < found[0.0, "linear"].low
    assert found[0.0][:, -1, 2].mean() > 0.1 > 0.02 > found[0.5][:, -1, 2].mean()
    lazy, rich = (found[s][:, :, 0] for s in (0.5, 0.0))
    assert lazy[:, -1].mean() > 3 * rich[:, -1].mean()
    rises = [errors[:, 2] - errors[:, 1] for errors in (lazy, rich)]
    (up, bar), (still, own) = ((r.mean(), r.std(ddof=1) / np.sqrt(SEEDS)) for r in rises)
    print(
        f"test error from M = 10 to 100: lazy {up:+.4f} ± {bar:.4f}, mean {still:+.4f} ± {own:.4f}"
    )
    assert up > 2 * bar and still < 2 * own
