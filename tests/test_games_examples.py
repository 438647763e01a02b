"""Zero-sum games: one table of payoffs for both players, and the claims of the examples."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Sphere, players
from limits import Game, WassersteinFisherRao, mean_field_gradient


def payoff(x, y):
    return jnp.tanh(x @ y + x[0] ** 2 - y[1])


START = players(Sphere(3), Sphere(3)).sample((7, 5), key=jax.random.key(0))


def test_zero_sum_games_are_the_games_of_two_losses():
    ours = Game(payoff, spaces=(Sphere(3),) * 2)
    other = Game(payoff, lambda x, y: -payoff(x, y), spaces=(Sphere(3),) * 2)
    for f in (
        lambda game: game.value_and_first_variation(START),
        lambda game: (game(START), mean_field_gradient(START, game), game.outputs(START)),
    ):
        for a, b in zip(*map(jax.tree.leaves, map(f, (ours, other))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("zero_sum", [True, False])
def test_a_step_of_a_zero_sum_game_evaluates_every_payoff_once(zero_sum):
    game = Game(payoff) if zero_sum else Game(payoff, lambda x, y: -payoff(x, y))
    flow = WassersteinFisherRao()
    program = jax.jit(lambda n: flow.velocity(jnp.zeros(()), n, game))
    text = program.lower(flow.prepare(START)).compile().as_text()
    tables = re.findall(r"f64\[(?:7,5|5,7)\]\S* tanh\(", text)
    assert len(tables) == (1 if zero_sum else 2)
