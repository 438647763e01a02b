"""Masses that grow: closed forms, identities and integrations by other means.

With E a function of all weights and masses, Ψ_i = ∂E/∂p_i and Δ the derivative per unit mass,
∂E/∂w_i = p_{i-1} p_i Δ_i and ∂E/∂b_i = p_i Δ_{b_i}. So along w_i' = −ξ_i Δ_i, b_i' = −ξ_i Δ_{b_i},
p_i' = −α_i p_i (Ψ_i − ⟨p_i, Ψ_i⟩)

    dE/dt = −Σ_i ξ_i (Σ p_{i-1} p_i |Δ_i|² + Σ p_i |Δ_{b_i}|²) − Σ_i α_i Var_{p_i}(Ψ_i).
"""

from itertools import pairwise

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ensembles import Affine, Atoms, Measure, Network, NeuronalEnsemble, shallow
from limits import (
    SGD,
    Adaptive,
    Data,
    FisherRao,
    GradientFlow,
    Risk,
    WassersteinFisherRao,
    coupling,
    fit_rate,
    flow,
    initial_motion,
    limit,
    mean_field_gradient,
    train,
)

DATA = regression(16, outputs=2)
RISK = Risk(DATA)
TIMES = np.linspace(0, 2, 9)


class Ramp(eqx.Module):
    """The schedule scale · (1/2 + t)."""

    scale: jax.Array

    def __call__(self, t):
        return self.scale * (0.5 + t)


class Damped(eqx.Module):
    """The schedule scale / (1 + t)."""

    scale: jax.Array

    def __call__(self, t):
        return self.scale / (1 + t)


def gains(prediction, y):
    """A loss that is linear in the outputs."""
    return -(y * prediction).sum()


LINEAR = Risk(DATA, gains)


def growth_rates(depth: int, scale: float = 1.0) -> list:
    return [Ramp(jnp.asarray(scale)), 1.5 * scale, 0.4 * scale][: depth - 1]


def moving(depth: int, transport: float = 1.0, growth: float = 1.0) -> WassersteinFisherRao:
    """Other learning rates and growth rates in every layer, some of them schedules; one program
    whatever their scales are."""
    learning = [transport, Damped(jnp.asarray(transport)), 1.5 * transport, 0.7 * transport]
    return WassersteinFisherRao(GradientFlow(learning[:depth]), growth_rates(depth, growth))


def model(depth: int) -> NeuronalEnsemble:
    return smooth(depth, outputs=2, biases=True)


def state(network):
    return network.parameters, network.masses


def masses_of(network):
    return network.masses


def outputs(network):
    return network(DATA.x)


def finite(tree) -> bool:
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def free_of_nan(tree) -> bool:
    return not any(bool(np.isnan(leaf).any()) for leaf in jax.tree.leaves(tree))


def unit_sums(masses) -> float:
    """How far masses are from summing to 1 over their last axis."""
    return max(float(np.abs(np.asarray(p).sum(-1) - 1).max()) for p in masses)


# What falls


def dissipation(network):
    """Of every layer Σ p_{i-1} p_i |Δ_i|² + Σ p_i |Δ_{b_i}|², and of every hidden one Var(Ψ_i)."""
    slope, variations = mean_field_gradient(network, RISK), RISK.first_variation(network)
    ends = pairwise((jnp.ones(1), *network.masses, jnp.ones(2)))
    moved = []
    for (p, q), w, b in zip(ends, slope.weights, slope.biases, strict=True):
        squares = (w.reshape(len(p), len(q), -1) ** 2).sum(-1)
        moved.append(p @ squares @ q + q @ b**2)
    spreads = [p @ (psi - p @ psi) ** 2 for p, psi in zip(network.masses, variations, strict=True)]
    return jnp.stack(moved), jnp.stack(spreads)


