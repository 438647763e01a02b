"""Wrong dynamics and updates: each error names the argument, what arrived and the remedy."""

import jax.numpy as jnp
import optax
import pytest
from right import KEY, ensemble, network, risk

from limits import (
    FisherRao,
    GradientFlow,
    MirrorProx,
    Optimiser,
    Steps,
    WassersteinFisherRao,
    flow,
    train,
)

ADAM = Optimiser(optax.adam(0.1))


def smaller():
    return ensemble().sample(2, key=KEY)


CALLS = {
    "negative weight decay": (
        lambda: GradientFlow(weight_decay=-1.0),
        r"weight_decay must be a finite number ≥ 0, got -1.0",
    ),
    "batch zero": (
        lambda: train(network(), risk(), step=0.1, batch=0, t1=1.0, key=KEY),
        r"batch must be an int of at least 1, got 0",
    ),
    "batch > data": (
        lambda: train(network(), risk(), step=0.1, batch=9, t1=1.0, key=KEY),
        r"batch must be at most the 8 samples of the data, got 9: write batch=None",
    ),
    "negative learning rate": (
        lambda: GradientFlow(-1.0),
        r"learning_rates must be finite numbers ≥ 0 or functions of time, got -1\.0: 0 freezes",
    ),
    "learning rates for other layers": (
        lambda: flow(network(), risk(), GradientFlow([1.0, 1.0]), t1=1.0),
        r"learning_rates must be one for all or one for each of the 3 layers, got 2",
    ),
    "negative rate of masses": (
        lambda: FisherRao(rate=-1),
        r"rate must be finite numbers ≥ 0 or functions of time, got -1: 0 keeps .*; write 1\.0",
    ),
    "steps that leave all mass on one neuron": (
        lambda: train(network(), risk(), WassersteinFisherRao(rate=1e5), step=1.0, t1=1.0),
        r"^rate times step must be small: the first step of size 1 leaves all but 1e-06 of the "
        r"mass of hidden layer 1 on one neuron, .* grow by [\d.e+]+: lower rate or step",
    ),
    "learning rates that begin below zero": (
        lambda: flow(network(), risk(), GradientFlow(lambda t: t - 1), t1=1.0),
        r"learning_rates must be functions of time .* ≥ 0 from .* got -1\.0 at t = 0",
    ),
    "rates of masses that begin as NaN": (
        lambda: flow(network(), risk(), FisherRao(lambda t: 0 * jnp.log(t)), t1=1.0),
        r"rate must be functions of time .* got nan at t = 0",
    ),
    "two learning rates at once": (
        lambda: flow(network(), risk(), GradientFlow(lambda t: jnp.ones(2)), t1=1.0),
        r"learning_rates must be functions of time .* got \[1\. 1\.\] at t = 0: .*for each layer",
    ),
    "a schedule of two": (
        lambda: GradientFlow(lambda t, u: 1.0),
        r"learning_rates must take 1 argument, the time, got <lambda>\(t, u\): write lambda t",
    ),
    "a learning rate in words": (
        lambda: GradientFlow("0.1"),
        r"learning_rates must be finite numbers .* got '0\.1': 0 freezes a layer",
    ),
    "no rates": (lambda: FisherRao([]), r"rate must be finite .* got none: 0 keeps a layer's mass"),
    "transport that is no flow": (
        lambda: WassersteinFisherRao(transport=3),
        r"transport must be a GradientFlow, got int: write transport=GradientFlow",
    ),
    "flow of an update": (
        lambda: flow(network(), risk(), MirrorProx(), t1=1.0),
        r"dynamics must be a Dynamics, got MirrorProx: write GradientFlow\(\); .*: write train",
    ),
    "flow of optax": (
        lambda: flow(network(), risk(), optax.adam(0.1), t1=1.0),
        r"dynamics must be a Dynamics, got .*: train takes .* Optimiser\(optax\.adam\(1e-3\)\)",
    ),
    "training by a solver": (
        lambda: train(network(), risk(), Steps(0.1), step=0.1, t1=1.0),
        r"dynamics must be an? Update, got Steps: write GradientFlow\(\)",
    ),
    "training by optax": (
        lambda: train(network(), risk(), optax.adam(0.1), step=0.1, t1=1.0),
        r"dynamics must be an? Update, got .*: train takes .* Optimiser\(optax\.adam\(1e-3\)\)",
    ),
    "a line search": (
        lambda: train(network(), risk(), Optimiser(optax.lbfgs()), step=0.1, t1=1.0),
        r"transformation must need no more than gradients and parameters, .*lbfgs",
    ),
    "memory of gradient descent": (
        lambda: train(network(), risk(), step=0.1, t1=1.0, memory=jnp.ones(2)),
        r"memory must be None for GradientFlow, which keeps none",
    ),
    "memory of another network": (
        lambda: train(network(), risk(), ADAM, step=0.1, t1=1.0, memory=ADAM.memory(smaller())),
        r"memory must be the \.memory of a run of the same network under the same Optimiser",
    ),
    "memory of another kind": (
        lambda: train(network(), risk(), ADAM, step=0.1, t1=1.0, memory=1.0),
        r"memory must be the \.memory of a run .*write memory=run\.memory",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_the_remedy(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()
