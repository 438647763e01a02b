"""jit, vmap and grad pass through flow and train; nothing compiles twice."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth

from limits import Adaptive, GradientFlow, Risk, flow, train
from limits.warnings import Recompilation

RISK = Risk(regression(8))


def _networks(n):
    ensemble = smooth(3)
    return [ensemble.sample(6, key=jax.random.key(k)) for k in range(n)]


def test_vmapped_flows_are_the_flows_one_by_one():
    """Networks solved together choose their own steps."""
    networks = _networks(3)
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *networks)
    together = jax.vmap(lambda n: flow(n, RISK, t1=1.0).final)(stacked)
    for i, network in enumerate(networks):
        alone = flow(network, RISK, t1=1.0).final
        assert largest(jax.tree.map(lambda a, i=i: a[i], together), alone) < 1e-12


def test_vmapped_training_is_the_training_one_by_one():
    network = _networks(1)[0]
    keys = jax.random.split(jax.random.key(3), 3)

    def end(key):
        return train(network, RISK, step=0.1, batch=2, t1=0.5, key=key).final.increment

    together = jax.jit(jax.vmap(end))(keys)
    for i, key in enumerate(keys):
        assert largest(jax.tree.map(lambda a, i=i: a[i], together), end(key)) < 1e-14


def test_gradient_through_training_is_the_finite_difference():
    network = _networks(1)[0]

    @jax.jit
    def end(start):
        moved = eqx.tree_at(lambda n: n.start, network, start)
        return train(moved, RISK, step=0.1, batch=2, t1=1.0, key=jax.random.key(4)).energies[-1]

    gradient = jax.grad(end)(network.start)
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), network.start)
    plus, minus = (
        end(jax.tree.map(lambda a, d, s=s: a + s * 1e-5 * d, network.start, direction))
        for s in (1, -1)
    )
    pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    slope = sum(float(jnp.vdot(g, d)) for g, d in pairs)
    assert abs(slope - float(plus - minus) / 2e-5) < 1e-7 * max(abs(slope), 1e-2)


def test_new_steps_seeds_times_and_rates_compile_nothing(compilations):
    network = _networks(1)[0]
    train(network, RISK, step=0.1, batch=2, t1=1.0, key=jax.random.key(0))
    flow(network, RISK, t1=1.0)
    other = jax.random.key(1)
    with compilations() as count:
        train(network, RISK, step=0.05, batch=2, t1=2.0, key=other)
        train(network, RISK, GradientFlow(0.3), step=0.05, batch=2, t1=2.0, key=other)
        flow(network, RISK, t1=2.0, solver=Adaptive(rtol=1e-5))
    assert count() == 0


def test_every_leaf_of_a_network_is_an_array():
    network = _networks(1)[0]
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(network))
    doubled = jax.tree.map(lambda a: 2 * a, network)
    assert largest(doubled.weights, [2 * w for w in network.weights]) == 0


def test_reprs_name_the_parametrisation():
    network = _networks(1)[0]
    assert "mean field 1/N" in repr(network) and "Affine(tanh)" in repr(network)
    assert "mean field 1/N" in repr(smooth(3))


def test_functions_that_are_made_anew_for_every_call_are_noticed_once():
    network = smooth(2).sample(3, key=jax.random.key(0))
    risk = Risk(regression(4))

    def run(scale):
        return train(network, risk, step=0.1, t1=0.1, observe=lambda n: scale * n(regression(4).x))

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(5):
            run(2.0)
    found = [w for w in seen if w.category is Recompilation]
    assert len(found) == 1 and "define it once" in str(found[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(5):  # one function
            train(network, risk, step=0.1, t1=0.1, observe=outputs_of)
        for scale in ([1.0], [2.0], [3.0], [4.0]):  # functions of different values
            train(network, risk, step=0.1, t1=0.1, observe=lambda n, s=scale: s[0] * n(risk.data.x))


def outputs_of(network):
    return network(regression(4).x)


def test_failed_runs_under_jit_give_no_number():
    """Whatever of them is used: an error at run time, or NaN."""
    network, risk = smooth(3).sample(8, key=jax.random.key(0)), Risk(regression())

    def large(network):
        return (network.weights[1] > 1).sum()

    def run(network):
        return train(network, risk, step=1e30, t1=1e31, observe=large)

    assert jnp.isnan(jax.jit(lambda n: run(n).final.weights[1])(network)).all()
    assert jnp.isnan(jax.jit(lambda n: run(n).final.measure(1).points)(network)).all()
    for part in (lambda r: r.observed, lambda r: r.energies, lambda r: r.final.masses[0]):
        with pytest.raises(Exception, match="finite"):
            jax.block_until_ready(jax.jit(lambda n, part=part: part(run(n)))(network))


@pytest.mark.parametrize(
    "step, t1", [(0.1, 0.25), (0.1, -1.0), (-0.1, 1.0), (0.0, 1.0), (0.1, np.nan)]
)
def test_traced_times_that_are_no_multiples_of_the_step_are_errors(step, t1):
    network, risk = smooth(3).sample(8, key=jax.random.key(0)), Risk(regression())
    run = jax.jit(lambda step, t1: train(network, risk, step=step, t1=t1).energies)
    with pytest.raises(Exception, match=r"positive multiples|after t0"):
        jax.block_until_ready(run(step, t1))
    if t1 != 0.25 and step == 0.1:
        follow = jax.jit(lambda t1: flow(network, risk, t1=t1, throw=False).energies)
        with pytest.raises(Exception, match="after t0"):
            jax.block_until_ready(follow(t1))