@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["WassersteinFisherRao", "FisherRao"])
@pytest.mark.parametrize("depth", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (3, 4))])
def test_the_energy_falls_by_what_every_layer_dissipates(depth, scale):
    """By Gauss–Legendre quadrature in time; without the term of any one layer it does not."""
    t1, network = 2.0, model(depth).discretise(6)
    points, weights = np.polynomial.legendre.leggauss(24)
    at, weights = (points + 1) * t1 / 2, weights * t1 / 2
    run = flow(
        network, RISK, moving(depth, scale), t1=t1, times=np.array([0.0, *at, t1]),
        observe=dissipation, rtol=1e-11, atol=1e-12,
    )  # fmt: skip
    moved, spreads = (np.asarray(a)[1:-1] for a in run.observed)
    constant = np.ones_like(at)
    learning = np.stack([constant, 1 / (1 + at), 1.5 * constant, 0.7 * constant], 1)[:, :depth]
    rates = np.stack([0.5 + at, 1.5 * constant, 0.4 * constant], 1)[:, : depth - 1]
    terms = list(scale * (weights @ (learning * moved))) if scale else []
    terms += list(weights @ (rates * spreads))
    terms, fall = np.array(terms), float(run.energies[0] - run.energies[-1])
    print(f"depth {depth}: relative {abs(terms.sum() - fall) / fall:.1e}, shares", terms / fall)
    assert abs(terms.sum() - fall) < 1e-6 * fall
    assert (np.abs(terms.sum() - terms - fall) > 1e-3 * fall).all()  # the negative control


@pytest.mark.slow
def test_without_transport_it_is_the_fisher_rao_flow():
    network = model(3).discretise(6).growing()
    options = dict(t1=2.0, times=TIMES, observe=state, step=0.01)  # the same steps in both
    pure = flow(network, RISK, FisherRao(growth_rates(3)), **options)
    frozen = flow(network, RISK, moving(3, 0.0), **options)
    assert largest(pure.observed, frozen.observed) < 1e-13
    assert largest(pure.final.weights, network.weights) == 0
    assert min(float(jnp.abs(g).max()) for g in pure.final.increment.growth) > 0.05


# Masses and tracers


@pytest.mark.slow
def test_tracers_grow_as_their_nodes_and_change_nothing():
    """Six nodes, then tracers on them, then nine at other labels."""
    ensemble, n = model(3), 6
    other = ensemble.sample(9, key=jax.random.key(60))
    pairs = zip(ensemble.measures(n), other.labels, strict=True)
    both = ensemble.network([m.with_tracers(c) for m, c in pairs])
    options = dict(t1=2.0, times=TIMES, observe=state)
    alone = flow(ensemble.discretise(n).growing(), RISK, moving(3), **options)
    run = flow(ensemble.discretise(n, tracers=both), RISK, moving(3), **options)
    (seen, masses), (seen_alone, masses_alone) = run.observed, alone.observed

    assert unit_sums(masses) < 1e-12 and unit_sums(masses_alone) < 1e-12
    assert all((np.asarray(p)[:, n:] == 0).all() for p in masses)
    assert min(float(np.abs(g[-1, :n]).max()) for g in seen.growth) > 0.05

    def cut(tree, *ranges):
        """The part of each array at ranges of neurons (before, after) of its layer."""
        last = len(tree.weights) - 1
        before, after = ranges
        first, *middle, end = tree.weights
        biases = [b if i == last else b[:, after] for i, b in enumerate(tree.biases)]
        growth = [g[:, after] for g in tree.growth]
        return first[:, after], [w[:, before, after] for w in middle], end[:, after], biases, growth

    nodes, copies = slice(0, n), slice(n, 2 * n)
    here = cut(seen, nodes, nodes)
    for ranges in [(nodes, copies), (copies, nodes), (copies, copies)]:
        assert largest(here, cut(seen, *ranges)) < 1e-12
    assert int(run.stats["steps"]) == int(alone.stats["steps"])
    assert largest(run.energies, alone.energies) < 1e-13
    assert largest(here, cut(seen_alone, nodes, nodes)) < 1e-12
    assert largest([p[:, :n] for p in masses], masses_alone) < 1e-12


# Masses that vanish, growth that overflows


def single(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, tree)


@eqx.filter_jit
def around(network, energy):
    """Energy, first variation and derivatives per unit mass."""
    return energy.value_and_first_variation(network), mean_field_gradient(network, energy)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32], ids=["float64", "float32"])
