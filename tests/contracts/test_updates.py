"""What every update keeps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from models import largest, smooth

from contracts.common import (
    KEY,
    OTHER,
    RISK,
    dtypes,
    every,
    except_slow,
    inner,
    on_both_sides,
    single,
    some_direction,
    stacked,
)
from contracts.updates import UPDATES
from limits import Moment, train
from limits._keys import AGAIN, reserved


def shallow_network():
    return smooth(2).sample(4, key=KEY)


def trained(network, stepped, t1=0.5, step=0.125, t0=0.0, key=KEY, memory=None, energy=RISK):
    return train(
        network, energy, stepped.update, step=step, batch=stepped.batch, t0=t0, t1=t1, key=key,
        memory=memory,
    )  # fmt: skip


@eqx.filter_jit
def one_step(stepped, t, step, network, memory, key):
    """By hand: on a batch that the key draws, and with a fresh one at hand."""
    seen = RISK if stepped.batch is None else RISK.draw(stepped.batch, key)
    other = RISK if stepped.batch is None else RISK.draw(stepped.batch, reserved(key, AGAIN))
    return stepped.update.step(Moment(t, step, key, lambda: other), network, memory, seen)


@every(UPDATES)
def test_step_k_of_training_is_the_update_with_key_k(name):
    stepped, step = UPDATES[name], jnp.asarray(0.125)
    network = stepped.update.prepare(shallow_network())
    memory, increment = stepped.update.memory(network), network.increment
    for k in range(4):
        key = jax.random.fold_in(KEY, k)
        now = network.moved(increment)
        _, change, memory = one_step(stepped, k * step, step, now, memory, key)
        moved = network.moved(jax.tree.map(jnp.add, increment, change))
        increment = moved.normalised().increment
    assert largest(trained(shallow_network(), stepped).final, network.moved(increment)) < 1e-14


@every(UPDATES)
def test_training_is_decided_by_its_key(name):
    update, network = UPDATES[name], shallow_network()
    once, again = (trained(network, update) for _ in range(2))
    assert largest((once.final, once.energies), (again.final, again.energies)) == 0
    if update.random:
        assert largest(once.final, trained(network, update, key=OTHER).final) > 0


@every(UPDATES)
def test_training_on_from_the_final_network_is_the_uninterrupted_run(name):
    """Bit for bit, with the memory that the update carries."""
    update, network = UPDATES[name], shallow_network()
    half = trained(network, update, t1=0.25)
    rest, whole = trained(half.final, update, t0=0.25, memory=half.memory), trained(network, update)
    assert largest(rest.final, whole.final) == 0
    assert rest.energies[-1] == whole.energies[-1]


@every(UPDATES)
def test_a_key_is_required_where_steps_are_random_and_accepted_elsewhere(name):
    stepped, network = UPDATES[name], shallow_network()
    if stepped.random:
        with pytest.raises(ValueError, match=r"^key is required: the run draws batches or noise"):
            trained(network, stepped, key=None)
    else:
        with_and_without = (trained(network, stepped, key=key) for key in (KEY, None))
        assert largest(*(run.final for run in with_and_without)) == 0


@every(UPDATES)
def test_new_step_sizes_times_and_keys_compile_nothing(name, compilations):
    update, network = UPDATES[name], shallow_network()
    trained(network, update)
    with compilations() as count:
        trained(network, update, step=0.25, t1=1.0, key=OTHER)
    assert count() == 0


@every(UPDATES)
def test_energies_fall_in_training_by_small_steps(name):
    found = trained(shallow_network(), UPDATES[name], step=0.0625, t1=4.0)
    assert found.energies[-1] < found.energies[0]


@every(UPDATES)
def test_training_keeps_single_precision(name):
    update, energy = UPDATES[name], single(RISK)

    def end(network):
        found = trained(network, update, energy=energy)
        return found.times, found.energies, found.final

    assert dtypes(jax.eval_shape(end, single(shallow_network()))) == {jnp.dtype(jnp.float32)}


SMOOTH = [name for name in UPDATES if name != "birth and death"]  # whose jumps refuse derivatives


@pytest.mark.parametrize("name", except_slow(SMOOTH, fast=["heavy ball"]))
def test_jit_vmap_and_derivatives_pass_through_training(name):
    """As for flows; steps are exact."""
    update, h, network = UPDATES[name], 1e-4, shallow_network()
    direction = some_direction(network.start)
    networks = on_both_sides(network, direction, h)

    def end(start):
        moved = eqx.tree_at(lambda n: n.start, network, start)
        return trained(moved, update).energies[-1]

    starts = stacked(*(n.start for n in networks))
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(end)))(starts)
    for value, alone in zip(values, networks, strict=True):
        assert abs(value - trained(alone, update).energies[-1]) < 1e-14
    difference = float(values[0] - values[1]) / (2 * h)
    slope = inner(gradients, stacked(direction, direction)) / 2
    assert abs(difference) > 1e-3 and abs(difference - slope) < 1e-7
