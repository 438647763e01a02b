"""Contracts: what every space, rule, layer, energy, dynamics, update and solver has to keep.

The members are those of `contracts.py`. Tolerances are a priori: rounding for what is the same sum
in another order, four standard errors for averages of random draws.
"""

import inspect
import re

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from contracts import (
    BAD_RATES,
    DYNAMICS,
    ENERGIES,
    FAMILIES,
    FROZEN,
    GAMES,
    KEY,
    LAYERS,
    LOSSES,
    NORMS,
    PARTICLES,
    RULES,
    SOLVERS,
    SPACES,
    UPDATES,
    mistakable,
    right_calls,
)
from models import largest, regression, smooth
from public import names
from scipy import stats

import ensembles
from limits import (
    Adaptive,
    GradientFlow,
    Risk,
    coupling,
    flow,
    mean_field_gradient,
    simulate,
    train,
)
from limits._solvers.seeds import run_all

OTHER = jax.random.key(8)
RISK = Risk(regression(6))
TIMES = jnp.linspace(0, 1, 5)


def every(registry):
    """All names of a registry, as parameters of a test."""
    return pytest.mark.parametrize("name", registry)


def except_slow(registry, fast):
    """All names of a registry, those that are not `fast` for the slow tests."""
    return [pytest.param(n, marks=() if n in fast else pytest.mark.slow) for n in registry]


def single(tree):
    """The same arrays in single precision."""
    return jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, tree)


def dtypes(tree):
    return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def stacked(*trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def along(start, direction, distance):
    return jax.tree.map(lambda a, d: a + distance * d, start, direction)


def some_direction(like):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), like)


def inner(a, b):
    """The inner product of two trees."""
    return sum(float(jnp.vdot(u, v)) for u, v in zip(*map(jax.tree.leaves, (a, b)), strict=True))


# Spaces and rules

PAIRS = [
    pytest.param(space, rule, id=f"{space}, {rule}")
    for space, law in SPACES.items()
    for rule, nodes in RULES.items()
    if nodes.knows(law)
]
WITH_KEYS = [pair for pair in PAIRS if RULES[pair.values[1]].rule.random]


@pytest.mark.parametrize("space, rule", PAIRS)
def test_nodes_are_points_of_the_space_in_its_dtype_with_masses_that_sum_to_one(space, rule):
    law, rule = SPACES[space], RULES[rule].rule
    for dtype in law.dtypes:
        omega = law.make(dtype)
        assert omega.dtype == omega.mean.dtype == dtype and omega.mean.shape == (omega.dim,)
        for measure in (rule(omega, 64, KEY), omega.sample(64, key=KEY)):
            n = measure.masses.shape[0]
            assert measure.points.shape == (n, omega.dim)
            assert n == 64 if rule.random else n >= min(64, 64**omega.axes)
            assert dtypes(measure) == {jnp.dtype(dtype)}
            assert (measure.masses >= 0).all()
            assert abs(measure.masses.sum() - 1) < (1e-14 if dtype == jnp.float64 else 1e-6)


@pytest.mark.parametrize("space, rule", PAIRS)
def test_nodes_average_to_the_mean_of_the_space(space, rule):
    """Gauss rules do exactly (on a torus up to the spacing), random ones within four errors."""
    law, rule = SPACES[space], RULES[rule].rule
    omega = law.make(jnp.float64)
    measure = rule(omega, 64, KEY)
    off = np.abs(np.asarray(measure.mean - omega.mean))
    if rule.random:
        error = np.sqrt(np.diag(np.atleast_2d(measure.covariance)) / len(measure.masses))
        assert (off <= 4 * error).all()
    else:
        per_axis = round(len(measure.masses) ** (1 / max(1, omega.axes)))
        assert (off <= law.gauss_error(per_axis) + 1e-12).all()


