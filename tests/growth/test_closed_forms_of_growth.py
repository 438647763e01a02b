"""Growing masses against closed forms and integrations by other means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from growing import DATA, LINEAR, RISK, TIMES, masses_of, model, state
from models import largest, smooth
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from ensembles import Affine, Atoms, Measure, NeuronalEnsemble
from limits import Adaptive, FisherRao, GradientFlow, WassersteinFisherRao, flow


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
        network,
        LINEAR,
        FisherRao(1.7),
        t1=2.0,
        times=TIMES,
        observe=state,
        solver=Adaptive(rtol=1e-12, atol=1e-13),
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
        network,
        RISK,
        FisherRao(rate),
        t1=2.0,
        times=TIMES,
        observe=masses_of,
        solver=Adaptive(rtol=1e-12, atol=1e-13),
    )
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
    solver = Adaptive(rtol=1e-11, atol=1e-12)
    options = dict(t1=2.0, times=TIMES, observe=state, solver=solver)
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
