"""Studies of networks with shared weights: limits, coupling, fluctuations, collapse, diversity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest

from ensembles import Affine, Gaussian, NeuronalEnsemble, Uniform, iid
from ensembles.channels import Convolution, Pooling, Shared
from limits import Data, Risk, collapse, coupling, diversity, fluctuations, limit, simulate

LINE = Uniform(-1.0, 1.0)
CONVOLUTION = Shared(jnp.tanh, Convolution(3))
POOLED = Shared(jnp.tanh, Pooling())
X = jax.random.normal(jax.random.key(11), (8, 1, 6))
RISK = Risk(Data(X, jnp.tanh(X[:, 0] * jnp.roll(X[:, 0], 1, -1)).sum(-1, keepdims=True)))


def first(c):
    return jnp.stack([jnp.sin(2 * c[0]), jnp.cos(c[0]) + c[0], c[0]])[None]


def between(c, e):
    return jnp.stack([1 + jnp.sin(c[0] + 2 * e[0]), c[0] * e[0], jnp.cos(2 * c[0] - e[0])])


def last(c):
    return 2 * jnp.cos(3 * c) + c


SMOOTH = NeuronalEnsemble(
    [LINE, LINE],
    [first, between, last],
    [lambda c: 0.3 * c[0], lambda c: 0.2 * c[0], None],
    layers=[CONVOLUTION, CONVOLUTION, POOLED],
)


def outputs(network):
    return network(X[:4])[:, 0]


@pytest.mark.slow
def test_finite_convolutional_networks_are_coupled_with_their_limit():
    """Nguyen & Pham (arXiv:2001.11443): the distance of weights falls as N^-1/2,
    its supremum over neurons as (log N / N)^1/2, of slope −1/2 + 1/(2 log N)."""
    run = limit(SMOOTH, RISK, t1=2.0, tol=1e-4)
    assert float(run.error) <= 1e-4 and run.energies[-1] < run.energies[0]
    found = coupling(
        SMOOTH, RISK, widths=[16, 32, 64, 128, 256], seeds=8, t1=2.0, nodes=32,
        key=jax.random.key(3),
    )  # fmt: skip
    sup, rms = (found.power_law(of) for of in ("sup", "rms"))
    print(f"sup: N^{sup}\nrms: N^{rms}")
    assert rms.low < -1 / 2 < rms.high < 0
    assert sup.low < -1 / 2 + 1 / (2 * np.log(16)) and -1 / 2 < sup.high < 0


@pytest.mark.slow
def test_fluctuations_of_a_convolutional_network_are_predicted():
    """N Var of outputs: 400 networks of width 64: each of eight numbers is within four standard
    errors, and the mean square of these z-values is below 3."""
    times = jnp.array([0.0, 2.0])
    told = fluctuations(SMOOTH, RISK, outputs, t1=2.0, times=times, nodes=32)
    seen = simulate(
        SMOOTH, RISK, outputs, width=64, seeds=400, t1=2.0, times=times, key=jax.random.key(4)
    )
    ratio = np.asarray(seen.variance) / np.asarray(told.variance)
    error = np.sqrt(2 / 399)  # of a sample variance of Gaussians, relative
    print("N Var predicted", np.asarray(told.variance), "measured / predicted", ratio, "±", error)
    z = (ratio - 1) / error
    assert np.abs(z).max() < 4 and (z**2).mean() < 3
    still = np.asarray(seen.variance)[1] / np.asarray(told.variance)[0]
    assert np.abs((still - 1) / error).max() > 4  # the control: what training does is seen


def deep(layer, last, k):
    hidden = Gaussian(k, jnp.linspace(1.0, 0.5, k), 0.5) if k > 1 else Gaussian(1, 1.0, 0.5)
    return iid(
        dim=1, depth=5, first=Gaussian(1), hidden=hidden, last=Gaussian(1, 0.7, 0.5),
        layers=[layer] * 4 + [last],
    )  # fmt: skip


@pytest.mark.slow
def test_channels_of_independent_weights_collapse():
    """Nguyen & Pham, i.i.d. initialisation: preactivations of layers 2 and 3 of five are the same
    for all channels in the limit, at every site, and increments of w_3 are one number an entry.
    Layers 1 and 4 do not collapse."""
    found = collapse(
        deep(CONVOLUTION, POOLED, 3), RISK, widths=[12, 24, 48, 96], seeds=6, t1=1.0,
        nodes=[256, 1, 1, 32], key=jax.random.key(5),
    )  # fmt: skip
    print(found.table())
    for layer in (2, 3):
        assert -0.65 < found.power_law("preactivations", layer).exponent < -0.35
        assert (np.asarray(found.limit.preactivations)[:, layer - 1] == 0).all()
    assert -0.75 < found.power_law("increments", 3).exponent < -0.3
    assert np.asarray(found.limit.increments)[-1, 2] == 0
    for of, layer in (("preactivations", 1), ("increments", 4)):
        assert abs(found.power_law(of, layer).exponent) < 0.25


@pytest.mark.slow
def test_spreads_and_diversity_of_one_site_are_those_of_neurons():
    """And of sites that are copies of one another, which are averaged over."""
    x = X[:, 0, :1]
    plain, point = Affine(jnp.tanh), Shared(jnp.tanh, Convolution(1))
    one = deep(point, POOLED, 1)
    same = dict(widths=[8], seeds=2, t1=0.5, nodes=[16, 1, 1, 8], key=jax.random.key(6))
    known = collapse(deep(plain, plain, 1), Risk(Data(x, RISK.data.y)), **same)
    network = deep(plain, plain, 1).sample(8, key=jax.random.key(7))
    options = dict(modes=3, key=jax.random.key(8))
    known_too = diversity(network, Data(x, RISK.data.y), **options)
    for sites in (1, 4):
        data = Data(jnp.repeat(x[:, None], sites, -1), RISK.data.y)
        found = collapse(one, Risk(data), **same)
        assert largest(found.finite, known.finite) < 1e-9
        channels = one.sample(8, key=jax.random.key(7))
        assert largest(diversity(channels, data, **options), known_too) < 1e-9


@pytest.mark.slow
def test_noise_of_edges_of_several_entries_is_counted_entry_by_entry():
    """The variance that independent edges add to an observable at time 0, from correlated entries
    of weights, against draws: w_2 has the covariance C, and x is seen at fixed first and last
    layers."""
    from limits._studies.noise import edge_variance

    law = Gaussian(3, jnp.array([1.0, 0.5, 0.2]), jnp.array([0.5, 1.0, 0.3]))
    start = iid(
        dim=1, depth=3, first=Gaussian(1), hidden=law, last=Gaussian(1, 1.0), biases=None,
        layers=[CONVOLUTION, CONVOLUTION, POOLED],
    )  # fmt: skip
    labels = start.measures(16, key=jax.random.key(9))
    told = edge_variance(start, start.network(labels), outputs, (1.0, 1.0))
    drawn = jax.vmap(lambda key: outputs(start.network(labels, key=key)))
    values = drawn(jax.random.split(jax.random.key(10), 10_000))
    ratio = 16**2 * np.asarray(values).var(0) / np.asarray(told)
    print("edges: measured / predicted", ratio)
    assert np.abs(ratio - 1).max() < 0.15  # first order in 1/N, draws 1 %
