"""The limit's error falls faster than any power for smooth labels, and its estimate is honest."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import Outputs, distance, regression, smooth

from ensembles import Affine, Atoms, Gaussian, MonteCarlo, NeuronalEnsemble, Product, Sobol, Uniform
from limits import RESULTS, Adaptive, Data, FailedRun, Risk, flow, limit

TIMES = jnp.linspace(0, 3, 7)


def hermite(depth: int) -> NeuronalEnsemble:
    """Gaussian labels: slower convergence than uniform ones."""
    return NeuronalEnsemble(
        [Gaussian(1, scale=0.5)] * (depth - 1),
        [
            lambda c: jnp.stack([c[0], jnp.cos(c[0])]),
            *[lambda c, e: 1 + c[0] * e[0]] * (depth - 2),
            lambda c: jnp.cos(c) + c,
        ],
        layers=Affine(jnp.tanh),
    )


def plane() -> NeuronalEnsemble:
    """A first layer with two-dimensional labels."""
    return NeuronalEnsemble(
        [Product(Uniform(-1.0, 1.0), Uniform(0.0, 1.0)), Uniform(-1.0, 1.0)],
        [lambda c: c + 0.5, lambda c, e: 1 + jnp.sin(c[0] + e[0]) * c[1], lambda c: 1 + c],
        layers=Affine(jnp.tanh),
    )


def kinks() -> NeuronalEnsemble:
    """ReLU: the error falls only algebraically."""
    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * 2,
        [
            lambda c: jnp.stack([c[0], jnp.cos(2 * c[0])]),
            lambda c, e: jnp.sin(c[0] + 2 * e[0]),
            lambda c: jnp.cos(3 * c),
        ],
        layers=Affine(jax.nn.relu),
    )


def outputs_and_energies(ensemble, risk, nodes, tolerance=1e-11, **options):
    network = ensemble.discretise(nodes, **options)
    run = flow(
        network,
        risk,
        t1=3.0,
        times=TIMES,
        solver=Adaptive(rtol=tolerance, atol=tolerance),
        observe=Outputs(risk),
    )
    return np.asarray(run.energies), np.asarray(run.observed)


def refinement_errors(depth: int = 4, sizes=(8, 16, 32, 64)) -> np.ndarray:
    ensemble, risk = smooth(depth), Risk(regression())
    exact = outputs_and_energies(ensemble, risk, 128)
    return np.array([distance(outputs_and_energies(ensemble, risk, n), exact) for n in sizes])


@pytest.mark.slow
def test_error_falls_faster_than_any_power():
    errors = refinement_errors()
    print("limit error at 8, 16, 32, 64 nodes:", errors)
    powers = np.log2(errors[:-1] / errors[1:])
    assert powers[0] > 3 and (np.diff(powers) > 0.5).all()


CASES = {
    "uniform": (lambda: smooth(3), [1e-3, 1e-7]),
    "hermite": (lambda: hermite(3), [1e-3, 1e-4]),
    "plane": (plane, [1e-4]),
    "kinks": (kinks, [1e-3]),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(c, marks=pytest.mark.slow) if c != "kinks" else c for c in CASES],
)
def test_estimate_covers_the_error_and_refinement_stops_in_time(name):
    make, tolerances = CASES[name]
    ensemble, risk = make(), Risk(regression())
    for tol in tolerances:
        run = limit(ensemble, risk, t1=3.0, times=TIMES, tol=tol, observe=Outputs(risk))
        last = run.stats["levels"][-1][0]
        exact = outputs_and_energies(ensemble, risk, tuple(4 * n for n in last), tol * 1e-4)
        true = distance((np.asarray(run.energies), np.asarray(run.observed)), exact)
        assert float(run.error) <= tol and true <= 3 * float(run.error)
        levels = run.stats["levels"]
        print(name, tol, levels, "true error", true)
        if len(levels) > 2:  # the level before the one that agreed with the last had to be refined
            late = levels[-3][0]
            solved = outputs_and_energies(ensemble, risk, late, tol / 10 ** (len(levels) - 3))
            assert distance(solved, exact) > tol


def bent(c):
    return jnp.abs(c[0] - 0.123)


def straight(c):
    return jnp.sin(2 * c[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "last"),
    [(bent, straight), (straight, bent), (bent, bent)],
    ids=["first", "last", "both"],
)
def test_only_layers_that_matter_are_refined_further(first, last):
    """A kink in the weights of one layer, of the other, or of both, which need their nodes."""
    ensemble = NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * 2,
        [lambda c: jnp.stack([first(c), c[0]]), lambda c, e: 1 + straight(c) * last(e),
         lambda c: jnp.cos(3 * c) + last(c)[None]],
        layers=Affine(jnp.tanh),
    )  # fmt: skip
    risk = Risk(regression(8))
    run = limit(ensemble, risk, t1=3.0, times=TIMES, tol=1e-4, observe=Outputs(risk))
    exact = outputs_and_energies(ensemble, risk, 400, 1e-9)
    true = distance((np.asarray(run.energies), np.asarray(run.observed)), exact)
    print(run.stats["levels"], "true error", true)
    nodes = run.stats["nodes"]
    assert [n == max(nodes) for n in nodes] == [first is bent, last is bent]
    assert true <= float(run.error) <= 1e-4


@pytest.mark.slow
def test_random_layers_are_refined_without_the_others():
    ensemble, risk = smooth(3), Risk(regression())
    run = limit(
        ensemble, risk, t1=3.0, times=TIMES, tol=6e-3, rule=[MonteCarlo(), None],
        observe=Outputs(risk), key=jax.random.key(0),
    )  # fmt: skip
    exact = outputs_and_energies(ensemble, risk, 64)
    true = distance((np.asarray(run.energies), np.asarray(run.observed)), exact)
    print(run.stats["levels"], "true error", true)
    first, last = run.stats["nodes"]
    assert first >= 512 and last <= 17
    assert true <= float(run.error) <= 6e-3


@pytest.mark.parametrize(
    ("rule", "depth"),
    [
        pytest.param(Sobol(), 2, marks=pytest.mark.slow),
        pytest.param(Sobol(), 3, marks=pytest.mark.slow),
        pytest.param(MonteCarlo(), 3, marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_randomised_estimates_cover_the_error_in_ninety_of_a_hundred_cases(rule, depth):
    ensemble, risk = smooth(depth), Risk(regression())
    observe = Outputs(risk)
    exact = outputs_and_energies(ensemble, risk, 64)
    ratios = []
    for k in range(100):
        run = limit(
            ensemble, risk, t1=3.0, times=TIMES, nodes=64, rule=rule, observe=observe,
            key=jax.random.fold_in(jax.random.key(20), k),
        )  # fmt: skip
        true = distance((np.asarray(run.energies), np.asarray(run.observed)), exact)
        ratios.append(float(run.error) / true)
    covered = (np.array(ratios) >= 1).sum()
    print(rule, "covered", covered, "of 100, median estimate / error", np.median(ratios))
    assert covered >= 90 and np.median(ratios) <= 5


@pytest.mark.slow
def test_a_mixed_rule_counts_the_error_of_its_deterministic_layers():
    """Two Gauss nodes in one layer: the estimate sees what Sobol randomisations alone do not."""
    ensemble, risk = smooth(3), Risk(regression())
    exact = outputs_and_energies(ensemble, risk, 64)
    run = limit(
        ensemble, risk, t1=3.0, times=TIMES, nodes=(256, 2), rule=[Sobol(), None],
        observe=Outputs(risk), key=jax.random.key(5),
    )  # fmt: skip
    true = distance((np.asarray(run.energies), np.asarray(run.observed)), exact)
    assert float(run.error) > true > 1e-3


def test_an_unresolved_limit_says_so_and_loses_nothing():
    ensemble, risk = smooth(3), Risk(regression())
    with pytest.raises(
        FailedRun,
        match=r"not resolved to `tol`.*Raise `max_work`.*known to .* with 35x35 nodes.*times",
    ) as caught:
        limit(ensemble, risk, t1=3.0, tol=1e-12, max_work=1e7)
    run = caught.value.partial
    assert run.result == RESULTS.unresolved and 0 < float(run.error) < 1e-2
    assert [sizes for sizes, _ in run.stats["levels"]] == [(8, 8), (17, 17), (35, 35)]


def test_limit_is_differentiable_where_it_was_solved():
    """Refinement is host-side; the flow on its nodes is the function to differentiate."""
    ensemble, risk = smooth(3), Risk(regression())
    run = limit(ensemble, risk, t1=1.0, tol=1e-4)
    nodes = ensemble.discretise(run.final.width)
    value = eqx.filter_jit(lambda n: flow(n, risk, t1=1.0).energies[-1])(nodes)
    assert abs(float(value - run.energies[-1])) < 1e-4


def test_atoms_are_exact_nodes_and_only_time_is_refined():
    space = Atoms([[-0.5], [0.2], [0.9]], [0.2, 0.5, 0.3])
    ensemble = NeuronalEnsemble(
        [space, space],
        [lambda c: jnp.stack([c[0], 1.0]), lambda c, e: 1 + c[0] * e[0], lambda c: jnp.cos(c)],
        layers=Affine(jnp.tanh),
    )
    risk = Risk(regression(8))
    run = limit(ensemble, risk, t1=2.0, tol=1e-7)
    exact = flow(ensemble.discretise(3), risk, t1=2.0, solver=Adaptive(rtol=1e-12))
    true = float(jnp.abs(run.energies - exact.energies).max())
    assert true <= 3 * float(run.error) <= 3e-7 and run.stats["nodes"] == (3, 3)


@pytest.mark.slow
def test_a_limit_that_meets_the_bound_on_steps_keeps_the_levels_before():
    run = limit(
        smooth(3), Risk(regression()), t1=3.0, tol=1e-9, solver=Adaptive(max_steps=40), throw=False
    )
    assert run.result == RESULTS.max_steps_reached and len(run.stats["levels"]) >= 1
    assert np.isfinite(run.energies).all()
    with pytest.raises(FailedRun, match="maximum number of solver steps"):
        limit(smooth(3), Risk(regression()), t1=3.0, tol=1e-9, solver=Adaptive(max_steps=40))


@pytest.mark.slow
def test_data_of_mass_zero_do_not_change_an_error_estimate():
    data = regression(8)
    masses = jnp.full(8, 1 / 8)
    far = jnp.concatenate([data.x, 1e3 * data.x]), jnp.concatenate([data.y, data.y])
    more = Data(*far, jnp.concatenate([masses, jnp.zeros(8)]))
    few, many = (limit(smooth(2), Risk(d), t1=1.0, nodes=8).error for d in (data, more))
    assert abs(float(many) / float(few) - 1) < 1e-6