@pytest.mark.parametrize("space, rule", PAIRS)
def test_rules_refine_and_coarsen_back(space, rule):
    omega, rule = SPACES[space].make(jnp.float64), RULES[rule].rule
    begin = rule.refine(omega, rule.coarsest(omega))
    finer = rule.refine(omega, begin)
    assert rule.coarsen(omega, finer) == begin
    if not rule.random:  # others have as many nodes as they are asked for
        sizes = [rule(omega, n).masses.shape[0] for n in (begin, finer)]
        assert sizes[0] >= begin and sizes[1] >= finer
    if rule.random or omega.axes:
        assert finer > begin
    else:  # atoms are exact
        assert finer == begin == 1


@pytest.mark.parametrize("space, rule", WITH_KEYS)
def test_a_key_decides_the_nodes_of_a_random_rule(space, rule):
    omega, rule = SPACES[space].make(jnp.float64), RULES[rule].rule
    once, again, other = (rule(omega, 64, key) for key in (KEY, KEY, OTHER))
    assert largest(once, again) == 0
    assert largest(once, other) > 0
    with pytest.raises(ValueError, match="key is required"):
        rule(omega, 64)


@every(SPACES)
def test_rules_without_randomness_ignore_keys(name):
    omega = SPACES[name].make(jnp.float64)
    for nodes in RULES.values():
        if nodes.knows(SPACES[name]) and not nodes.rule.random:
            assert largest(nodes.rule(omega, 8), nodes.rule(omega, 8, KEY)) == 0


@every(SPACES)
def test_the_cube_is_mapped_to_the_law_that_is_drawn(name):
    """Two-sample Kolmogorov–Smirnov tests of coordinates and random projections."""
    omega = SPACES[name].make(jnp.float64)
    rng = np.random.default_rng(1)
    mapped = np.asarray(omega.from_cube(rng.random((4096, omega.cube_dim))))
    drawn = np.asarray(omega.draw(4096, KEY))
    assert mapped.shape == drawn.shape == (4096, omega.dim)
    for axis in [*np.eye(omega.dim), *rng.standard_normal((3, omega.dim))]:
        assert stats.ks_2samp(mapped @ axis, drawn @ axis).pvalue > 1e-4


# Layers

OUTPUTS = Risk(regression(6, outputs=2))


def with_and_without_tracers(ensemble):
    """Three nodes a layer; then tracers at the first two of them and at another label."""
    nodes = ensemble.measures(3, ensembles.MonteCarlo(), key=KEY)
    masses = jnp.array([0.2, 0.5, 0.3])
    nodes = [ensembles.Measure(m.points, masses) for m in nodes]
    labels = [jnp.concatenate([m.points[:2], m.points[2:] / 2]) for m in nodes]
    traced = [m.with_tracers(c) for m, c in zip(nodes, labels, strict=True)]
    return ensemble.network(nodes), ensemble.network(traced)


def at(network, ranges):
    """The parts of parameters of `network` at some neurons of each hidden layer."""

    def cut(parameters):
        increment = parameters if parameters.growth else parameters.still()
        return network.moved(increment).neurons([ranges] * (network.depth - 1)).increment

    return cut


@eqx.filter_jit
def ordinary_over_masses(network, energy):
    """The ordinary gradient divided by masses."""

    def value(start):
        return energy(eqx.tree_at(lambda n: n.start, network, start))

    gradient = jax.grad(value)(network.start)
    return jax.tree.map(lambda g, p: g / p, gradient, network.parameter_masses())


@every(LAYERS)
def test_derivatives_per_unit_mass_are_gradients_over_masses(name):
    network, _ = with_and_without_tracers(LAYERS[name]())
    found = mean_field_gradient(network, OUTPUTS)
    assert jax.tree.structure(found) == jax.tree.structure(network.parameters)
    assert largest(found, ordinary_over_masses(network, OUTPUTS)) < 1e-12


