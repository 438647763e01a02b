"""What every dynamics keeps."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest

from contracts.common import (
    RISK,
    TIMES,
    at,
    dtypes,
    every,
    except_slow,
    inner,
    on_both_sides,
    one_output,
    single,
    some_direction,
    stacked,
)
from contracts.dynamics import BAD_RATES, DYNAMICS, FROZEN
from limits import Adaptive, flow


@eqx.filter_jit
def moving(network, energy, dynamics):
    """The state of a dynamics, and its motion at time 0.3 somewhere near."""
    state = dynamics.prepare(network)
    near = state.moved(jax.tree.map(lambda a: a + 0.1, state.increment))
    t = jnp.asarray(0.3, network.dtype)
    both = dynamics.value_and_velocity(t, near, energy)
    return state, near, energy(near), *both, dynamics.velocity(t, near, energy)


@every(DYNAMICS)
def test_velocities_have_the_form_of_prepared_increments_and_come_with_the_energy(name):
    dynamics, (network, _) = DYNAMICS[name].dynamics, one_output()
    for n, energy in ((network, RISK), single((network, RISK))):
        state, *_, velocity, alone = eqx.filter_eval_shape(moving, n, energy, dynamics)
        assert jax.tree.structure(velocity) == jax.tree.structure(state.increment)
        pairs = zip(*map(jax.tree.leaves, (velocity, state.increment)), strict=True)
        assert all(v.shape == a.shape for v, a in pairs)
        assert dtypes((state, *_, velocity, alone)) == {n.dtype}
    _, _, now, value, velocity, alone = moving(network, RISK, dynamics)
    assert value.shape == () and abs(float(value - now)) < 1e-15
    assert largest(velocity, alone) < 1e-14


@every(DYNAMICS)
def test_prepared_networks_are_the_same_and_prepared_already(name):
    dynamics, (network, _) = DYNAMICS[name].dynamics, one_output()
    state, near, *_ = moving(network, RISK, dynamics)
    assert largest(state.parameters.still(), network.parameters.still()) == 0
    assert largest(state.masses, network.masses) < 1e-16
    for once in (state, near):
        again = dynamics.prepare(once)
        assert jax.tree.structure(again) == jax.tree.structure(once)
        assert largest(again, once) == 0


def run(network, dynamics, rtol=1e-10):
    return flow(network, RISK, dynamics, t1=1.0, times=TIMES, solver=Adaptive(rtol=rtol))


BRIEF = except_slow(DYNAMICS, ["gradient flow", "a user's dynamics", "Wasserstein–Fisher–Rao"])


@pytest.mark.parametrize("name", BRIEF)
def test_energies_fall_along_flows(name):
    found = run(one_output()[0], DYNAMICS[name].dynamics)
    if DYNAMICS[name].descends:
        assert (np.diff(found.energies) < 0).all()
    assert np.isfinite(found.energies).all()


@pytest.mark.parametrize("name", BRIEF)
def test_tracers_change_nothing_of_a_flow_and_go_with_their_label(name):
    network, traced = one_output()
    plain, both = (run(n, DYNAMICS[name].dynamics) for n in (network, traced))
    assert plain.stats["steps"] == both.stats["steps"]
    assert largest(plain.energies, both.energies) < 1e-13
    ours, theirs = plain.final.increment, both.final.increment
    assert largest(at(traced, slice(3))(theirs), ours) < 1e-12
    assert largest(at(traced, slice(3, 5))(theirs), at(traced, slice(2))(theirs)) < 1e-12


@eqx.filter_jit
def ends(networks, direction, dynamics):
    """Energies of a stack of networks at time 1, and their derivatives in a direction."""

    def one(network):
        def end(start):
            moved = eqx.tree_at(lambda n: n.start, network, start)
            found = flow(
                moved,
                RISK,
                dynamics,
                t1=1.0,
                solver=Adaptive(rtol=1e-10),
                adjoint=diffrax.ForwardMode(),
            )
            return found.energies[-1]

        return jax.jvp(end, (network.start,), (direction,))

    return jax.vmap(one)(networks)


@pytest.mark.parametrize(
    "name",
    except_slow(DYNAMICS, ["Wasserstein–Fisher–Rao"]),
)
def test_jit_vmap_and_derivatives_pass_through_flows(name):
    """A central difference of step h, against the mean of the slopes at its ends, with error
    h²/3 of a third derivative and that of flows (1e-10) over h."""
    dynamics, h, (network, _) = DYNAMICS[name].dynamics, 1e-3, one_output()
    direction = some_direction(network.start)
    networks = on_both_sides(network, direction, h)
    values, slopes = ends(stacked(*networks), direction, dynamics)
    for value, alone in zip(values, networks, strict=True):
        assert abs(value - run(alone, dynamics).energies[-1]) < 1e-9
    difference = float(values[0] - values[1]) / (2 * h)
    assert np.isfinite(slopes).all() and abs(difference) > 1e-3
    assert abs(difference - float(slopes.mean())) < 1e-5


@pytest.mark.slow
@every(DYNAMICS)
def test_reverse_derivatives_of_flows_are_forward_ones(name):
    dynamics, (network, _) = DYNAMICS[name].dynamics, one_output()
    direction = some_direction(network.start)

    @jax.jit
    @jax.grad
    def gradient(start):
        moved = eqx.tree_at(lambda n: n.start, network, start)
        return flow(moved, RISK, dynamics, t1=1.0, solver=Adaptive(rtol=1e-10)).energies[-1]

    _, slopes = ends(stacked(network, network), direction, dynamics)
    assert abs(inner(gradient(network.start), direction) - float(slopes[0])) < 1e-8


@every(FROZEN)
def test_a_rate_of_zero_freezes_its_layer_and_no_other(name):
    dynamics, part = FROZEN[name]
    velocity = moving(one_output()[0], RISK, dynamics)[4]
    still = jax.tree.leaves(part(velocity))
    assert all((v == 0).all() for v in still)
    rest = [v for v in jax.tree.leaves(velocity) if not any(v is w for w in still)]
    assert all((v != 0).any() for v in rest)


@every(BAD_RATES)
def test_rates_that_do_not_fit_are_refused_by_name(name):
    make, argument = BAD_RATES[name]
    with pytest.raises(ValueError, match=rf"^{argument} must be"):
        make().check(one_output()[0], RISK)


@every({**DYNAMICS, **FROZEN})
def test_what_never_moves_is_said_and_has_no_velocity(name):
    dynamics, (network, _) = {**DYNAMICS, **FROZEN}[name].dynamics, one_output()
    *_, velocity = moving(network, RISK, dynamics)
    moves = dynamics.moves(network)
    assert jax.tree.structure(moves) == jax.tree.structure(velocity)
    pairs = zip(*map(jax.tree.leaves, (moves, velocity)), strict=True)
    assert all(move or not np.asarray(v).any() for move, v in pairs)
    if name in FROZEN:
        assert not any(jax.tree.leaves(FROZEN[name].part(moves)))


@every(DYNAMICS)
def test_rates_that_are_functions_of_time_have_names(name):
    dynamics = DYNAMICS[name].dynamics
    named = [schedule for each in dynamics.timed.values() for schedule in each]
    leaves = jax.tree.leaves(dynamics, is_leaf=callable)
    functions = [leaf for leaf in leaves if callable(leaf) and not eqx.is_array(leaf)]
    assert set(named) == set(functions) <= set(dynamics.schedules)