def test_nothing_is_nan_when_masses_underflow(dtype):
    """In continuous time and in steps; growth falls to thousands below 0."""
    network, risk, fast = model(3).discretise(6).growing(), RISK, moving(3, 0.1, 20_000.0)
    if dtype == jnp.float32:
        network, risk, fast = single((network, risk, fast))
    run = flow(network, risk, fast, t1=2.0, times=TIMES, observe=state)
    steps = train(network, risk, SGD(fast), step=0.01, t1=2.0, times=TIMES, observe=state)
    slack = 1e-12 if dtype == jnp.float64 else 1e-6
    for one in (run, steps):
        parameters, masses = one.observed
        lowest = min(float((g - g.max(1, keepdims=True)).min()) for g in parameters.growth)
        smallest = min(float(p.min()) for p in masses)
        print(dtype.__name__, "growth below the largest", lowest, "smallest mass", smallest)
        assert finite((one.energies, one.observed, one.final))
        assert unit_sums(masses) < slack
        assert {leaf.dtype for leaf in jax.tree.leaves(one.observed)} == {jnp.dtype(dtype)}
        assert finite(around(one.final, risk))
        assert lowest < -1000 and smallest == 0
    assert float(run.energies[-1]) < float(run.energies[0])


def gainer(dtype=jnp.float64):
    """Two layers and tracers far outside: with the linear loss one of them gains all the time."""
    ensemble = smooth(2, outputs=2)
    measure = ensemble.measures(5)[0]
    network = ensemble.network([measure.with_tracers(jnp.array([[-5.0], [5.0]]))])
    return (network, LINEAR) if dtype == jnp.float64 else single((network, LINEAR))


@pytest.mark.parametrize(
    "dtype",
    [pytest.param(jnp.float64, marks=pytest.mark.slow), jnp.float32],
    ids=["float64", "float32"],
)
def test_nothing_is_nan_when_the_growth_of_a_tracer_overflows(dtype):
    """exp(growth) is infinite; derivatives in weights stay finite, none is NaN."""
    network, risk = gainer(dtype)
    dynamics = WassersteinFisherRao(GradientFlow(0.01), rate=2000.0)
    highest = float(jnp.log(jnp.finfo(dtype).max))
    whole = dtype == jnp.float64  # derivatives of the whole run, in single precision of its end
    run = flow(network, risk, dynamics, t1=3.0, times=TIMES, observe=state)

    @eqx.filter_jit
    def value(at):
        there = eqx.tree_at(lambda n: (n.initial_masses, n.start), run.final, at)
        if whole:
            there = there.moved(jax.tree.map(jnp.zeros_like, there.increment))
            there = flow(there, risk, dynamics, t1=3.0, throw=False).final
        return risk(there) + risk.first_variation(there)[0][:5].sum()

    slopes = eqx.filter_jit(eqx.filter_grad(value))((network.initial_masses, network.start))
    growth, masses = run.observed[0].growth[0], run.observed[1][0]
    print(dtype.__name__, "highest growth", float(growth.max()), "of", highest, "slopes", slopes[0])
    assert float(growth[:, 5:].max()) > 1.5 * highest
    assert finite((run.energies, run.observed, run.final, around(run.final, risk)))
    assert (np.asarray(masses)[:, 5:] == 0).all()
    assert unit_sums([masses]) < (1e-12 if whole else 1e-6)
    assert finite(slopes[1]) and free_of_nan(slopes[0])
    steps = train(network, risk, SGD(dynamics), step=0.05, t1=2.0, observe=state)
    assert finite((steps.energies, steps.observed, around(steps.final, risk)))
    assert (np.asarray(steps.observed[1][0])[:, 5:] == 0).all()


@pytest.mark.parametrize(
    ("dtype", "cases", "slack"),
    [
        (jnp.float64, [(1e-300, 690.0), (1e-305, 715.0), (1e-300, 1000.0)], 1e-12),
        (jnp.float32, [(1e-30, 70.0), (1e-37, 87.5), (1e-37, 200.0)], 1e-5),
    ],
    ids=["float64", "float32"],
)
def test_a_tiny_mass_that_grows_gets_its_share(dtype, cases, slack):
    """p ∝ exp(log p_0 + g), in logarithms."""
    for tiny, growth in cases:
        start = jnp.array([tiny, 0.25, 0.75], dtype)
        network = smooth(2, outputs=2).discretise(3)
        network, risk = (network, RISK) if dtype == jnp.float64 else single((network, RISK))
        grown = eqx.tree_at(
            lambda n: n.increment.growth,
            network.weighed((start,)).growing(),
            (jnp.array([growth, 0.0, 0.0], dtype),),
        )
        logs = np.log([tiny, 0.25, 0.75]) + np.array([growth, 0, 0])
        exact = np.exp(logs - logs.max())
        exact /= exact.sum()
        found = grown.masses[0]
        print(dtype.__name__, tiny, growth, "masses", found, "exact", exact)
        assert finite(around(grown, risk))
        assert largest(found, exact) < slack


