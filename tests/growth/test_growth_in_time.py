"""Growing masses in steps, in runs that go on, under derivatives and in the limit."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from growing import DATA, RISK, TIMES, finite, model, moving, outputs, state, unit_sums
from models import largest, regression, smooth

from ensembles import Atoms, Network, shallow
from limits import (
    Adaptive,
    Data,
    FisherRao,
    Risk,
    WassersteinFisherRao,
    coupling,
    fit_rate,
    flow,
    initial_motion,
    limit,
    train,
)
from limits._solvers.integrate import integrate

# Steps

SOLVER = Adaptive(rtol=1e-9, atol=1e-10)

STEPS = [0.05, 0.025, 0.0125, 0.00625]


def test_training_converges_to_the_flow_with_the_step():
    network, dynamics = model(3).discretise(6).growing(), moving(3)
    options = dict(t1=2.0, times=TIMES, observe=state)
    exact = flow(network, RISK, dynamics, solver=Adaptive(rtol=1e-10, atol=1e-11), **options)
    weights, growth = [], []
    for step in STEPS:
        run = train(network, RISK, dynamics, step=step, **options)
        weights.append(largest(run.observed[0].still(), exact.observed[0].still()))
        growth.append(largest(run.observed[0].growth, exact.observed[0].growth))
        assert unit_sums(run.observed[1]) < 1e-12
    for name, errors in [("weights", weights), ("growth", growth)]:
        rate = fit_rate(STEPS, np.array(errors))
        print(f"{name}: exponent in the step {rate}, errors {errors}")
        assert abs(rate.exponent - 1) < 0.03


def test_batches_are_followed_and_runs_go_on_bit_for_bit():
    network, update = model(3).discretise(6), moving(3)
    options = dict(step=0.05, batch=4, observe=state, key=jax.random.key(63))
    whole = train(network, RISK, update, t1=2.0, times=TIMES[[0, 4, 8]], **options)
    first = train(network, RISK, update, t1=1.0, times=TIMES[[0, 2, 4]], **options)
    then = train(first.final, RISK, update, t0=1.0, t1=2.0, times=TIMES[[4, 6, 8]], **options)
    assert unit_sums(whole.observed[1]) < 1e-12
    assert finite(whole.observed) and float(whole.energies[-1]) < float(whole.energies[0])
    assert largest(then.final, whole.final) == 0
    assert largest(then.energies[np.array([0, -1])], whole.energies[1:]) == 0
    other = train(network, RISK, update, t1=2.0, times=TIMES[[0, 4, 8]], **{
        **options, "key": jax.random.key(64)
    })  # fmt: skip
    assert largest(other.final.masses, whole.final.masses) > 1e-3


def towards(network, dynamics, size):
    """A tangent: all initial weights at once."""
    nothing = jax.tree.map(lambda _: None, (network, RISK, dynamics))
    direction = jax.tree.map(lambda a: jnp.full_like(a, size), network.start)
    return eqx.tree_at(lambda t: t[0].start, nothing, direction, is_leaf=lambda a: a is None)


def test_a_flow_goes_on_where_another_ended():
    """With schedules, and beside a tangent, whose sensitivity starts at 0 whatever was grown."""
    network, dynamics = model(3).discretise(6).growing(), moving(3)

    def run(network, t0, t1):
        return flow(
            network, RISK, dynamics, t0=t0, t1=t1, times=np.linspace(t0, t1, 9), observe=state,
            solver=SOLVER,
        )  # fmt: skip

    def beside(network, t0, t1, tangent):
        times = jnp.linspace(t0, t1, 9)
        return integrate(
            network, RISK, dynamics, SOLVER.resolved(times.dtype), times[0], times[-1], times,
            state, tangent, diffrax.ForwardMode(), diffrax.NoProgressMeter(),
        ).raise_if_failed()  # fmt: skip

    whole, first = run(network, 0.0, 2.0).final, run(network, 0.0, 0.8).final
    then = run(first, 0.8, 2.0)
    assert largest(then.final, whole) < 1e-7
    late = run(first, 0.0, 1.2)  # the schedules started anew
    assert largest(late.final, whole) > 1e-3

    fresh = Network(first.layers, first.labels, first.masses, first.parameters.still()).growing()
    steps = []
    for start, size in [(first, 1e-9), (first, 1.0), (fresh, 1.0)]:
        found = beside(start, 0.8, 2.0, towards(start, dynamics, size))
        steps.append(int(found.stats["steps"]))
        assert largest(found.final.parameters.still(), whole.parameters.still()) < 1e-7
        assert largest(found.final.masses, whole.masses) < 1e-7
    alone = int(then.stats["steps"])
    print("steps alone", alone, "with a negligible tangent, a unit one, and that anew:", steps)
    assert steps[0] == alone
    assert steps[1] <= steps[2]


# Derivatives


@pytest.mark.slow
def test_derivatives_pass_through_growing_masses():
    """In masses (one of them zero) and initial weights: reverse = forward = finite differences."""
    network, dynamics = model(3).discretise(4), moving(3)
    first = network.masses[0].at[1].set(0.0)
    masses = (first / first.sum(), network.masses[1])

    def observable(masses, start, adjoint=None):
        moved = eqx.tree_at(lambda n: (n.initial_masses, n.start), network, (masses, start))
        run = flow(
            moved,
            RISK,
            dynamics,
            t1=1.0,
            solver=Adaptive(step=0.05, method=diffrax.Euler()),
            adjoint=adjoint,
        )
        return run.final(DATA.x[:1])[0, 0]

    at = (masses, network.start)
    reverse = jax.jit(jax.grad(observable, argnums=(0, 1)))(*at)
    assert abs(float(reverse[0][0][1])) > 1e-4
    both = jax.jit(
        lambda at, d: jax.jvp(lambda m, s: observable(m, s, diffrax.ForwardMode()), at, d)
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), at)
        forward = both(at, direction)[1]
        eps = 1e-5
        moved = [jax.tree.map(lambda a, d, s=s * eps: a + s * d, at, direction) for s in (1, -1)]
        plus, minus = (both(there, direction)[0] for there in moved)
        pairs = zip(jax.tree.leaves(reverse), jax.tree.leaves(direction), strict=True)
        backward = sum(float(jnp.vdot(g, d)) for g, d in pairs)
        assert abs(backward - float(forward)) < 1e-11 * abs(backward)
        assert abs(backward - float(plus - minus) / (2 * eps)) < 1e-7 * abs(backward)


# The limit


def curves(ensemble, dynamics, nodes):
    network = ensemble.discretise(nodes).padded([64, 64])
    run = flow(
        network,
        RISK,
        dynamics,
        t1=2.0,
        times=TIMES,
        observe=outputs,
        solver=Adaptive(rtol=1e-11, atol=1e-11),
    )
    return np.asarray(run.energies), np.asarray(run.observed)


def apart(a, b) -> float:
    """As `limit` measures: the larger of energies and root mean square outputs, over times."""
    return max(np.abs(a[0] - b[0]).max(), np.sqrt(((a[1] - b[1]) ** 2).mean((1, 2))).max())


@pytest.mark.slow
def test_limits_refine_as_fast_as_without_growth():
    ensemble, best, errors = smooth(3, outputs=2), [], []
    for rate in (1.0, 0.0):
        dynamics = WassersteinFisherRao(rate=rate)
        best.append(curves(ensemble, dynamics, 64))
        errors.append([apart(curves(ensemble, dynamics, n), best[-1]) for n in (8, 16, 32)])
    print("errors at 8, 16, 32 nodes with growth", errors[0], "without", errors[1])
    powers = np.log2(np.array(errors[0][:-1]) / np.array(errors[0][1:]))
    assert powers[0] > 3 and powers[1] > powers[0] + 0.5
    assert all(grown < 10 * still + 1e-10 for grown, still in zip(*errors, strict=True))
    for tol in (1e-3, 1e-6):
        run = limit(
            ensemble, RISK, WassersteinFisherRao(), t1=2.0, times=TIMES, tol=tol, observe=outputs
        )
        true = apart((np.asarray(run.energies), np.asarray(run.observed)), best[0])
        print(tol, run.stats["levels"], "true error", true)
        assert float(run.error) <= tol and true <= 3 * float(run.error)
        assert unit_sums(run.final.masses) < 1e-12


# What finite steps, observers and first looks make of it

SINGLE = Risk(regression(16))


def test_growth_is_the_log_density_in_discrete_time_too():
    """At steps far too large as well: masses are normalised, and growth with them."""
    network = smooth(3).sample((5, 6), key=jax.random.key(0))
    final = train(
        network, SINGLE, FisherRao(50.0), step=0.1, batch=1, t1=2.0, key=jax.random.key(1)
    ).final
    for p, q, g in zip(final.masses, final.initial_masses, final.increment.growth, strict=True):
        assert largest(g, jnp.log(p / q)) < 1e-9
        assert float(g.max()) > 0 > float(g.min())


@pytest.mark.slow
def test_the_limit_of_constant_steps_knows_its_error_in_time():
    solver = Adaptive(step=0.25, method=diffrax.Euler())
    found = coupling(
        smooth(2), SINGLE, WassersteinFisherRao(), widths=[6], seeds=2, t1=2.0, nodes=16,
        solver=solver, key=jax.random.key(0), times=jnp.array([0.0, 2.0]),
    )  # fmt: skip
    exact = flow(
        smooth(2).discretise(64),
        SINGLE,
        WassersteinFisherRao(),
        t1=2.0,
        solver=Adaptive(rtol=1e-10),
    )
    coarse = flow(
        smooth(2).discretise(16),
        SINGLE,
        WassersteinFisherRao(),
        t1=2.0,
        solver=Adaptive(step=0.25, method=diffrax.Euler()),
    )
    true = float(jnp.abs(coarse.energies - exact.energies).max())
    assert 1e-5 < true < 3 * float(found.limit.error)
    assert (found.error > 1e-5).all() and (found.growth_error > 1e-5).all()


@pytest.mark.slow
def test_a_limit_is_observed_at_its_nodes_alone():
    run = limit(smooth(3), SINGLE, WassersteinFisherRao(), t1=0.5, nodes=8, observe=first_masses)
    assert run.observed.shape == (2, 8)
    assert largest(run.observed[-1], run.final.masses[0]) == 0


def first_masses(network):
    return network.masses[0]


def test_masses_that_move_are_a_motion_of_the_start():
    """Units that no gradient moves, but whose masses the energy tells apart."""
    x = jnp.linspace(-1, 1, 9)[:, None]
    ensemble = shallow(cosine_squares, Atoms(jnp.array([[0.0], [jnp.pi]])))
    risk = Risk(Data(x, x**2))
    assert initial_motion(ensemble, risk).stationary
    assert not initial_motion(ensemble, risk, FisherRao()).stationary


def cosine_squares(theta, x):
    return jnp.cos(theta) * x**2
