"""Laws of approximation: what N neurons lose, and what width, steps and dimension do to it.

Static: for the energy E = C − ∫ F dμ + ½ ∬ K dμ dμ of half a squared error, N neurons drawn
independently from μ have

    E R_N = R(μ) + (∫ K(θ, θ) dμ − ∬ K dμ dμ) / 2N

exactly, as the N diagonal pairs of N² see K(θ, θ). From an optimal μ, inf R_N − inf R ≤ K/N with
this constant (Mei, Montanari & Nguyen, arXiv:1804.06561, Proposition 1, in our convention).

Dynamic: neurons stay within C N^(-1/2) of the limit, with C the same in all dimensions D, and steps
η on single samples add C' (Dη)^½ (Mei, Misiakiewicz & Montanari, arXiv:1902.06015). Keys, sizes and
times were fixed before the first run; figures are printed (`pytest -s`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Gaussian, Measure, MonteCarlo, Network, Product, Uniform, quadrature
from limits import Adaptive, Data, Interaction, Risk, fit_power_law, flow, train
from limits.kernels import ErfKernel, charged, teacher_student
from limits.references import single_neuron, sparse_relu

KEY = jax.random.key(0)
TEACHER = quadrature(Gaussian(2, 0.5), 400)  # hundreds of neurons: no small network is as good
REALISED = teacher_student(ErfKernel(), TEACHER)


def loss_of_sampling(K, measure):
    """½ (∫ K(θ, θ) dμ − ∬ K dμ dμ)."""
    points, p = measure.points, measure.masses
    pairs = jax.vmap(lambda t: jax.vmap(lambda u: K(t, u))(points))(points)
    return float((p @ jnp.diagonal(pairs) - p @ pairs @ p) / 2)


@eqx.filter_jit
def risks_of_samples(energy, measure, n, keys):
    """Of networks of n neurons drawn from `measure`."""
    return jax.vmap(lambda k: energy(Network.particles(measure.resample(n, key=k))))(keys)


def assert_mean(values, wanted):
    values = np.asarray(values)
    assert abs(values.mean() - wanted) < 4 * values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("n", [2, 8, pytest.param(32, marks=pytest.mark.slow)])
def test_n_neurons_of_an_optimal_law_lose_exactly_the_constant_over_n(n):
    constant = loss_of_sampling(REALISED.K, TEACHER)
    risks = risks_of_samples(REALISED, TEACHER, n, jax.random.split(KEY, 1000))
    print(f"\nN E R_N = {n * risks.mean():.4f}, constant {constant:.4f}")
    assert_mean(n * risks, constant)


@pytest.mark.slow
def test_neurons_of_another_law_lose_more():
    """Their loss does not fall below that of the law."""
    other = Measure(TEACHER.points + 0.5, TEACHER.masses)
    floor = float(REALISED(Network.particles(other)))
    risks = risks_of_samples(REALISED, other, 256, jax.random.split(KEY, 200))
    assert_mean(risks, floor + loss_of_sampling(REALISED.K, other) / 256)
    assert floor > 4 * loss_of_sampling(REALISED.K, TEACHER) / 256


@pytest.mark.slow
def test_the_constant_holds_where_the_optimum_has_positive_risk():
    """A sparse ReLU optimum: charges of one size, its total variation, so that the penalty is the
    same for all samples."""
    x = jax.random.normal(jax.random.key(1), (12, 2))
    data = Data(x, jnp.sin(3 * x[:, :1]) * x[:, 1:])
    best = sparse_relu(data, 0.02)
    size = best.total_variation
    points = np.concatenate([size * np.sign(best.charges)[:, None], best.directions], axis=1)
    optimum = Measure(points, np.abs(best.charges) / size)
    energy = Interaction.from_data(relu, data)
    least = float(energy(Network.particles(optimum)))
    assert abs(least + 0.02 * size - best.value) < 1e-9 and least > 1e-3
    constant = loss_of_sampling(energy.K, optimum)
    for n in (2, 8, 32):
        risks = risks_of_samples(energy, optimum, n, jax.random.split(KEY, 1000))
        assert_mean(n * (risks - least), constant)


def relu(theta, x):
    return theta[:1] * jax.nn.relu(theta[1:] @ x)[None]


@eqx.filter_jit
def optimised(n, keys):
    def one(key):
        run = flow(
            Network.particles(TEACHER.resample(n, key=key)),
            REALISED,
            t1=200.0,
            solver=Adaptive(rtol=1e-5),
        )
        return run.energies

    return jax.vmap(one)(keys)


@pytest.mark.slow
def test_networks_lose_at_most_the_constant_over_n():
    """Sampled networks lose K/N, those optimised from them less."""
    widths, seeds = [4, 8, 16, 32], 24
    constant = loss_of_sampling(REALISED.K, TEACHER)
    runs = np.stack([optimised(n, jax.random.split(jax.random.key(n), seeds)) for n in widths], 1)
    start, end = runs[..., 0], runs[..., -1]
    print(f"\nK = {constant:.4f} (closed form); {seeds} seeds")
    for j, n in enumerate(widths):
        mean, error = start[:, j].mean(), start[:, j].std(ddof=1) / seeds**0.5
        print(
            f"  N = {n}: N R_N sampled {n * mean:.4f} ± {n * error:.4f}, "
            f"optimised {n * end[:, j].mean():.2e}, at most {n * end[:, j].max():.2e}"
        )
    sampled, best = fit_power_law(widths, start), fit_power_law(widths, end)
    print(f"  exponents: sampled {sampled}, optimised {best}")
    assert sampled.low <= -1 <= sampled.high
    assert (end < constant / np.array(widths)[None]).all()
    assert best.high < -1


# Width, dimension and steps: learning erf(x_1/√2), x ~ N(0, I_D), with a erf(⟨w, x⟩/√2)

TIMES = np.linspace(0.0, 2.0, 5)
DIMS = [4, 16, 64]
REDUCED = Product(Uniform(0.0, 1.0), Uniform(0.5, 1.5))  # s = w_1 and r, the norm of the rest


def unit(theta, x):
    return theta[:1] * jax.scipy.special.erf(theta[1:] @ x / 2**0.5)[None]


def population(dim):
    teacher = jnp.zeros((1, dim + 1)).at[:, :2].set(1.0)
    return teacher_student(charged(ErfKernel()), Measure(teacher, jnp.ones(1)))


def places(network):
    return network.points(0)


def neurons(dim, n, key):
    """Neurons (a, w) with a = 1, their (a, s, r) and the directions of the rest of w."""
    inner, outer = jax.random.split(key)
    s, r = REDUCED.draw(n, inner).T
    rest = jax.random.normal(outer, (n, dim - 1))
    rest = rest / jnp.linalg.norm(rest, axis=1, keepdims=True)
    one = jnp.ones_like(s)
    full = jnp.concatenate([jnp.stack([one, s], 1), r[:, None] * rest], axis=1)
    return full, jnp.stack([one, s, r], 1), rest


def apart(a, b):
    """Root mean square over neurons of the largest distance over times."""
    return jnp.sqrt((((a - b) ** 2).sum(-1).max(0)).mean())


@eqx.filter_jit
def from_limit(dim, n, keys):
    nodes = quadrature(REDUCED, 64).pushforward(lambda c: jnp.append(1.0, c))
    options = dict(t1=2.0, times=TIMES, observe=places, solver=Adaptive(rtol=1e-5))

    def one(key):
        full, reduced, rest = neurons(dim, n, key)
        finite = flow(Network.particles(uniform(full)), population(dim), **options).observed
        start = Network.particles(nodes.with_tracers(reduced))
        a, s, r = jnp.moveaxis(flow(start, single_neuron(dim, nodes=12), **options).observed, -1, 0)
        a, s, r = a[:, -n:], s[:, -n:], r[:, -n:]
        there = jnp.concatenate([jnp.stack([a, s], -1), r[..., None] * rest[None]], -1)
        return apart(finite, there)

    return jax.lax.map(one, keys)


def uniform(points):
    return Measure(points, jnp.full(len(points), 1 / len(points)))


@pytest.mark.slow
def test_the_distance_to_the_limit_is_free_of_the_dimension():
    widths, seeds = [16, 48, 144], 16
    found = {
        dim: np.stack(
            [from_limit(dim, n, jax.random.split(jax.random.key(n), seeds)) for n in widths], 1
        )
        for dim in DIMS
    }
    print()
    for dim, distances in found.items():
        rate = fit_power_law(widths, distances)
        scaled = (distances * np.sqrt(widths)).mean(0).round(3)
        print(f"  D = {dim}: exponent in N {rate}, √N distance {scaled}")
        assert rate.low <= -0.5 <= rate.high
    for j, n in enumerate(widths):
        grows = fit_power_law(DIMS, np.stack([found[dim][:, j] for dim in DIMS], 1))
        print(f"  N = {n}: exponent in D {grows}")
        assert grows.high < 0.2  # a constant that grew as D^½ would have 0.5


@eqx.filter_jit
def from_flow(dim, step, keys, batch=1):
    def target(x):
        return jax.scipy.special.erf(x[:1] / 2**0.5)

    fresh = Risk(Data.from_space(Gaussian(dim), target, 8, MonteCarlo(), key=KEY))

    def one(key):
        start, sample = jax.random.split(key)
        points = uniform(neurons(dim, 96, start)[0])
        there = flow(
            Network.particles(points),
            population(dim),
            t1=2.0,
            times=TIMES,
            observe=places,
            solver=Adaptive(rtol=1e-5),
        )
        options = dict(step=step, t1=2.0, times=TIMES, observe=places)
        if batch is None:
            run = train(Network.particles(points), population(dim), **options)
        else:
            run = train(Network.shallow(unit, points), fresh, batch=1, key=sample, **options)
        return apart(run.observed, there.observed)

    return jax.lax.map(one, keys)


@pytest.mark.slow
def test_single_samples_add_the_root_of_dimension_times_step():
    """Against the flow of the same 96 neurons; full batches add the step itself, whatever D."""
    steps, seeds = [2.0**-8, 2.0**-10, 2.0**-12], 8
    keys = jax.random.split(jax.random.key(5), seeds)
    noisy = np.array([[from_flow(dim, step, keys) for step in steps] for dim in DIMS])
    print()
    for dim, distances in zip(DIMS, noisy, strict=True):
        rate = fit_power_law(steps, distances.T)
        print(f"  D = {dim}: exponent in the step {rate}, distances {distances.mean(1).round(4)}")
        assert rate.low - 0.05 <= 0.5 <= rate.high + 0.05
    for step, distances in zip(steps, noisy.swapaxes(0, 1), strict=True):
        rate = fit_power_law(DIMS, distances.T)
        print(f"  step {step}: exponent in D {rate}")
        assert rate.low - 0.05 <= 0.5 <= rate.high + 0.05
    still = np.array(
        [[from_flow(dim, step, keys[:3], None) for step in (0.1, 0.02)] for dim in DIMS]
    )
    rates = [fit_power_law([0.1, 0.02], distances.T) for distances in still]
    print(f"  full batches: {[str(r) for r in rates]}, in D {fit_power_law(DIMS, still[:, 1].T)}")
    assert all(abs(rate.exponent - 1) < 0.1 for rate in rates)
    assert fit_power_law(DIMS, still[:, 1].T).high < 0.2