# Closed forms


def features(network) -> np.ndarray:
    """w_2(k) tanh(w_1(k) · x), by hand: (samples, neurons, outputs)."""
    w, v = (np.asarray(a) for a in network.start.weights)
    return np.tanh(np.asarray(DATA.x) @ w.T)[:, :, None] * v[None]


@pytest.mark.slow
def test_two_layers_with_a_linear_loss_grow_exponentially():
    """Ψ(k) = −E_x[y · w_2(k) tanh(w_1(k) · x)] stays, so p_t ∝ p_0 exp(−rate t Ψ) and
    g = −rate t Ψ − log Σ p_0 exp(−rate t Ψ), at tracers too."""
    ensemble = smooth(2, outputs=2)
    network = ensemble.discretise(7, tracers=ensemble.sample(4, key=jax.random.key(61)))
    run = flow(
        network, LINEAR, FisherRao(1.7), t1=2.0, times=TIMES, observe=state, rtol=1e-12, atol=1e-13
    )
    parameters, masses = run.observed
    psi = -np.einsum("xkj,xj->k", features(network), np.asarray(DATA.y)) / 16
    start = np.asarray(network.initial_masses[0])
    powers = np.exp(-1.7 * TIMES[:, None] * psi[None])
    total = (start * powers).sum(1, keepdims=True)
    errors = [
        largest(masses[0], start * powers / total),
        largest(parameters.growth[0], np.log(powers / total)),
        largest(run.energies, ((start * powers / total) * psi).sum(1)),
    ]
    print("masses, growth, energies off by", errors, "masses from", start, "to", masses[0][-1])
    assert max(errors) < 1e-10
    assert largest(run.final.parameters.still(), network.start) == 0


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_two_neurons_share_their_mass_by_a_logistic_equation(share):
    """ŷ = f_2 + s (f_1 − f_2), so s' = −α s (1 − s)(A s + B) with A = E|f_1 − f_2|² and
    B = E (f_2 − y)(f_1 − f_2), and with partial fractions
    log(s)/B − log(1 − s)/(A + B) − A/(B (A + B)) log|A s + B| + α t is constant."""
    rate = 3.0
    measure = Measure(jnp.array([[-0.9], [0.4]]), jnp.array([share, 1 - share]))
    network = smooth(2, outputs=2).network([measure])
    run = flow(
        network, RISK, FisherRao(rate), t1=2.0, times=TIMES, observe=masses_of, rtol=1e-12,
        atol=1e-13,
    )  # fmt: skip
    f = features(network)
    apart, gap = f[:, 0] - f[:, 1], f[:, 1] - np.asarray(DATA.y)
    a, b = (apart**2).sum(1).mean(), (gap * apart).sum(1).mean()

    def clock(s):
        logs = np.log(s) / b - np.log(1 - s) / (a + b)
        return (logs - a / (b * (a + b)) * np.log(abs(a * s + b))) / rate

    rest = np.clip(-b / a, 0, 1)  # where s goes, and never comes to
    exact = [share]
    for t in TIMES[1:]:
        ends = sorted([share, rest + 1e-12 * (share - rest)])
        exact.append(brentq(lambda s, t=t: clock(s) - clock(share) + t, *ends, xtol=1e-15))
    off = largest(run.observed[0][:, 0], np.array(exact))
    print(f"A {a:.3f} B {b:.3f}: shares from {exact[0]} to {exact[-1]}, off by {off:.1e}")
    assert abs(exact[-1] - share) > 0.1
    assert off < 1e-10


# Two values in every layer


SHARES = [(3 / 8, 5 / 8), (1 / 4, 3 / 4), (1 / 2, 1 / 2)]
POINTS = jnp.array([[-0.8], [0.5]])
LEARNING, GROWING = [1.0, 0.5, 1.5, 0.7], [6.0, 3.0, 9.0]


