"""Layers with shared weights: channels as neurons, linear maps of sites."""

import itertools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from contracts.common import ordinary_over_masses
from models import largest

from ensembles import (
    Affine,
    Elementwise,
    Gaussian,
    NeuronalEnsemble,
    SetAverage,
    Symmetry,
    Uniform,
    iid,
    load,
    save,
)
from ensembles.channels import Convolution, Operators, Pooling, SetMix, Shared
from ensembles.groups import generated, pixels, trivial
from limits import Data, Risk, mean_field_gradient

KEY = jax.random.key(3)
LINE, PATH = Uniform(-1.0, 1.0), np.diag(np.ones(5), 1) + np.diag(np.ones(5), -1)
TURN = jnp.array([[0.0, -1.0], [1.0, 0.0]])


def differences(a):
    return jnp.stack([a, a - jnp.roll(a, 1), a[::-1]])


def channels(mixes, k, inputs=1, outputs=2):
    """Layers with these mixes and, last, the mean over sites; smooth weights, k entries each."""
    sizes = [*k, *[()] * (len(mixes) + 1 - len(k))]

    def first(c):
        at = jnp.arange(inputs * sizes[0][0], dtype=float).reshape(inputs, -1)
        return jnp.sin((1 + at) * c[0] + at)

    def between(k):
        return lambda c, e: jnp.cos(c[0] + jnp.arange(float(k[0])) + e[0]) + e[0]

    def last(c):
        return jnp.cos(c[0] + jnp.arange(float(outputs)))

    def bias(c):
        return 0.3 * c[0]

    weights = [first, *map(between, sizes[1 : len(mixes)]), last]
    layers = [*(Shared(jnp.tanh, mix) for mix in mixes), Shared(jnp.tanh, Pooling())]
    biases = [*[bias] * len(mixes), jnp.linspace(0.1, 0.2, outputs)]
    return NeuronalEnsemble([LINE] * len(mixes), weights, biases, layers=layers)


def a_risk(shape, outputs=2):
    x = jax.random.normal(KEY, shape)
    return Risk(Data(x, jnp.sin(x.reshape(len(x), -1)[:, :outputs])))