@every(LAYERS)
def test_tracers_are_inert_and_have_the_derivative_of_their_label(name):
    network, traced = with_and_without_tracers(LAYERS[name]())
    x = OUTPUTS.data.x
    assert largest(network(x), traced(x)) < 1e-14
    plain, both = (mean_field_gradient(n, OUTPUTS) for n in (network, traced))
    nodes, first, tracers = (at(traced, r) for r in (slice(3), slice(2), slice(3, 5)))
    assert largest(nodes(both), plain) < 1e-13
    assert largest(tracers(both), first(both)) < 1e-13


@every(LAYERS)
def test_layers_keep_single_precision(name):
    small, energy = single((with_and_without_tracers(LAYERS[name]())[0], OUTPUTS))

    def both(network):
        return network(energy.data.x), mean_field_gradient(network, energy)

    assert dtypes(jax.eval_shape(both, small)) == {jnp.dtype(jnp.float32)}


@eqx.filter_jit
def turned(networks, direction, energy):
    """Derivatives per unit mass of a stack of networks, and how they change in a direction."""

    def one(network):
        def gradient(start):
            return mean_field_gradient(eqx.tree_at(lambda n: n.start, network, start), energy)

        return jax.jvp(gradient, (network.start,), (direction,))

    return jax.vmap(one)(networks)


@every(LAYERS)
def test_jit_vmap_and_derivatives_pass_through_layers(name):
    """Central differences of step 1e-5, in the middle of whose interval the slope is taken."""
    network, _ = with_and_without_tracers(LAYERS[name]())
    direction = some_direction(network.start)
    networks = [
        eqx.tree_at(lambda n: n.start, network, along(network.start, direction, s))
        for s in (1e-5, 0, -1e-5)
    ]
    gradients, slopes = turned(stacked(*networks), direction, OUTPUTS)
    for i, one in enumerate(networks):
        alone = mean_field_gradient(one, OUTPUTS)
        assert largest(jax.tree.map(lambda a, i=i: a[i], gradients), alone) < 1e-13
    difference = jax.tree.map(lambda g: (g[0] - g[2]) / 2e-5, gradients)
    assert largest(difference, jax.tree.map(lambda s: s[1], slopes)) < 1e-7


# Energies


def two_outputs(name=None):
    """A network of two outputs, of one hidden layer for energies of particles."""
    ensemble = LAYERS["Unit"]() if name in PARTICLES else smooth(3, outputs=2, biases=True)
    return with_and_without_tracers(ensemble)


def energy_of(name):
    return (ENERGIES | PARTICLES | NORMS)[name]


@eqx.filter_jit
def looked_at(network, energy):
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

    value, gradient = energy.value_and_gradient(network)
    return {
        "call": energy(network),
        "value": value,
        "gradient": gradient,
        "variation": energy.first_variation(network),
        "value and variation": energy.value_and_first_variation(network),
        "by masses": jax.grad(weighed)(p),
        "difference": tuple(difference(i) for i in range(len(p))),
        "stationarity": energy.stationarity(network),
        "outputs": energy.outputs(network),
    }


@every(ENERGIES | PARTICLES | NORMS)
def test_values_and_gradients_of_energies_are_those_of_the_call(name):
    network, traced = two_outputs(name)
    seen = looked_at(traced, energy_of(name))
    assert seen["call"].shape == () and abs(seen["value"] - seen["call"]) < 1e-14
    assert abs(seen["value and variation"][0] - seen["call"]) < 1e-14
    assert jax.tree.structure(seen["gradient"]) == jax.tree.structure(traced.parameters)
    gradient = at(traced, slice(3))(seen["gradient"])
    assert largest(gradient, ordinary_over_masses(network, energy_of(name))) < 1e-12


@every(ENERGIES | PARTICLES | NORMS)
def test_first_variations_are_derivatives_in_masses_and_exist_at_mass_zero(name):
    _, traced = two_outputs(name)
    seen = looked_at(traced, energy_of(name))
    assert [v.shape for v in seen["variation"]] == [p.shape for p in traced.masses]
    assert largest(seen["variation"], seen["value and variation"][1]) < 1e-14
    assert largest(seen["variation"], seen["by masses"]) < 1e-13
    assert largest(seen["variation"], seen["difference"]) < 1e-8
    for variation in seen["variation"]:
        assert largest(variation[:2], variation[3:5]) < 1e-13


