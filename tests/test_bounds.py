"""The bounds of distances from the limit, factor by factor.

For two layers of M neurons (Mei, Misiakiewicz & Montanari, arXiv:1902.06015), with probability at
least 1 − e^{−γ²},

    sup_{t ≤ T} |R_M(t) − R(t)| ≤ K e^{KT} M^{−1/2} ((log M)^{1/2} + γ),

and with N, L layers and δ = e^{−γ²} in place of M and γ for more (Nguyen & Pham, arXiv:2001.11443).
Each factor is an upper bound: tails in γ are looked at with 2,048 networks, growth in T and in
depth along runs; log M in `test_logarithms_of_bounds.py`. Powers of N, D and of the step are in
`test_static_laws.py` and `test_coupling.py`. Keys were fixed before the first run.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth

from ensembles import Affine, Measure, NeuronalEnsemble, Product, Uniform
from limits import Adaptive, Risk, coupling, fit_power_law, limit, simulate, train

RISK = Risk(regression())
FAST = Adaptive(rtol=1e-4, atol=1e-6)
TIMES = jnp.linspace(0.0, 3.0, 7)


def risk(network):
    return RISK(network)


@pytest.mark.slow
def test_permuted_labels_give_permuted_weights():
    """Of every hidden layer, with unequal masses, under SGD; permuted on one side only they do
    not."""
    measures = [space.sample(5, key=jax.random.key(i)) for i, space in enumerate(smooth(4).spaces)]
    masses = jnp.arange(1.0, 6) / 15
    orders = [jax.random.permutation(jax.random.key(10 + i), 5) for i in range(3)]
    own = smooth(4).network([Measure(m.points, masses) for m in measures])
    other = smooth(4).network(
        [Measure(m.points[o], masses[o]) for m, o in zip(measures, orders, strict=True)]
    )
    ends = [
        train(n, RISK, step=0.1, t1=2.0, batch=4, key=jax.random.key(3)).final for n in (own, other)
    ]
    w = ends[0].weights
    a, b, c = orders
    permuted = w[0][a], w[1][a][:, b], w[2][b][:, c], w[3][c]
    assert largest(permuted, ends[1].weights) < 1e-14
    assert largest(ends[0](RISK.data.x), ends[1](RISK.data.x)) < 1e-14
    one_sided = eqx.tree_at(lambda n: n.start.weights[1], own, own.start.weights[1][a])
    assert largest(own(RISK.data.x), one_sided(RISK.data.x)) > 1e-3


def heavy():
    """`smooth(2)` with output weights that have no variance: P(|w_2| > s) of order s^−1.8."""
    first, last = smooth(2).weights

    def tail(c):
        return 0.4 * jnp.sign(c) * ((1 - jnp.abs(c)) ** -0.55 - 1)

    return NeuronalEnsemble(
        [Product(Uniform(-1.0, 1.0), Uniform(-1.0, 1.0))],
        [lambda c: first(c[:1]), lambda c: last(c[:1]) + tail(c[1:])],
        layers=Affine(jnp.tanh),
    )


def distances(ensemble, width, seeds, key):
    """√M sup_t |R_M − R| of independent networks."""
    at_infinity = limit(ensemble, RISK, t1=3.0, times=TIMES).energies
    found = simulate(
        ensemble, RISK, risk, width=width, seeds=seeds, t1=3.0, times=TIMES, solver=FAST,
        key=jax.random.key(key),
    )  # fmt: skip
    return np.sqrt(width) * np.abs(found.values - np.asarray(at_infinity)).max(1)


GAMMAS = np.array([0.4, 1.2, 1.6, 2.4])


def steepening(x):
    """How much faster the bound that holds with probability 1 − e^{−γ²} grows in γ from 1.6 to 2.4
    than from 0.4 to 1.2: 1.2 for the modulus of a Gaussian, 2.5 for an exponential distribution."""
    q = np.quantile(x, 1 - np.exp(-(GAMMAS**2)), axis=-1)
    return (q[3] - q[2]) / (q[1] - q[0])


@pytest.mark.slow
def test_tails_are_lighter_than_exponential_ones():
    """At M = 64, two layers and three, 2,048 networks; heavy-tailed weights, which the theorems do
    not allow, are the control."""
    rng, seen = np.random.default_rng(0), {}
    print()
    for name, ensemble, key in (
        ("two layers", smooth(2), 20), ("three layers", smooth(3), 21), ("heavy", heavy(), 22),
    ):  # fmt: skip
        x = distances(ensemble, 64, 2048, key)
        resampled = steepening(x[rng.integers(0, len(x), (2000, len(x)))])
        seen[name] = np.quantile(resampled, [0.025, 0.975])
        bounds = np.quantile(x, 1 - np.exp(-(GAMMAS**2))).round(4)
        print(f"  {name}: √M sup |R_M − R| ≤ {bounds} with probability 1 − e^(−γ²), γ = {GAMMAS}")
        print(f"    steepening {steepening(x):.2f} {seen[name].round(2)}; exponential tails 2.5")
    assert max(seen["two layers"][1], seen["three layers"][1]) < 2.5 < seen["heavy"][0]


@pytest.mark.slow
def test_distances_grow_more_slowly_than_exponentially_in_time():
    """Three layers, the same 24 networks of 64 neurons up to T = 1, 4, 16: e^{KT} would grow at one
    rate throughout."""
    ends, found = (1.0, 4.0, 16.0), []
    for t1 in ends:
        run = coupling(
            smooth(3), RISK, widths=[64], seeds=24, t1=t1, times=jnp.linspace(0.0, t1, 9), nodes=24,
            solver=FAST, key=jax.random.key(30),
        )  # fmt: skip
        found.append(run)
    sup = np.stack([run.distance("sup")[:, 0] for run in found])
    early, late = np.log(sup[1] / sup[0]) / 3, np.log(sup[2] / sup[1]) / 12
    print(f"\n  √M sup of weights up to T = {ends}: {(8 * sup.mean(1)).round(3)}")
    for name, rate in (("1 to 4", early), ("4 to 16", late)):
        print(f"  rate from T = {name}: {rate.mean():.3f} ± {rate.std(ddof=1) / 24**0.5:.3f}")
    last = found[-1]
    apart = np.abs(last.curves[:, 0] - np.asarray(last.limit.energies))
    print(f"  √M mean |R_M − R| at {last.times}: {(8 * apart.mean(0)).round(4)}")
    change = early - late
    assert change.mean() > 4 * change.std(ddof=1) / 24**0.5
    assert (sup > 30 * float(last.error.max())).all()


DEPTHS = (2, 4, 6, 8)


@pytest.mark.slow
def test_the_rate_in_width_is_that_of_all_depths():
    """Two to eight layers; how the constant depends on depth is printed: no theorem says it."""
    print()
    constants = []
    for depth in DEPTHS:
        found = coupling(
            smooth(depth), RISK, widths=[32, 128], seeds=24, t1=3.0, times=TIMES, nodes=20,
            solver=FAST, key=jax.random.key(40 + depth),
        )  # fmt: skip
        rate = found.power_law("outputs")
        scaled = found.distance("outputs") * np.sqrt(found.smallest)
        constants.append(scaled.ravel())
        mean, error = scaled.mean(), scaled.std(ddof=1) / np.sqrt(scaled.size)
        weights = (found.distance("rms") * np.sqrt(found.smallest)).mean()
        risks = np.asarray(found.limit.energies)[[0, -1]].round(3)
        print(
            f"  L = {depth}: exponent {rate}, √N outputs {mean:.3f} ± {error:.3f}, √N rms of "
            f"weights {weights:.3f}, risk {risks}"
        )
        assert rate.low <= -0.5 <= rate.high
    print(f"  √N outputs as a power of L: {fit_power_law(DEPTHS, np.stack(constants, 1))}")