NETWORKS = {
    "on a line": (
        channels(
            [
                Convolution(3),
                SetMix(),
                Operators.powers(PATH, 2),
                differences,
                Convolution(2, "SAME", 2),
            ],
            [(3,), (2,), (3,), (3,), (2,)],
        ),
        (3, 1, 6),
    ),
    "in a plane": (
        channels(
            [Convolution((2, 3), "VALID"), Convolution((3, 3), "SAME", (1, 2))], [(6,), (9,)], 2
        ),
        (3, 2, 5, 6),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_per_unit_mass_are_gradients_over_masses_and_exist_at_mass_0(name):
    ensemble, shape = NETWORKS[name]
    risk, network = a_risk(shape), ensemble.sample(3, key=KEY)
    network = network.weighed((jnp.array([0.2, 0.5, 0.3]),) * (network.depth - 1))
    found = mean_field_gradient(network, risk)
    assert largest(found, ordinary_over_masses(network, risk)) < 1e-12
    padded = network.padded((4,) * (network.depth - 1))
    assert largest(padded(risk.data.x), network(risk.data.x)) < 1e-14
    more = mean_field_gradient(padded, risk).map_neurons(
        lambda i, a, axis: jnp.take(a, jnp.array([3, 1, 2]), axis)
    )
    assert largest(more, found) < 1e-13


def naive(a, w, size, padding, stride):
    """A convolution by its definition."""
    n, k = np.array(a.shape[2:]), np.array(size)
    low = (k - 1) // 2
    if padding == "VALID":
        low, out = 0 * k, (n - k) // stride + 1
    else:
        out = -(-n // stride)
        if padding == "SAME":
            low = np.maximum((out - 1) * stride + k - n, 0) // 2
    found = np.zeros((a.shape[0], w.shape[1], *out))
    for place in itertools.product(*map(range, out)):
        for d, shift in enumerate(itertools.product(*map(range, size))):
            at = np.array(place) * stride + shift - low
            if padding == "CIRCULAR":
                at = at % n
            if (at >= 0).all() and (at < n).all():
                values = a[(slice(None), slice(None), *at)]
                found[(slice(None), slice(None), *place)] += values @ w[:, :, d]
    return found


@pytest.mark.parametrize(
    "size, stride",
    [((3,), (1,)), ((4,), (3,)), ((2, 3), (1, 1)), ((3, 2), (2, 1))],
)
def test_convolutions_are_their_sums(size, stride):
    """In double precision to rounding, and through XLA's convolution in single."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 3, *(7, 6)[: len(size)]))
    w = rng.standard_normal((3, 2, np.prod(size)))
    for padding in ("CIRCULAR", "SAME", "VALID"):
        mix, known = (
            Convolution(size, padding, stride),
            naive(a, w, size, padding, np.array(stride)),
        )
        for dtype, off in ((jnp.float64, 1e-13), (jnp.float32, 1e-5)):
            found = mix.contracted(jnp.asarray(a, dtype), jnp.asarray(w, dtype))
            assert found.dtype == dtype and found.shape == known.shape
            assert np.abs(np.asarray(found) - known).max() < off


def test_operators_are_applied_in_either_order():
    rng = np.random.default_rng(0)
    matrices, a = rng.standard_normal((3, 5, 4)), rng.standard_normal((2, 6, 4))
    for n, m in ((6, 2), (2, 6)):
        w = rng.standard_normal((n, m, 3))
        known = np.einsum("kts,bns,nmk->bmt", matrices, a[:, :n], w)
        found = Operators(matrices).contracted(jnp.asarray(a[:, :n]), jnp.asarray(w))
        np.testing.assert_allclose(found, known, rtol=1e-12, atol=1e-12)


def test_one_site_is_an_affine_layer():
    ensemble = channels([Convolution(1), Convolution(1)], [(1,), (1,)], inputs=2)
    w_1, w_2, w_3 = ensemble.weights
    plain = [lambda c: w_1(c)[:, 0], lambda c, e: w_2(c, e)[0], w_3]
    plain = NeuronalEnsemble(ensemble.spaces, plain, ensemble.biases, layers=Affine(jnp.tanh))
    risk = a_risk((4, 2))
    networks = [e.sample(3, key=KEY) for e in (ensemble, plain)]
    on_sites = Risk(Data(risk.data.x[..., None], risk.data.y))
    one, other = map(mean_field_gradient, networks, (on_sites, risk))
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    assert max(largest(a.reshape(b.shape), b) for a, b in pairs) < 1e-14


def test_one_operator_and_the_mean_are_an_average_over_a_set():
    ensemble = channels([Convolution(1)], [(1,)], inputs=2)
    w_1, w_2 = ensemble.weights
    layers = [Elementwise(SetAverage(jnp.tanh)), Affine(lambda h: h)]
    sets = NeuronalEnsemble([LINE], [lambda c: w_1(c)[:, 0], w_2], ensemble.biases, layers=layers)
    x = jax.random.normal(KEY, (4, 2, 5))
    one, other = (e.sample(3, key=KEY) for e in (ensemble, sets))
    assert largest(one(x), other(x.swapaxes(1, 2))) < 1e-14


def rotations(size=3):
    return Symmetry(generated(TURN), inputs=pixels(size), outputs=pixels(size))


GRID = rotations()
EQUIVARIANT = {  # a mix, K, and a permutation of sites that it commutes with
    "shifts of a circle": (Convolution(3), 3, np.roll(np.arange(6), 2)),
    "an automorphism of a graph": (Operators.powers(PATH, 2), 3, np.arange(6)[::-1]),
    "elements of a set": (SetMix(), 2, np.array([3, 1, 0, 5, 2, 4])),
    "rotations of an image": (
        GRID.operators(),
        21,
        np.asarray(GRID.matrices["inputs"][1].argmax(1)),
    ),
}


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_what_commutes_makes_equivariant_networks_at_depth_4(name):
    mix, k, moved = EQUIVARIANT[name]
    ensemble = channels([mix] * 3, [(k,)] * 3)
    network = ensemble.sample(3, key=KEY)
    x = jax.random.normal(KEY, (2, 1, len(moved)))
    plain, other = network.preactivations(x), network.preactivations(x[..., moved])
    for h, g in zip(plain[:-1], other[:-1], strict=True):
        assert largest(h[..., moved], g) < 1e-13
        assert largest(h, g) > 1e-3
    assert largest(plain[-1], other[-1]) < 1e-13


def test_operators_of_a_group_are_all_that_commute():
    """Rotations of 3 × 3 pixels have (81 + 1 + 1 + 1)/4 = 21 orbits of pairs (Burnside); in
    coordinates in which they are no permutations, as many come from the null space."""
    basis = GRID.operators().matrices
    assert basis.shape == (21, 9, 9)
    turned = np.asarray(GRID.matrices["inputs"])
    for g in turned:
        assert np.abs(basis @ g - g @ basis).max() < 1e-12
    half = jnp.sqrt(0.5) * jnp.array([[1.0, 1.0], [1.0, -1.0]])

    def mixed(g):  # the same action in other coordinates of two pixels
        a = jnp.eye(9).at[:2, :2].set(half)
        return a @ pixels(3)(g) @ a.T

    rotated = Symmetry(generated(TURN), inputs=mixed, outputs=trivial(1))
    dense = rotated.operators().matrices
    assert dense.shape == (21, 9, 9) and rotated.operators("outputs").matrices.shape == (3, 1, 9)
    for g in np.asarray(rotated.matrices["inputs"]):
        assert np.abs(dense @ g - g @ dense).max() < 1e-12
    np.testing.assert_allclose(np.abs(dense).sum(2).max(1), 1)


def test_outputs_at_sites_are_equivariant_and_compared_flat(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    layers = [Shared(jnp.tanh, GRID.operators())] * 2
    start = iid(dim=1, depth=2, first=Gaussian(1), last=Gaussian(21), layers=layers)
    network = start.sample(3, key=KEY)
    x = jax.random.normal(KEY, (2, 1, 9))
    risk = Risk(Data(x, jnp.sin(x[:, 0])))
    moved = GRID.matrices["inputs"][1].argmax(1)
    assert largest(network(x)[..., moved], network(x[..., moved])) < 1e-13
    found = mean_field_gradient(network, risk)
    assert largest(found, ordinary_over_masses(network, risk)) < 1e-12


def test_laws_are_of_every_entry():
    """Of independent entries, and of all entries of a weight together."""
    layers = [Shared(jnp.tanh, Convolution(3))] * 2 + [Shared(jnp.tanh, Pooling())]
    same = dict(dim=2, depth=3, last=Gaussian(2), layers=layers)
    one = iid(first=Gaussian(1, 0.3), hidden=Gaussian(1, 0.5), **same)
    all_ = iid(first=Gaussian(6), hidden=Gaussian(3, jnp.array([1.0, 2.0, 3.0])), **same)
    for start, means in ((one, [0.5] * 3), (all_, [1.0, 2.0, 3.0])):
        drawn = start.sample(64, key=KEY)
        shapes = [w.shape for w in drawn.weights]
        assert shapes == [(64, 2, 3), (64, 64, 3), (64, 2)]
        middle = np.asarray(drawn.weights[1]).reshape(-1, 3)
        assert np.abs(middle.mean(0) - means).max() < 6 / 64
        np.testing.assert_allclose(start.weights[1](jnp.zeros(1), jnp.zeros(1)), means)


def test_single_precision_stays_and_is_near_double():
    ensemble, shape = NETWORKS["in a plane"]
    network, risk = ensemble.sample(3, key=KEY), a_risk(shape)
    small = jax.tree.map(lambda a: a.astype(jnp.float32), (network, risk))
    found, known = mean_field_gradient(*small), mean_field_gradient(network, risk)
    assert {a.dtype for a in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    assert largest(found, known) < 1e-5


def test_networks_of_channels_are_saved(tmp_path):
    layers = [
        Shared(jnp.tanh, Operators.powers(PATH, 1)),
        Shared(jnp.tanh, Convolution(2, "VALID")),
        Shared(jnp.tanh, Pooling()),
    ]
    start = iid(
        dim=1, depth=3, first=Gaussian(1), hidden=Gaussian(1), last=Gaussian(1), layers=layers
    )
    network = start.sample(3, key=KEY)
    save(tmp_path / "network.zip", (network, start))
    back, again = load(tmp_path / "network.zip")
    assert back.layers == network.layers == again.layers
    assert hash(back.layers) == hash(network.layers)
    assert Operators.powers(PATH, 1) != Operators.powers(2 * PATH, 1)
    x = jax.random.normal(KEY, (2, 1, 6))
    assert largest(back(x), network(x)) == 0