def by_hand(w, b, p, x, y):
    """E, derivatives per unit mass in weights and biases, and Ψ of a tanh network, in NumPy."""
    h = [x @ w[0].T + b[0]]
    for p_before, w_here, b_here in zip(p, w[1:], b[1:], strict=True):
        h.append((np.tanh(h[-1]) * p_before) @ w_here + b_here)
    energy = ((h[-1] - y) ** 2).sum(1).mean() / 2
    d, mass = (h[-1] - y) / len(x), np.ones(y.shape[1])
    dw, db, psi = [], [], []
    for i in range(len(w) - 1, 0, -1):
        a = np.tanh(h[i - 1])
        dw.insert(0, a.T @ d)
        db.insert(0, d.sum(0))
        back = (mass * d) @ w[i].T  # Σ_c' p(c') D(x, c') w(k, c')
        psi.insert(0, (a * back).sum(0))
        d, mass = (1 - a**2) * back, p[i - 1]
    return energy, [d.T @ x, *dw], [d.sum(0), *db], psi


def reduced(network, depth):
    """Energies, weights, biases and masses at TIMES, for masses by their own equation."""
    x, y = np.asarray(DATA.x), np.asarray(DATA.y)
    parts = [*network.start.weights, *network.start.biases, *network.initial_masses]
    parts = [np.asarray(a) for a in parts]
    cuts = np.cumsum([a.size for a in parts])[:-1]

    def split(z):
        arrays = [v.reshape(a.shape) for v, a in zip(np.split(z, cuts), parts, strict=True)]
        return arrays[:depth], arrays[depth : 2 * depth], arrays[2 * depth :]

    def rhs(t, z):
        w, b, p = split(z)
        _, dw, db, psi = by_hand(w, b, p, x, y)
        moves = [-r * g for r, g in zip(LEARNING[:depth], dw, strict=True)]
        moves += [-r * g for r, g in zip(LEARNING[:depth], db, strict=True)]
        rates = zip(GROWING[: depth - 1], p, psi, strict=True)
        moves += [-r * q * (f - q @ f) for r, q, f in rates]
        return np.concatenate([a.ravel() for a in moves])

    start = np.concatenate([a.ravel() for a in parts])
    run = solve_ivp(
        rhs, (0, TIMES[-1]), start, method="DOP853", t_eval=TIMES, rtol=1e-12, atol=1e-13
    )
    assert run.success
    states = [split(z) for z in run.y.T]
    energies = [by_hand(*s, x, y)[0] for s in states]
    return np.array(energies), jax.tree.map(lambda *a: np.stack(a), *states)


@pytest.mark.parametrize("depth", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (3, 4))])
def test_neurons_of_two_values_follow_the_reduced_system(depth):
    """Two atoms in every layer, and a network of eight neurons a layer, copies of these two."""
    spaces = [Atoms(POINTS, jnp.array(p)) for p in SHARES[: depth - 1]]
    whole = model(depth)
    ensemble = NeuronalEnsemble(spaces, whole.weights, whole.biases, layers=Affine(jnp.tanh))
    two = ensemble.discretise(2).padded([8] * (depth - 1))  # one compilation for both networks
    copies = [np.array([round(8 * p) for p in share]) for share in SHARES[: depth - 1]]
    many = ensemble.network(
        [Measure(jnp.repeat(POINTS, c, axis=0), jnp.full(8, 1 / 8)) for c in copies]
    )
    dynamics = WassersteinFisherRao(GradientFlow(LEARNING[:depth]), GROWING[: depth - 1])
    options = dict(t1=2.0, times=TIMES, observe=state, rtol=1e-11, atol=1e-12)
    energies, (weights, biases, masses) = reduced(ensemble.discretise(2), depth)

    run = flow(two, RISK, dynamics, **options)
    parameters, found = run.observed
    growth = [np.log(p / p[:1]) for p in masses]
    pairs = [
        (run.energies, energies),
        ([w[:, :2, :2] for w in parameters.weights], weights),
        ([b[:, :2] for b in parameters.biases], biases),
        ([p[:, :2] for p in found], masses),
        ([g[:, :2] for g in parameters.growth], growth),
    ]
    errors = [largest(a, b) for a, b in pairs]

    run = flow(many, RISK, dynamics, **options)
    parameters, found = run.observed
    summed = [
        np.stack([p[:, : c[0]].sum(1), p[:, c[0] :].sum(1)], 1)
        for p, c in zip(map(np.asarray, found), copies, strict=True)
    ]
    labels = [np.repeat([0, 1], c) for c in copies]
    spread = [g[:, label] for g, label in zip(growth, labels, strict=True)]
    last = np.asarray(weights[-1])[:, labels[-1]]
    copied = [
        largest(run.energies, energies),
        largest(summed, tuple(masses)),
        largest(parameters.growth, tuple(spread)),
        largest(parameters.weights[-1], last),
    ]
    print(f"depth {depth}: atoms off by {errors}, copies off by {copied}")
    assert max(abs(p[-1] - p[0]).max() for p in masses) > 0.05
    assert max(errors) < 1e-8 and max(copied) < 1e-8


