"""Steps on few samples, which keep their changes of large matrices as factors for a while."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Gaussian, Layer, NeuronalEnsemble
from limits import Data, Energy, GradientFlow, PowerPenalty, Risk, Update, train
from limits._solvers.merging import merging

STEP, STEPS, N = 0.1, 21, 128
ensemble = NeuronalEnsemble(
    [Gaussian(2), Gaussian(1), Gaussian(1)],
    [
        lambda c: c,
        lambda c, e: 1 + jnp.sin(c[0] + 2 * e[0]),
        lambda c, e: 1 + jnp.cos(c[0] * e[0]),
        lambda c: c,
    ],
    [lambda c: c[0], lambda c: c[0], None, jnp.zeros(1)],
    layers=Affine(jnp.tanh),
)
x = jax.random.normal(jax.random.key(0), (16, 2), float)
risk = Risk(Data(x, jnp.sin(x[:, :1])))
network = ensemble.sample(N, key=jax.random.key(1))
update = GradientFlow([1.0, 0.5, 2.0, 0.3])


def run(network, key, times=None, t0=0.0, t1=STEP * STEPS):
    return train(
        network, risk, update, step=STEP, batch=1, t0=t0, t1=t1, times=times, observe=outputs,
        key=key,
    )  # fmt: skip


def outputs(network):
    return network(x)


def how(network, energy, update, batch=1):
    return merging(network, energy, update, batch, jnp.asarray(STEP), jax.random.key(0))


def test_merged_steps_are_the_steps_written_by_hand():
    key = jax.random.key(2)
    assert how(network, risk, update).layers == (1, 2)
    ours = run(network, key).final
    w, b = (
        [None if a is None else np.array(a) for a in p] for p in (network.weights, network.biases)
    )
    rates = np.array([1.0, 0.5, 2.0, 0.3])
    for k in range(STEPS):
        drawn = risk.data.draw(1, jax.random.fold_in(key, k))
        h = [np.asarray(drawn.x) @ w[0].T + b[0]]
        for i in (1, 2, 3):
            h.append(np.tanh(h[-1]) @ w[i] / N + (0 if b[i] is None else b[i]))
        d = h[-1] - np.asarray(drawn.y)
        for i in (3, 2, 1):
            back = (d if i == 3 else d / N) @ w[i].T * (1 - np.tanh(h[i - 1]) ** 2)
            w[i] = w[i] - STEP * rates[i] * np.tanh(h[i - 1]).T @ d
            if b[i] is not None:
                b[i] = b[i] - STEP * rates[i] * d[0]
            d = back
        w[0], b[0] = (
            w[0] - STEP * rates[0] * d.T @ np.asarray(drawn.x),
            b[0] - STEP * rates[0] * d[0],
        )
    for mine, other in zip(
        jax.tree.leaves((ours.weights, ours.biases)), [*w, b[0], b[1], b[3]], strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-13)


def test_where_merges_fall_changes_rounding_only():
    key = jax.random.key(3)
    whole = run(network, key, times=STEP * jnp.array([0.0, 3.0, 4.0, 13.0, 21.0]))
    half = run(network, key, t1=STEP * 13)
    rest = run(half.final, key, t0=STEP * 13)
    np.testing.assert_allclose(whole.observed[3], half.observed[-1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(whole.observed[-1], rest.observed[-1], rtol=0, atol=1e-14)


@pytest.mark.slow
def test_derivatives_pass_through_merged_steps():
    """In reverse mode, against differences, in the first entry of a matrix; and over seeds."""
    keys = jax.random.split(jax.random.key(4), 3)

    @jax.jit
    def mean(shift):
        start = eqx.tree_at(lambda n: n.start.weights[1], network, network.start.weights[1] + shift)
        return jax.vmap(lambda key: run(start, key).observed[-1].sum())(keys).mean()

    zero, e = jnp.zeros((N, N)), jnp.zeros((N, N)).at[0, 0].set(1e-3)
    slope = jax.grad(mean)(zero)[0, 0]
    np.testing.assert_allclose(slope, (mean(e) - mean(-e)) / 2e-3, rtol=1e-5)


def test_only_what_knows_of_factors_is_merged():
    narrow = ensemble.sample((N, N - 1, N), key=jax.random.key(1))
    assert how(network, risk, update, batch=3) is None  # 3 samples a step are too many for 128
    assert how(narrow, risk, update) is None
    assert how(network, risk, GradientFlow(weight_decay=0.1)) is None
    assert how(network, Risk(risk.data) + PowerPenalty(1e-3), update) is None
    assert how(network.growing(), risk, update) is None


class _Twice(Energy):
    """Twice a risk."""

    risk: Risk

    def __call__(self, network):
        return 2 * self.risk(network)

    def derivatives(self, network, *, variation=False):
        return jax.tree.map(lambda a: 2 * a, self.risk.derivatives(network, variation=variation))

    def outputs(self, network):
        return self.risk.outputs(network)

    def size(self, outputs):
        return self.risk.size(outputs)

    def stationarity(self, network):
        return 2 * self.risk.stationarity(network)

    def draw(self, batch, key):
        return _Twice(self.risk.draw(batch, key))

    def check(self, network, batch=None):
        self.risk.check(network, batch)


class _Clipped(Update):
    """Steps of gradient descent, entry by entry at most 1e-3."""

    def step(self, at, network, memory, energy):
        value, change, memory = GradientFlow().step(at, network, memory, energy)
        return value, jax.tree.map(lambda a: jnp.clip(a, -1e-3, 1e-3), change), memory

    def check(self, network, energy):
        energy.check(network)


class _Halved(Layer):
    """An affine layer that pulls half of every derivative back."""

    layer: Affine

    def first(self, w, b, x):
        return self.layer.first(w, b, x)

    def forward(self, masses, w, b, h):
        return self.layer.forward(masses, w, b, h)

    def pullback(self, masses, w, b, h, d, masses_out):
        return jax.tree.map(lambda a: a / 2, self.layer.pullback(masses, w, b, h, d, masses_out))

    def check(self, name, w, first):
        self.layer.check(name, w, first)

    def input_shape(self, w):
        return self.layer.input_shape(w)


def test_what_changes_derivatives_of_another_is_not_merged():
    assert how(network, _Twice(risk), update) is None
    assert how(network, risk, _Clipped()) is None
    other = NeuronalEnsemble(
        [Gaussian(2), *[Gaussian(1)] * 2], ensemble.weights, layers=_Halved(Affine(jnp.tanh))
    )
    assert how(other.sample(N, key=jax.random.key(1)), risk, update) is None
    key = jax.random.key(5)
    twice, once = (
        train(network, _Twice(risk), step=STEP / 2, batch=1, t1=STEP, key=key).final,
        train(network, risk, step=STEP, batch=1, t1=2 * STEP, key=key).final,
    )
    np.testing.assert_allclose(twice.weights[1], once.weights[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("base", [Risk, GradientFlow, Affine])
def test_nothing_concrete_is_inherited_from_that_would_say_it_takes_factors(base):
    with pytest.raises(TypeError, match=f"{base.__name__} is final, got a subclass Other: hold"):
        type("Other", (base,), {})
