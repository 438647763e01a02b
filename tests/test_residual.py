"""Residual networks: against layers that expand and contract, exact limits in depth, and loops."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts.layers import LAYERS
from diffrax import Dopri8, ODETerm, PIDController, SaveAt, diffeqsolve
from models import largest, regression, smooth

from ensembles import Atoms, Elementwise, Gaussian, Network, Parameters, Uniform, residual
from ensembles._network import backpropagate as backpropagation
from ensembles._network import runs
from ensembles._network.backpropagate import backpropagate
from ensembles._network.forward import forward, through
from ensembles.blocks import Block, Normalised, Perceptron, attention, layer_norm
from limits import (
    Adaptive,
    Data,
    FailedRun,
    GradientFlow,
    Risk,
    WassersteinFisherRao,
    fit_power_law,
    flow,
    limit,
    mean_field_gradient,
    train,
)

KEY = jax.random.key(0)
TIGHT = Adaptive(rtol=1e-11, atol=1e-12)
TARGET, START, END = 1.7, 0.3, 2.0
TIMES = jnp.linspace(0, END, 5)
LINE = Risk(Data(jnp.array([[1.0], [-1.0]]), TARGET * jnp.array([[1.0], [-1.0]])))


def product(z, h):
    return z[0] * h


SCALAR = residual(product, Atoms(jnp.array([[START]])), lambda s, c: c)


def _solved(velocity, start):
    """The energies (q - c)²/2 of a scalar equation for q, or for z with q(z), by Dopri8."""
    return diffeqsolve(
        ODETerm(lambda t, z, _: velocity(z)), Dopri8(), 0.0, END, 1e-3, jnp.asarray(start),
        saveat=SaveAt(ts=TIMES), max_steps=10**5,
        stepsize_controller=PIDController(rtol=1e-13, atol=1e-14),
    ).ys  # fmt: skip


@pytest.mark.parametrize("depth", [3, *(pytest.param(d, marks=pytest.mark.slow) for d in (1, 8))])
def test_scalar_networks_of_finite_depth_follow_their_closed_equation(depth):
    """ż = −(1 + z/L)^{L−1} ((1 + z/L)^L − c) for L equal blocks z h, x² = 1, y = c x: to ten
    digits."""

    def q(z):
        return (1 + z / depth) ** depth

    z = _solved(lambda z: -((1 + z / depth) ** (depth - 1)) * (q(z) - TARGET), START)
    network = SCALAR.of_depth(depth).discretise(1)
    run = flow(network, LINE, t1=END, times=TIMES, solver=TIGHT)
    assert jnp.abs(run.energies - (q(z) - TARGET) ** 2 / 2).max() < 1e-10


def _off_in_depth(midpoint):
    """How far scalar networks are from q̇ = −q²(q − c), and how that falls with depth."""
    q = _solved(lambda q: -(q**2) * (q - TARGET), jnp.exp(START))
    depths, errors = np.array([4, 8, 16, 32]), []
    for depth in depths:
        network = SCALAR.of_depth(int(depth), midpoint=midpoint).discretise(1)
        run = flow(network, LINE, t1=END, times=TIMES, solver=TIGHT)
        errors.append(float(jnp.abs(run.energies - (q - TARGET) ** 2 / 2).max()))
    return errors, fit_power_law(depths, np.array(errors))


@pytest.mark.slow
def test_networks_are_off_by_one_over_depth_and_the_midpoint_rule_by_its_square():
    errors, law = _off_in_depth(False)
    assert law.low < -1 < law.high or abs(law.exponent + 1) < 0.02
    finer, law = _off_in_depth(True)
    assert abs(law.exponent + 2) < 0.05
    assert finer[-1] < errors[-1] / 200


@pytest.mark.slow
def test_the_limit_in_depth_is_the_exact_one_within_its_error():
    q = _solved(lambda q: -(q**2) * (q - TARGET), jnp.exp(START))
    run = limit(SCALAR, LINE, t1=END, times=TIMES, tol=1e-4)
    off = float(jnp.abs(run.energies - (q - TARGET) ** 2 / 2).max())
    assert off < float(run.error) < 1e-4
    assert run.stats["depth"] == run.final.depth - 1


def tanh_block(theta, h):
    return theta[3:] * jnp.tanh(theta[:2] @ h + theta[2])


def _theta(s, c):
    return jnp.stack([jnp.sin((1 + 0.3 * j) * c[0] + j + s) for j in range(5)])


def _first(h):
    return h[:1]


def _blocks(depth, sigma):
    return residual(sigma, Uniform(-1.0, 1.0), _theta, depth=depth, readout=_first)


RISK = Risk(regression(6))


def _expanding(theta, b, x):
    return jnp.stack([x, tanh_block(theta, x)])


def _expanding_later(theta, b, h):
    return jnp.stack([h, tanh_block(theta, h)])


def _contracting(w, b, h):
    return h[0] + h[1] / 3


def _reading(w, b, h):
    return w * (h[0, 0] + h[1, 0] / 3)


def test_blocks_are_layers_that_expand_and_contract():
    """h ↦ h + E σ(θ, h)/L by `Elementwise` layers 1 → N of pairs (h, σ(θ, h)), and N → 1 of sums,
    since masses sum to 1; per unit mass p_k there, p_k/L here."""
    network = _blocks(3, tanh_block).sample((4, 3, 5), key=KEY)
    theta = [network.weights[0], *network.biases[1:-1]]
    one, n = jnp.ones(1), network.width
    zero = [jnp.zeros((k, 1)) for k in n]
    expanded = Network(
        tuple(
            Elementwise(f)
            for f in (
                _expanding, _contracting, _expanding_later, _contracting, _expanding_later, _reading
            )
        ),
        tuple(jnp.zeros((k, 1)) for k in (n[0], 1, n[1], 1, n[2])),
        (network.masses[0], one, network.masses[1], one, network.masses[2]),
        Parameters(
            (theta[0], zero[0], theta[1][None], zero[1], theta[2][None], jnp.ones((n[2], 1))),
            (None,) * 6,
        ),
    )  # fmt: skip
    assert largest(network(RISK.data.x), expanded(RISK.data.x)) < 1e-14
    ours, theirs = (mean_field_gradient(net, RISK) for net in (network, expanded))
    found = [ours.weights[0], *ours.biases[1:-1]]
    wanted = [theirs.weights[0], *(w[0] for w in theirs.weights[2:-1:2])]
    assert largest(found, [3 * w for w in wanted]) < 1e-13


def test_steps_are_those_of_a_loop_over_blocks():
    """Gradient descent of perceptrons in NumPy: θ ← θ − ε L N ∂R/∂θ."""
    depth, n, step = 3, 4, 0.1
    network = residual(
        Perceptron(jnp.tanh), Gaussian(5), lambda s, c: c * (1 + s), depth=depth, readout=_first
    ).sample(n, key=KEY)
    theta = [np.array(t) for t in (network.weights[0], *network.biases[1:-1])]
    x, y = np.array(RISK.data.x), np.array(RISK.data.y)
    for _ in range(5):
        streams, seen = [x], []
        for t in theta:
            seen.append(np.tanh(streams[-1] @ t[:, :2].T + t[:, 2]))
            streams.append(streams[-1] + seen[-1] @ t[:, 3:] / (depth * n))
        a = np.zeros_like(x)
        a[:, :1] = (streams[-1][:, :1] - y) / len(x)
        for l in reversed(range(depth)):
            t, z, h = theta[l], seen[l], streams[l]
            back = (a @ t[:, 3:].T) * (1 - z**2)
            theta[l] = t - step * np.concatenate([back.T @ h, back.sum(0)[:, None], z.T @ a], 1)
            a = a + back @ t[:, :2] / (depth * n)
    final = train(network, RISK, step=step, t1=5 * step).final
    assert largest([final.weights[0], *final.biases[1:-1]], theta) < 1e-14


def _derivatives(network, x):
    """Outputs, what layers hand on, and derivatives per unit mass."""
    handed = forward(network.layers, network.parameters, network.masses, x)
    outputs, pull = backpropagate(network, x)
    return handed, outputs, pull(jnp.ones_like(outputs))


@pytest.mark.parametrize(
    "made",
    ["one kind", *(pytest.param(m, marks=pytest.mark.slow) for m in ("two in turn", "affine"))],
)
def test_loops_over_equal_layers_are_layers_one_by_one(made, monkeypatch):
    ensemble = {
        "one kind": lambda: _blocks(6, tanh_block),
        "two in turn": LAYERS["Blocks in turn"],
        "affine": lambda: smooth(7, biases=True),
    }[made]()
    network, x = ensemble.sample(3, key=KEY), RISK.data.x
    given = network.layers, network.parameters, network.masses, x
    assert any(run.groups > 1 for run, _ in through(*given)[1])
    monkeypatch.setattr(backpropagation, "_through", through)  # compiled, it would be kept
    loops = _derivatives(network, x)
    monkeypatch.setattr(runs, "_FEWEST", 10**6)
    assert all(run.groups == 1 for run, _ in through(*given)[1])
    assert largest(loops, _derivatives(network, x)) < 1e-13


def test_layers_of_other_widths_are_in_no_loop():
    widths = (3, 3, 3, 3, 3, 4, 3, 3, 3)
    network = _blocks(9, tanh_block).sample(widths, key=KEY)
    given = network.layers, network.parameters, network.masses, RISK.data.x
    assert [(run.start, run.groups) for run, _ in through(*given)[1]] == [
        (1, 4), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1),
    ]  # fmt: skip


def test_a_tracer_moves_down_the_gradient_of_its_first_variation():
    """Ψ of a block is per unit of the mass p/L, as its derivative is."""
    network = _blocks(3, tanh_block).sample((4, 3, 5), key=KEY).padded((4, 4, 5))

    def psi(theta):
        there = eqx.tree_at(lambda n: n.start.biases[1], network, theta)
        return RISK.first_variation(there)[1][-1]

    slope = mean_field_gradient(network, RISK).biases[1][-1]
    assert largest(jax.grad(psi)(network.biases[1])[-1], slope) < 1e-13


@pytest.mark.parametrize(
    "rates",
    [(0.7, 0.4), *(pytest.param(r, marks=pytest.mark.slow) for r in ((1.0, 0.0), (0.0, 1.0)))],
)
def test_the_energy_falls_by_what_blocks_dissipate(rates):
    """dE/dt = −(1/L) Σ_l (ξ Σ_k p_k |Δ_k|² + α Var_p Ψ), with masses that move too."""
    xi, alpha = rates
    network = _blocks(3, tanh_block).sample((4, 3, 5), key=KEY).growing()
    dynamics = WassersteinFisherRao(GradientFlow(xi), rate=alpha)
    _, velocity = dynamics.value_and_velocity(jnp.zeros(()), network, RISK)
    _, falls = jax.jvp(lambda n: RISK(network.moved(n)), (network.increment,), (velocity,))
    slope, psi = mean_field_gradient(network, RISK), RISK.first_variation(network)
    moved = [slope.weights[0], *slope.biases[1:-1]]
    lost = 0.0
    for p, d, v in zip(network.masses, moved, psi, strict=True):
        lost += xi * p @ (d**2).sum(1) + alpha * p @ (v - p @ v) ** 2
    assert abs(float(falls + lost / 3)) < 1e-14


def test_streams_that_change_their_shape_and_other_mistakes_are_named():
    for wrong, words in (
        (dict(depth=0), "^depth must be an int of at least 1"),
        (dict(sigma=[tanh_block, tanh_block]), "as many spaces and functions theta"),
        (dict(space=None), "^space must be"),
        (dict(theta=lambda c: c), "^theta must take 2 arguments"),
        (dict(theta=3.0), "^theta must be a function"),
        (dict(embed=(tanh_block, Gaussian(6))), r"^embed must be a function, or \(sigma"),
        (dict(readout=3), "^readout must be a function"),
    ):
        given = dict(sigma=tanh_block, space=Gaussian(6), theta=lambda s, c: c, depth=2) | wrong
        with pytest.raises(ValueError, match=words):
            residual(**given)
    with pytest.raises(ValueError, match=r"^theta must give neurons"):
        made = residual(Perceptron(jnp.tanh), Gaussian(3), lambda s, c: c, depth=2)
        made.sample(3, key=KEY)(RISK.data.x)
    deep = residual(tanh_block, Gaussian(5), lambda s, c: c, readout=_first)
    for wrong, words in (
        (dict(nodes=8), "^nodes must be None for networks of any depth"),
        (dict(tol=0.0), "^tol must be a positive finite number"),
        (dict(key=None), "^key is required"),
    ):
        with pytest.raises(ValueError, match=words):
            limit(deep, RISK, **(dict(t1=1.0, key=KEY) | wrong))
    with pytest.raises(ValueError, match=r"^keeps=False is for one block"):
        Block(tanh_block, 3, keeps=False)


def test_transformers_of_heads_and_perceptrons_follow_a_loop():
    """Two kinds in turn on tokens, between trained ends, against a plain loop over blocks."""
    tokens, d, depth, n = 3, 4, 2, 5

    def embed(theta, x):
        return jnp.outer(x, theta)

    def readout(theta, h):
        return (theta @ h[-1])[None]

    made = residual(
        [Normalised(attention, layer_norm), Perceptron(jnp.tanh)],
        [Gaussian(4 * 2 * d), Gaussian(2 * d + 1)],
        [lambda s, c: c.reshape(4, 2, d), lambda s, c: c * (1 + s)],
        depth=depth,
        embed=(embed, Gaussian(d), lambda c: c),
        readout=(readout, Gaussian(d), lambda c: c),
    )
    network = made.sample(n, key=KEY)
    x = jax.random.normal(jax.random.key(1), (6, tokens))
    first, (*theta, last) = network.weights[0], network.biases[1:-1]
    for i, one in enumerate(x):
        h = jnp.mean(jnp.stack([embed(t, one) for t in first]), 0)
        for heads, units in zip(theta[::2], theta[1::2], strict=True):
            h = h + sum(attention(t, layer_norm(h)) for t in heads) / (n * depth)
            h = h + sum(jnp.outer(jnp.tanh(h @ t[:d] + t[d]), t[d + 1 :]) for t in units) / (
                n * depth
            )
        out = jnp.mean(jnp.stack([readout(t, h) for t in last]), 0)
        assert largest(network(x[i][None])[0], out) < 1e-13
    deep = residual(
        [attention, Perceptron(jnp.tanh)],
        [Gaussian(4 * 2 * d), Gaussian(2 * d + 1)],
        [lambda s, c: c.reshape(4, 2, d), lambda s, c: c],
    )
    assert repr(deep).startswith("Residual(attention on Gaussian(32), Perceptron(tanh)")


@pytest.mark.slow
def test_the_limit_in_depth_with_smooth_starts():
    """Against 96 steps of the midpoint rule on 64 nodes."""
    made = _blocks(None, Perceptron(jnp.tanh))
    run = limit(made, RISK, t1=1.0)
    fine = flow(made.discretise(64, depth=96), RISK, t1=1.0, solver=TIGHT)
    off = float(jnp.abs(run.energies - fine.energies).max())
    assert off < float(run.error) < 2e-3


@pytest.mark.slow
def test_errors_cover_starts_that_jump_in_depth():
    """θ jumps at s = 1/3, which no depth 2^k resolves: errors are of first order, and told so."""

    def jumping(s, c):
        return _theta(s, c) * (1.0 if s < 1 / 3 else -1.0)

    made = residual(Perceptron(jnp.tanh), Uniform(-1.0, 1.0), jumping, readout=_first)
    run = limit(made, RISK, t1=1.0)
    fine = flow(made.discretise(64, depth=3 * 81), RISK, t1=1.0, solver=TIGHT)
    off = float(jnp.abs(run.energies - fine.energies).max())
    print(f"off by {off:.1e}, told {float(run.error):.1e} at depth {run.stats['depth']}")
    assert off < float(run.error)
    with pytest.raises(FailedRun, match="theta may not be smooth"):
        limit(made, RISK, t1=1.0, tol=1e-6)


def _label_by_label(made, depth, width, key, network=None):
    """The largest distance between neurons of a finite network and the limit at their labels."""
    finite = made.sample(width, depth=depth, key=key)
    followed = finite if network is None else network
    ratio = 3 if depth > 4 else 7
    nodal = made.discretise(24, depth=ratio * depth, tracers=followed)

    def own(network):
        return [network.parameters.rows(i) for i in range(network.depth - 1)]

    ours, theirs = (
        flow(n, RISK, t1=1.0, times=TIMES / 2, observe=own).observed for n in (finite, nodal)
    )
    pairs = zip(ours, theirs[ratio // 2 :: ratio], strict=True)
    return max(float(jnp.sqrt(((a - b[:, -width:]) ** 2).sum(-1)).max()) for a, b in pairs)


def test_tracers_of_networks_begin_where_their_neurons_do():
    made = _blocks(None, Perceptron(jnp.tanh))
    finite = made.sample(3, depth=2, key=KEY)
    nodal = made.discretise(4, depth=6, tracers=finite)
    assert nodal.width == (4, 7, 4, 4, 7, 4)
    for i, own in ((1, 0), (4, 1)):
        assert largest(nodal.parameters.rows(i)[4:], finite.parameters.rows(own)) < 1e-15
    for depth in (2 * 2, 5):
        with pytest.raises(ValueError, match=r"^depth must be an odd multiple"):
            made.discretise(4, depth=depth, tracers=finite)


@pytest.mark.slow
def test_neurons_follow_the_limit_at_their_labels():
    """The largest distance over neurons, blocks and times falls with depth and width together;
    from the labels of another network it does not."""
    made = _blocks(None, Perceptron(jnp.tanh))
    sizes = [(1, 8), (2, 16), (4, 32), (8, 64)]
    found = np.array([
        [_label_by_label(made, depth, width, jax.random.key(seed)) for depth, width in sizes]
        for seed in range(6)
    ])  # fmt: skip
    law = fit_power_law(np.array([depth for depth, _ in sizes]), found)
    print(found.mean(0), law)
    assert law.low > -1.4 and law.high < -0.6  # 1/L, and 1/√(L N) = 1/(2 L) along these sizes
    other = [
        _label_by_label(made, d, w, KEY, made.sample(w, depth=d, key=jax.random.key(99)))
        for d, w in sizes
    ]
    print("other labels", other)
    assert min(other) > 5 * found.mean(0)[-1] and other[-1] > other[0] / 2