# The first variation


@pytest.fixture(scope="module", params=[2, 3, 4])
def grown(request):
    """A network with weights and masses off its start, and three tracers a layer."""
    ensemble, rng = model(request.param), np.random.default_rng(1)
    tracers = ensemble.sample(3, key=jax.random.key(62))
    network = ensemble.discretise(4, tracers=tracers).growing()
    return network.moved(
        jax.tree.map(lambda a: jnp.asarray(0.5 * rng.standard_normal(a.shape)), network.increment)
    )


def test_the_first_variation_is_a_difference_quotient_in_masses(grown):
    """Of E(p + ε (δ_c − p)), up to ⟨p, Ψ⟩, from above: tracers cannot have less than no mass."""

    @eqx.filter_jit
    def value(masses):
        return RISK(Network(grown.layers, grown.labels, masses, grown.parameters.still()))

    variation, h = around(grown, RISK)[0][1], 1e-3
    quotient = np.array([-25, 48, -36, 16, -3]) / (12 * h)
    for i, (p, psi) in enumerate(zip(grown.masses, variation, strict=True)):
        for c in range(7):
            towards = jnp.zeros(7).at[c].set(1.0) - p
            values = [
                float(value((*grown.masses[:i], p + j * h * towards, *grown.masses[i + 1 :])))
                for j in range(5)
            ]
            assert abs(quotient @ values - float(psi[c] - p @ psi)) < 1e-9


def test_a_tracer_moves_down_the_gradient_of_its_first_variation(grown):
    """∂Ψ_1(k)/∂w_1(k) = Δ_1(k), for two layers all of it, ∂Ψ_1(k)/∂w_2(k) = p_2 Δ_2(k), at
    mass 0: a neuron with mass would change the measure as well."""
    slope = around(grown, RISK)[1]
    after = jnp.ones(2) if grown.depth == 2 else grown.masses[1]

    @jax.jit
    def derivatives(k):
        def psi(start):
            there = eqx.tree_at(lambda n: n.start, grown, start)
            return RISK.first_variation(there)[0][k]

        d = jax.grad(psi)(grown.start)
        return d.weights[0][k], d.biases[0][k], d.weights[1][k]

    for k in range(4, 7):
        first, bias, second = derivatives(k)
        assert largest(first, slope.weights[0][k]) < 1e-13
        assert largest(bias, slope.biases[0][k]) < 1e-13
        assert largest(second, after * slope.weights[1][k]) < 1e-13
    with_mass = derivatives(0)[0]
    assert largest(with_mass, slope.weights[0][0]) > 1e-6  # the negative control


# Steps


STEPS = [0.05, 0.025, 0.0125, 0.00625]


def test_training_converges_to_the_flow_with_the_step():
    network, dynamics = model(3).discretise(6).growing(), moving(3)
    options = dict(t1=2.0, times=TIMES, observe=state)
    exact = flow(network, RISK, dynamics, rtol=1e-10, atol=1e-11, **options)
    weights, growth = [], []
    for step in STEPS:
        run = train(network, RISK, SGD(dynamics), step=step, **options)
        weights.append(largest(run.observed[0].still(), exact.observed[0].still()))
        growth.append(largest(run.observed[0].growth, exact.observed[0].growth))
        assert unit_sums(run.observed[1]) < 1e-12
    for name, errors in [("weights", weights), ("growth", growth)]:
        rate = fit_rate(STEPS, np.array(errors))
        print(f"{name}: exponent in the step {rate}, errors {errors}")
        assert abs(rate.exponent - 1) < 0.03


