"""What is asked is asked of all: every entry of an observable, every time of a schedule, every rate
and every level."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import regression, smooth

from ensembles import (
    Affine,
    Measure,
    Network,
    NeuronalEnsemble,
    Product,
    Sphere,
    Torus,
    Uniform,
)
from limits import (
    Adaptive,
    BirthDeath,
    Data,
    FisherRao,
    Game,
    GradientFlow,
    Langevin,
    MirrorProx,
    Optimiser,
    PowerPenalty,
    Risk,
    Steps,
    WassersteinFisherRao,
    fit_power_law,
    flow,
    fluctuations,
    initial_motion,
    limit,
    simulate,
    train,
)

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 2))
RISK = Risk(Data(X, jnp.sin(X[:, :1])))
ENSEMBLE = NeuronalEnsemble(
    (Uniform(-1.0, 1.0),),
    (lambda c: jnp.stack([jnp.sin(2 * c[0]), c[0] - 0.2]), lambda c: 1 + c),
    layers=Affine(jnp.tanh),
)
NETWORK = ENSEMBLE.discretise(6)
EQUAL = ENSEMBLE.sample(6, key=KEY)


def falling(t):
    return 1 - t


def late(t):
    return 1 / t


def outputs(network):
    return network(X)[:, 0]


STEPS = {
    "accuracy": lambda n: jnp.mean(outputs(n) > 0.5)[None].astype(X.dtype),
    "round": lambda n: jnp.round(outputs(n)[:1]),
    "sign": lambda n: jnp.sign(outputs(n)[:1]),
    "argmax": lambda n: jnp.argmax(outputs(n))[None].astype(X.dtype),
}


@pytest.mark.parametrize("step", STEPS)
def test_entries_that_are_step_functions_are_refused_beside_smooth_ones(step):
    def both(network):
        return jnp.concatenate([outputs(network), STEPS[step](network)])

    with pytest.raises(ValueError, match=r"observe must be differentiable, but 1 of its 6 entries"):
        fluctuations(ENSEMBLE, RISK, both, t1=1.0, nodes=6)


@pytest.mark.slow
def test_constants_and_hinges_are_no_step_functions():
    def both(network):
        return jnp.append(jax.nn.relu(outputs(network) - 5.0), 3.0)

    found = fluctuations(ENSEMBLE, RISK, both, t1=1.0, nodes=6)
    assert (np.asarray(found.variance) == 0).all()


RUNS = {
    "flow": lambda d, t0: flow(NETWORK, RISK, d, t0=t0, t1=3.0, key=KEY),
    "train": lambda d, t0: train(NETWORK, RISK, d, t0=t0, t1=3.0, step=0.5, key=KEY),
}
FALLING = {
    "learning_rates": GradientFlow(falling),
    "bias_rates": GradientFlow(bias_rates=[1.0, falling]),
    "rate": FisherRao(falling),
    "rate ": WassersteinFisherRao(rate=falling),
    "temperature": Langevin(temperature=falling),
}


@pytest.mark.parametrize("name", FALLING)
@pytest.mark.parametrize("run", RUNS)
def test_rates_that_become_negative_are_refused_with_the_time(run, name):
    said = rf"{name.strip()} must be functions of time .* t1=3, got -0\.000.* at t = 1\.000"
    with pytest.raises(ValueError, match=said):
        RUNS[run](FALLING[name], 0.0)


@pytest.mark.parametrize("update", [BirthDeath(rate=falling), MirrorProx(FisherRao(falling))])
def test_rates_of_updates_are_asked_over_the_run(update):
    with pytest.raises(ValueError, match=r"rate must be functions .* at t = 1\.000"):
        train(EQUAL, RISK, update, t1=3.0, step=0.5, key=KEY)


def test_limits_and_studies_ask_rates_over_the_run():
    bad = GradientFlow(falling)
    for run in (
        lambda: limit(ENSEMBLE, RISK, bad, t1=3.0),
        lambda: simulate(ENSEMBLE, RISK, outputs, width=4, seeds=2, t1=3.0, dynamics=bad, key=KEY),
        lambda: simulate(
            ENSEMBLE, RISK, outputs, width=4, seeds=2, t1=3.0, dynamics=bad, key=KEY,
            solver=Steps(0.5),
        ),
        lambda: fluctuations(ENSEMBLE, RISK, outputs, t1=3.0, nodes=6, dynamics=bad),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"learning_rates must be .* at t = 1\.000"):
            run()


@pytest.mark.parametrize("run", RUNS)
def test_rates_are_asked_from_where_the_run_begins(run):
    assert np.isfinite(np.asarray(RUNS[run](GradientFlow(late), 1.0).energies)).all()
    with pytest.raises(ValueError, match=r"learning_rates must be .* got inf at t = 0"):
        RUNS[run](GradientFlow(late), 0.0)


def test_rates_that_end_a_rounding_below_zero_pass():
    flow(NETWORK, RISK, GradientFlow(lambda t: 1 - 0.1 * t), t1=10.0)


@pytest.mark.parametrize("kinks", [[0.5, 4.0], [0.1, 2.0]])
def test_kinks_outside_of_the_run_are_refused(kinks):
    with pytest.raises(ValueError, match=r"kinks must be times of the run, from t0=0\.2 to t1=3"):
        flow(NETWORK, RISK, t0=0.2, t1=3.0, solver=Adaptive(kinks=kinks))


WIDTHS = np.array([8.0, 16.0, 32.0])
LEVELS = {
    "power law": lambda level: fit_power_law(WIDTHS, 1 / WIDTHS, level=level),
    "simulation": lambda level: simulate(
        ENSEMBLE, RISK, outputs, width=4, seeds=2, t1=1.0, key=KEY
    ).interval(level),
    "fluctuations": lambda level: fluctuations(ENSEMBLE, RISK, outputs, t1=1.0, nodes=6).band(
        8, level
    ),
}


@pytest.mark.parametrize("study", LEVELS)
def test_levels_are_probabilities(study):
    with pytest.raises(
        ValueError, match=r"level must be between 0 and 1, got 95: write level=0.95"
    ):
        LEVELS[study](95)
    with pytest.raises(ValueError, match=r"level must be between 0 and 1, got -0\.5"):
        LEVELS[study](-0.5)


def test_power_laws_refuse_what_is_no_measurement():
    with pytest.raises(ValueError, match=r"^y must be .*, got 1 of 3 that are not"):
        fit_power_law(WIDTHS, np.array([1.0, np.nan, 0.1]))
    with pytest.raises(ValueError, match=r"got \(3,\) and \(3, 5\): write y\.T"):
        fit_power_law(WIDTHS, np.ones((3, 5)))
    with pytest.raises(ValueError, match=r"^x must be positive and finite"):
        fit_power_law(np.array([1.0, np.inf, 2.0]), WIDTHS)


ODD = NeuronalEnsemble(
    (Uniform(-1.0, 1.0),),
    (lambda c: jnp.stack([jnp.sin(2 * c[0]) + 0.3, c[0]]), lambda c: 0 * c),
    layers=Affine(jnp.tanh),
)


def test_what_has_a_rate_of_zero_does_not_move():
    usual = initial_motion(ODD, RISK)
    assert not usual.stationary and usual.speed > 0
    # weights of the first layer have no slope while the last ones are 0, which are frozen
    frozen = initial_motion(ODD, RISK, GradientFlow([1.0, 0.0]))
    assert frozen.stationary and frozen.speed == 0
    assert initial_motion(ODD, RISK, GradientFlow(0.0)).speed == 0
    assert initial_motion(ODD, RISK, GradientFlow([0.0, 1.0])).speed == usual.speed
    assert not initial_motion(ODD, RISK, GradientFlow([1.0, falling])).stationary
    still, reacting = (
        initial_motion(ENSEMBLE, RISK, WassersteinFisherRao(GradientFlow(0.0), rate=r)).speed
        for r in (0.0, 1.0)
    )
    assert still == 0 < reacting


def test_derivatives_through_adam_are_numbers_with_the_remedy_that_is_told():
    start = ODD.sample(4, key=KEY)

    def energy(scale, eps_root):
        risk, update = (
            Risk(Data(scale * X, RISK.data.y)),
            Optimiser(optax.adam(0.01, eps_root=eps_root)),
        )
        return train(start, risk, update, step=0.1, t1=0.2).energies[-1]

    assert np.isnan(jax.grad(energy)(1.0, 0.0))
    assert np.isfinite(jax.grad(energy)(1.0, 1e-12))


ORIGIN = jnp.zeros((2, 2))


@pytest.mark.parametrize(
    "space", [Sphere(2), Torus(2), Uniform([0.0, 0.0], [1.0, 1.0]), Product(Sphere(2), Uniform())]
)
def test_projections_and_distances_have_derivatives_at_zero(space):
    at = jnp.zeros((2, space.dim))
    for f in (space.project, space.distance):
        assert np.isfinite(jax.grad(lambda p, f=f: f(p).sum())(at)).all()


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])  # between 1 and 2 it is infinite
def test_slopes_of_penalties_have_derivatives_at_zero(power):
    def slope(p):
        network = Network.particles(Measure(p, jnp.full(2, 0.5)))
        return PowerPenalty(0.1, power).derivatives(network).gradient.rows(0).sum()

    assert np.isfinite(jax.grad(slope)(ORIGIN)).all()


def test_points_are_in_a_space_up_to_their_own_size():
    tiny = Measure(jnp.array([[1e-9], [2e-9]]), jnp.full(2, 0.5))
    with pytest.raises(ValueError, match="must be in the space"):
        flow(
            Network.players(tiny, tiny),
            Game(lambda a, b: a @ b, spaces=(Uniform(0.0, 1e-9), None)),
            t1=1.0,
        )


def test_derivatives_of_runs_that_failed_are_not_numbers():
    """Of what was reached too: nothing else says so under jit, where nothing can be raised."""
    network, risk = smooth(2).sample(4, key=KEY), Risk(regression(4))

    def run(rate, **options):
        few = Adaptive(max_steps=2)
        return flow(network, risk, GradientFlow(rate), t1=50.0, solver=few, throw=False, **options)

    def both(rate):
        ended = run(rate)
        return ended.final.weights[0].sum(), ended.energies[-1]

    found = jax.value_and_grad(both, has_aux=True)(1.0)
    (reached, value), slope = found
    assert jnp.isfinite(reached) and jnp.isnan(value) and jnp.isnan(slope)
    forward = diffrax.ForwardMode()
    assert jnp.isnan(jax.jvp(lambda r: run(r, adjoint=forward).energies[-1], (1.0,), (1.0,))[1])


def test_traced_rates_below_zero_are_not_numbers():
    network, risk = smooth(2).sample(4, key=KEY), Risk(regression(4))

    def ascended(rate):
        return flow(network, risk, GradientFlow(rate), t1=1.0, throw=False).energies[-1]

    found = jax.vmap(ascended)(jnp.array([1.0, 0.0, -1.0]))
    assert jnp.isfinite(found[:2]).all() and jnp.isnan(found[2])
