"""Runs that fail say when and why, and lose nothing of what they had."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth
from right import KEY, X, ensemble, network, risk

from limits import RESULTS, Adaptive, FailedRun, Risk, coupling, flow, fluctuations, simulate, train


def explosive(p, y):
    """A loss without lower bound, along which the flow leaves to infinity in finite time."""
    return -((p - y) ** 4).sum()


def test_a_diverging_flow_says_when_and_loses_nothing():
    times = jnp.linspace(0, 50, 201)
    run = flow(network(), Risk(regression(8), explosive), t1=50.0, times=times, throw=False)
    reached = float(run.stats["time_reached"])
    before = np.asarray(times) <= reached
    assert 0 < reached < 50 and run.result != RESULTS.successful
    assert np.isfinite(run.energies[before]).all() and np.isnan(run.energies[~before]).all()
    with pytest.raises(
        FailedRun, match=r"It broke down after time .*, its last record, of 50, after .*throw=False"
    ) as caught:
        flow(network(), Risk(regression(8), explosive), t1=50.0, times=times)
    np.testing.assert_array_equal(caught.value.partial.energies, run.energies)


def test_diverging_training_says_when_and_loses_nothing():
    times = jnp.linspace(0, 20, 41)
    options = dict(step=0.5, t1=20.0, times=times, observe=lambda n: n.weights[-1])
    with pytest.raises(
        FailedRun, match=r"The run diverged.*It broke down at time .* of 20"
    ) as caught:
        train(network(), Risk(regression(8), explosive), **options)
    run = caught.value.partial
    finite = np.isfinite(run.energies)
    assert run.result == RESULTS.diverged and finite[0] and not finite[-1]
    assert np.isfinite(run.observed[finite]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.final))
    assert abs(float(run.final.weights[-1][0, 0] - run.observed[finite][-1, 0, 0])) == 0


@pytest.mark.slow
def test_a_run_that_is_not_finite_from_the_start_says_so():
    for loss, words in (
        (lambda p, y: jnp.log(-1 - (p - y) ** 2).sum(), r"^The energy is not finite at t0"),
        (lambda p, y: jnp.sqrt(0 * (p - y)).sum(), r"^The energy has no finite derivative at"),
    ):
        bad = Risk(regression(8), loss)
        with pytest.raises(FailedRun, match=words):
            train(network(), bad, step=0.1, t1=0.2)
    with pytest.raises(FailedRun, match=words):
        flow(network(), bad, t1=0.2, times=[0.1], solver=Adaptive(step=0.1))


def test_too_few_steps_are_reported_with_what_was_reached():
    run = flow(network(), risk(), t1=5.0, solver=Adaptive(step=0.01, max_steps=100), throw=False)
    assert "maximum number of solver steps" in RESULTS[run.result]
    assert float(run.stats["time_reached"]) < 5


def test_a_failure_inside_jit_is_an_error_too():
    with pytest.raises(Exception, match=r"diverged|minimum step size"):
        eqx.filter_jit(lambda n: flow(n, Risk(regression(8), explosive), t1=50.0).final)(network())


@pytest.mark.slow
def test_a_failed_coupling_keeps_the_seeds_that_did_not_fail():
    with pytest.raises(FailedRun, match=r"Some runs broke down \(width: failed seeds\)") as caught:
        coupling(
            ensemble(), Risk(regression(8), explosive), widths=[4], seeds=2, nodes=4, t1=50.0,
            key=KEY,
        )  # fmt: skip
    assert caught.value.partial.sup.shape == (2, 1, 3)


@pytest.mark.slow
def test_a_failed_simulation_and_a_failed_prediction_keep_what_they_have():
    options = dict(t1=50.0, times=jnp.linspace(0, 50, 11))
    bad = Risk(regression(8), explosive)
    with pytest.raises(FailedRun, match=r"2 of 2 seeds broke down") as caught:
        simulate(smooth(2), bad, lambda n: n(X)[:, 0], width=4, seeds=2, key=KEY, **options)
    values = caught.value.partial.values
    assert np.isfinite(values[:, 0]).all() and np.isnan(values[:, -1]).all()
    with pytest.raises(FailedRun, match=r"broke down at time") as caught:
        fluctuations(smooth(2), bad, lambda n: n(X)[:, 0], nodes=8, **options)
    assert np.isfinite(caught.value.partial.energies[0])
