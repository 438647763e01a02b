"""What tests of contracts share: keys, risks, networks with tracers, and arithmetic of trees."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth

import ensembles
from limits import Risk

KEY = jax.random.key(7)
OTHER = jax.random.key(8)
RISK = Risk(regression(6))
TIMES = jnp.linspace(0, 1, 5)


def every(registry):
    """All names of a registry, as parameters of a test."""
    return pytest.mark.parametrize("name", registry)


def except_slow(registry, fast):
    """All names of a registry, those that are not `fast` for the slow tests."""
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in registry]


def single(tree):
    """The same arrays in single precision."""
    return jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, tree)


def dtypes(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def along(start, direction, distance):
    return jax.tree.map(lambda a, d: a + distance * d, start, direction)


def some_direction(like):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), like)


def inner(a, b):
    """The inner product of two trees."""
    return sum(float(jnp.vdot(u, v)) for u, v in zip(*map(jax.tree.leaves, (a, b)), strict=True))


OUTPUTS = Risk(regression(6, outputs=2))


def with_and_without_tracers(ensemble):
    """Three nodes a layer; then tracers at the first two of them and at another label."""
    nodes = ensemble.measures(3, ensembles.MonteCarlo(), key=KEY)
    masses = jnp.array([0.2, 0.5, 0.3])
    nodes = [ensembles.Measure(m.points, masses) for m in nodes]
    labels = [jnp.concatenate([m.points[:2], m.points[2:] / 2]) for m in nodes]
    traced = [m.with_tracers(c) for m, c in zip(nodes, labels, strict=True)]
    return ensemble.network(nodes), ensemble.network(traced)


def at(network, ranges):
    """The parts of parameters of `network` at some neurons of each hidden layer."""

    def cut(parameters):
        increment = parameters if parameters.growth else parameters.still()
        return network.moved(increment).neurons([ranges] * (network.depth - 1)).increment

    return cut


@eqx.filter_jit
def ordinary_over_masses(network, energy):
    """The ordinary gradient divided by masses."""

    def value(start):
        return energy(eqx.tree_at(lambda n: n.start, network, start))

    gradient = jax.grad(value)(network.start)
    return jax.tree.map(lambda g, p: g / p, gradient, network.parameter_masses())


def one_output():
    return with_and_without_tracers(smooth(3, biases=True))


def on_both_sides(network, direction, distance):
    return [
        eqx.tree_at(lambda n: n.start, network, along(network.start, direction, s * distance))
        for s in (1, -1)
    ]
