"""The derivative per unit mass: autodiff divided by masses, and what it is at mass 0."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import affine_edges, largest, regression, smooth, tanh_edges

from ensembles import (
    Affine,
    Elementwise,
    Gaussian,
    Measure,
    Network,
    NeuronalEnsemble,
    Uniform,
    shallow,
)
from limits import (
    Adaptive,
    CrossEntropyLoss,
    Data,
    HuberLoss,
    LogisticLoss,
    Risk,
    SquaredLoss,
    flow,
    mean_field_gradient,
)

LAYERS = [Affine(jnp.tanh), Affine(jax.nn.relu), Elementwise(tanh_edges)]


def unequal(network: Network, key: jax.Array) -> Network:
    """The same network with random masses."""
    masses = tuple(
        jax.random.dirichlet(jax.random.fold_in(key, i), jnp.ones(p.shape))
        for i, p in enumerate(network.masses)
    )
    return network.weighed(masses)


@eqx.filter_jit
def relative_to_autodiff(network: Network, risks: list[Risk]) -> list[jax.Array]:
    """|Δ · masses − autodiff|, the largest over parameters, relative to the largest autodiff."""

    def one(risk: Risk) -> jax.Array:
        found = mean_field_gradient(network, risk)
        start = jax.grad(lambda s: risk(eqx.tree_at(lambda n: n.start, network, s)))(network.start)
        scaled = jax.tree.map(jnp.multiply, found, network.parameter_masses())
        off = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), scaled, start)
        size = jax.tree.map(lambda a: jnp.abs(a).max(), start)
        return jnp.stack(jax.tree.leaves(off)).max() / jnp.stack(jax.tree.leaves(size)).max()

    return [one(risk) for risk in risks]


@pytest.mark.parametrize("layers", LAYERS, ids=repr)
@pytest.mark.parametrize(
    "depth", [2, 3, *(pytest.param(d, marks=pytest.mark.slow) for d in (4, 5))]
)
def test_mean_field_gradient_is_autodiff_divided_by_masses(layers, depth):
    """For every loss; three outputs, biases, unequal widths and random masses."""
    ensemble = smooth(depth, layers, outputs=3, biases=True)
    network = ensemble.sample(range(6, 5 + depth), key=jax.random.key(1))
    x, y = regression(outputs=3).x, regression(outputs=3).y
    risks = [
        Risk(Data(x, y), SquaredLoss()),
        Risk(Data(x, y), HuberLoss(0.5)),
        Risk(Data(x, jnp.sign(y)), LogisticLoss()),
        Risk(Data(x, jax.nn.softmax(y)), CrossEntropyLoss()),
    ]
    assert max(relative_to_autodiff(unequal(network, jax.random.key(2)), risks)) < 1e-12


def test_mean_field_gradient_of_vector_valued_weights_and_preactivations():
    def phi(w, b, h):  # w: (3, dim h), h: (3,) inside, outputs of shape ()
        return jnp.tanh(w @ h) + b

    def last(w, b, h):
        return jnp.sin(w @ h)

    def vectors(*labels):
        s = sum(c[0] for c in labels)
        return jnp.sin(s + jnp.arange(9.0).reshape(3, 3))

    ensemble = NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * 2,
        [lambda c: vectors(c)[:, :2], vectors, lambda c: vectors(c)[:2]],
        [lambda c: c[0] * jnp.ones(3), lambda c: c[0] * jnp.ones(3), None],
        layers=[Elementwise(phi), Elementwise(phi), Elementwise(last)],
    )
    network = unequal(ensemble.sample([4, 5], key=jax.random.key(3)), jax.random.key(4))
    data = regression(outputs=2)
    assert network.preactivations(data.x)[1].shape == (32, 5, 3)
    assert network(data.x).shape == (32, 2)
    assert relative_to_autodiff(network, [Risk(data)])[0] < 1e-12


def test_mean_field_gradient_of_a_shallow_unit():
    def unit(theta, x):
        return theta[:1] * jnp.tanh(theta[1:] @ x)

    network = shallow(unit, Gaussian(3)).sample(9, key=jax.random.key(5))
    risks = [Risk(regression())]
    assert relative_to_autodiff(unequal(network, jax.random.key(6)), risks)[0] < 1e-12
    same = Network.shallow(unit, Measure(network.labels[0], network.masses[0]))
    np.testing.assert_allclose(same(regression().x), network(regression().x), rtol=1e-14)


@pytest.mark.parametrize("depth", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_elementwise_reproduces_affine(depth):
    data = regression()
    affine = smooth(depth, Affine(jnp.tanh), biases=True).discretise(12)
    general = smooth(depth, Elementwise(affine_edges(jnp.tanh)), biases=True).discretise(12)
    assert largest(affine.preactivations(data.x), general.preactivations(data.x)) < 1e-12
    risk = Risk(data)
    assert largest(mean_field_gradient(affine, risk), mean_field_gradient(general, risk)) < 1e-12
    ends = [
        flow(n, risk, t1=2.0, solver=Adaptive(step=0.1)).final.parameters for n in (affine, general)
    ]
    assert largest(*ends) < 1e-12


def test_blocks_of_the_batch_do_not_change_an_elementwise_layer(monkeypatch):
    import ensembles._layers.elementwise as layers

    network = smooth(4, Elementwise(tanh_edges), biases=True).discretise(6)
    risk = Risk(regression(13))
    whole = (network(risk.data.x), mean_field_gradient(network, risk))
    monkeypatch.setattr(layers, "_BLOCK", 6 * 6 * 5)  # 5 inputs at once, 13 in all
    assert largest(whole, (network(risk.data.x), mean_field_gradient(network, risk))) < 1e-14


@pytest.mark.parametrize(
    "layers",
    [pytest.param(Affine(jnp.tanh), marks=pytest.mark.slow), Elementwise(tanh_edges)],
    ids=repr,
)
def test_a_tracer_on_a_node_follows_the_node(layers):
    ensemble = smooth(4, layers, biases=True)
    nodes = ensemble.discretise(8)
    both = ensemble.discretise(8, tracers=nodes)
    run = flow(both, Risk(regression()), t1=3.0)
    for i, w in enumerate(run.final.weights[1:-1]):
        assert float(jnp.abs(w[:8, :8] - w[8:, 8:]).max()) < 1e-13, i
        assert float(jnp.abs(w[:8, :8] - w[:8, 8:]).max()) < 1e-13, i
    first, last = run.final.weights[0], run.final.weights[-1]
    assert float(jnp.abs(first[:8] - first[8:]).max()) < 1e-13
    assert float(jnp.abs(last[:8] - last[8:]).max()) < 1e-13


@pytest.mark.parametrize("step", [0.1, pytest.param(None, marks=pytest.mark.slow)])
def test_tracers_change_nothing_else(step):
    ensemble, risk = smooth(4, biases=True), Risk(regression())
    alone = flow(ensemble.discretise(16), risk, t1=3.0, solver=Adaptive(step=step))
    tracers = ensemble.sample(64, key=jax.random.key(8))
    with_tracers = flow(
        ensemble.discretise(16, tracers=tracers), risk, t1=3.0, solver=Adaptive(step=step)
    )
    assert int(alone.stats["steps"]) == int(with_tracers.stats["steps"])
    nodes = [w[:16, :16] for w in with_tracers.final.weights[1:-1]]
    assert largest(nodes, alone.final.weights[1:-1]) < 1e-12
    assert largest(alone.energies, with_tracers.energies) < 1e-14


def _observable(network: Network, risk: Risk, adjoint=None) -> jax.Array:
    run = flow(network, risk, t1=1.0, solver=Adaptive(step=0.1), adjoint=adjoint)
    return run.final(risk.data.x[:1])[0, 0]


@pytest.mark.parametrize(
    "layers",
    [Affine(jnp.tanh), pytest.param(Elementwise(tanh_edges), marks=pytest.mark.slow)],
    ids=repr,
)
def test_derivatives_of_outputs_through_flow(layers):
    """In masses (one of them zero) and initial weights: reverse = forward = finite differences."""
    ensemble, risk = smooth(3, layers, biases=True), Risk(regression(8))
    network = ensemble.discretise(4)
    masses = (network.masses[0].at[1].set(0.0), network.masses[1])
    network = network.weighed(masses)

    def observable(masses, start, adjoint=None):
        moved = eqx.tree_at(lambda n: n.start, network.weighed(masses), start)
        return _observable(moved, risk, adjoint)

    at = (network.masses, network.start)
    value = jax.jit(observable)
    reverse = jax.jit(jax.grad(observable, argnums=(0, 1)))(*at)
    tangent = jax.jit(
        lambda at, d: jax.jvp(lambda m, s: observable(m, s, diffrax.ForwardMode()), at, d)[1]
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), at)
        forward = tangent(at, direction)
        eps = 1e-5
        plus, minus = (
            value(*jax.tree.map(lambda a, d, s=s * eps: a + s * d, at, direction)) for s in (1, -1)
        )
        pairs = zip(jax.tree.leaves(reverse), jax.tree.leaves(direction), strict=True)
        backward = sum(float(jnp.vdot(g, d)) for g, d in pairs)
        assert abs(backward - float(forward)) < 1e-11 * abs(backward)
        assert abs(backward - float(plus - minus) / (2 * eps)) < 1e-7 * abs(backward)