def test_batches_are_followed_and_runs_go_on_bit_for_bit():
    network, update = model(3).discretise(6), SGD(moving(3), batch=4)
    options = dict(step=0.05, observe=state, key=jax.random.key(63))
    whole = train(network, RISK, update, t1=2.0, times=TIMES[[0, 4, 8]], **options)
    first = train(network, RISK, update, t1=1.0, times=TIMES[[0, 2, 4]], **options)
    then = train(first.final, RISK, update, t0=1.0, t1=2.0, times=TIMES[[4, 6, 8]], **options)
    assert unit_sums(whole.observed[1]) < 1e-12
    assert finite(whole.observed) and float(whole.energies[-1]) < float(whole.energies[0])
    assert largest(then.final, whole.final) == 0
    assert largest(then.energies[np.array([0, -1])], whole.energies[1:]) == 0
    other = train(network, RISK, update, t1=2.0, times=TIMES[[0, 4, 8]], **{
        **options, "key": jax.random.key(64)
    })  # fmt: skip
    assert largest(other.final.masses, whole.final.masses) > 1e-3


def towards(network, dynamics, size):
    """A tangent: all initial weights at once."""
    nothing = jax.tree.map(lambda _: None, (network, RISK, dynamics))
    direction = jax.tree.map(lambda a: jnp.full_like(a, size), network.start)
    return eqx.tree_at(lambda t: t[0].start, nothing, direction, is_leaf=lambda a: a is None)


def test_a_flow_goes_on_where_another_ended():
    """With schedules, and beside a tangent, whose sensitivity starts at 0 whatever was grown."""
    network, dynamics = model(3).discretise(6).growing(), moving(3)

    def run(network, t0, t1, **options):
        times = np.linspace(t0, t1, 9)
        options |= dict(times=times, observe=state, rtol=1e-9, atol=1e-10)
        return flow(network, RISK, dynamics, t0=t0, t1=t1, **options)

    whole, first = run(network, 0.0, 2.0).final, run(network, 0.0, 0.8).final
    then = run(first, 0.8, 2.0)
    assert largest(then.final, whole) < 1e-7
    late = run(first, 0.0, 1.2)  # the schedules started anew
    assert largest(late.final, whole) > 1e-3

    fresh = Network(first.layers, first.labels, first.masses, first.parameters.still()).growing()
    steps = []
    for start, size in [(first, 1e-9), (first, 1.0), (fresh, 1.0)]:
        found = run(start, 0.8, 2.0, tangent=towards(start, dynamics, size))
        steps.append(int(found.stats["steps"]))
        assert largest(found.final.parameters.still(), whole.parameters.still()) < 1e-7
        assert largest(found.final.masses, whole.masses) < 1e-7
    alone = int(then.stats["steps"])
    print("steps alone", alone, "with a negligible tangent, a unit one, and that anew:", steps)
    assert steps[0] == alone
    assert steps[1] <= steps[2]


# Derivatives


@pytest.mark.slow
def test_derivatives_pass_through_growing_masses():
    """In masses (one of them zero) and initial weights: reverse = forward = finite differences."""
    network, dynamics = model(3).discretise(4), moving(3)
    first = network.masses[0].at[1].set(0.0)
    masses = (first / first.sum(), network.masses[1])

    def observable(masses, start, adjoint=None):
        moved = eqx.tree_at(lambda n: (n.initial_masses, n.start), network, (masses, start))
        run = flow(
            moved, RISK, dynamics, t1=1.0, step=0.05, solver=diffrax.Euler(), adjoint=adjoint
        )
        return run.final(DATA.x[:1])[0, 0]

    at = (masses, network.start)
    reverse = jax.jit(jax.grad(observable, argnums=(0, 1)))(*at)
    assert abs(float(reverse[0][0][1])) > 1e-4
    both = jax.jit(
        lambda at, d: jax.jvp(lambda m, s: observable(m, s, diffrax.ForwardMode()), at, d)
    )
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), at)
        forward = both(at, direction)[1]
        eps = 1e-5
        moved = [jax.tree.map(lambda a, d, s=s * eps: a + s * d, at, direction) for s in (1, -1)]
        plus, minus = (both(there, direction)[0] for there in moved)
        pairs = zip(jax.tree.leaves(reverse), jax.tree.leaves(direction), strict=True)
        backward = sum(float(jnp.vdot(g, d)) for g, d in pairs)
        assert abs(backward - float(forward)) < 1e-11 * abs(backward)
        assert abs(backward - float(plus - minus) / (2 * eps)) < 1e-7 * abs(backward)


# The limit