@every(ENERGIES)
def test_stationarity_bounds_the_slope_of_the_energy_in_the_bias_of_outputs(name):
    """It is not negative, and by Jensen not below the norm of the mean derivative."""
    seen = looked_at(two_outputs()[1], ENERGIES[name])
    slope = jnp.linalg.norm(seen["gradient"].biases[-1])
    assert seen["stationarity"].shape == () and seen["outputs"].shape[1:] == (2,)
    assert float(seen["stationarity"]) >= float(slope) - 1e-14 and slope > 0


@eqx.filter_jit
def drawn(network, energy, keys):
    """Values and derivatives of batches of three."""
    return jax.vmap(lambda key: energy.draw(3, key).value_and_gradient(network))(keys)


@every(ENERGIES)
def test_batches_are_unbiased(name):
    """Means over 4,000 keys, entry by entry, within four standard errors."""
    _, traced = two_outputs()
    found = drawn(traced, ENERGIES[name], jax.random.split(KEY, 4000))
    seen = looked_at(traced, ENERGIES[name])
    wanted = seen["value"], seen["gradient"]
    for many, one in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
        values = np.asarray(many)
        error = values.std(0, ddof=1) / np.sqrt(len(values))
        assert (error > 0).all()
        assert (np.abs(values.mean(0) - np.asarray(one)) <= 4 * error).all()


@every(ENERGIES)
def test_energies_keep_single_precision(name):
    small, energy = single((two_outputs()[0], ENERGIES[name]))
    assert dtypes(eqx.filter_eval_shape(looked_at, small, energy)) == {jnp.dtype(jnp.float32)}
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


# Dynamics


def one_output():
    return with_and_without_tracers(smooth(3, biases=True))


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
    return flow(network, RISK, dynamics, t1=1.0, times=TIMES, rtol=rtol)


@every(DYNAMICS)
def test_energies_fall_along_flows(name):
    found = run(one_output()[0], DYNAMICS[name].dynamics)
    if DYNAMICS[name].descends:
        assert (np.diff(found.energies) < 0).all()
    assert np.isfinite(found.energies).all()


@every(DYNAMICS)
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
            found = flow(moved, RISK, dynamics, t1=1.0, rtol=1e-10, adjoint=diffrax.ForwardMode())
            return found.energies[-1]

        return jax.jvp(end, (network.start,), (direction,))

    return jax.vmap(one)(networks)


def on_both_sides(network, direction, distance):
    return [
        eqx.tree_at(lambda n: n.start, network, along(network.start, direction, s * distance))
        for s in (1, -1)
    ]


