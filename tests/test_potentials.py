"""Closed-form potentials against quadrature, and the energies built from them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import special, stats

from ensembles import Measure, Network, Sphere
from limits import Data, Risk, mean_field_gradient
from limits.kernels import (
    CosineKernel,
    ErfKernel,
    GaussianOverlap,
    RBFKernel,
    ReLUKernel,
    charged,
    from_potentials,
    teacher_student,
)
from limits.references import ThreeSpin

KERNELS = {
    "erf": ErfKernel(),
    "erf, bias": ErfKernel(bias=True),
    "step": ReLUKernel(0),
    "ReLU": ReLUKernel(1),
    "ReLU squared": ReLUKernel(2),
    "ReLU, sphere": ReLUKernel(1, radius=3**0.5),
    "ReLU squared, sphere": ReLUKernel(2, radius=1.3),
    "cosine": CosineKernel(),
    "RBF": RBFKernel(0.7),
    "RBF, sphere": RBFKernel(0.7, radius=3**0.5),
    "Gaussians": GaussianOverlap(0.5),
    "charged": charged(ErfKernel(bias=True)),
}
every_kernel = pytest.mark.parametrize("K", KERNELS.values(), ids=KERNELS)


def pairs(n=40, dim=3, seed=0, scale=1.0):
    return scale * np.random.default_rng(seed).standard_normal((2, n, dim))


def itself(K):
    return K


def curvature(K):
    return jax.jacfwd(jax.grad(K))


def mixed_curvature(K):
    return jax.jacfwd(jax.grad(K), 1)


@eqx.filter_jit
def each(K, of, w, v):
    return jax.vmap(of(K))(w, v)


def values(K, w, v):
    return np.asarray(each(K, itself, jnp.asarray(w), jnp.asarray(v)))


def slope(K, w, v):
    return np.asarray(each(K, jax.grad, jnp.asarray(w), jnp.asarray(v)))


def hermite(m=60):
    """Nodes (m², 2) and masses of N(0, I_2)."""
    t, q = np.polynomial.hermite_e.hermegauss(m)
    return np.stack(np.meshgrid(t, t), -1).reshape(-1, 2), np.outer(q, q).ravel() / q.sum() ** 2


def spherical(m=48):
    """Nodes (2m², 3) and masses of the unit sphere of R^3, exact to degree 2m − 1."""
    u, q = np.polynomial.legendre.leggauss(m)
    angle = np.pi * np.arange(2 * m) / m
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    x = np.concatenate(
        [np.sqrt(1 - u**2)[:, None, None] * ring, np.repeat(u[:, None, None], 2 * m, 1)], -1
    )
    return x.reshape(-1, 3), np.repeat(q / q.sum() / (2 * m), 2 * m)


def by_nodes(unit, w, v, x, q):
    return np.array([(q * unit(x, a) * unit(x, b)).sum() for a, b in zip(w, v, strict=True)])


def on_circle(power, w, v):
    """The mean of (⟨w, x⟩)₊^p (⟨v, x⟩)₊^p on the unit circle, by Gauss nodes between the kinks."""
    kinks = [np.arctan2(y, x) + s for x, y in (w, v) for s in (np.pi / 2, -np.pi / 2)]
    kinks = np.sort(np.mod(kinks, 2 * np.pi))
    nodes, weights = np.polynomial.legendre.leggauss(20)
    total = 0.0
    for low, high in zip(kinks, np.append(kinks[1:], kinks[0] + 2 * np.pi), strict=True):
        angle = (low + high) / 2 + (high - low) / 2 * nodes
        x = np.stack([np.cos(angle), np.sin(angle)], -1)
        inside = (x @ w > 0) & (x @ v > 0)
        total += (high - low) / 2 * (weights * inside * ((x @ w) * (x @ v)) ** power).sum()
    return total / (2 * np.pi)


def test_kernels_of_smooth_units_are_gaussian_expectations():
    x, q = hermite()
    for K, dim, unit in [
        (ErfKernel(), 2, lambda x, w: special.erf(x @ w / 2**0.5)),
        (ErfKernel(bias=True), 3, lambda x, w: special.erf((x @ w[:2] + w[2]) / 2**0.5)),
        (CosineKernel(), 3, lambda x, w: np.cos(x @ w[:2] + w[2])),
        (RBFKernel(0.7), 2, lambda x, y: np.exp(-0.35 * ((x - y) ** 2).sum(-1))),
    ]:
        w, v = pairs(dim=dim, scale=0.7)
        np.testing.assert_allclose(values(K, w, v), by_nodes(unit, w, v, x, q), atol=2e-8)
        mirror = np.array([-1, 1, 1])[:dim]
        assert np.abs(values(K, w, v) - by_nodes(unit, w, v * mirror, x, q)).max() > 0.05


@pytest.mark.parametrize("power", [0, 1, 2])
def test_relu_kernels_are_expectations_on_gaussians_and_spheres(power):
    w, v = pairs(dim=2)
    circle = np.array([on_circle(power, *p) for p in zip(w, v, strict=True)])
    moment = (1, 2, 8)[power]
    np.testing.assert_allclose(values(ReLUKernel(power), w, v), moment * circle, atol=1e-12)
    # the sphere of R³: x = (sin ϑ · point of the circle, cos ϑ)
    u, weights = np.polynomial.legendre.leggauss(8)
    band = (weights / 2 * (1 - u**2) ** power).sum()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0][:, :2]
    for radius in (1.0, 3**0.5):
        K = ReLUKernel(power, radius=radius)
        np.testing.assert_allclose(
            values(K, w @ turn.T, v @ turn.T), radius ** (2 * power) * band * circle, atol=1e-12
        )


@pytest.mark.parametrize("size", [0.3, 1.0, 3.0, 30.0])
def test_biased_erf_units_follow_the_bivariate_normal_law(size):
    """To correlations of 0.999, where the weights are 30 long; with gradients."""
    w, v = pairs(30, 3, seed=int(size), scale=size)
    v[:15] = np.where(np.arange(15) % 2, 1, -1)[:, None] * w[:15] + 0.3 * v[:15] / size
    wide = [np.sqrt(1 + (a[:, :2] ** 2).sum(1)) for a in (w, v)]
    h, k = w[:, 2] / wide[0], v[:, 2] / wide[1]
    rho = (w[:, :2] * v[:, :2]).sum(1) / wide[0] / wide[1]
    normal = [
        stats.multivariate_normal.cdf([a, b], cov=[[1, r], [r, 1]])
        for a, b, r in zip(h, k, rho, strict=True)
    ]
    expected = 4 * np.array(normal) - 2 * special.ndtr(h) - 2 * special.ndtr(k) + 1
    np.testing.assert_allclose(values(ErfKernel(bias=True), w, v), expected, atol=3e-12)
    w[:, 2] = v[:, 2] = 0
    unbiased = values(ErfKernel(), w[:, :2], v[:, :2])
    np.testing.assert_allclose(values(ErfKernel(bias=True), w, v), unbiased, atol=3e-12)


def test_rbf_kernels_on_spheres_hold_in_every_dimension_and_at_every_scale():
    x, q = spherical()
    w, v = pairs()
    unit = lambda x, y: np.exp(-0.35 * ((3**0.5 * x - y) ** 2).sum(-1))  # noqa: E731
    K = KERNELS["RBF, sphere"]
    np.testing.assert_allclose(values(K, w, v), by_nodes(unit, w, v, x, q), rtol=1e-11)
    for d in (2, 3, 4, 7, 30):
        y = np.zeros((7, d))
        y[:, 0] = [1e-4, 0.1, 1.0, 3.0, 20.0, 100.0, 3000.0]  # E exp(2κr⟨x, y⟩), κ = r = 1
        z, nu = 2 * y[:, 0], d / 2 - 1
        log = special.gammaln(d / 2) + nu * np.log(2 / z) + np.log(special.ive(nu, z)) + z
        got = values(RBFKernel(1.0, radius=1.0), y, y)
        np.testing.assert_allclose(got, np.exp(log - 1 - y[:, 0] ** 2), rtol=3e-10, atol=1e-300)
    y = np.array([[0.4], [-1.5]])
    ends = [(np.exp(-((s - y[:, 0]) ** 2))) for s in (-1.0, 1.0)]
    np.testing.assert_allclose(values(RBFKernel(1.0, radius=1.0), y, y), sum(ends) / 2, rtol=1e-14)


def test_overlaps_of_gaussians_are_integrals_over_the_plane():
    x = np.linspace(-9, 9, 181)
    cell = np.stack(np.meshgrid(x, x), -1).reshape(-1, 2)
    normal = lambda x, y: np.exp(-((x - y) ** 2).sum(-1)) / np.pi  # noqa: E731
    w, v = pairs(6, 2)
    got = values(GaussianOverlap(0.5), w, v)
    np.testing.assert_allclose(got, by_nodes(normal, w, v, cell, 0.1**2), rtol=1e-12)


@every_kernel
def test_gradients_and_their_slopes_are_differences_of_values(K):
    w, v = pairs(12, seed=3)
    step = 1e-5

    def difference(f):
        return np.stack(
            [(f(w + step * e) - f(w - step * e)) / (2 * step) for e in np.eye(3)], axis=1
        )

    expected = difference(lambda x: values(K, x, v))
    np.testing.assert_allclose(slope(K, w, v), expected, atol=3e-9)
    expected = difference(lambda x: slope(K, x, v))
    second = each(K, curvature, jnp.asarray(w), jnp.asarray(v))
    np.testing.assert_allclose(second, expected, atol=1e-7, rtol=1e-6)


@every_kernel
def test_kernels_are_symmetric_positive_and_keep_single_precision(K):
    w, v = pairs(12, seed=4)
    np.testing.assert_allclose(values(K, w, v), values(K, v, w), rtol=1e-12, atol=1e-14)
    left, right = np.repeat(w, 12, 0), np.tile(w, (12, 1))
    gram = values(K, left, right).reshape(12, 12)
    assert np.linalg.eigvalsh(gram).min() > -1e-12
    single = [jnp.asarray(x, jnp.float32) for x in (w, v)]
    value, gradient = each(K, jax.value_and_grad, *single)
    assert value.dtype == gradient.dtype == jnp.float32
    np.testing.assert_allclose(value, values(K, w, v), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(gradient, slope(K, w, v), rtol=2e-4, atol=2e-5)


def test_relu_kernels_have_their_gradients_at_parallel_and_at_vanishing_weights():
    """At w = sv, s > 0: ∂K_1 = E[1{⟨v, x⟩ > 0} ⟨v, x⟩ x] = v/2 and ∂K_2 = 3s |v|² v; 0 at −sv."""
    v = np.array([[0.3, -1.2, 0.7], [1.0, 0.1, 0.2]])
    norm = (v**2).sum(1, keepdims=True)
    for s in (1.0, 2.0, 1 / 3):
        for K, expected in [(ReLUKernel(1), v / 2), (ReLUKernel(2), 3 * s * norm * v)]:
            np.testing.assert_allclose(slope(K, s * v, v), expected, atol=1e-7)
            np.testing.assert_allclose(slope(K, -s * v, v), 0, atol=1e-7)
        np.testing.assert_allclose(slope(ReLUKernel(0), s * v, v), 0, atol=1e-15)
        np.testing.assert_allclose(slope(ReLUKernel(0), -s * v, v), 0, atol=1e-15)
    # two-sided differences, along and across v
    across = np.cross(v, [0.0, 0.0, 1.0])
    for K in (ReLUKernel(1), ReLUKernel(2)):
        for w in (v, -v):
            for e in (v, across):
                d = (values(K, w + 1e-6 * e, v) - values(K, w - 1e-6 * e, v)) / 2e-6
                np.testing.assert_allclose((slope(K, w, v) * e).sum(1), d, atol=2e-8)
    for power in (0, 1, 2):
        K = ReLUKernel(power)
        for w, u in ((0 * v, v), (v, 0 * v), (0 * v, 0 * v)):
            assert (values(K, w, u) == 0).all() and (slope(K, w, u) == 0).all()
        for w in (v, -v, 0 * v):
            assert np.isfinite(each(K, curvature, jnp.asarray(w), jnp.asarray(v))).all()
    # Gauss–Newton: the mixed curvature of ReLU at w = v is E[1{⟨w, x⟩ > 0} x xᵀ] = I/2
    mixed = each(ReLUKernel(1), mixed_curvature, jnp.asarray(v), jnp.asarray(v))
    np.testing.assert_allclose(mixed, np.stack([np.eye(3) / 2] * 2), atol=1e-14)


def test_erf_kernels_stay_finite_at_weights_without_end():
    w = jnp.array([[1e6, 2e6, 1.0], [1e3, 0.0, -1.0], [0.0, 0.0, 0.0]], jnp.float32)
    for K in (ErfKernel(), ErfKernel(bias=True)):
        for v in (w, -w):
            value, gradient = each(K, jax.value_and_grad, w, v)
            assert np.isfinite(value).all() and np.isfinite(gradient).all()


def sigma(theta, x):
    """c erf(⟨w, x⟩/√2), θ = (c, w)."""
    return (theta[0] * jax.lax.erf((theta[1:] * x).sum() / 2**0.5))[None]


def gradients(network, energy):
    return jax.tree.leaves(mean_field_gradient(network, energy))


def problem():
    """A signed teacher of three erf units on N(0, I_2), and a student of five."""
    rng = np.random.default_rng(5)
    teacher = Measure(0.7 * rng.standard_normal((3, 3)), np.array([0.5, 0.3, 0.2]))
    student = Measure(rng.standard_normal((5, 3)), np.full(5, 0.2))
    x, q = hermite(40)
    y = Network.shallow(sigma, teacher)(jnp.asarray(x))
    return teacher, Network.shallow(sigma, student), Data(x, y, q)


def test_a_teacher_and_its_students_have_the_population_risk():
    teacher, student, data = problem()
    energy, risk = teacher_student(charged(ErfKernel()), teacher), Risk(data)
    assert abs(float(energy(student) - risk(student))) < 1e-8 < 1e-2 < float(risk(student))
    ours, theirs = (gradients(student, e) for e in (energy, risk))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    known = Network.shallow(sigma, teacher)
    assert abs(float(energy(known))) < 1e-15
    assert max(np.abs(g).max() for g in gradients(known, energy)) < 1e-14
    wrong = Measure(
        teacher.points * jnp.array([[-1.0, 1, 1]]), teacher.masses
    )  # all charges flipped
    assert float(energy(Network.shallow(sigma, wrong))) > 0.05


def test_energies_of_the_sources_are_multiples_of_ours():
    """The table of `docs/conventions.md`, each side computed from its definition."""
    _, student, data = problem()
    theta, n = student.points(0), 5
    y, q = np.asarray(data.y[:, 0]), np.asarray(data.masses)

    def units(theta):
        return jax.vmap(lambda t: jax.vmap(lambda z: sigma(t, z)[0])(data.x))(theta)

    def square(theta):
        """E(y − ŷ)²."""
        return (data.masses * (data.y[:, 0] - units(theta).mean(0)) ** 2).sum()

    V = lambda t: -(data.masses * data.y[:, 0] * units(t[None])[0]).sum()  # noqa: E731
    U = lambda t, u: (data.masses * units(t[None])[0] * units(u[None])[0]).sum()  # noqa: E731
    R0 = (q * y**2).sum()  # Mei et al.'s R_#
    energy = from_potentials(V, U, R0 / 2)
    F, K, C = energy.F, energy.K, energy.constant

    v = np.mean([V(t) for t in theta])
    u = np.mean([[U(t, s) for t in theta] for s in theta])
    f = np.mean([F(t) for t in theta])
    k = np.mean([[K(t, s) for t in theta] for s in theta])
    E, total = float(energy(student)), float(square(theta))
    np.testing.assert_allclose(total, 2 * E, rtol=1e-12)
    np.testing.assert_allclose(R0 + 2 * v + u, 2 * E, rtol=1e-12)  # Mei et al.
    np.testing.assert_allclose(R0 / 2 + v + u / 2, E, rtol=1e-12)
    np.testing.assert_allclose(2 * C - 2 * f + k, 2 * E, rtol=1e-12)  # Rotskoff et al.
    assert abs(R0 / 2 + v + u - E) > 0.01 * E  # ½R_# + ∫V + ∬U, a misprint of some notes

    ours = gradients(student, energy)[0].reshape(n, 3)
    by_particle = jax.grad(square)(theta)
    np.testing.assert_allclose(n / 2 * by_particle, ours, atol=1e-14)  # n/2 ∇_i ‖f − f*‖²
    residual = y - np.asarray(units(theta).mean(0))
    feature = jax.vmap(lambda t: jax.vmap(lambda z: jax.grad(lambda s: sigma(s, z)[0])(t))(data.x))
    step = 2 * np.einsum("k,k,nkd->nd", q, residual, feature(theta))  # Mei et al.'s step over s_k
    np.testing.assert_allclose(step, -2 * ours, atol=1e-14)


def cubes(n=3000, d=4, seed=6):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, d, d, d)))


def interval(sample):
    """The mean and four standard errors."""
    return sample.mean(), 4 * sample.std() / len(sample) ** 0.5


def test_the_3_spin_function_has_its_mean_norms():
    """E‖f‖² = d over random coefficients, of which d(d − 1)/(d + 2) is cubic, 3d/(d + 2) linear."""
    d = 4
    norm, (cubic, linear) = jax.vmap(lambda a: (ThreeSpin(a).squared_norm, ThreeSpin(a).parts))(
        cubes(d=d)
    )
    for sample, expected in [
        (norm, d),
        (cubic, d * (d - 1) / (d + 2)),
        (linear, 3 * d / (d + 2)),
    ]:
        mean, error = interval(np.asarray(sample))
        assert abs(mean - expected) < error < expected / 5
        assert abs(mean - 1.25 * expected) > error


def test_the_3_spin_function_has_its_own_norms():
    x, q = spherical(6)
    f = ThreeSpin(cubes(1, 3)[0])
    y = np.asarray(jax.vmap(f)(jnp.asarray(3**0.5 * x)))[:, 0]
    direct = np.einsum("ijk,ni,nj,nk->n", cubes(1, 3)[0], *[3**0.5 * x] * 3) / 3
    np.testing.assert_allclose(y, direct, atol=1e-13)
    np.testing.assert_allclose(f.squared_norm, (q * y**2).sum(), rtol=1e-13)
    coefficients = 3 * (q * y) @ x  # of the projection on the functions x_i
    np.testing.assert_allclose(f.parts[1], (coefficients**2).sum() / 3, rtol=1e-12)
    np.testing.assert_allclose(sum(f.parts), f.squared_norm, rtol=1e-14)
    f = ThreeSpin(cubes(1, 6)[0])
    sample = Sphere(6, 6**0.5).draw(100_000, jax.random.key(0))
    mean, error = interval(np.asarray(jax.vmap(f)(sample))[:, 0] ** 2)
    assert abs(mean - f.squared_norm) < error < f.squared_norm / 20


def test_forces_of_the_3_spin_function_are_expectations():
    x, q = spherical(40)
    x = 3**0.5 * x
    f = ThreeSpin(cubes(1, 3)[0])
    y = np.asarray(jax.vmap(f)(jnp.asarray(x)))[:, 0]
    theta = np.random.default_rng(7).standard_normal((9, 4))
    theta[:3, :3] *= np.array([1e-9, 1e-3, 2.0])[:, None]
    theta[3, :3] = 0
    h = np.tanh(x @ theta[:, :3].T + theta[:, 3])
    force = jax.jit(jax.vmap(jax.value_and_grad(f.force(jnp.tanh))))
    value, gradient = force(jnp.asarray(theta))
    np.testing.assert_allclose(value, (q * y) @ h, atol=1e-12)
    weights = (q * y)[:, None] * (1 - h**2)
    expected = np.concatenate([weights.T @ x, weights.sum(0)[:, None]], 1)
    np.testing.assert_allclose(gradient, expected, atol=2e-9)
    single, _ = force(jnp.asarray(theta, jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, value, atol=2e-6)

    # d = 10 by sampling; without the odd harmonics of x ↦ −x nothing is left
    f = ThreeSpin(cubes(1, 10)[0])
    x = np.asarray(Sphere(10, 10**0.5).draw(100_000, jax.random.key(1)))
    y = np.asarray(jax.vmap(f)(jnp.asarray(x)))[:, 0]
    t = np.append(0.5 * np.random.default_rng(8).standard_normal(10), 0.3)
    mean, error = interval(y * special.expit(x @ t[:10] + t[10]))
    expected = float(f.force(jax.nn.sigmoid)(jnp.asarray(t)))
    assert abs(mean - expected) < error < abs(expected) / 3
    assert abs(float(f.force(jnp.cos)(jnp.asarray(t).at[10].set(0.0)))) < 1e-14


def test_relu_units_without_biases_see_the_linear_part_only():
    f = ThreeSpin(cubes(1, 5)[0])
    relu, a = f.force(jax.nn.relu), np.random.default_rng(9).standard_normal(5)
    S = np.asarray(f.S)
    linear = 3 / 7 * np.trace(S, axis1=1, axis2=2) @ a
    np.testing.assert_allclose(relu(jnp.asarray(np.append(a, 0.0))), linear / 2, rtol=1e-12)
    biased = relu(jnp.asarray(np.append(a, 1.0)))
    x = np.asarray(Sphere(5, 5**0.5).draw(200_000, jax.random.key(2)))
    y = np.asarray(jax.vmap(f)(jnp.asarray(x)))[:, 0]
    mean, error = interval(y * np.maximum(x @ a + 1.0, 0))
    share = float(f.force(lambda z: z)(jnp.asarray(np.append(a, 1.0))))
    assert abs(mean - biased) < error
    np.testing.assert_allclose(share, linear, rtol=1e-12)


@pytest.mark.filterwarnings("error")
def test_a_population_keeps_the_arrays_of_its_target():
    f = ThreeSpin(cubes(1, 5)[0])
    data = Data.from_space(Sphere(5, 5**0.5), f, 8, key=jax.random.key(0))
    draw = jax.jit(lambda data: data.draw(5, jax.random.key(1)))
    np.testing.assert_allclose(draw(data).y, jax.vmap(f)(draw(data).x), rtol=1e-12)
    other = ThreeSpin(2.0 * f.S)  # of the same structure: nothing is compiled into it
    same = jax.tree.structure(Data.from_space(Sphere(5, 5**0.5), other, 8, key=jax.random.key(0)))
    assert same == jax.tree.structure(data)


def test_a_teacher_in_double_precision_teaches_students_in_single():
    teacher, student, _ = problem()
    energy = teacher_student(charged(ErfKernel()), teacher)
    single = jax.tree.map(lambda a: a.astype(jnp.float32), student)
    value = energy(single)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, energy(student), rtol=1e-5)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ErfKernel(bias=2), "bias must be True or False, got 2: write ErfKernel"),
        (lambda: ReLUKernel(3), "power must be 0, 1 or 2, got 3: write ReLUKernel"),
        (lambda: ReLUKernel(1, radius=-1.0), "radius must be a positive finite number, got -1.0"),
        (lambda: RBFKernel(0.0), "kappa must be a positive finite number, got 0.0: write kappa"),
        (lambda: GaussianOverlap(-1.0), "variance must be a positive finite number, got -1.0"),
        (lambda: ErfKernel()(jnp.ones((2, 3)), jnp.ones(3)), r"shapes \(2, 3\) and \(3,\): write"),
        (lambda: CosineKernel()(jnp.ones(1), jnp.ones(1)), "with the bias last, got shapes"),
        (lambda: charged(3), "K must be a function of particles, got 3: write charged"),
        (lambda: charged(ErfKernel), "K must be a function of particles, got <class"),
        (lambda: charged(ErfKernel())(jnp.ones(1), jnp.ones(1)), "put the charge c first"),
        (lambda: teacher_student(ErfKernel(), [0.0]), "teacher must be a Measure, got list: write"),
        (
            lambda: teacher_student(lambda t, u: t * u, problem()[0]),
            r"K must return a scalar for particles of shape \(3,\), got shape \(3,\): write",
        ),
        (lambda: from_potentials(1.0, ErfKernel()), "V must be a function of particles, got 1.0"),
        (lambda: from_potentials(jnp.sum, 1.0), "U must be a function of particles, got 1.0"),
        (lambda: ThreeSpin(np.ones((2, 2, 3))), r"a must have shape \(d, d, d\).*got \(2, 2, 3\)"),
        (lambda: ThreeSpin(np.ones((2, 2))), "a must have 3 axes"),
        (lambda: ThreeSpin(np.ones((2, 2, 2))).force(3), "h must be a function of a scalar, got 3"),
        (lambda: ThreeSpin(np.ones((2, 2, 2))).force(jnp.sin, 0), "nodes must be an int of at"),
        (
            lambda: ThreeSpin(np.ones((2, 2, 2))).force(jnp.sin)(jnp.ones(2)),
            r"theta must be a particle \(a, b\) of shape \(3,\), got \(2,\): write jnp.append",
        ),
    ],
)
def test_wrong_arguments_are_told_what_to_write(call, message, monkeypatch):
    """As users run it: tests check types besides."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        call()
