"""Wrong calls of studies: each error names the argument, what arrived and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import smooth
from right import KEY, X, ensemble, independent, network, product, risk

from ensembles import Elementwise, Sobol
from limits import (
    Adaptive,
    Collapse,
    MirrorProx,
    Steps,
    collapse,
    convergence,
    coupling,
    diversity,
    fit_power_law,
    fluctuations,
    limit,
    sgd_noise,
    simulate,
)
from limits._studies.power_law import power_law_in_width


def _median(network):
    """The first weight below which there is half of the mass."""
    order = jnp.argsort(network.weights[0][:, 0])
    below = jnp.cumsum(network.masses[0][order])
    return network.weights[0][order[jnp.argmax(below >= 0.5)], 0][None]


def predict(observe, nodes=4, **options):
    return fluctuations(ensemble(), risk(), observe, t1=1.0, nodes=nodes, **options)


def couple(**options):
    return coupling(ensemble(), risk(), seeds=2, t1=1.0, key=KEY, **options)


CALLS = {
    "more modes than labels can carry": (
        lambda: diversity(network(), risk().data, modes=3, key=KEY),
        r"modes must be fewer than the neurons of a layer, got modes=3 with widths \(3, 3\)",
    ),
    "diversity without key": (
        lambda: diversity(network(), risk().data, modes=2, key=None),
        r"key is required: directions are drawn at random",
    ),
    "collapse of two layers": (
        lambda: collapse(independent(depth=2), risk(), widths=[4], seeds=1, t1=1.0, nodes=8),
        r"ensemble must have at least three layers, affine in their weights",
    ),
    "an unknown spread": (
        lambda: Collapse(None).largest("weights", 1),
        r"of must be one of \('increments', 'preactivations', 'dependence', 'residuals'\)",
    ),
    "convergence of other layers": (
        lambda: convergence(smooth(3, Elementwise(product)).sample(3, key=KEY), risk()),
        r"network must have Affine layers, got Network",
    ),
    "observation of several arrays": (
        lambda: predict(lambda n: n.masses),
        r"observe must return one floating array, got \(ShapeDtypeStruct.*write jnp.stack",
    ),
    "observation of a word": (
        lambda: predict(lambda n: "loss"),
        r"observe must return one floating array, got 'loss'",
    ),
    "observation of integers": (
        lambda: predict(lambda n: jnp.argmax(n(X))),
        r"observe must return one floating array, got dtype int64: write the outputs",
    ),
    "observation that is NaN": (
        lambda: predict(lambda n: jnp.log(-1 - n(X)[:, 0] ** 2)),
        r"observe must return finite numbers, got 4 NaN or infinite ones out of 4 at time 0",
    ),
    "observation no function": (
        lambda: predict(None),
        r"observe must be a function of a network, got None",
    ),
    "observation of a single neuron": (
        lambda: predict(lambda n: n.preactivations(X)[1][:, 0]),
        r"observe must weigh neurons by masses, .*single neuron .* noise of its edges",
    ),
    "observation of the smallest neuron": (
        lambda: predict(lambda n: jnp.abs(n.weights[0]).min()[None]),
        r"observe must weigh neurons by masses, .*smallest of all",
    ),
    "observation of the smallest neuron in a limit": (
        lambda: limit(
            ensemble(), risk(), t1=1.0, nodes=4, observe=lambda n: jnp.abs(n.weights[2]).min()
        ),
        r"observe must weigh neurons by masses, .*smallest of all",
    ),
    "observation of the smallest neuron that has mass": (
        lambda: predict(
            lambda n: jnp.where(n.masses[0] > 0, jnp.abs(n.weights[0][:, 0]), jnp.inf).min()[None]
        ),
        r"observe must depend on neurons in proportion to their masses",
    ),
    "observation of a median": (
        lambda: predict(lambda n: jnp.median(n.weights[0][:, 0])[None], nodes=5),
        r"observe must weigh neurons by masses, .*a median",
    ),
    "observation of a median by mass": (
        lambda: predict(_median, nodes=5),
        r"observe must be differentiable in masses, but 1 of its 1 entries change with them by st",
    ),
    "observation of the only neuron of a reduced layer": (
        lambda: fluctuations(
            independent(depth=5),
            risk(),
            lambda n: n.preactivations(X)[1][:, 0],
            t1=1.0,
            nodes=[16, 1, 1, 2],
        ),
        r"observe must weigh neurons by masses",
    ),
    "observation without masses": (
        lambda: predict(lambda n: n.weights[0].mean()),
        r"observe must weigh neurons by masses, .*network.masses",
    ),
    "observation of all neurons": (
        lambda: simulate(
            ensemble(), risk(), lambda n: n.weights[0], width=4, seeds=2, t1=1.0, key=KEY
        ),
        r"neurons of mass 0, or neurons split in two, changed it \(shape \(4, 2\) → \(14, 2\)\)",
    ),
    "fluctuations at times out of order": (
        lambda: predict(lambda n: n(X), times=[0.5, 0.1]),
        r"times must not decrease, from at least 0 to at most t1=1.0, got \[0\.5 0\.1\]",
    ),
    "fluctuations on no nodes": (
        lambda: predict(lambda n: n(X), nodes=0),
        r"nodes must be an int of at least 1, got 0",
    ),
    "fluctuations on one node": (
        lambda: predict(lambda n: n(X), nodes=1),
        r"nodes must be at least 2 on 1 axes to be compared with a coarser set, got 1",
    ),
    "fluctuations on random nodes without key": (
        lambda: predict(lambda n: n(X), rule=Sobol(), nodes=8),
        r"key is required: random nodes are drawn, and redrawn",
    ),
    "ratios for other layers": (
        lambda: predict(lambda n: n(X), ratios=[1.0]),
        r"ratios must be 2 positive numbers r_i, one per hidden layer .* got \[1\.0\]",
    ),
    "ratio zero": (
        lambda: predict(lambda n: n(X), ratios=[1.0, 0.0]),
        r"ratios must be 2 positive numbers",
    ),
    "one seed": (
        lambda: simulate(ensemble(), risk(), lambda n: n(X), width=4, seeds=1, t1=1.0, key=KEY),
        r"seeds must be at least 2 to have a variance, got 1",
    ),
    "simulated steps without a step": (
        lambda: simulate(
            ensemble(),
            risk(),
            lambda n: n(X),
            width=4,
            seeds=2,
            t1=1.0,
            dynamics=MirrorProx(),
            key=KEY,
        ),
        r"dynamics must be a Dynamics, got MirrorProx: write GradientFlow.* solver=Steps\(0\.1\)",
    ),
    "fluctuations in steps": (
        lambda: predict(lambda n: n(X), solver=Steps(0.1)),
        r"solver must be an? Adaptive, got Steps: it is of continuous time; write Adaptive",
    ),
    "fluctuations to tolerance zero": (
        lambda: predict(lambda n: n(X), solver=Adaptive(rtol=0.0)),
        r"rtol must be a positive finite number, got 0\.0",
    ),
    "an odd number of intervals": (
        lambda: sgd_noise(ensemble(), risk(), lambda n: n(X), t1=1.0, nodes=4, intervals=7),
        r"intervals must be even, got 7",
    ),
    "the noise of two risks": (
        lambda: sgd_noise(ensemble(), risk() + risk(), lambda n: n(X), t1=1.0, nodes=4),
        r"^energy must draw batches .* one Risk, .*got Risk \+ Risk: write Risk\(data\), or",
    ),
    "limit of a network": (
        lambda: limit(network(), risk(), t1=1.0),
        r"ensemble must be a NeuronalEnsemble or a Residual, got Network: .*write flow",
    ),
    "limit with tol and nodes": (
        lambda: limit(ensemble(), risk(), t1=1.0, tol=1e-3, nodes=8),
        r"tol must be None when nodes are fixed, got tol=0\.001, nodes=8",
    ),
    "limit with tol zero": (
        lambda: limit(ensemble(), risk(), t1=1.0, tol=0.0),
        r"tol must be a positive finite number, got 0\.0: write tol=\d\.\de-\d+, or more",
    ),
    "limit with tol below rounding": (
        lambda: limit(ensemble(), risk(), t1=1.0, tol=1e-17),
        r"tol must be at least .*, 50 units of the last place of energy and outputs, of size .* in "
        r"float64, got 1e-17: write tol=",
    ),
    "limit of one node": (
        lambda: limit(ensemble(), risk(), t1=1.0, nodes=1),
        r"nodes must be at least 2 on 1 axes to be compared with a coarser set, got 1",
    ),
    "limit of Sobol points without key": (
        lambda: limit(ensemble(), risk(), t1=1.0, rule=Sobol()),
        r"key is required: random nodes are drawn",
    ),
    "coupling with one width": (
        lambda: coupling(ensemble(), risk(), widths=32, seeds=2, nodes=4, t1=1.0, key=KEY),
        r"widths must be a list of widths, got 32: write \[32, 64, 128\]",
    ),
    "coupling by a solver that is none": (
        lambda: coupling(
            ensemble(), risk(), widths=[4], seeds=2, nodes=4, t1=1.0, solver="euler", key=KEY
        ),
        r"solver must be a Solver, got str: write solver=Adaptive\(\) or solver=Steps",
    ),
    "coupling on batches beyond the data": (
        lambda: coupling(
            ensemble(),
            risk(),
            widths=[4],
            seeds=2,
            nodes=4,
            t1=1.0,
            solver=Steps(0.1, batch=9),
            key=KEY,
        ),
        r"batch must be at most the 8 samples of the data, got 9: write batch=None",
    ),
    "coupling at times between steps": (
        lambda: coupling(
            ensemble(), risk(), widths=[4], seeds=2, nodes=4, t1=1.0, solver=Steps(0.3), key=KEY
        ),
        r"times and t1 must be multiples of step=0\.3, got",
    ),
    "coupling without key": (
        lambda: coupling(ensemble(), risk(), widths=[4], seeds=2, nodes=4, t1=1.0, key=None),
        r"key is required: finite networks draw their labels",
    ),
    "coupling seeds": (
        lambda: coupling(ensemble(), risk(), widths=[4], seeds=[1, 2], nodes=4, t1=1.0, key=KEY),
        r"seeds must be an int or one int per",
    ),
    "a limit under jit": (
        lambda: jax.jit(lambda t: limit(ensemble(), risk(), t1=t).energies)(1.0),
        r"limit runs on the host and is not for use under jit",
    ),
    "rate of zeros": (
        lambda: fit_power_law([1.0, 2.0, 4.0], [1.0, 0.0, 1.0]),
        r"^y must be positive and finite, got 1 of 3 that are not",
    ),
    "rate at one x": (
        lambda: fit_power_law([2.0, 2.0, 2.0], [1.0, 0.5, 1.0]),
        r"^x must be positive and finite, with at least two different ones, got \[2\. 2\. 2\.\]",
    ),
    "rate of two points": (
        lambda: fit_power_law([1.0, 2.0], [1.0, 0.5]),
        r"got \(2,\) and \(2,\): a line through two points leaves no residual .* at a third x, or",
    ),
    "rate in one width": (
        lambda: power_law_in_width(np.array([8]), np.ones((3, 1))),
        r"^widths must be at least two different ones .*, got \[8\]: write widths=\[32, 64, 128\]",
    ),
    "rate in width of one seed": (
        lambda: power_law_in_width(np.array([8, 16]), np.array([[1.0, 0.5], [1.0, np.nan]])),
        r"^seeds must be at least 2 at every width .*, got \[2, 1\] .*: write seeds=8",
    ),
    "coupling that observes all neurons": (
        lambda: couple(observe={"w": lambda n: n.weights[0]}, widths=[4, 8], nodes=4),
        r"^observe must have one shape for all widths, got \(4, 2\) at \(4, 4\) and \(8, 2\) at",
    ),
    "coupling on one node": (
        lambda: couple(widths=[4], nodes=1),
        r"^nodes must be at least 2 on 1 axes to be compared with a coarser set, got 1",
    ),
    "rate of one seed": (
        lambda: fit_power_law([1.0, 2.0], [[1.0, 0.5]]),
        r"y needs at least two seeds for every x to have an interval, got \[1, 1\] seeds",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_the_remedy(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()
