"""What every solver keeps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, smooth

from contracts.common import (
    KEY,
    OUTPUTS,
    RISK,
    TIMES,
    dtypes,
    every,
    on_both_sides,
    one_output,
    some_direction,
    stacked,
)
from contracts.layers import neuron
from contracts.solvers import SOLVERS
from contracts.updates import UPDATES
from ensembles import Atoms, shallow
from limits import Adaptive, GradientFlow, Steps, coupling, simulate, train
from limits._solvers.seeds import run_all


@every(SOLVERS)
def test_runs_of_a_solver_are_those_of_flow_or_train(name):
    """Steps draw with the second of two keys a network; the first is for its labels."""
    solver, alone = SOLVERS[name]
    network, dynamics, keys = one_output()[0], GradientFlow(), jax.random.split(KEY, (2, 2))
    networks = on_both_sides(network, some_direction(network.start), 0.1)
    solver.check(network, RISK, dynamics, TIMES)
    found = run_all(
        solver.resolved(network.dtype), stacked(*networks), RISK, dynamics, TIMES, None, keys
    )
    for i, (one, (_, key)) in enumerate(zip(networks, keys, strict=True)):
        single_run = alone(one, RISK, dynamics, key, t1=1.0, times=TIMES)
        for part in ("times", "energies", "final"):
            ours = jax.tree.map(lambda a, i=i: a[i], getattr(found, part))
            assert largest(ours, getattr(single_run, part)) < 1e-13
        assert found.stats["steps"][i] == single_run.stats["steps"]


def outputs(network):
    return network(RISK.data.x)[:, 0]


@every(SOLVERS)
def test_resolved_solvers_are_resolved_and_have_a_solver_for_the_limit(name):
    solver, _ = SOLVERS[name]
    for dtype in (jnp.float64, jnp.float32):
        once = solver.resolved(jnp.dtype(dtype))
        twice = once.resolved(jnp.dtype(dtype))
        arrays = eqx.filter(once, eqx.is_array)
        assert jax.tree.leaves(arrays) and dtypes(arrays) == {jnp.dtype(dtype)}
        assert eqx.tree_equal(once, twice)
        of_limit = once.of_limit(GradientFlow())
        assert isinstance(of_limit, Adaptive) and once.random == solver.random
        assert of_limit.of_limit(GradientFlow()) is of_limit


@every(SOLVERS)
def test_studies_take_every_solver(name):
    solver, _ = SOLVERS[name]
    ensemble, times = smooth(2, biases=True), jnp.array([0.0, 0.5])
    options = dict(solver=solver, t1=0.5, times=times, seeds=2, key=KEY)
    pair = coupling(ensemble, RISK, widths=[3], nodes=4, **options)
    assert pair.sup.shape[:2] == (2, 1) and np.isfinite(pair.sup).all() and (pair.sup > 0).all()
    many = simulate(ensemble, RISK, outputs, width=3, **options)
    assert many.values.shape == (2, 2, 6) and np.isfinite(many.values).all()


@pytest.mark.parametrize("name", ["Adam", "Langevin", "birth and death"])
def test_simulations_take_updates_and_noise_in_steps(name):
    """A seed is the run of `train` with the second of its two keys."""
    (update, batch), ensemble = UPDATES[name], smooth(2, biases=name == "Adam")
    found = simulate(
        ensemble, RISK, outputs, width=3, seeds=2, t1=0.5, dynamics=update,
        solver=Steps(0.125, batch), key=KEY,
    )  # fmt: skip
    labels, steps = jax.random.split(jax.random.fold_in(KEY, 1))
    alone = train(
        ensemble.sample(3, key=labels), RISK, update, step=0.125, batch=batch, t1=0.5,
        observe=outputs, key=steps,
    )  # fmt: skip
    assert largest(found.values[1], alone.observed) < 1e-13
    assert largest(found.values[0], found.values[1]) > 1e-3


def test_a_limit_in_the_same_steps_leaves_distances_of_width_alone():
    """Gradient descent in steps so large that they are no flow: in the limit's own steps all
    neurons of a network of atoms are where the limit says, and beside a flow they are not."""
    ensemble = shallow(neuron, Atoms(jnp.array([[0.7]])))
    options = dict(widths=[4], seeds=2, nodes=1, t1=4.0, solver=Steps(2.0), key=KEY)
    same = coupling(ensemble, OUTPUTS, limit_solver=Steps(2.0), **options)
    flow = coupling(ensemble, OUTPUTS, **options)
    assert same.sup.max() < 1e-14 and flow.sup[..., 0].max() > 1e-2
