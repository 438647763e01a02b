"""Growing masses: finite networks against their limit, and the law of what is left. Slow studies.

Keys are fixed; figures are printed (`pytest -m slow -s`).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth
from scipy import stats

from limits import (
    Adaptive,
    GradientFlow,
    Risk,
    WassersteinFisherRao,
    coupling,
    fit_power_law,
    flow,
    fluctuations,
    simulate,
)

pytestmark = pytest.mark.slow

WIDTHS = [32, 64, 128, 256, 512]
SEEDS = [96, 64, 48, 32, 24]
RISK = Risk(regression(16))
INPUTS = RISK.data.x[:3]
TIMES = jnp.array([0.0, 0.5, 1.5, 3.0])
RESOLVED = 1e-3  # directions of smaller variance, in units of single entries, are left out


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_weights_and_growth_approach_the_limit_as_the_square_root_of_width(depth):
    result = coupling(
        smooth(depth), RISK, WassersteinFisherRao(rate=2.0), widths=WIDTHS, seeds=SEEDS, t1=2.0,
        nodes=24, key=jax.random.key(600 + depth),
    )  # fmt: skip
    print(f"\ndepth {depth}\n{result.table()}")
    rates = {of: result.power_law(of) for of in ("sup", "growth", "rms", "outputs", "energies")}
    for of, rate in rates.items():
        print(f"  exponent of {of}: {rate}")
    for of in ("sup", "growth"):
        rate = rates[of]
        assert rate.low <= -0.5 <= rate.high or abs(rate.exponent + 0.5) < 0.08
        assert rate.high < -0.3
    assert result.error.max() < 1e-2 * np.nanmin(result.distance("sup"))
    assert result.growth_error.max() < 1e-2 * np.nanmin(result.distance("growth"))


def _growth_apart(ensemble, width: int, key: jax.Array) -> jax.Array:
    """The sup distance between the growth in a finite network and in the limit at other labels."""
    ours, theirs = jax.random.split(key)
    finite, other = (ensemble.sample(width, key=k) for k in (ours, theirs))
    reference = ensemble.discretise(16, tracers=other)
    run, limit = (
        flow(n, RISK, WassersteinFisherRao(rate=2.0), t1=2.0, solver=Adaptive(rtol=1e-5, atol=1e-5))
        for n in (finite, reference)
    )
    tracers = limit.final.neurons((slice(16, None),) * 2)
    pairs = zip(run.final.increment.growth, tracers.increment.growth, strict=True)
    return jnp.stack([jnp.abs(g - h).max() for g, h in pairs]).max()


def test_growth_at_labels_drawn_independently_does_not_come_closer():
    """The negative control."""
    widths, seeds, ensemble = [32, 64, 128], 16, smooth(3)
    distances = np.empty((seeds, len(widths)))
    for j, width in enumerate(widths):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(610), width), seeds)
        distances[:, j] = jax.jit(
            lambda keys, width=width: jax.lax.map(lambda k: _growth_apart(ensemble, width, k), keys)
        )(keys)
    rate = fit_power_law(widths, distances)
    print("\nindependent labels: exponent of growth", rate, distances.mean(0))
    assert rate.low > -0.1


def outputs(network):
    return network(INPUTS)[:, 0]


def joint(simulation, predicted):
    """(χ², degrees of freedom) of sample variances minus predicted ones, in principal directions
    that are resolved. Their covariance is that of the squares: at this width observations are not
    Gaussian enough to take 2 C_ab² for it, with masses that stand still either."""
    apart = (simulation.values - simulation.mean).reshape(len(simulation.values), -1)
    squares = simulation.width * apart**2 * len(apart) / (len(apart) - 1)
    spread = np.cov(squares.T) / len(apart)
    scale = np.sqrt(np.diag(spread))
    values, vectors = np.linalg.eigh(spread / np.outer(scale, scale))
    kept = values > RESOLVED
    z = (vectors.T @ ((squares.mean(0) - predicted) / scale))[kept] / np.sqrt(values[kept])
    return float((z**2).sum()), int(kept.sum())


@pytest.mark.parametrize("depth", [2, 3])
def test_simulated_variances_are_the_predicted_ones(depth):
    """Three inputs, four times; the prediction without growth is rejected."""
    ensemble, dynamics, seeds, width = smooth(depth), WassersteinFisherRao(rate=2.0), 400, 160
    options = dict(t1=3.0, times=TIMES)
    growing, still = (
        fluctuations(ensemble, RISK, outputs, nodes=64, dynamics=d, **options)
        for d in (dynamics, GradientFlow())
    )
    found = simulate(
        ensemble, RISK, outputs, width=width, seeds=seeds, dynamics=dynamics,
        key=jax.random.key(620 + depth), **options
    )  # fmt: skip
    p_values = []
    for name, prediction in [("growing", growing), ("still", still)]:
        value, free = joint(found, np.asarray(prediction.variance).ravel())
        p_values.append(float(stats.chi2.sf(value, free)))
        print(f"\n  depth {depth}, {name}: chi2 {value:.1f} of {free}, p = {p_values[-1]:.1e}")
    ratios = found.variance / np.asarray(growing.variance)
    print("  simulated / predicted", np.round(ratios, 2).tolist())
    error = float((growing.variance_error / growing.variance).max())
    print(f"  relative error of the prediction {error:.1e}")
    assert error < 1e-3
    assert p_values[0] > 0.05
    assert p_values[1] < 1e-3
