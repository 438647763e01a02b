"""What is refused in a run is refused in a call, and a key that is none wherever one is given."""

import jax
import jax.numpy as jnp
import pytest
from models import smooth
from right import network, risk

from ensembles import Gauss, Network, Uniform, quadrature
from limits import Data, Game, Interaction, Risk, diversity, limit, train

PAIR = Network.players(*[quadrature(Uniform(-1.0, 1.0), 3)] * 2)
FAR = (Uniform(2.0, 3.0), Uniform(2.0, 3.0))
ONE = Network.particles(quadrature(Uniform(-1.0, 1.0), 3))
DATA = risk().data


def square(a, b):
    return ((a - b) ** 2).sum()


CALLED = {
    "a loss of vectors": (lambda: Risk(DATA, lambda a, b: (a - b) ** 2)(network()), "loss must re"),
    "a complex loss": (lambda: Risk(DATA, lambda a, b: 1j * square(a, b))(network()), "loss must"),
    "another precision": (
        lambda: Risk(Data(*(a.astype(jnp.float32) for a in (DATA.x, DATA.y))))(network()),
        "energy has data of dtype",
    ),
    "payoffs of vectors": (lambda: Game(lambda a, b: a - b)(PAIR), "payoff must return a scalar"),
    "NaN payoffs": (lambda: Game(lambda a, b: jnp.nan * (a @ b))(PAIR), "payoff must be finite"),
    "strategies elsewhere": (lambda: Game(square, spaces=FAR)(PAIR), "strategies of player 1 must"),
    "a potential of vectors": (lambda: Interaction(lambda a: a, square)(ONE), "F must return"),
    "a first variation": (
        lambda: Risk(DATA, lambda a, b: (a - b) ** 2).first_variation(network()), "loss must re",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLED)
def test_called_energies_refuse_what_runs_refuse(name):
    call, said = CALLED[name]
    with pytest.raises(ValueError, match=f"^{said}.*: "):
        call()


ENSEMBLE = smooth(2)
KEYS = {
    "train": lambda key: train(network(), risk(), step=0.1, t1=1.0, key=key),
    "limit": lambda key: limit(ENSEMBLE, risk(), t1=1.0, key=key),
    "quadrature": lambda key: quadrature(Uniform(), 3, Gauss(), key=key),
    "discretise": lambda key: ENSEMBLE.discretise(3, key=key),
    "network": lambda key: ENSEMBLE.network(ENSEMBLE.measures(3), key=key),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_is_none_is_refused_also_where_none_is_needed(name):
    with pytest.raises(ValueError, match=r"^key must be one JAX key, got 5: write key="):
        KEYS[name](5)


def test_arrays_in_place_of_other_things_are_shown_by_their_shape():
    x = jnp.ones((8, 1))
    with pytest.raises(ValueError, match=r"^observe .* got an array of shape \(8, 1\)"):
        train(network(), risk(), step=0.1, t1=1.0, observe=x)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^key must be one JAX key, got an array of shape \(8, 1"):
        diversity(network(), DATA, key=x)
    with pytest.raises(ValueError, match=r"^data must be a Data, got an array of shape \(8, 1\)"):
        diversity(network(), x, key=jax.random.key(0))  # pyright: ignore[reportArgumentType]


def test_a_rule_in_words_is_told_the_object():
    with pytest.raises(
        ValueError, match=r"^rule must be a Rule, got 'gauss': write rule=Gauss\(\)"
    ):
        limit(ENSEMBLE, risk(), t1=1.0, rule="gauss")
