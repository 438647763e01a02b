"""Limits that answer by default, and bars of all that is compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth

from contracts.common import KEY
from ensembles import Affine, Gaussian, NeuronalEnsemble, Sobol, Sphere, Uniform, iid, shallow
from limits import Adaptive, Data, FailedRun, PowerPenalty, Risk, flow, limit
from limits._solvers.apart import Apart

TIMES = jnp.linspace(0.0, 2.0, 3)
RISK = Risk(regression(8))


def neuron(c, x):
    return (c[0] * jnp.tanh(c[1:] @ x))[None]


CLOUD = shallow(neuron, Gaussian(3))


def rms(a):
    return float(jnp.sqrt((a**2).mean((-2, -1))).max())


def test_the_first_thing_one_tries_has_an_answer_with_an_honest_bar():
    run = limit(CLOUD, RISK, t1=2.0, times=TIMES, observe=RISK.outputs, key=KEY, max_work=3e7)
    fine = flow(
        CLOUD.discretise(2**15, Sobol(reflect=(0,)), key=jax.random.key(8)), RISK, t1=2.0,
        times=TIMES, observe=RISK.outputs, solver=Adaptive(rtol=1e-6),
    )  # fmt: skip
    true = max(
        rms(run.observed - fine.observed), float(jnp.abs(run.energies - fine.energies).max())
    )
    assert run.succeeded and float(run.error) <= 0.02 * rms(fine.observed)
    assert true <= 3 * float(run.error)


def test_a_tolerance_that_work_does_not_reach_says_what_was_reached_and_what_it_takes():
    with pytest.raises(
        FailedRun, match=r"known to .* with \d+ nodes .*max_work=1.0e\+07.* times the nodes"
    ):
        limit(CLOUD, RISK, t1=2.0, tol=1e-7, key=KEY, max_work=1e7)


def test_more_work_makes_smaller_bars():
    few, many = (
        limit(CLOUD, RISK, t1=2.0, key=KEY, max_work=work) for work in (1e6, 1e8)
    )  # fmt: skip
    assert many.stats["nodes"] > few.stats["nodes"] and many.error < few.error / 2


def mean_square(network):
    return network.masses[0] @ network.weights[0][:, 0] ** 2


def test_what_is_observed_has_a_bar_for_every_entry():
    ensemble = smooth(2)
    seen = {"outputs": RISK.outputs, "square": mean_square}
    run = limit(ensemble, RISK, t1=2.0, times=TIMES, nodes=17, observe=seen)
    fine = flow(ensemble.discretise(64), RISK, t1=2.0, times=TIMES, observe=seen,
                solver=Adaptive(rtol=1e-9))  # fmt: skip
    for name, entry in run.observed_error.items():
        true = np.abs(run.observed[name] - fine.observed[name]).max(0)
        assert entry.shape == true.shape and (true <= 3 * entry + 1e-9).all()
        assert (entry <= 0.1 * np.abs(fine.observed[name]).max()).all()


def test_what_depends_on_the_number_of_nodes_is_observed_without_a_bar():
    run = limit(smooth(2), RISK, t1=1.0, nodes=9, observe=lambda network: network.weights[0])
    assert run.observed.shape[1] == 9 and np.isnan(run.observed_error).all()


def test_a_mean_over_neurons_whatever_their_masses_is_refused():
    with pytest.raises(ValueError, match=r"^observe must weigh neurons by masses"):
        limit(smooth(2), RISK, t1=1.0, observe=lambda network: network.weights[0].mean())


def target(x):
    return jnp.sin(3 * x[:1]) * x[1:]


@pytest.mark.slow
def test_the_nodes_of_a_population_are_in_the_bar():
    few, many = (Risk(Data.from_space(Gaussian(2), target, n)) for n in (40, 900))
    run = limit(smooth(2), few, t1=1.0)
    fine = flow(smooth(2).discretise(64), many, t1=1.0)
    true = float(jnp.abs(run.energies - fine.energies).max())
    assert 1e-3 < true <= 3 * float(run.error) and run.error < 1
    with pytest.raises(FailedRun, match="from the nodes of the data: give"):
        limit(smooth(2), few, t1=1.0, tol=1e-3)


def dead(c):
    return jnp.stack([jnp.exp(-((c[0] / 0.01) ** 2)) * 8, jnp.sin(c[0]) + 0.3])


@pytest.mark.slow
def test_a_penalty_sees_weights_that_outputs_do_not():
    """Weights of an input that is 0 in all data: a bump of width .01."""
    ensemble = NeuronalEnsemble(
        [Uniform(-1.0, 1.0)], [dead, lambda c: 1 + c], layers=Affine(jnp.tanh)
    )
    x = RISK.data.x.at[:, 0].set(0.0)
    energy = Risk(Data(x, RISK.data.y)) + PowerPenalty(0.1)
    run = limit(ensemble, energy, t1=1.0, tol=1e-2, throw=False)
    fine = flow(ensemble.discretise(3001), energy, t1=1.0)
    assert float(jnp.abs(run.energies - fine.energies).max()) <= 3 * float(run.error)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_gauss_rules_on_spheres_integrate_polynomials_exactly(dim):
    """E x_1^2 x_2^2 = 1/(d(d+2)), E x_d^4 = 3/(d(d+2)) on the unit sphere."""
    points, masses = Sphere(dim).grid(6)
    d = dim * (dim + 2)
    np.testing.assert_allclose((points**2).sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(masses @ (points[:, 0] ** 2 * points[:, 1] ** 2), 1 / d, rtol=1e-12)
    np.testing.assert_allclose(masses @ points[:, -1] ** 4, 3 / d, rtol=1e-12)


def test_mirrored_points_cancel_what_is_odd():
    points = Sobol(reflect=(0,))(Gaussian(3), 64, KEY).points
    np.testing.assert_allclose(points[:32, 1:], points[32:, 1:], atol=0)
    np.testing.assert_allclose(points[:32, 0], -points[32:, 0], rtol=1e-9)
    with pytest.raises(ValueError, match=r"^reflect must be axes from 0 to 2"):
        Sobol(reflect=(3,))(Gaussian(3), 64, KEY)


def test_last_weights_of_mean_zero_make_no_initial_outputs():
    """As in the limit, where initial outputs are 0."""
    ensemble = iid(dim=2, depth=2, first=Gaussian(2), last=Gaussian(2), layers=Affine(jnp.tanh))
    x = RISK.data.x
    risk = Risk(Data(x, jnp.concatenate([RISK.data.y, RISK.data.y**2], 1)))
    run = limit(ensemble, risk, t1=1.0, observe=risk.outputs, key=KEY, max_work=1e6)
    assert float(jnp.abs(run.observed[0]).max()) < 1e-9


def test_solutions_that_converge_slowly_are_not_taken_for_near_because_two_agree():
    def of(*errors):
        size = np.ones(2)
        each = (Apart(np.array([e / 3, e]), size, e) for e in errors)
        return [None, None, *each]

    def error(*errors):
        before, last, now = of(*errors)[-3:]
        off = now.doubted(last, before)
        return off.error, off.observed

    assert error(2e-2) == (2e-2, 2e-2)  # nothing to doubt it by
    assert error(1e-2, 1e-3) == (1e-3, 1e-3)
    assert error(1.4e-2, 2.1e-2, 1.7e-3) == pytest.approx((1.05e-2, 1.05e-2))  # of ReLU
    assert error(1e-1, 1e-2, 1e-4) == (1e-4, 1e-4)  # of a Gauss rule
    assert error(1e-1, 1e-2, 1e-9) == pytest.approx((1e-4 / 3, 1e-4 / 3))