def curves(ensemble, dynamics, nodes):
    network = ensemble.discretise(nodes).padded([64, 64])
    run = flow(
        network, RISK, dynamics, t1=2.0, times=TIMES, observe=outputs, rtol=1e-11, atol=1e-11
    )
    return np.asarray(run.energies), np.asarray(run.observed)


def apart(a, b) -> float:
    """As `limit` measures: the larger of energies and root mean square outputs, over times."""
    return max(np.abs(a[0] - b[0]).max(), np.sqrt(((a[1] - b[1]) ** 2).mean((1, 2))).max())


@pytest.mark.slow
def test_limits_refine_as_fast_as_without_growth():
    ensemble, best, errors = smooth(3, outputs=2), [], []
    for rate in (1.0, 0.0):
        dynamics = WassersteinFisherRao(rate=rate)
        best.append(curves(ensemble, dynamics, 64))
        errors.append([apart(curves(ensemble, dynamics, n), best[-1]) for n in (8, 16, 32)])
    print("errors at 8, 16, 32 nodes with growth", errors[0], "without", errors[1])
    powers = np.log2(np.array(errors[0][:-1]) / np.array(errors[0][1:]))
    assert powers[0] > 3 and powers[1] > powers[0] + 0.5
    assert all(grown < 10 * still + 1e-10 for grown, still in zip(*errors, strict=True))
    for tol in (1e-3, 1e-6):
        run = limit(
            ensemble, RISK, WassersteinFisherRao(), t1=2.0, times=TIMES, tol=tol, observe=outputs
        )
        true = apart((np.asarray(run.energies), np.asarray(run.observed)), best[0])
        print(tol, run.stats["levels"], "true error", true)
        assert float(run.error) <= tol and true <= 3 * float(run.error)
        assert unit_sums(run.final.masses) < 1e-12


# What finite steps, observers and first looks make of it

SINGLE = Risk(regression(16))


def test_growth_is_the_log_density_in_discrete_time_too():
    """At steps far too large as well: masses are normalised, and growth with them."""
    network = smooth(3).sample((5, 6), key=jax.random.key(0))
    update = SGD(FisherRao(50.0), batch=1)
    final = train(network, SINGLE, update, step=0.1, t1=2.0, key=jax.random.key(1)).final
    for p, q, g in zip(final.masses, final.initial_masses, final.increment.growth, strict=True):
        assert largest(g, jnp.log(p / q)) < 1e-9
        assert float(g.max()) > 0 > float(g.min())


@pytest.mark.slow
def test_the_limit_of_constant_steps_knows_its_error_in_time():
    solver = Adaptive(step=0.25, solver=diffrax.Euler())
    found = coupling(
        smooth(2), SINGLE, WassersteinFisherRao(), widths=[6], seeds=2, t1=2.0, nodes=16,
        solver=solver, key=jax.random.key(0), times=jnp.array([0.0, 2.0]),
    )  # fmt: skip
    exact = flow(smooth(2).discretise(64), SINGLE, WassersteinFisherRao(), t1=2.0, rtol=1e-10)
    coarse = flow(
        smooth(2).discretise(16), SINGLE, WassersteinFisherRao(), t1=2.0, step=0.25,
        solver=diffrax.Euler(),
    )  # fmt: skip
    true = float(jnp.abs(coarse.energies - exact.energies).max())
    assert 1e-5 < true < 3 * float(found.limit.error)
    assert (found.error > 1e-5).all() and (found.growth_error > 1e-5).all()


@pytest.mark.slow
def test_a_limit_is_observed_at_its_nodes_alone():
    run = limit(smooth(3), SINGLE, WassersteinFisherRao(), t1=0.5, nodes=8, observe=first_masses)
    assert run.observed.shape == (2, 8)
    assert largest(run.observed[-1], run.final.masses[0]) == 0


def first_masses(network):
    return network.masses[0]


def test_masses_that_move_are_a_motion_of_the_start():
    """Units that no gradient moves, but whose masses the energy tells apart."""
    x = jnp.linspace(-1, 1, 9)[:, None]
    ensemble = shallow(cosine_squares, Atoms(jnp.array([[0.0], [jnp.pi]])))
    risk = Risk(Data(x, x**2))
    assert initial_motion(ensemble, risk).stationary
    assert not initial_motion(ensemble, risk, FisherRao()).stationary


def cosine_squares(theta, x):
    return jnp.cos(theta) * x**2
