"""Signed measures over ReLU units: the finite convex program against closed forms and grids."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from limits import Data, FailedRun
from limits.references import activation_patterns, minimal_interpolation, sparse_relu
from limits.references._cones import cones, peak
from limits.references._sparse_relu import certified


def circle(degrees):
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def fibonacci(m):
    """Nearly uniform points on the sphere in R³."""
    k = np.arange(m) + 0.5
    z, turn = 1 - 2 * k / m, np.pi * (1 + 5**0.5) * k
    return np.stack([np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn), z], 1)


GRID = circle(np.arange(7200) / 20)


def regression(n, d, number):
    rng = np.random.default_rng(number)
    return Data(rng.standard_normal((n, d)), rng.standard_normal((n, 1)), rng.dirichlet(np.ones(n)))


def risk(result, data, penalty):
    misfit = result(data.x)[:, 0] - np.asarray(data.y)[:, 0]
    charged = np.abs(result.charges) @ np.linalg.norm(result.directions, axis=1)
    return float(np.asarray(data.masses) @ misfit**2 / 2 + penalty * charged)


RANDOM = [(5, 2, 0.05), (8, 2, 0.01), (7, 2, 1e-3), (5, 3, 0.02), (8, 3, 1e-3), (6, 4, 0.01)]
random = pytest.mark.parametrize("n, d, penalty", RANDOM)


@pytest.mark.parametrize(
    "n, d, count", [(3, 2, 6), (5, 2, 10), (5, 3, 22), (10, 3, 92), (4, 6, 16)]
)
def test_inputs_in_general_position_have_as_many_cones_as_the_formula(n, d, count):
    patterns = activation_patterns(regression(n, d, 0).x)
    assert patterns.shape == (count, n) and len(np.unique(patterns, axis=0)) == count


def test_cones_of_degenerate_inputs_are_those_that_random_weights_find():
    x = np.array(
        [[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, -1, 0], [2, 0, 0], [0, 0, 0], [0, 0, 1], [1, 1, 1],
         [-1, -1, 0]], float,
    )  # fmt: skip
    w = np.random.default_rng(0).standard_normal((20_000, 3))
    found = np.unique(w @ x.T > 0, axis=0)
    np.testing.assert_array_equal(np.unique(activation_patterns(x), axis=0), found)
    regions = cones(x)
    inside = np.array([(w @ walls.T >= 0).all(1) for walls in regions.walls])
    assert (inside.sum(0) == 1).all()  # the walls of every cone hold it and no other point
    assert (regions.patterns[inside.argmax(0)] == (w @ x.T > 0)).all()


@pytest.mark.parametrize("d, grid", [(2, GRID), (3, fibonacci(20_000))])
def test_the_highest_potential_is_that_of_a_fine_grid(d, grid):
    x = np.asarray(regression(7, d, 1).x)
    for number in range(4):
        p = np.random.default_rng(number).standard_normal(7)
        there = np.abs(np.maximum(grid @ x.T, 0) @ p).max()
        assert there <= peak(p, x, cones(x)) <= there * (1 + 1e-3)


@pytest.mark.parametrize("y", [-2.0, -0.1, 0.3, 1.5])
@pytest.mark.parametrize("length", [1.0, 2.0])
def test_one_sample_is_shrunk_towards_zero(y, length):
    x, penalty = length * np.array([[0.6, 0.8]]), 0.25
    result = sparse_relu(Data(x, np.array([[y]])), penalty)
    shrunk = np.sign(y) * max(abs(y) - penalty / length, 0)
    np.testing.assert_allclose(result(x), [[shrunk]], atol=1e-8)
    np.testing.assert_allclose(result.directions, x[: len(result.charges)] / length, atol=1e-6)
    assert len(result.charges) == (shrunk != 0)


@pytest.mark.parametrize(
    "y", [[3.0, 4.0], [3.0, -4.0], [1.0, 2.0, -2.0], [0.05, 1.0, -0.05], [-0.1, -0.1, -0.1]]
)
def test_orthonormal_inputs_shrink_both_signs_by_their_lengths(y):
    y, n, penalty = np.array(y), len(y), 0.1
    parts = [np.maximum(s * y, 0) for s in (1, -1)]
    f = sum(
        s * part * max(0, 1 - n * penalty / max(np.linalg.norm(part), 1e-300))
        for s, part in zip((1, -1), parts, strict=True)
    )
    result = sparse_relu(Data(np.eye(n), y[:, None]), penalty)
    np.testing.assert_allclose(result(np.eye(n))[:, 0], f, atol=1e-7)
    assert len(result.charges) == sum(np.linalg.norm(part) > n * penalty for part in parts)
    residuals = max(np.linalg.norm(np.maximum(s * (y - f), 0)) for s in (1, -1)) / n
    assert result.certificate == pytest.approx(residuals, rel=1e-7)


def test_interpolation_of_orthonormal_inputs_costs_the_lengths_of_both_signs():
    data = Data(np.eye(2), np.array([[3.0], [4.0]]))
    exact = minimal_interpolation(data, np.concatenate([GRID, [[3.0, 4.0]]]))
    assert exact.value == pytest.approx(5, abs=1e-9) and abs(exact.gap) < 1e-9
    np.testing.assert_allclose(exact.directions, [[0.6, 0.8]], atol=1e-9)
    assert 5 - 1e-9 <= minimal_interpolation(data, GRID).value <= 5 + 1e-5
    data = Data(np.eye(3), np.array([[1.0], [2.0], [-2.0]]))
    candidates = np.concatenate([fibonacci(500), [[1.0, 2.0, 0.0], [0.0, 0.0, 2.0]]])
    assert minimal_interpolation(data, candidates).value == pytest.approx(5**0.5 + 2, abs=1e-9)


@pytest.mark.parametrize("y", [[1e8, 1.0], [1.0, 5e-7], [1.0, -3e-9]])
def test_interpolation_keeps_atoms_however_small(y):
    found = minimal_interpolation(Data(np.eye(2), np.array(y)[:, None]), np.eye(2))
    assert np.abs(found(np.eye(2))[:, 0] - y).max() < 1e-15 * max(y)
    assert abs(found.value - np.abs(y).sum()) < 1e-15 * max(y) and abs(found.gap) < 1e-15 * max(y)


def test_three_inputs_on_the_circle_are_interpolated_by_the_outer_two():
    data = Data(circle([0, 60, 120]), np.ones((3, 1)))
    result = minimal_interpolation(data, GRID)
    assert result.value == pytest.approx(2, abs=1e-9) and result.certificate == pytest.approx(1)
    np.testing.assert_allclose(result.directions, circle([0, 120]), atol=1e-9)
    np.testing.assert_allclose(result(data.x), data.y, atol=1e-9)
    penalty = 1e-3
    assert 2 - 3 * penalty < sparse_relu(data, penalty).value / penalty < 2


@random
def test_the_optimum_is_certified_and_sparse(n, d, penalty):
    data = regression(n, d, n)
    result = sparse_relu(data, penalty)
    assert result.value == pytest.approx(risk(result, data, penalty), rel=1e-12)
    assert -1e-12 < result.gap < 1e-7 * result.value
    assert result.certificate == pytest.approx(penalty, rel=1e-6)
    np.testing.assert_allclose(np.linalg.norm(result.directions, axis=1), 1, atol=1e-12)
    assert 0 < len(result.charges) <= n
    seen = np.column_stack([result.directions @ np.asarray(data.x).T > 0, result.charges > 0])
    assert len(np.unique(seen, axis=0)) == len(seen)  # one atom per cone and sign


@pytest.mark.parametrize("n, d, penalty", [(5, 2, 0.05), (6, 2, 0.01), (8, 2, 2e-3), (6, 3, 0.02)])
def test_the_optimum_is_below_that_of_a_grid_by_no_more_than_its_spacing(n, d, penalty):
    """Every |w| = 1 is within ε of the grid, so potentials rise by ε Σ|p_k||x_k| at most between
    its directions, and the dual objective falls by p · y times that over the penalty at most."""
    grid, spacing = (GRID, np.pi / 7200) if d == 2 else (fibonacci(4000), 3.5 / 4000**0.5)
    data = regression(n, d, n + 10)
    x, y, q = (np.asarray(a) for a in (data.x, data.y[:, 0], data.masses))
    best, near = sparse_relu(data, penalty), sparse_relu(data, penalty, directions=grid)
    assert -1e-12 < near.gap < 1e-7 * near.value
    p = q * (y - near(x)[:, 0])
    error = spacing * (np.abs(p) @ np.linalg.norm(x, axis=1)) / penalty * (p @ y)
    assert error < (0.1 if d == 2 else 1) * best.value
    assert best.value - 1e-9 < near.value < best.value + error


@random
def test_other_measures_have_a_gap_of_at_least_what_they_lose(n, d, penalty):
    data = regression(n, d, n)
    x, y, q = (np.asarray(a) for a in (data.x, data.y[:, 0], data.masses))
    best, regions = sparse_relu(data, penalty), cones(x)

    def gap(directions, charges, penalty=penalty):
        other = certified(directions, charges, (x, y, q), penalty, lambda p: peak(p, x, regions))
        return other.gap, other.value

    for directions, charges in (
        (best.directions, 1.05 * best.charges),
        (best.directions, np.sign(best.charges) * 0.2),
        (np.roll(best.directions, 1, axis=1), best.charges),
    ):
        bound, value = gap(directions, charges)
        assert bound >= value - best.value - 1e-12 > 1e-6
    assert gap(best.directions, best.charges, 2 * penalty)[0] > 0.01 * best.value


def test_units_of_inputs_and_targets_do_not_matter():
    data, penalty = regression(6, 2, 3), 0.02
    best = sparse_relu(data, penalty)
    other = sparse_relu(Data(1e3 * data.x, 1e-4 * data.y, data.masses), penalty * 1e-1)
    assert other.value == pytest.approx(1e-8 * best.value, rel=1e-9)
    np.testing.assert_allclose(other(1e3 * data.x), 1e-4 * best(data.x), rtol=1e-5)


def test_samples_that_say_nothing_change_nothing():
    data, penalty = regression(6, 2, 4), 0.02
    best = sparse_relu(data, penalty)
    x = np.concatenate([data.x, data.x[:1], [[1.0, 2.0]]])  # one twice, one of mass 0
    y = np.concatenate([data.y, data.y[:1], [[9.0]]])
    q = np.concatenate([data.masses, data.masses[:1] / 2, [0.0]])
    q[0] /= 2
    again = sparse_relu(Data(x, y, q), penalty)
    assert again.value == pytest.approx(best.value, rel=1e-9)
    far = np.concatenate([data.x, [[0.0, 0.0]]])  # what no unit sees
    q = np.append(data.masses, 1.0) / 2
    zero = sparse_relu(Data(far, np.append(data.y, [[1.0]], 0), q), penalty / 2)
    assert zero.value == pytest.approx(best.value / 2 + 0.25, rel=1e-9)


def test_inputs_that_span_less_than_their_space_need_no_more():
    data, penalty = regression(6, 2, 5), 0.02
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 2)))[0]
    lifted = sparse_relu(Data(data.x @ basis.T, data.y, data.masses), penalty)
    assert lifted.value == pytest.approx(sparse_relu(data, penalty).value, rel=1e-9)


def test_a_large_penalty_leaves_no_atoms():
    data = regression(5, 2, 6)
    most = sparse_relu(data, 1e9).certificate
    none, one = sparse_relu(data, most * 1.001), sparse_relu(data, most * 0.99)
    assert len(none.charges) == 0 and none.gap == 0 and none.total_variation == 0
    np.testing.assert_array_equal(none(data.x), np.zeros((5, 1)))
    assert len(one.charges) == 1 and one.value < none.value


def test_single_precision_data_are_solved_in_double():
    data = regression(5, 2, 7)
    single = Data(*(jnp.asarray(a, "float32") for a in (data.x, data.y, data.masses)))
    result = sparse_relu(single, 0.05)
    assert result.charges.dtype == float and result.gap < 1e-7 * result.value
    assert result.value == pytest.approx(sparse_relu(data, 0.05).value, rel=1e-5)


def test_wrong_calls_name_the_remedy(monkeypatch):
    data = regression(5, 2, 8)
    x, y = np.asarray(data.x), np.asarray(data.y)
    wide = Data(x, np.concatenate([y, y], 1))
    for match, call in (
        (r"data must have .*\(5, 2\).*one problem per output", lambda: sparse_relu(wide, 0.1)),
        ("data must be a Data, got tuple", lambda: sparse_relu((x, y), 0.1)),
        ("penalty must be a positive", lambda: sparse_relu(data, 0.0)),
        ("penalty must be a positive", lambda: sparse_relu(data, -1.0)),
        ("penalty must be a positive", lambda: sparse_relu(data, float("nan"))),
        ("tol must be a positive", lambda: sparse_relu(data, 0.1, tol=0.0)),
        ("directions must be floating", lambda: minimal_interpolation(data, np.eye(2, dtype=int))),
        ("directions must be vectors", lambda: minimal_interpolation(data, np.eye(3))),
        ("directions must be vectors", lambda: sparse_relu(data, 1.0, directions=np.zeros((1, 2)))),
        ("directions must interpolate", lambda: minimal_interpolation(data, np.eye(2))),
        ("x must be floating", lambda: activation_patterns(np.eye(2, dtype=int))),
        ("x must have 2 axes", lambda: activation_patterns(np.ones(2))),
        ("19840 activation patterns", lambda: sparse_relu(regression(40, 4, 0), 0.1)),
        (r"x must have shape \(n, 2\)", lambda: sparse_relu(data, 0.1)(np.ones(2))),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(FailedRun, match="larger tol") as error:
        sparse_relu(data, 0.01, tol=1e-300)
    assert error.value.partial.gap < 1e-9
    monkeypatch.setitem(sys.modules, "clarabel", None)
    with pytest.raises(ImportError, match="pip install clarabel"):
        sparse_relu(data, 0.01)