@pytest.mark.parametrize(
    "name",
    except_slow(DYNAMICS, ["scheduled gradient flow with decay", "Wasserstein–Fisher–Rao"]),
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
        return flow(moved, RISK, dynamics, t1=1.0, rtol=1e-10).energies[-1]

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


# Updates


def shallow_network():
    return smooth(2).sample(4, key=KEY)


def key_of(update, key=KEY):
    return key if update.random else None


def trained(network, update, t1=0.5, step=0.125, t0=0.0, key=KEY, memory=None):
    key = key_of(update, key)
    return train(network, RISK, update, step=step, t0=t0, t1=t1, key=key, memory=memory)


one_step = eqx.filter_jit(
    lambda update, t, step, network, memory, key: update(t, step, network, memory, RISK, key)
)


@every(UPDATES)
def test_step_k_of_training_is_the_update_with_key_k(name):
    update, step = UPDATES[name], jnp.asarray(0.125)
    network = update.prepare(shallow_network())
    memory, increment = update.memory(network), network.increment
    for k in range(4):
        key = jax.random.fold_in(KEY, k) if update.random else None
        now = network.moved(increment)
        _, change, memory = one_step(update, k * step, step, now, memory, key)
        moved = network.moved(jax.tree.map(jnp.add, increment, change))
        increment = moved.normalised().increment
    assert largest(trained(shallow_network(), update).final, network.moved(increment)) < 1e-14


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
def test_a_key_is_required_exactly_when_steps_are_random(name):
    update, network = UPDATES[name], shallow_network()
    wrong = None if update.random else KEY
    with pytest.raises(ValueError, match=r"^key (is required|must be None)"):
        train(network, RISK, update, step=0.125, t1=0.5, key=wrong)


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
        found = train(network, energy, update, step=0.125, t1=0.5, key=key_of(update))
        return found.times, found.energies, found.final

    assert dtypes(jax.eval_shape(end, single(shallow_network()))) == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", except_slow(UPDATES, fast=["heavy ball"]))
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


# Solvers


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
        beside = once.beside(GradientFlow())
        assert isinstance(beside, Adaptive) and once.random == solver.random
        assert beside.beside(GradientFlow()) is beside


@every(SOLVERS)
def test_studies_take_every_solver(name):
    solver, _ = SOLVERS[name]
    ensemble, times = smooth(2, biases=True), jnp.array([0.0, 0.5])
    options = dict(solver=solver, t1=0.5, times=times, seeds=2, key=KEY)
    pair = coupling(ensemble, RISK, widths=[3], nodes=4, **options)
    assert pair.sup.shape[:2] == (2, 1) and np.isfinite(pair.sup).all() and (pair.sup > 0).all()
    many = simulate(ensemble, RISK, outputs, width=3, **options)
    assert many.values.shape == (2, 2, 6) and np.isfinite(many.values).all()


# What is public

LISTED = {
    "Space": [law.make(jnp.float64) for law in SPACES.values()],
    "Rule": [nodes.rule for nodes in RULES.values()],
    "Layer": [layer for make in LAYERS.values() for layer in make().layers],
    "Energy": [*ENERGIES.values(), *PARTICLES.values(), *GAMES.values(), *NORMS.values()],
    "Dynamics": [*(motion.dynamics for motion in DYNAMICS.values()), UPDATES["Langevin"].dynamics],
    "Update": list(UPDATES.values()),
    "Solver": [way.solver for way in SOLVERS.values()],
}
PUBLIC = {name.rpartition(".")[2]: value for name, value in names().items()}
CLASSES = [value for value in PUBLIC.values() if inspect.isclass(value)]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_public_class_is_listed(family):
    concrete = {c for c in CLASSES if issubclass(c, family) and not inspect.isabstract(c)}
    listed = {type(member) for member in LISTED[family.__name__]}
    assert concrete and concrete <= listed
    assert all(isinstance(member, family) for member in LISTED[family.__name__])


def test_every_public_family_and_loss_is_listed():
    assert {c for c in CLASSES if inspect.isabstract(c)} <= set(FAMILIES)
    assert {c for c in CLASSES if c.__name__.endswith("Loss")} == set(LOSSES)
    assert set(LOSSES) <= {type(energy.loss) for energy in ENERGIES.values()}


def test_every_public_function_is_listed():
    functions = {name for name, f in PUBLIC.items() if callable(f) and not inspect.isclass(f)}
    assert functions <= set(right_calls())


MISTAKES = [
    pytest.param(function, argument, wrong, id=f"{function}, {argument}, {i}")
    for function, (_, _, kinds) in right_calls().items()
    for argument, kind in kinds.items()
    for i, wrong in enumerate(mistakable()[kind])
]


@pytest.mark.parametrize("function, argument, wrong", MISTAKES)
def test_objects_of_another_kind_are_refused_by_name(function, argument, wrong, monkeypatch):
    """Without the checks of types that tests run the library under."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, arguments, _ = right_calls()[function]
    with pytest.raises(ValueError) as raised:
        call(**{**arguments, argument: wrong})
    assert re.search(rf"\b{argument}\b", str(raised.value))
