"""Simulated networks against the predicted central limit theorem: longer studies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth
from scipy import stats

from ensembles import Affine, Gaussian, iid
from limits import Adaptive, Data, Risk, fit_power_law, flow, fluctuations, simulate

pytestmark = pytest.mark.slow

DATA = regression(16)
INPUTS = DATA.x[:5]
TIMES = jnp.array([0.0, 0.5, 1.5, 3.0])
WIDTHS = (32, 64, 128)
SEEDS = 2000
LEVEL = 0.01
RESOLVED = 1e-3  # directions of smaller variance, in units of single entries, are left out


def outputs(network):
    return network(INPUTS)[:, 0]


def extrapolated(simulations):
    """A of N Var = A + B/N, least squares over the widths, and its covariance over entries."""
    weights = np.linalg.pinv(np.stack([np.ones(len(WIDTHS)), 1 / np.array(WIDTHS)], axis=1))[0]
    squares = []
    for s in simulations:
        apart = (s.values - s.mean).reshape(len(s.values), -1)
        squares.append(s.width * apart**2 * len(apart) / (len(apart) - 1))
    mean = sum(w * z.mean(0) for w, z in zip(weights, squares, strict=True))
    spread = sum(w**2 * np.cov(z.T) / len(z) for w, z in zip(weights, squares, strict=True))
    return mean, spread


def joint(mean, spread, predicted):
    """(χ², degrees of freedom) of mean − predicted, in principal directions that are resolved."""
    scale = np.sqrt(np.diag(spread))
    values, vectors = np.linalg.eigh(spread / np.outer(scale, scale))
    kept = values > RESOLVED
    z = (vectors.T @ ((mean - predicted) / scale))[kept] / np.sqrt(values[kept])
    return float((z**2).sum()), int(kept.sum())


@pytest.mark.parametrize(
    ("depth", "ratios"),
    [(2, None), (3, None), (4, None), (5, None), (3, (1, 2)), (4, (2, 1, 1)), (5, (1, 2, 1, 2))],
)
def test_simulated_variances_are_the_predicted_ones(depth, ratios):
    """5 inputs, 4 times, three widths; without the share of any one layer the test fails."""
    risk, ensemble = Risk(DATA), smooth(depth)
    options = dict(t1=3.0, times=TIMES, ratios=ratios)
    found = fluctuations(ensemble, risk, outputs, nodes=64, **options)
    simulations = [
        simulate(
            ensemble, risk, outputs, width=n, seeds=SEEDS, solver=Adaptive(rtol=1e-5),
            key=jax.random.key(4000 + 100 * depth + w + (10 if ratios else 0)), **options
        )
        for w, n in enumerate(WIDTHS)
    ]  # fmt: skip
    mean, spread = extrapolated(simulations)
    value, free = joint(mean, spread, np.asarray(found.variance).ravel())
    p = stats.chi2.sf(value, free)
    print(f"\n  depth {depth}, ratios {ratios}: chi2 {value:.1f} of {free}, p = {p:.3f}", end="")
    controls = []
    for i in range(depth - 1) if depth > 2 else ():
        without = np.asarray(found.variance - found.shares[i]).ravel()
        controls.append(stats.chi2.sf(*joint(mean, spread, without)))
        print(f"; without layer {i + 1}: p = {controls[-1]:.1e}", end="")
    less = stats.chi2.sf(*joint(mean, spread, np.asarray(found.variance).ravel() * 0.8))
    print(f"; four fifths of it: p = {less:.1e}; seeds {SEEDS} a width")
    assert float((found.variance_error / found.variance).max()) < 1e-3
    assert p > LEVEL
    assert max([*controls, less]) < LEVEL


@pytest.mark.parametrize("depth", [3, 4])
def test_edge_noise_adds_to_the_variance_of_outputs_as_N_to_minus_2(depth):
    """Its share is the variance over redraws of the noise, the labels being the same."""
    ensemble = iid(
        dim=2, depth=depth, first=Gaussian(1), hidden=Gaussian(1, mean=1.0),
        last=Gaussian(1, mean=0.7, scale=0.5), layers=Affine(jnp.tanh),
    )  # fmt: skip
    risk, redraws, seeds, widths = Risk(DATA), 32, 24, (32, 64, 128, 256)

    @jax.jit
    def share(measures, noise):
        def run(key):
            return flow(
                ensemble.network(measures, key=key),
                risk,
                t1=3.0,
                times=TIMES,
                observe=outputs,
                solver=Adaptive(rtol=1e-6, atol=1e-6),
                throw=False,
            ).observed

        found = jax.lax.map(run, jax.random.split(noise, redraws), batch_size=8)
        return found.var(0, ddof=1).mean()

    shares = np.empty((seeds, len(widths)))
    for w, n in enumerate(widths):
        for seed in range(seeds):
            labels, noise = jax.random.split(jax.random.key(5000 + 1000 * depth + 100 * w + seed))
            each = zip(ensemble.spaces, jax.random.split(labels, depth - 1), strict=True)
            shares[seed, w] = share([space.sample(n, key=k) for space, k in each], noise)
    rate = fit_power_law(np.array(widths), shares)
    means = ", ".join(f"{v:.1e}" for v in shares.mean(0))
    print(f"\n  depth {depth}: variance from edges at N = {widths}: {means}; exponent {rate}")
    assert rate.low < -2 < rate.high or abs(rate.exponent + 2) < 0.05
    assert rate.high < -1.5


@pytest.mark.parametrize(
    ("depth", "t1", "nodes"), [(2, 1500.0, 64), (3, 4000.0, 48), (4, 1500.0, 24)]
)
def test_fluctuations_vanish_when_the_network_interpolates(depth, t1, nodes):
    """N Var falls to a hundredth of its peak; its time average against resampling is reported.

    The flow is stiff by then: tolerances of 1e-8 and 1e-10 must give the same.
    """
    x = jnp.array([[1.0, 0.2], [-0.5, 1.0], [0.3, -1.2], [-1.1, -0.4]])
    risk = Risk(Data(x, jnp.array([[0.5], [-0.3], [0.4], [0.1]])))
    times = jnp.linspace(0, t1, 41)

    def fitted(network):
        return network(x)[:, 0]

    found, finer = (
        fluctuations(
            smooth(depth), risk, fitted, t1=t1, times=times, nodes=nodes, solver=Adaptive(rtol=r)
        )
        for r in (1e-8, 1e-10)
    )
    curve, redrawn = (np.asarray(v).mean(1) for v in (found.variance, found.resampling))
    print(
        f"\n  depth {depth}: N Var peak {curve.max():.2e}, end {curve[-1]:.2e}, ratio "
        f"{curve[-1] / curve.max():.1e}; time averages {curve.mean():.2e} (predicted) and "
        f"{redrawn.mean():.2e} (resampling); error {float(found.variance_error.max()):.1e}"
    )
    assert np.abs(curve - np.asarray(finer.variance).mean(1)).max() < 1e-4 * curve.max()
    assert curve[-1] <= 1e-2 * curve.max()
    if depth == 2:
        assert curve.mean() <= redrawn.mean()
