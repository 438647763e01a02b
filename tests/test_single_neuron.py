"""One neuron learned by many: what the dimension costs in steps, widths and samples."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, roots_genlaguerre, roots_hermitenorm

from ensembles import Measure, Network
from limits import Adaptive, Data, Risk, fit_power_law, flow, train
from limits.kernels import ErfKernel, charged, teacher_student
from limits.references import single_neuron

DIMS, LARGEST, WIDTH, GOAL = np.array([10, 20, 40]), 40, 100, 1 / 60
PAIRS = charged(ErfKernel())


def unit(theta, x):
    return theta[:1] * jax.scipy.special.erf(jnp.dot(theta[1:], x) / np.sqrt(2.0))


class Fresh(eqx.Module):
    """Inputs of which d coordinates are Gaussian and the others zero."""

    ones: jax.Array

    def __call__(self, size, key):
        x = self.ones[None] * jax.random.normal(key, (size, LARGEST))
        return x, jax.scipy.special.erf(x[:, :1] / np.sqrt(2.0))


def ones(d):
    return (jnp.arange(LARGEST) < d).astype(float)


def measure(points):
    return Measure(points, jnp.full(len(points), 1 / len(points)))


def draws(d, n, key):
    scales = jnp.append(jnp.ones(1), ones(d) / jnp.sqrt(d))
    return jax.random.normal(key, (n, 1 + LARGEST)) * scales[None]


NEURON = teacher_student(PAIRS, measure(jnp.zeros((1, 1 + LARGEST)).at[0, :2].set(1.0)))


def neurons(network):
    return network.points(0)


@eqx.filter_jit
def descend(d, step, times, keys):
    risk = Risk(Data(jnp.zeros((1, LARGEST)), jnp.zeros((1, 1)), sampler=Fresh(ones(d))))

    def one(key):
        start = Network.shallow(unit, measure(draws(d, WIDTH, jax.random.fold_in(key, 0))))
        return train(
            start,
            risk,
            step=step,
            batch=1,
            t1=times[-1],
            times=times,
            observe=neurons,
            key=jax.random.fold_in(key, 1),
            throw=False,
        ).observed

    seen = jax.vmap(one)(keys)
    return seen, jax.vmap(
        lambda p: jax.lax.map(lambda q: NEURON(Network.particles(measure(q))), p)
    )(seen)


@eqx.filter_jit
def follow(d, n, times, keys):
    def one(key):
        start = Network.particles(measure(draws(d, n, jax.random.fold_in(key, 0))))
        run = flow(
            start, NEURON, t1=times[-1], times=times, observe=neurons, solver=Adaptive(rtol=1e-4)
        )
        return run.observed

    return jax.vmap(one)(keys)


@eqx.filter_jit
def apart(ones, others):
    def one(pair):
        a, b = map(measure, pair)
        return jnp.sqrt(2 * teacher_student(PAIRS, b)(Network.particles(a)))

    return jax.lax.map(one, (ones, others))


def reduced(d):
    """The law of (a, s, r) at the start."""
    a, p = roots_hermitenorm(12)
    s, q = roots_hermitenorm(4)
    half, m = roots_genlaguerre(3, (d - 3) / 2)
    grid = np.meshgrid(a, s / np.sqrt(d), np.sqrt(2 * half / d), indexing="ij")
    masses = np.einsum("i,j,k->ijk", p / p.sum(), q / q.sum(), m / m.sum()).ravel()
    return Measure(np.stack(grid, -1).reshape(-1, 3), masses)


@pytest.mark.slow
def test_steps_to_a_risk_are_proportional_to_the_dimension():
    """For steps η = c/d, small and almost as large as they may be; the largest one that serves
    d = 10 is the control: it is of no use for d = 40."""
    keys = jax.random.split(jax.random.key(1), 24)
    for c, horizon in ((0.5, 8.0), (1.0, 10.0), (4.0, 32.0)):
        found = np.zeros((24, len(DIMS)))
        for j, d in enumerate(DIMS):
            every = round(horizon * d / c / 48)
            times = c / d * every * np.arange(round(horizon * d / c / every) + 1)
            _, risks = descend(jnp.array(d), jnp.array(c / d), jnp.asarray(times), keys)
            below = np.asarray(risks) < GOAL
            assert below.any(1).all()
            k = below.argmax(1)
            high, low = (np.log(np.take_along_axis(np.asarray(risks), i[:, None], 1)[:, 0] / GOAL)
                         for i in (k - 1, k))  # fmt: skip
            found[:, j] = (times[k - 1] + high / (high - low) * (times[k] - times[k - 1])) * d / c
        rate = fit_power_law(DIMS, found)
        print(f"\nstep {c}/d: {found.mean(0).round(0)} steps, exponent {rate}")
        assert rate.low > 0.85 and rate.high < 1.2
    times = jnp.array([0.0, 60.0])
    small, large = (descend(jnp.array(d), jnp.array(0.6), times, keys)[1][:, -1] for d in (10, 40))
    print(f"step 0.6: risks {np.sort(small)} for d = 10, {np.sort(large)} for d = 40")
    assert np.median(small) < GOAL < np.median(large)


@pytest.mark.slow
def test_the_error_of_sgd_is_the_root_of_dimension_times_step():
    keys, ends = jax.random.split(jax.random.key(1), 16), jnp.array([0.0, 4.0])
    exact = {int(d): follow(jnp.array(d), WIDTH, ends, keys)[:, -1] for d in DIMS}

    def errors(d, step):
        seen, _ = descend(jnp.array(d), jnp.array(step), ends, keys)
        return np.asarray(apart(seen[:, -1], exact[int(d)]))

    sizes = np.array([0.000125, 0.00025, 0.0005, 0.001])
    laws = {
        "in d": fit_power_law(DIMS, np.stack([errors(d, 0.0005) for d in DIMS], 1)),
        "in the step": fit_power_law(sizes, np.stack([errors(40, s) for s in sizes], 1)),
    }
    still = fit_power_law(DIMS, np.stack([errors(d, 0.02 / d) for d in DIMS], 1))
    print(f"\nexponents { {k: str(v) for k, v in laws.items()} }, at one d × step {still}")
    for rate in laws.values():
        assert rate.low <= 0.5 <= rate.high and rate.low > 0.3
    assert still.low <= 0 <= still.high and still.high < 0.2


@pytest.mark.slow
def test_the_width_needed_does_not_depend_on_the_dimension():
    """Distances from the limit of (a, s, r): as N^(−1/2), with one constant for all d."""
    keys, times, widths = jax.random.split(jax.random.key(2), 16), jnp.array([0.0, 4.0]), [25, 100]

    def averages(f, one, other):
        return jax.vmap(lambda t: jax.vmap(lambda u: f(t, u))(other))(one)

    far = np.zeros((16, 2, len(DIMS)))
    for j, d in enumerate(DIMS):
        begin, energy = reduced(d), single_neuron(int(d))
        law = flow(
            Network.particles(begin), energy, t1=4.0, solver=Adaptive(rtol=1e-5)
        ).final.measure(0)
        p, t = law.masses, law.points
        own = p @ averages(energy.K, t, t) @ p

        @jax.jit
        def one(x, energy=energy, p=p, t=t, own=own):
            short = jnp.stack([x[:, 0], x[:, 1], jnp.linalg.norm(x[:, 2:], axis=1)], axis=1)
            mixed = (averages(energy.K, short, t) @ p).mean()
            return jnp.sqrt(averages(PAIRS, x, x).mean() - 2 * mixed + own)

        for i, n in enumerate(widths):
            ends = follow(jnp.array(d), n, times, keys)[:, -1]
            far[:, i, j] = [one(x) for x in ends]
    for j, d in enumerate(DIMS):
        rate = fit_power_law(widths, far[:, :, j])
        print(f"\nd = {d}: exponent in N {rate}")
        assert rate.low <= -0.5 <= rate.high and rate.high < -0.2
    rate = fit_power_law(DIMS, (far * np.sqrt(widths)[None, :, None]).reshape(-1, len(DIMS)))
    print(f"exponent in d {rate}")
    assert rate.low <= 0 <= rate.high and rate.high < 0.25


def lazy_error(d, n, seed):
    """The best of ridge regression with the kernel of tangent features at the start, on the test
    set itself, in units of the variance: a lower bound of what lazy networks reach."""
    draw = np.random.default_rng([d, n, seed])
    x, z = draw.standard_normal((n, d)), draw.standard_normal((2000, d))

    def kernel(x, z):
        c = x @ z.T / d
        outer = np.outer(1 + (x**2).sum(1) / d, 1 + (z**2).sum(1) / d)
        slopes = 2 / np.pi / np.sqrt(outer - c**2)
        return d * c * slopes + 2 / np.pi * np.arcsin(c / np.sqrt(outer))

    y, wanted = (erf(v[:, :1] / np.sqrt(2)) for v in (x, z))
    values, vectors = np.linalg.eigh(kernel(x, x) / n)
    filters = 1 / (np.maximum(values, 0)[:, None] + np.logspace(-6, 1, 15))
    fits = kernel(z, x) @ vectors @ (vectors.T @ y / n * filters)
    return 3 * ((fits - wanted) ** 2).mean(0).min()


def test_the_kernel_of_lazy_networks_is_that_of_their_tangent_features():
    """By 400,000 neurons: E[∂(a φ(⟨w, x⟩)) · ∂(a φ(⟨w, x'⟩))], to four standard errors."""
    d, draw = 6, np.random.default_rng(0)
    w, a = draw.standard_normal((400_000, d)) / np.sqrt(d), draw.standard_normal(400_000)
    x, z = draw.standard_normal((2, d))
    u, v = w @ x, w @ z
    slopes = 2 / np.pi * np.exp(-(u**2 + v**2) / 2)
    features = erf(u / np.sqrt(2)) * erf(v / np.sqrt(2)) + a**2 * slopes * (x @ z)
    c, outer = x @ z / d, (1 + x @ x / d) * (1 + z @ z / d)
    exact = d * c * 2 / np.pi / np.sqrt(outer - c**2) + 2 / np.pi * np.arcsin(c / np.sqrt(outer))
    assert abs(features.mean() - exact) < 4 * features.std() / np.sqrt(len(a))
    assert features.std() / np.sqrt(len(a)) < 0.01 * abs(exact)


@pytest.mark.slow
def test_lazy_networks_stop_at_the_linear_part_where_the_mean_field_goes_on():
    """16 d samples, in d = 20: the best linear fit leaves 1 − 3/π = 4.5 % of the variance."""
    d, n = 20, 320
    lazy = np.array([lazy_error(d, n, s) for s in range(4)])
    draw = np.random.default_rng(5)
    x, z = draw.standard_normal((n, d)), draw.standard_normal((2000, d))
    y, wanted = (erf(v[:, :1] / np.sqrt(2)) for v in (x, z))
    start = measure(jax.random.normal(jax.random.key(0), (WIDTH, 1 + d))
                    * jnp.append(jnp.ones(1), jnp.full(d, d**-0.5))[None])  # fmt: skip
    run = train(Network.shallow(unit, start), Risk(Data(x, y)), step=0.5, t1=60.0)
    rich = 3 * ((np.asarray(run.final(jnp.asarray(z))) - wanted) ** 2).mean()
    print(f"\nlazy {lazy.round(4)}, mean field {rich:.4f}")
    assert lazy.min() > 0.02 and rich < 0.005


@pytest.mark.slow
def test_random_neurons_are_aligned_by_the_root_of_two_log_m_over_d():
    """max_j |⟨w_j, w*⟩|/|w_j| of M neurons is near √(2 log(M)/d): without the logarithm, as in the
    notes, 1/√d is exceeded by almost every draw. Control: normal multiples of w*, of which each is
    aligned by 1."""
    d, numbers, seeds = 200, np.array([10, 100, 1000]), 20
    draw = np.random.default_rng(0)
    w = draw.standard_normal((seeds, numbers[-1], d))
    cosines = np.abs(w[..., 0]) / np.linalg.norm(w, axis=2)
    line = draw.standard_normal((seeds, numbers[-1], 1)) * np.eye(d)[0]
    control = (np.abs(line[..., 0]) / np.linalg.norm(line, axis=2)).min() * np.sqrt(d)
    largest = np.stack([cosines[:, :m].max(1) for m in numbers], 1) * np.sqrt(d)
    mean, error = largest.mean(0), largest.std(0, ddof=1) / np.sqrt(seeds)
    bound = np.sqrt(2 * np.log(2 * numbers))  # of the mean, by a sum of exponentials
    print(f"\n√d × largest alignment of M = {numbers}: {mean.round(3)} ± {error.round(3)}, "
          f"√(2 log 2M) = {bound.round(3)}; above 1: {(largest > 1).mean(0)}; on the line of w* "
          f"at least {control:.2f}")  # fmt: skip
    assert (mean < bound).all() and (mean > 0.7 * bound).all() and control > 2 * bound[-1]
    assert (largest > 1).mean(0)[1:].min() > 0.95
    assert fit_power_law(numbers, largest).high < 0.3  # far from a power of M


@pytest.mark.slow
def test_one_neuron_fitted_to_one_neuron_has_one_minimiser_of_risk_d_over_m():
    """y = erf(⟨w*, x⟩/√2) + ε/2: descent from six starts ends at one w for m ≥ 4 d, where the
    excess risk falls at least as fast as the bound √(d log m/m), in fact as d/m. Of the risk, as
    printed, the bound cannot hold: noise stays. Control: from m = d/2 samples ends are many."""

    def ends(d, m, seed):
        draw = np.random.default_rng([d, m, seed])
        x, w = draw.standard_normal((m, d)), np.eye(d)[0]
        y = erf(x @ w / np.sqrt(2)) + 0.5 * draw.standard_normal(m)
        found = draw.standard_normal((6, d)) / np.sqrt(d)
        for _ in range(1500):
            h = found @ x.T
            off = erf(h / np.sqrt(2)) - y
            found = found - (off * np.sqrt(2 / np.pi) * np.exp(-(h**2) / 2)) @ x / m
        return found

    def excess(w):
        """E (erf(⟨w, x⟩/√2) − erf(x₁/√2))²/2 in closed form."""
        a, c = w @ w, w[0]
        parts = np.arcsin(a / (1 + a)) + np.arcsin(0.5) - 2 * np.arcsin(c / np.sqrt(2 * (1 + a)))
        return parts / np.pi

    dims, ratios, seeds = [10, 20], np.array([4, 16, 64]), 6
    print("\nexcess risk of one neuron, × m/d")
    for d in dims:
        runs = np.array([[ends(d, r * d, s) for r in ratios] for s in range(seeds)])
        apart = np.ptp(runs, axis=2).max(-1)
        risks = np.array([[excess(w[0]) for w in row] for row in runs])
        rate = fit_power_law(ratios, risks)
        print(f"d = {d}, m/d = {ratios}: {(risks.mean(0) * ratios).round(3)}, exponent {rate}; "
              f"ends apart by {apart.max():.0e}", flush=True)  # fmt: skip
        assert apart.max() < 1e-5 and rate.high < -0.5 and rate.low <= -1 <= rate.high
    few = np.ptp(ends(20, 10, 0), axis=0).max()
    print(f"m = d/2: ends apart by {few:.2f}")
    assert few > 0.1
