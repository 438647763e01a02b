"""Players stay on their spheres, tori and in their boxes."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from played import ATOMS, CIRCLING, KEY

from ensembles import Measure, Network, Product, Sphere, Torus, Uniform, players
from limits import (
    Adaptive,
    Game,
    GradientFlow,
    Langevin,
    WassersteinFisherRao,
    flow,
    limit,
    nikaido_isoda,
    train,
)
from limits.references import QuadraticGame


def test_players_on_spheres_stay_there_in_continuous_time():
    game = Game(QuadraticGame(jnp.array([[1.0, 2.0], [0.0, -1.0]])), spaces=(Sphere(2), Sphere(2)))
    start = players(Sphere(2), Sphere(2)).sample((6, 4), key=KEY)
    end = flow(start, game, WassersteinFisherRao(), t1=5.0).final
    for i in range(2):
        assert largest(jnp.linalg.norm(end.points(i), axis=1), jnp.ones(())) < 1e-6
    assert largest(end.points(0), start.points(0)) > 0.1


def test_steps_bring_players_back_to_boxes_and_spheres():
    spaces = Product(Uniform(0.0, 1.0), Sphere(2)), Torus(1)
    game = Game(lambda x, y: x[0] + x[1] * jnp.sin(2 * jnp.pi * y[0]), spaces=spaces)
    start = players(*spaces).sample((6, 4), key=KEY)
    warm = Langevin(temperature=0.5)
    end = train(start, game, warm, step=0.25, t1=5.0, key=KEY).final
    x = end.points(0)
    assert (x[:, 0] >= 0).all() and (x[:, 0] <= 1).all() and ((x[:, 0] == 0).any())
    assert largest(jnp.linalg.norm(x[:, 1:], axis=1), jnp.ones(())) < 1e-15


def test_steps_on_a_torus_follow_the_flow_around_it():
    """x' = 1 and y' = −1, by payoffs of period 1: no path jumps where 1 is 0."""
    game = Game(lambda x, y: -(x[0] % 1) - (y[0] % 1), spaces=(Torus(1), Torus(1)))
    start = players(Torus(1), Torus(1)).sample(4, key=KEY)
    run = train(start, game, step=0.25, t1=1.5)
    for i, way in enumerate((1.5, -1.5)):
        assert largest(run.final.points(i), start.points(i) + way) < 1e-14
    pair = Measure(jnp.array([[1.99], [-3.0]]), jnp.full(2, 0.5))
    assert largest(pair.aggregated(0.05, period=1.0).points, jnp.array([[0.995]])) < 1e-14
    around = Network.players(*(Measure(x + 3.0, jnp.full(2, 0.5)) for x in ATOMS))
    assert nikaido_isoda(around, CIRCLING, key=KEY, starts=4, steps=20).value < 1e-12


def test_weight_decay_leaves_players_on_their_spaces():
    """On a sphere it is normal and does nothing; in a box y' = 1.2 − y/2 ends at the wall 2."""
    spaces = Sphere(2), Uniform(1.0, 2.0)
    game = Game(lambda x, y: x[0] + 1.2 * y[0], spaces=spaces)
    start = players(*spaces).sample(6, key=KEY)
    free, pulled = (flow(start, game, GradientFlow(1.0, w), t1=1.0).final for w in (0.0, 0.5))
    assert largest(jnp.linalg.norm(pulled.points(0), axis=1), jnp.ones(())) < 1e-15
    assert largest(pulled.points(0), free.points(0)) < 1e-6
    alone = 2.4 + (start.points(1) - 2.4) * jnp.exp(-0.5)
    assert largest(pulled.points(1), jnp.minimum(alone, 2)) < 1e-6
    assert (pulled.points(1) == 2).any()


def _down(x, y):
    return -0.7 * x[0] + 0 * y[0]


BOXED = Game(_down, spaces=(Uniform(), Uniform()))
WHEN = jnp.array([0.0, 0.5, 1.0, 2.0])


def _points(network):
    return network.points(0)


@pytest.mark.parametrize("how", [{}, {"rtol": 1e-3}, {"step": 0.4}], ids=str)
def test_players_stop_at_the_walls_of_a_box_in_continuous_time(how):
    """Under −0.7 x they are at min(x + 0.7t, 1)."""
    start = players(Uniform(), Uniform()).sample(5, key=KEY)
    run = flow(start, BOXED, t1=2.0, times=WHEN, observe=_points, solver=Adaptive(**how))
    wanted = jnp.minimum(start.points(0)[None] + 0.7 * WHEN[:, None, None], 1)
    assert run.observed.max() <= 1 and largest(run.final.points(0), jnp.ones(())) < 1e-15
    assert largest(run.observed, wanted) < (1e-6 if not how else 0.3)


@pytest.mark.slow
def test_walls_are_in_the_error_bar_of_a_limit():
    """−0.7 E min(x + 0.7t, 1)."""
    run = limit(players(Uniform(), Uniform()), BOXED, t1=2.0, times=WHEN, tol=5e-3)
    wrong = np.abs(np.asarray(run.energies) - [-0.35, -0.552125, -0.6685, -0.7]).max()
    assert wrong < 3 * float(run.error) < 0.015 and run.energies.min() >= -0.7 - 1e-15


def test_players_that_turn_back_leave_the_wall_at_once():
    """x' = 2 − y, y' = 1 from x = 1/2, y = 0: x is 1 from 0.268 to 2, then 1 − (t − 2)²/2."""
    game = Game(lambda x, y: (y[0] - 2) * x[0], lambda x, y: -y[0] + 0 * x[0],
                spaces=(Uniform(), None))  # fmt: skip
    start = Network.players(*(Measure(jnp.array([[z]]), jnp.ones(1)) for z in (0.5, 0.0)))
    run = flow(start, game, t1=3.0, times=jnp.array([0.1, 1.0, 2.0, 3.0]), observe=_points)
    assert largest(run.observed[:, 0, 0], jnp.array([0.695, 1.0, 1.0, 0.5])) < 1e-5


@pytest.mark.slow
def test_derivatives_know_that_players_have_stopped():
    """dx/dv is t in the box, and 0 at the wall."""
    start = Network.players(*[Measure(jnp.array([[0.1], [0.6]]), jnp.full(2, 0.5))] * 2)

    def ends(v):
        game = Game(Loss(v), spaces=(Uniform(), Uniform()))
        run = flow(start, game, t1=1.0, solver=Adaptive(rtol=1e-5), adjoint=diffrax.ForwardMode())
        return run.final.points(0)[:, 0]

    slope = jax.jvp(ends, (jnp.array(0.7),), (jnp.ones(()),))[1]
    assert largest(slope, jnp.array([1.0, 0.0])) < 1e-6


class Loss(eqx.Module):
    v: jax.Array

    def __call__(self, x, y):
        return -self.v * x[0] + 0 * y[0]
