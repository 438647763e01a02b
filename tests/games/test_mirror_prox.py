"""Mirror prox, where explicit steps circle outward: Example 4.1 of arXiv:2211.01280."""

import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from played import CIRCLING, KEY, near_equilibrium

from ensembles import Gaussian, players
from limits import Game, GradientFlow, MirrorProx, WassersteinFisherRao, nikaido_isoda, train


def test_the_equilibrium_of_the_example_is_one():
    found = nikaido_isoda(near_equilibrium(0.0, 0.0), CIRCLING, key=KEY, starts=32, steps=100)
    assert found.value < 1e-14 and abs(CIRCLING(near_equilibrium(0.0, 0.0))) < 1e-15


def _log_odds(network):
    return jnp.stack([jnp.log(p[0] / p[1]) for p in network.masses])


@pytest.mark.parametrize("passes", [1, 2, 40])
def test_rates_of_steps_are_those_of_the_linearisation_at_the_equilibrium(passes):
    """At the atoms ∂f = 0 and f = ∓2, so positions stay and the log-odds G, H of the players turn,
    G' = 2H, H' = −2G. With θ = 2ε a step is 1 + iθ, 1 + iθ − θ² for two passes, 1/(1 − iθ) for
    many; two of these come closer."""
    update = MirrorProx(WassersteinFisherRao(GradientFlow(0.01)), passes=passes)
    for step in (0.04, 0.08):
        theta = 2 * step
        factor = {1: 1 + 1j * theta, 2: 1 + 1j * theta - theta**2, 40: 1 / (1 - 1j * theta)}[passes]
        run = train(
            near_equilibrium(0.0, 1e-3), CIRCLING, update, step=step, t1=step * 100,
            times=step * np.array([0.0, 100.0]), observe=_log_odds,
        )  # fmt: skip
        start, end = np.linalg.norm(np.asarray(run.observed), axis=1)
        measured = np.log(end / start) / 100
        assert abs(measured / np.log(abs(factor)) - 1) < 5e-3
        assert np.sign(measured) == (1 if passes == 1 else -1)


def test_mirror_prox_finds_the_equilibrium_that_explicit_steps_leave():
    ends = {}
    for passes in (1, 2):
        update = MirrorProx(WassersteinFisherRao(GradientFlow(0.006)), passes)
        run = train(near_equilibrium(0.01, 0.1), CIRCLING, update, step=0.25, t1=100.0)
        ends[passes] = nikaido_isoda(run.final, CIRCLING, key=KEY, starts=32, steps=100).value
    print(f"\nNI after 400 steps: {ends}")
    assert ends[2] < 1e-10 and ends[1] > 0.3


def test_rates_are_one_for_each_player():
    start = players(Gaussian(1), Gaussian(1), Gaussian(1)).sample(2, key=KEY)
    game = Game(*[lambda x, y, z: -x[0] - y[0] - z[0]] * 3)
    run = train(start, game, GradientFlow([1.0, 0.1, 0.0]), step=1.0, t1=1.0)
    for i, rate in enumerate((1.0, 0.1, 0.0)):
        assert largest(run.final.points(i), start.points(i) + rate) < 1e-15
    with pytest.raises(ValueError, match="one for each of the 3 players, got 4"):
        train(start, game, GradientFlow([1.0] * 4), step=1.0, t1=1.0)
