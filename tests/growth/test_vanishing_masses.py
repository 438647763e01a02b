"""Tracers grow as neurons do; masses that vanish and growth that overflows give no NaN."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from growing import (
    LINEAR,
    RISK,
    TIMES,
    around,
    finite,
    free_of_nan,
    model,
    moving,
    single,
    state,
    unit_sums,
)
from models import largest, smooth

from limits import GradientFlow, WassersteinFisherRao, flow, train


@pytest.mark.slow
def test_tracers_grow_as_their_nodes_and_change_nothing():
    """Six nodes, then tracers on them, then nine at other labels."""
    ensemble, n = model(3), 6
    other = ensemble.sample(9, key=jax.random.key(60))
    pairs = zip(ensemble.measures(n), other.labels, strict=True)
    both = ensemble.network([m.with_tracers(c) for m, c in pairs])
    options = dict(t1=2.0, times=TIMES, observe=state)
    alone = flow(ensemble.discretise(n).growing(), RISK, moving(3), **options)
    run = flow(ensemble.discretise(n, tracers=both), RISK, moving(3), **options)
    (seen, masses), (seen_alone, masses_alone) = run.observed, alone.observed

    assert unit_sums(masses) < 1e-12 and unit_sums(masses_alone) < 1e-12
    assert all((np.asarray(p)[:, n:] == 0).all() for p in masses)
    assert min(float(np.abs(g[-1, :n]).max()) for g in seen.growth) > 0.05

    def cut(tree, *ranges):
        """The part of each array at ranges of neurons (before, after) of its layer."""
        last = len(tree.weights) - 1
        before, after = ranges
        first, *middle, end = tree.weights
        biases = [b if i == last else b[:, after] for i, b in enumerate(tree.biases)]
        growth = [g[:, after] for g in tree.growth]
        return first[:, after], [w[:, before, after] for w in middle], end[:, after], biases, growth

    nodes, copies = slice(0, n), slice(n, 2 * n)
    here = cut(seen, nodes, nodes)
    for ranges in [(nodes, copies), (copies, nodes), (copies, copies)]:
        assert largest(here, cut(seen, *ranges)) < 1e-12
    assert int(run.stats["steps"]) == int(alone.stats["steps"])
    assert largest(run.energies, alone.energies) < 1e-13
    assert largest(here, cut(seen_alone, nodes, nodes)) < 1e-12
    assert largest([p[:, :n] for p in masses], masses_alone) < 1e-12


@pytest.mark.parametrize(
    "dtype",
    [pytest.param(jnp.float64, marks=pytest.mark.slow), jnp.float32],
    ids=["float64", "float32"],
)
def test_nothing_is_nan_when_masses_underflow(dtype):
    """In continuous time and in steps; growth falls to thousands below 0."""
    network, risk, fast = model(3).discretise(6).growing(), RISK, moving(3, 0.1, 20_000.0)
    if dtype == jnp.float32:
        network, risk, fast = single((network, risk, fast))
    run = flow(network, risk, fast, t1=2.0, times=TIMES, observe=state)
    steps = train(network, risk, fast, step=0.01, t1=2.0, times=TIMES, observe=state)
    slack = 1e-12 if dtype == jnp.float64 else 1e-6
    for one in (run, steps):
        parameters, masses = one.observed
        lowest = min(float((g - g.max(1, keepdims=True)).min()) for g in parameters.growth)
        smallest = min(float(p.min()) for p in masses)
        print(dtype.__name__, "growth below the largest", lowest, "smallest mass", smallest)
        assert finite((one.energies, one.observed, one.final))
        assert unit_sums(masses) < slack
        assert {leaf.dtype for leaf in jax.tree.leaves(one.observed)} == {jnp.dtype(dtype)}
        assert finite(around(one.final, risk))
        assert lowest < -1000 and smallest == 0
    assert float(run.energies[-1]) < float(run.energies[0])


def gainer(dtype=jnp.float64):
    """Two layers and tracers far outside: with the linear loss one of them gains all the time."""
    ensemble = smooth(2, outputs=2)
    measure = ensemble.measures(5)[0]
    network = ensemble.network([measure.with_tracers(jnp.array([[-5.0], [5.0]]))])
    return (network, LINEAR) if dtype == jnp.float64 else single((network, LINEAR))


@pytest.mark.parametrize(
    "dtype",
    [pytest.param(jnp.float64, marks=pytest.mark.slow), jnp.float32],
    ids=["float64", "float32"],
)
def test_nothing_is_nan_when_the_growth_of_a_tracer_overflows(dtype):
    """exp(growth) is infinite; derivatives in weights stay finite, none is NaN."""
    network, risk = gainer(dtype)
    dynamics = WassersteinFisherRao(GradientFlow(0.01), rate=2000.0)
    highest = float(jnp.log(jnp.finfo(dtype).max))
    whole = dtype == jnp.float64  # derivatives of the whole run, in single precision of its end
    run = flow(network, risk, dynamics, t1=3.0, times=TIMES, observe=state)

    @eqx.filter_jit
    def value(at):
        there = eqx.tree_at(lambda n: (n.initial_masses, n.start), run.final, at)
        if whole:
            there = there.moved(jax.tree.map(jnp.zeros_like, there.increment))
            there = flow(there, risk, dynamics, t1=3.0, throw=False).final
        return risk(there) + risk.first_variation(there)[0][:5].sum()

    slopes = eqx.filter_jit(eqx.filter_grad(value))((network.initial_masses, network.start))
    growth, masses = run.observed[0].growth[0], run.observed[1][0]
    print(dtype.__name__, "highest growth", float(growth.max()), "of", highest, "slopes", slopes[0])
    assert float(growth[:, 5:].max()) > 1.5 * highest
    assert finite((run.energies, run.observed, run.final, around(run.final, risk)))
    assert (np.asarray(masses)[:, 5:] == 0).all()
    assert unit_sums([masses]) < (1e-12 if whole else 1e-6)
    assert finite(slopes[1]) and free_of_nan(slopes[0])
    steps = train(network, risk, dynamics, step=0.005, t1=2.0, observe=state)
    assert finite((steps.energies, steps.observed, around(steps.final, risk)))
    assert (np.asarray(steps.observed[1][0])[:, 5:] == 0).all()


@pytest.mark.parametrize(
    ("dtype", "cases", "slack"),
    [
        (jnp.float64, [(1e-300, 690.0), (1e-305, 715.0), (1e-300, 1000.0)], 1e-12),
        (jnp.float32, [(1e-30, 70.0), (1e-37, 87.5), (1e-37, 200.0)], 1e-5),
    ],
    ids=["float64", "float32"],
)
def test_a_tiny_mass_that_grows_gets_its_share(dtype, cases, slack):
    """p ∝ exp(log p_0 + g), in logarithms."""
    for tiny, growth in cases:
        start = jnp.array([tiny, 0.25, 0.75], dtype)
        network = smooth(2, outputs=2).discretise(3)
        network, risk = (network, RISK) if dtype == jnp.float64 else single((network, RISK))
        grown = eqx.tree_at(
            lambda n: n.increment.growth,
            network.weighed((start,)).growing(),
            (jnp.array([growth, 0.0, 0.0], dtype),),
        )
        logs = np.log([tiny, 0.25, 0.75]) + np.array([growth, 0, 0])
        exact = np.exp(logs - logs.max())
        exact /= exact.sum()
        found = grown.masses[0]
        print(dtype.__name__, tiny, growth, "masses", found, "exact", exact)
        assert finite(around(grown, risk))
        assert largest(found, exact) < slack
