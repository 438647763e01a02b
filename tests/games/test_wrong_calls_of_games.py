"""Wrong calls of games: each error names the argument, what arrived and the remedy."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from models import smooth
from played import KEY, THREE

from ensembles import Gaussian, Product, Sphere, Torus, Uniform, players, quadrature
from limits import Game, Langevin, MirrorProx, flow, limit, nikaido_isoda, train
from limits.references import QuadraticGame, boltzmann_game, matrix_game, quadratic_on_sphere

PAIR = players(Gaussian(2), Gaussian(2)).sample(3, key=KEY)
DOT = Game(jnp.dot)


def game_with(payoff, **options):
    return lambda: flow(PAIR, Game(payoff, **options), t1=1.0)


WRONG = {
    "a payoff that is no function": (lambda: Game(1.0), "payoff must be a function"),
    "a payoff of vectors": (game_with(lambda x, y: x), "payoff must return a scalar"),
    "a payoff that is not finite": (game_with(lambda x, y: jnp.log(-(x @ x))), "payoff must be fi"),
    "spaces of another dimension": (game_with(jnp.dot, spaces=(Sphere(3), None)), r"spaces\[0\]"),
    "one space for two": (game_with(jnp.dot, spaces=(Sphere(2),)), "spaces must be one space"),
    "three players in a game of two": (
        lambda: flow(players(*[Gaussian(2)] * 3).sample(3, key=KEY), DOT, t1=1.0),
        "network must be of 2 players",
    ),
    "a network that is no players": (
        lambda: flow(smooth(3).sample(3, key=KEY), DOT, t1=1.0), "network must be of 2 players",
    ),
    "outputs of players": (lambda: PAIR(jnp.ones((1, 2))), "players have no outputs"),
    "a space beside a measure": (
        lambda: players(Gaussian(1), quadrature(Gaussian(1), 2)), "strategies must be",
    ),
    "no players": (lambda: players(), "strategies must be"),
    "noise that leaves a sphere": (
        lambda: flow(
            PAIR, Game(jnp.dot, spaces=(Product(Torus(1), Uniform()), None)), Langevin(), t1=1.0,
            key=KEY,
        ),
        "dynamics must be without noise in spaces",
    ),
    "looking ahead under noise": (
        lambda: train(PAIR, DOT, MirrorProx(Langevin()), step=0.1, t1=1.0),
        "dynamics must be without noise for MirrorProx",
    ),
    "batches of nothing": (
        lambda: train(PAIR, DOT, MirrorProx(), step=0.1, batch=0, t1=1.0, key=KEY), "batch must be",
    ),
    "gains in unknown spaces": (lambda: nikaido_isoda(PAIR, DOT, key=KEY), "spaces must be given"),
    "gains in other spaces": (
        lambda: nikaido_isoda(PAIR, DOT, key=KEY, spaces=(Sphere(2), Sphere(3))), r"spaces\[1\]",
    ),
    "gains without a key": (
        lambda: nikaido_isoda(PAIR, DOT, key=None, spaces=(Sphere(2), Sphere(2))), "key is",
    ),
    "a grid of three players": (
        lambda: boltzmann_game(THREE, low=0.0, high=1.0, cells=4, temperature=1.0),
        "game must be of two players",
    ),
    "a grid of a game that is not zero-sum": (
        lambda: boltzmann_game(
            Game(jnp.dot, jnp.dot), low=0.0, high=1.0, cells=4, temperature=1.0
        ),
        "game must be zero-sum",
    ),
    "three boxes": (
        lambda: boltzmann_game(DOT, low=[[0.0]] * 3, high=1.0, cells=4, temperature=1.0),
        "low, high and cells must be of one box",
    ),
    "a cold grid": (
        lambda: boltzmann_game(DOT, low=0.0, high=1.0, cells=4, temperature=0.0),
        "temperature must be",
    ),
    "a matrix with holes": (lambda: matrix_game([[1.0, np.nan]]), "payoff has 1 NaN"),
    "a row": (lambda: matrix_game([1.0, 2.0]), r"payoff must be a matrix \(n, m\)"),
    "a quadratic of other shapes": (
        lambda: QuadraticGame(jnp.ones((2, 3)), A=jnp.ones((3, 3))), "A must have shape",
    ),
    "a vector of another length": (
        lambda: quadratic_on_sphere(np.eye(3), np.ones(2)), "matrix must have shape",
    ),
    "gains of players outside": (
        lambda: nikaido_isoda(PAIR, DOT, key=KEY, spaces=(Sphere(2), Sphere(2))),
        r"strategies of player 1 must be in the space Sphere\(2\) .*got 3 of 3 outside, by up to",
    ),
    "players that start outside": (
        game_with(jnp.dot, spaces=(Sphere(2), None)),
        r"strategies of player 1 must be in the space Sphere\(2\).*write game\.domain\.project",
    ),
    "gains under jit": (
        lambda: jax.jit(lambda n: nikaido_isoda(n, DOT, key=KEY).value)(PAIR),
        "nikaido_isoda runs on the host",
    ),
    "atoms under jit": (
        lambda: jax.jit(lambda m: m.aggregated(0.1).masses)(PAIR.measure(0)),
        "measure.aggregated runs on the host",
    ),
    "one space that is no tuple": (
        lambda: Game(jnp.dot, spaces=Torus(1)), "spaces must be one space .*got Torus",
    ),
    "one space of all": (
        lambda: nikaido_isoda(PAIR, DOT, key=KEY, spaces=Torus(2)), "spaces must be one space",
    ),
    "a payoff of three": (lambda: Game(lambda x, y, z: x @ y), "payoff must take 2 arguments"),
    "losses of one": (lambda: Game(jnp.dot, lambda x: x @ x), "payoff must take 2 arguments, one"),
    "a payoff of integers": (game_with(lambda x, y: 1), "payoff must return the network's dtype"),
    "a complex payoff": (
        game_with(lambda x, y: jax.lax.complex(x @ y, x @ x)), "payoff must return .* complex128",
    ),
    "values of no players": (
        lambda: DOT(smooth(3).sample(3, key=KEY)), "network must be of 2 players",
    ),
    "a limit of no players": (
        lambda: limit(smooth(3), DOT, t1=1.0), "network must be of 2 players",
    ),
    "a period of nothing": (
        lambda: PAIR.measure(0).aggregated(0.1, period=0.0), "period must be a positive",
    ),
    "entries that strategies do not have": (
        game_with(lambda x, y: x[2] * y[0]), r"payoff must fit strategies of dimensions \[2, 2\]",
    ),
    "a radius of nothing": (lambda: PAIR.measure(0).aggregated(0.0), "radius must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
