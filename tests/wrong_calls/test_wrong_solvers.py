"""Wrong options of runs: each error names the argument, what arrived and the remedy."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from right import KEY, ensemble, network, risk

from limits import Adaptive, Steps, flow, limit, train
from limits._solvers.time import checkpoints

CALLS = {
    "t1 negative": (
        lambda: flow(network(), risk(), t1=-1.0),
        r"t1 must be a positive finite time, got -1\.0: write t1=1\.0",
    ),
    "t1 before t0": (
        lambda: flow(network(), risk(), t0=1.0, t1=1.0),
        r"t1 must be a finite time after t0=1\.0, got 1\.0: write t1=2\.0",
    ),
    "t0 negative": (
        lambda: flow(network(), risk(), t0=-1.0, t1=1.0),
        r"t0 must be a finite time of at least 0, got -1\.0: write t0=0\.0",
    ),
    "t1 in words": (lambda: flow(network(), risk(), t1="1"), r"t1 must be a number, got '1'"),
    "times in words": (
        lambda: flow(network(), risk(), t1=1.0, times=["0", "1"]),
        r"times must be numbers, got",
    ),
    "an observation of two": (
        lambda: flow(network(), risk(), t1=1.0, observe=lambda n, x: n(x)),
        r"observe must take 1 argument, the network, got <lambda>\(n, x\)",
    ),
    "a key that is a number": (
        lambda: train(network(), risk(), step=0.1, batch=2, t1=1.0, key=3),
        r"key must be one JAX key, got 3: write key=jax\.random\.key\(0\)",
    ),
    "times decreasing": (
        lambda: flow(network(), risk(), t1=1.0, times=[0.0, 0.6, 0.4]),
        r"times must not decrease, from at least 0 to at most t1=1\.0, got .*: write jnp\.linspace",
    ),
    "times beyond t1": (
        lambda: flow(network(), risk(), t1=1.0, times=[0.0, 2.0]),
        r"times must not decrease, from at least 0 to at most t1=1\.0",
    ),
    "times empty": (
        lambda: flow(network(), risk(), t1=1.0, times=[]),
        r"times must be an array of at least one time, got shape \(0,\)",
    ),
    "tolerance zero": (
        lambda: flow(network(), risk(), t1=1.0, solver=Adaptive(rtol=0.0)),
        r"rtol must be a positive finite number, got 0\.0",
    ),
    "tolerance below rounding": (
        lambda: flow(single(network()), single(risk()), t1=1.0, solver=Adaptive(rtol=1e-12)),
        r"rtol must be at least 1\.2e-07, a unit of the last place in float32, got 1e-12: write "
        r"rtol=1e-05, or make network and data of float64",
    ),
    "tolerance below rounding in double precision": (
        lambda: flow(network(), risk(), t1=1.0, solver=Adaptive(rtol=1e-17)),
        r"rtol must be at least 2\.2e-16, a unit of the last place in float64, got 1e-17",
    ),
    "step zero": (
        lambda: train(network(), risk(), step=0.0, t1=1.0),
        r"step must be a positive finite number, got 0\.0",
    ),
    "steps of size zero": (
        lambda: Steps(step=0),
        r"step must be a positive finite number, got 0",
    ),
    "a solver that is none": (
        lambda: Adaptive(method="x"),
        r"method must be an? AbstractSolver, got str: write method=diffrax\.Tsit5\(\)",
    ),
    "times between steps": (
        lambda: train(network(), risk(), step=0.1, t1=1.0, times=[0.25]),
        r"times and t1 must be multiples of step=0\.1, got \[0\.25\]: .* write times = step",
    ),
    "SGD without key": (
        lambda: train(network(), risk(), step=0.1, batch=2, t1=1.0),
        r"key is required: the run draws batches or noise",
    ),
    "a flow in steps": (
        lambda: flow(network(), risk(), t1=1.0, solver=Steps(0.1)),
        r"solver must be an? Adaptive, got Steps: .*; steps are made by train",
    ),
    "a method of diffrax as a solver": (
        lambda: flow(network(), risk(), t1=1.0, solver=diffrax.Tsit5()),
        r"solver must be an? Adaptive, got Tsit5: write solver=Adaptive\(.*method=diffrax\.Tsit5",
    ),
    "tolerances of a limit": (
        lambda: limit(ensemble(), risk(), t1=1.0, solver=Adaptive(rtol=1e-3)),
        r"solver must leave rtol to limit, .* got 0\.001: write tol=",
    ),
    "steps of a limit": (
        lambda: limit(ensemble(), risk(), t1=1.0, solver=Adaptive(step=0.1)),
        r"solver must leave step to limit, .* got 0\.1: write tol=",
    ),
    "flow with kinks that do not increase": (
        lambda: flow(network(), risk(), t1=1.0, solver=Adaptive(kinks=[0.5, 0.3])),
        r"kinks must be increasing times, got \[0\.5 0\.3\]: write jnp\.array",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_the_remedy(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_times_that_rounding_takes_out_of_order_or_range_are_those_that_are_meant():
    meant, noisy = [0.0, 0.3, 0.3], [-1e-18, 0.1 + 0.2, 0.3 * (1 - 1e-16)]
    for run in (
        lambda times: flow(network(), risk(), t1=0.3, times=times),
        lambda times: train(network(), risk(), step=0.1, t1=0.3, times=times),
    ):
        exact, found = run(jnp.array(meant)), run(jnp.array(noisy))
        assert (np.asarray(found.times) == meant).all()
        np.testing.assert_allclose(found.energies, exact.energies, rtol=1e-14)
        assert found.energies[1] == found.energies[2]
    traced = jax.jit(lambda times: checkpoints(times, 0.0, 0.3, jnp.dtype(float))[1])
    assert (np.asarray(traced(jnp.array(noisy))) == meant).all()


def single(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float32), tree)


def test_a_key_is_accepted_where_nothing_is_random_and_changes_nothing():
    for run in (
        lambda key: train(network(), risk(), step=0.5, t1=1.0, key=key),
        lambda key: flow(network(), risk(), t1=1.0, key=key),
    ):
        assert largest(run(KEY).final, run(None).final) == 0
