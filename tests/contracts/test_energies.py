"""What every energy keeps."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, smooth

from contracts.common import (
    KEY,
    OUTPUTS,
    at,
    dtypes,
    every,
    ordinary_over_masses,
    single,
    with_and_without_tracers,
)
from contracts.energies import ENERGIES, NORMS, PARTICLES
from contracts.layers import LAYERS
from limits import Risk


def two_outputs(name=None):
    """A network of two outputs, of one hidden layer for energies of particles."""
    ensemble = LAYERS["Unit"]() if name in PARTICLES else smooth(3, outputs=2, biases=True)
    return with_and_without_tracers(ensemble)


def energy_of(name):
    return (ENERGIES | PARTICLES | NORMS)[name]


@eqx.filter_jit
def seen_of(network, energy):
    """Everything that an energy says of a network, and the same by other means."""
    p, step = network.masses, 1e-5

    def weighed(masses):
        return energy(network.weighed(masses))

    def difference(i):
        def at(shift):
            moved = p[i] + shift
            return weighed((*p[:i], moved, *p[i + 1 :]))

        units = jnp.eye(len(p[i]), dtype=network.dtype)
        return jax.vmap(lambda e: (at(step * e) - at(-step * e)) / (2 * step))(units)

    value, gradient, nothing = energy.derivatives(network)
    assert nothing is None
    return {
        "call": energy(network),
        "value": value,
        "gradient": gradient,
        "variation": energy.first_variation(network),
        "value and variation": energy.derivatives(network, variation=True)[::2],
        "by masses": jax.grad(weighed)(p),
        "difference": tuple(difference(i) for i in range(len(p))),
        "stationarity": energy.stationarity(network),
        "outputs": energy.outputs(network),
    }


@every(ENERGIES | PARTICLES | NORMS)
def test_values_and_gradients_of_energies_are_those_of_the_call(name):
    network, traced = two_outputs(name)
    seen = seen_of(traced, energy_of(name))
    assert seen["call"].shape == () and abs(seen["value"] - seen["call"]) < 1e-14
    assert abs(seen["value and variation"][0] - seen["call"]) < 1e-14
    assert jax.tree.structure(seen["gradient"]) == jax.tree.structure(traced.parameters)
    gradient = at(traced, slice(3))(seen["gradient"])
    assert largest(gradient, ordinary_over_masses(network, energy_of(name))) < 1e-12


@every(ENERGIES | PARTICLES | NORMS)
def test_first_variations_are_derivatives_in_masses_and_exist_at_mass_zero(name):
    _, traced = two_outputs(name)
    seen = seen_of(traced, energy_of(name))
    assert [v.shape for v in seen["variation"]] == [p.shape for p in traced.masses]
    assert largest(seen["variation"], seen["value and variation"][1]) < 1e-14
    assert largest(seen["variation"], seen["by masses"]) < 1e-13
    assert largest(seen["variation"], seen["difference"]) < 1e-8
    for variation in seen["variation"]:
        assert largest(variation[:2], variation[3:5]) < 1e-13


@every(ENERGIES)
def test_stationarity_bounds_the_slope_of_the_energy_in_the_bias_of_outputs(name):
    """It is not negative, and by Jensen not below the norm of the mean derivative."""
    seen = seen_of(two_outputs()[1], ENERGIES[name])
    slope = jnp.linalg.norm(seen["gradient"].biases[-1])
    assert seen["stationarity"].shape == () and seen["outputs"].shape[1:] == (2,)
    assert float(seen["stationarity"]) >= float(slope) - 1e-14 and slope > 0


@eqx.filter_jit
def drawn(network, energy, keys):
    """Values and derivatives of batches of three."""
    return jax.vmap(lambda key: energy.draw(3, key).derivatives(network)[:2])(keys)


@every(ENERGIES)
def test_batches_are_unbiased(name):
    """Means over 4,000 keys, entry by entry, within four standard errors."""
    _, traced = two_outputs()
    found = drawn(traced, ENERGIES[name], jax.random.split(KEY, 4000))
    seen = seen_of(traced, ENERGIES[name])
    wanted = seen["value"], seen["gradient"]
    for many, one in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        values = np.asarray(many)
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        assert (error > 0).all()
        assert (np.abs(values.mean(0) - np.asarray(one)) <= 4 * error).all()


@every(ENERGIES)
def test_energies_keep_single_precision(name):
    small, energy = single((two_outputs()[0], ENERGIES[name]))
    assert dtypes(eqx.filter_eval_shape(seen_of, small, energy)) == {jnp.dtype(jnp.float32)}
    assert dtypes(energy.draw(3, KEY).data) == {jnp.dtype(jnp.float32)}


@every(ENERGIES)
def test_energies_refuse_networks_and_batches_that_do_not_fit(name):
    network, _ = two_outputs()
    energy = ENERGIES[name]
    energy.check(network)
    energy.check(network, 3)
    with pytest.raises(ValueError, match=r"^energy has data of dtype float64 .* float32"):
        energy.check(single(network))
    with pytest.raises(ValueError, match=r"^y must have the shape \(\d+, 1\) .* got \(\d+, 2\)"):
        energy.check(smooth(3).sample(3, key=KEY))
    with pytest.raises(ValueError, match=r"^batch must be an int of at least 1, got 0"):
        energy.check(network, 0)


def test_losses_that_are_no_numbers_are_refused():
    energy = Risk(OUTPUTS.data, jnp.subtract)
    with pytest.raises(ValueError, match=r"^loss must return a scalar .* shape \(2,\)"):
        energy.check(two_outputs()[0])


def test_batches_larger_than_the_data_are_refused():
    with pytest.raises(ValueError, match=r"^batch must be at most the 6 samples .* got 7"):
        OUTPUTS.check(two_outputs()[0], 7)
