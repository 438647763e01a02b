"""Discrete time: rates in the step, reproducibility, and agreement with a loop in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth, tanh_edges

from ensembles import Elementwise, Uniform
from limits import (
    Adaptive,
    Data,
    GradientFlow,
    Risk,
    fit_power_law,
    flow,
    mean_field_gradient,
    train,
)

TIMES = 0.2 * np.arange(1, 11)
STEPS = [0.1, 0.05, 0.025, 0.0125, 0.00625]


def sup_distance(weights, reference, axis=0):
    """The largest difference of all weights over all checkpoints."""
    return jnp.stack([jnp.abs(a - b).max() for a, b in zip(weights, reference, strict=True)]).max()


def weights(network):
    return network.weights


def _step_errors(network, risk, batch, seeds, key):
    """(seeds, steps): the distance of training at every step size from the flow."""
    exact = flow(
        network, risk, t1=2.0, times=TIMES, observe=weights, solver=Adaptive(rtol=1e-9, atol=1e-10)
    )

    @eqx.filter_jit
    def run(step, keys):
        def one(key):
            run = train(
                network, risk, step=step, batch=batch, t1=2.0, times=TIMES, observe=weights,
                key=key,
            )  # fmt: skip
            return sup_distance(run.observed, exact.observed)

        return jax.vmap(one)(keys)

    keys = [jax.random.fold_in(key, j) for j in range(len(STEPS))]
    pairs = zip(STEPS, keys, strict=True)
    return np.stack([run(jnp.asarray(s), jax.random.split(k, seeds)) for s, k in pairs], axis=1)


@pytest.mark.slow
def test_sgd_error_is_of_order_one_half_in_the_step():
    """Batch 1, 128 seeds, sup over weights and ten checkpoints."""
    errors = _step_errors(smooth(3).discretise(16), Risk(regression()), 1, 128, jax.random.key(40))
    rate = fit_power_law(STEPS, errors)
    print("SGD, batch 1: exponent in the step", rate, errors.mean(0))
    assert rate.low <= 0.5 <= rate.high and rate.high - rate.low < 0.1


@pytest.mark.parametrize(
    "layers",
    [None, pytest.param(Elementwise(tanh_edges), marks=pytest.mark.slow)],
    ids=["Affine", "Elementwise"],
)
def test_gradient_descent_error_is_of_first_order_in_the_step(layers):
    network = smooth(3, layers).discretise(16)
    errors = _step_errors(network, Risk(regression()), None, 1, jax.random.key(41))[0]
    rate = fit_power_law(STEPS, errors)
    print("gradient descent: exponent in the step", rate, errors)
    assert abs(rate.exponent - 1) < 0.03


def _risk_at(increment, network, batch):
    return Risk(batch)(eqx.tree_at(lambda n: n.increment, network, increment))


def test_training_is_the_loop_one_would_write():
    """Each step subtracts step × learning rate × gradient × N_{i-1} N_i on the batch drawn."""
    data, step = regression(), 0.1
    network = smooth(3, biases=True).sample((5, 7), key=jax.random.key(42))
    dynamics = GradientFlow([1.0, 0.5, lambda t: 1 + t])
    run = train(network, Risk(data), dynamics, step=step, batch=4, t1=0.5, key=jax.random.key(43))
    widths = [5, 35, 7]
    for k in range(5):
        batch = data.draw(4, jax.random.fold_in(jax.random.key(43), k))
        gradient = jax.grad(_risk_at)(network.increment, network, batch)
        rates = [1.0, 0.5, 1 + k * step]
        pairs = zip(network.increment.weights, gradient.weights, widths, rates, strict=True)
        moved = [w - step * r * n * g for w, g, n, r in pairs]
        pairs = zip(network.increment.biases, gradient.biases, [5, 7, 1], rates, strict=True)
        biases = [b - step * r * n * g for b, g, n, r in pairs]
        network = eqx.tree_at(
            lambda n: (n.increment.weights, n.increment.biases),
            network,
            (tuple(moved), tuple(biases)),
        )
    assert largest(run.final.parameters, network.parameters) < 1e-13


def test_batches_are_drawn_by_the_masses_of_the_data():
    x = jnp.array([[0.0], [1.0], [2.0]])
    data = Data(x, x, jnp.array([0.2, 0.0, 0.8]))
    drawn = data.draw(4000, jax.random.key(44))
    assert not (drawn.x == 1).any()
    assert abs(float((drawn.x == 2).mean()) - 0.8) < 0.03
    np.testing.assert_array_equal(drawn.x, drawn.y)


def test_a_population_uses_quadrature_in_full_and_fresh_draws_in_batches():
    data = Data.from_space(Uniform(-1.0, 1.0), lambda x: x**2, 8)
    assert data.x.shape == (8, 1)
    assert abs(float(data.masses @ data.y[:, 0]) - 1 / 3) < 1e-14
    drawn = data.draw(1000, jax.random.key(45))
    assert len(np.unique(np.asarray(drawn.x))) == 1000
    np.testing.assert_allclose(drawn.y, drawn.x**2)


def test_observations_depend_on_neither_their_number_nor_the_split_of_the_run():
    network, risk = smooth(3).discretise(8), Risk(regression())
    options = dict(step=0.1, t1=1.0, key=jax.random.key(46), observe=weights)
    often = train(network, risk, batch=3, times=jnp.linspace(0, 1, 11), **options)
    once = train(network, risk, batch=3, times=jnp.array([1.0]), **options)
    assert largest(often.final.parameters, once.final.parameters) == 0
    assert largest([w[-1] for w in often.observed], [w[0] for w in once.observed]) == 0
    energy = Risk(risk.data)(often.final)
    assert abs(float(energy - often.energies[-1])) < 1e-14


def test_runs_go_on_to_t1_from_the_last_time_observed():
    network, risk, key = smooth(3).discretise(4), Risk(regression()), jax.random.key(47)
    options = dict(step=0.25, t1=1.0, key=key)
    whole = train(network, risk, batch=3, times=[0.5, 1.0], observe=weights, **options)
    part = train(network, risk, batch=3, times=[0.0, 0.5], observe=weights, **options)
    assert largest(whole.final.parameters, part.final.parameters) == 0
    assert part.stats["steps"] == 4 and part.stats["time_reached"] == 1
    assert part.energies.shape == (2,) and part.energies[1] == whole.energies[0]
    assert largest([w[1] for w in part.observed], [w[0] for w in whole.observed]) == 0
    rest = train(part.final, risk, batch=3, t0=1.0, **options | {"t1": 1.5})
    assert rest.stats["steps"] == 2
    with pytest.raises(ValueError, match="t1 must be multiples of step"):
        train(network, risk, step=0.25, t1=1.1, times=[0.0, 0.5])


def test_gradient_descent_step_is_minus_the_mean_field_gradient():
    network, risk = smooth(4).discretise(6), Risk(regression())
    run = train(network, risk, step=0.25, t1=0.25)
    expected = jax.tree.map(lambda g: -0.25 * g, mean_field_gradient(network, risk))
    assert largest(run.final.increment, expected) < 1e-15
