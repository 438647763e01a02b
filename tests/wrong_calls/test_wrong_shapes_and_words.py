"""Arrays of other shapes and words for numbers: each error says what arrived and what to write."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import regression, smooth
from right import KEY, ensemble, network, risk

from ensembles import Affine, Elementwise, Gaussian, NeuronalEnsemble, Uniform, shallow
from ensembles._checks import floating
from limits import (
    Data,
    FailedRun,
    Game,
    Optimiser,
    Risk,
    fit_power_law,
    flow,
    fluctuations,
    limit,
    train,
)
from limits.references import matrix_game

X, Y = jnp.ones((8, 2)), jnp.ones((8, 1))
GAME = Game(lambda x, y: x @ y)


def unit(theta, x):
    return theta[:1] * jnp.tanh(theta[1:] @ x)


def step(h):
    return (h > 0).astype(int)


def edges(phi):
    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)], [lambda c: jnp.ones(2), jnp.cos], layers=Elementwise(phi)
    )


def words(t):
    return flow(network(), risk(), t1=0.1, throw=t)


def single(t):
    return jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, t)


CALLS = {
    "x and y of different n": (
        lambda: Data(X, Y[:4]),
        r"one row per sample, got shapes \(8, 2\) and \(4, 1\): write x \(n, d\) and y \(n, out",
    ),
    "y of more outputs": (
        lambda: flow(network(), Risk(Data(X, jnp.ones((8, 2)))), t1=0.1),
        r"y must have the shape \(8, 1\) .*, got \(8, 2\): write y\[:, :1\], or a network of 2 out",
    ),
    "x without an axis of inputs": (
        lambda: flow(network(), Risk(Data(X[:, 0], Y)), t1=0.1),
        r"got shape \(8,\): one row for each of 8 inputs, each of 2 numbers",
    ),
    "x without an axis for a unit": (
        lambda: shallow(unit, Gaussian(2)).sample(3, key=KEY)(X[:, 0]),
        r"x must fit the first layer .*: write x\[:, None\] for 8 inputs of one number",
    ),
    "one input of a unit": (
        lambda: shallow(unit, Gaussian(3)).sample(3, key=KEY)(X[0]),
        r"x must fit the first layer .*: write x\[None\] for one input",
    ),
    "one input of several axes": (
        lambda: shallow(lambda t, x: unit(t, x[0]), Gaussian(3)).sample(3, key=KEY)(X),
        r"x must fit the first layer .*: write x\[None\] for one input",
    ),
    "inputs that a unit does not take": (
        lambda: shallow(unit, Gaussian(3)).sample(3, key=KEY)(jnp.ones((8, 3))),
        r"got inputs of shape \(3,\) .*, which it does not take: .*: write inputs \(n, \.\.\.\) of",
    ),
    "ragged rows": (
        lambda: floating("x", [[1.0, 2.0], [3.0]]),
        r"x must be an array of numbers, got list.*: rows must be equally long, write jnp\.stack",
    ),
    "an array of keys": (
        lambda: ensemble().sample(3, key=jax.random.split(KEY, 3)),
        r"key must be one JAX key, got an array of keys of shape \(3,\): write keys\[0\]",
    ),
    "a traced width": (
        lambda: jax.jit(lambda n: ensemble().sample(n, key=KEY))(4),
        r"width must be an int of at least 1, got a traced number.*static_argnums",
    ),
    "words for x of a fit": (
        lambda: fit_power_law(["a", "b"], np.ones((3, 2))),
        r"^x must be an array of numbers, got \['a', 'b'\]: write np\.array",
    ),
    "ragged seeds": (
        lambda: fit_power_law([1.0, 2.0], [[1.0, 2.0], [1.0]]),
        r"^y must be an array of numbers, got .* NaN for a missing seed",
    ),
    "a word for axes": (
        lambda: flow(network(), risk(), t1=0.1).plot("a"),
        r"ax must be an? Axes, got str: write fig, ax = plt\.subplots\(\)",
    ),
    "a payoff that is a vector": (
        lambda: matrix_game([1.0, 2.0]),
        r"payoff must be a matrix \(n, m\), got shape \(2,\): write one row for each",
    ),
    "throw in words": (lambda: words("no"), r"throw must be True or False, got 'no': write throw"),
    "throw in numbers": (lambda: words(0), r"throw must be True or False, got 0"),
    "an activation of integers": (
        lambda: Affine(step),
        r"activation must return floating numbers, got int\d+, through which no derivative passes",
    ),
    "an activation of truth values": (
        lambda: Affine(lambda h: h > 0),
        r"activation must return floating numbers, got bool",
    ),
    "a unit of integers": (
        lambda: shallow(lambda t, x: step(t @ x)[None], Gaussian(2)).sample(3, key=KEY)(X),
        r"sigma must return floating numbers, got int\d+",
    ),
    "edges of integers": (
        lambda: edges(lambda w, b, h: step(h.sum() * w.sum())).sample(3, key=KEY)(X),
        r"phi must return floating numbers, got int\d+",
    ),
    "a risk and a game": (
        lambda: risk() + GAME,
        r"other must be an energy of the same networks, got a sum of Risk .* and Game \(of players",
    ),
    "a game and a risk": (lambda: GAME + risk(), r"other must be an energy of the same networks"),
    "a limit of a game": (
        lambda: limit(ensemble(), GAME, t1=0.1),
        r"network must be of 2 players, got one of 3 layers Affine\(tanh\): write Network\.players",
    ),
    "an accuracy at outputs that are 0": (
        lambda: fluctuations(silent(), risk(), accuracy, t1=0.1, nodes=4),
        r"observe must be differentiable, .* an accuracy is a step function of outputs",
    ),
}


def silent():
    weights = [lambda c: jnp.stack([c[0], 1 + c[0]]), lambda c: 0 * c]
    return NeuronalEnsemble([Uniform(-1.0, 1.0)], weights, layers=Affine(jnp.tanh))


def accuracy(network):
    return jnp.where(network(regression(8).x) > 0, 1.0, 0.0).mean()[None]


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_the_remedy(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("tol", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("precision", ["single", pytest.param("double", marks=pytest.mark.slow)])
def test_the_tolerance_that_is_advised_is_accepted(tol, precision):
    given = (smooth(2), Risk(regression(8)))
    law, of = map(single, given) if precision == "single" else given
    with pytest.raises(ValueError, match=r"^tol must be a positive finite number, got") as caught:
        limit(law, of, t1=0.1, tol=tol)
    advised = float(str(caught.value).split("write tol=")[1].partition(",")[0])
    assert limit(law, of, t1=0.1, tol=advised).error <= advised


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_a_first_step_that_is_no_number_is_not_called_a_divergence(rate):
    update = Optimiser(optax.sgd(rate))
    with pytest.raises(FailedRun, match=r"^The first motion is not finite.*check learning rates"):
        train(network(), risk(), update, step=1.0, t1=2.0)
    with pytest.raises(FailedRun, match=r"^The run diverged"):  # a step that is one
        train(network(), risk(), Optimiser(optax.sgd(1e200)), step=1.0, t1=2.0)
