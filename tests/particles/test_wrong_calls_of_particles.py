"""Wrong calls of particles: each error names the argument, what arrived and the remedy."""

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from clouds import ATTRACTION, DATA, KEY, LINEAR, POTENTIALS, SHALLOW, X, sine
from models import smooth

from ensembles import Gaussian, Measure, Uniform, particles, wasserstein
from limits import (
    BirthDeath,
    Data,
    GradientFlow,
    Interaction,
    Langevin,
    Penalty,
    PowerPenalty,
    Risk,
    WassersteinFisherRao,
    flow,
    fluctuations,
    limit,
    optimality_gap,
    train,
)
from limits.references import boltzmann, grid_flow, minimising_movement

START = particles(Gaussian(2)).sample(4, key=KEY)
FLAT = Interaction(lambda t: t[0], lambda t, u: t @ u)
WRONG = {
    "no key of noise": (lambda: flow(START, LINEAR, Langevin(), t1=1.0), "key is required"),
    "a limit of noise": (
        lambda: limit(particles(Gaussian(2)), LINEAR, Langevin(), t1=1.0), "dynamics must be",
    ),
    "fluctuations of noise": (
        lambda: fluctuations(
            particles(Gaussian(1)), ATTRACTION, sine, dynamics=Langevin(), nodes=4, t1=1.0
        ),
        "dynamics must be",
    ),
    "births too often": (
        lambda: train(START, LINEAR, BirthDeath(rate=1e3), step=0.1, t1=1.0, key=KEY),
        "rate times step must be small",
    ),
    "unequal masses": (
        lambda: train(
            START.weighed((jnp.array([0.1, 0.2, 0.3, 0.4]),)), LINEAR, BirthDeath(), step=0.1,
            t1=1.0, key=KEY,
        ),
        r"masses\[0\] must be equal",
    ),
    "masses that move beside births": (
        lambda: train(
            START, LINEAR, BirthDeath(WassersteinFisherRao()), step=0.1, t1=1.0, key=KEY
        ),
        "dynamics must not move masses",
    ),
    "a prior of another dimension": (
        lambda: train(START, LINEAR, BirthDeath(prior=Gaussian(3)), step=0.1, t1=1.0, key=KEY),
        "prior must be",
    ),
    "derivatives through births": (
        lambda: jax.grad(
            lambda r: train(
                START, LINEAR, BirthDeath(GradientFlow(r)), step=0.1, t1=0.2, key=KEY
            ).energies[-1]
        )(1.0),
        "jumps, whose derivatives",
    ),
    "a gap of a loss that is not convex": (
        lambda: optimality_gap(
            SHALLOW, Risk(DATA, lambda a, b: jnp.cos(a - b).sum()), space=Gaussian(3), key=KEY
        ),
        "loss must be convex",
    ),
    "a gap of repulsion": (
        lambda: optimality_gap(
            START, Interaction(lambda t: t[0], lambda t, u: -t @ u), space=Gaussian(2), key=KEY
        ),
        "K must be positive",
    ),
    "a gap of a little repulsion": (
        lambda: optimality_gap(
            particles(Uniform(-jnp.ones(2), jnp.ones(2))).sample(40, key=KEY),
            Interaction(lambda t: t[0], lambda t, u: 1e4 * t[0] * u[0] - (t[1] * u[1]) ** 2 / 2),
            space=Uniform(-jnp.ones(2), jnp.ones(2)), key=KEY,
        ),
        "K must be positive",
    ),
    "a gap beside an output bias": (
        lambda: optimality_gap(
            smooth(2, biases=True).sample(4, key=KEY), Risk(DATA), space=Gaussian(4), key=KEY
        ),
        "network must have no output bias",
    ),
    "movements of tracers": (
        lambda: minimising_movement(
            START.weighed((jnp.array([0.5, 0.5, 0.0, 0.0]),)), LINEAR, step=0.1, t1=0.1
        ),
        "masses must be positive",
    ),
    "a mixture of different spaces": (
        lambda: Measure.mixture([START.measure(0), SHALLOW.measure(0)]), "measures must live",
    ),
    "a gap in another space": (
        lambda: optimality_gap(START, FLAT, space=Gaussian(3), key=KEY), "space must have",
    ),
    "a gap of neurons outside": (
        lambda: optimality_gap(START, FLAT, space=Uniform(-jnp.ones(2) / 9, 1 / 9), key=KEY),
        r"neurons must be in the space Uniform\(2\).*with_points\(space\.project",
    ),
    "a gap under jit": (
        lambda: jax.jit(lambda n: optimality_gap(n, FLAT, space=Gaussian(2), key=KEY).gap)(START),
        "optimality_gap runs on the host",
    ),
    "K without symmetry": (
        lambda: flow(START, Interaction(lambda t: t[0], lambda t, u: t[0] * u[1]), t1=1.0),
        "K must be symmetric",
    ),
    "F of vectors": (
        lambda: flow(START, Interaction(lambda t: t, lambda t, u: t @ u), t1=1.0),
        "F must return a scalar",
    ),
    "no function": (lambda: Interaction(1.0, lambda t, u: t @ u), "F must be a function"),
    "batches of exact potentials": (
        lambda: train(START, FLAT, step=0.1, batch=3, t1=1.0, key=KEY), "batch must be None",
    ),
    "power below one": (lambda: PowerPenalty(0.1, 0.5), "power must be"),
    "a negative penalty": (lambda: PowerPenalty(-0.1), "strength must be"),
    "a penalty that is a number": (lambda: Penalty(0.1), "function must be .*, got 0.1: write"),
    "measures of different spaces": (
        lambda: wasserstein(START.measure(0), SHALLOW.measure(0)), "nu must live",
    ),
    "entries beyond the neuron": (
        lambda: flow(SHALLOW, Risk(DATA) + PowerPenalty(0.1, 1.0, (3,)), t1=1.0),
        r"entries must be of neurons of dimension 3, got \(3,\)",
    ),
    "an entry that is no tuple": (lambda: PowerPenalty(0.1, 1.0, 0), "entries must be a tuple"),
    "an entry twice": (lambda: PowerPenalty(0.1, 1.0, (0, 0)), "entries must be a tuple of diff"),
    "half an entry": (lambda: PowerPenalty(0.1, 1.0, (0.5,)), "entries must be a tuple of diff"),
    "a grid of one dimension for two": (
        lambda: boltzmann(
            Interaction(lambda t: t[1], lambda t, u: t @ u), low=-4.0, high=4.0, cells=8,
            temperature=1.0,
        ),
        r"F must fit the grid, .* index 1 .* low and high have dimension 1; write low=\[-4",
    ),
    "a grid of two dimensions for data of one": (
        lambda: grid_flow(
            POTENTIALS, jnp.ones((4, 4)), low=[-1.0, -1.0], high=[1.0, 1.0], cells=4, t1=1.0
        ),
        "F must fit particles of dimension 2, got an error in it",
    ),
    "entries that particles do not have": (
        lambda: flow(START, Interaction(lambda t: t[2], lambda t, u: t @ u), t1=1.0),
        "F must fit particles of dimension 2, got an error in it: index 2",
    ),
    "data of particles": (lambda: flow(START, Risk(DATA), t1=1.0), "network must have outputs"),
    "data of other inputs": (
        lambda: flow(SHALLOW, Risk(Data(X[:, :1], DATA.y)), t1=1.0),
        r"x must fit the first layer Unit\(unit\) .*got inputs of shape \(1,\)",
    ),
    "inputs of another dimension": (lambda: SHALLOW(jnp.ones((4, 3))), "x must fit the first lay"),
    "a constant that is NaN": (
        lambda: Interaction(FLAT.F, FLAT.K, jnp.nan), "constant must be a finite number",
    ),
    "two constants": (lambda: Interaction(FLAT.F, FLAT.K, [1.0, 2.0]), "constant must be a fin"),
    "F of two": (lambda: Interaction(FLAT.K, FLAT.K), "F must take 1 argument, a particle"),
    "K of one": (lambda: Interaction(FLAT.F, FLAT.F), "K must take 2 arguments, two particles"),
    "a penalty as a loss": (
        lambda: Risk(DATA, PowerPenalty(0.1)),
        r"loss must be a function .*a penalty is added, Risk\(data\) \+ PowerPenalty",
    ),
    "a penalty as a prediction": (
        lambda: Risk(DATA, prediction=PowerPenalty(0.1)),
        r"prediction must be a Prediction, got PowerPenalty: .*a penalty is added, Risk\(data\) \+",
    ),
    "a function as an energy": (
        lambda: Risk(DATA) + (lambda theta: theta @ theta),
        r"other must be an? Energy, got function: write Risk\(data\) \+ .*Penalty\(",
    ),
    "an energy as a penalty": (
        lambda: Penalty(PowerPenalty(0.1)),
        r"function must be a function of a neuron, got .*energy is added as it is, Risk\(data\) \+",
    ),
    "a loss as a penalty": (lambda: Penalty(FLAT.K), "function must take 1 argument, a neuron"),
    "points that are NaN": (
        lambda: START.with_points(jnp.full((4, 2), jnp.nan)), "points has 8 NaN or infinite",
    ),
    "points in words": (lambda: START.with_points("a"), "points must be an array of numbers, got"),
    "points of another shape": (
        lambda: START.with_points([[1.0, 2.0]]), r"points must have shape \(4, 2\) and dtype fl",
    ),
    "a measure by a name": (lambda: START.measure("0"), "i must be one of the hidden layers"),
    "a rate as a transport": (lambda: WassersteinFisherRao(2.0), "and rate= for the rate"),
    "a temperature as a transport": (lambda: Langevin(0.1), "and temperature= for the temp"),
    "a training by noise without a key": (
        lambda: train(START, FLAT, Langevin(), step=0.1, t1=1.0),
        "key is required: the run draws batches or noise",
    ),
    "a distance under jit": (
        lambda: jax.jit(lambda m: wasserstein(m, m))(START.measure(0)), "wasserstein runs on the",
    ),
    "a negative temperature": (
        lambda: Langevin(temperature=-1.0), "temperature must be .*0 is a descent without noise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
