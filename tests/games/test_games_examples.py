"""Zero-sum games: one table of payoffs for both players, and the claims of the examples."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from ensembles import Atoms, Measure, Network, Product, Sphere, Torus, players
from limits import (
    FisherRao,
    Game,
    GradientFlow,
    MirrorProx,
    WassersteinFisherRao,
    mean_field_gradient,
    nikaido_isoda,
    train,
)


def payoff(x, y):
    return jnp.tanh(x @ y + x[0] ** 2 - y[1])


START = players(Sphere(3), Sphere(3)).sample((7, 5), key=jax.random.key(0))


def test_zero_sum_games_are_the_games_of_two_losses():
    ours = Game(payoff, spaces=(Sphere(3),) * 2)
    other = Game(payoff, lambda x, y: -payoff(x, y), spaces=(Sphere(3),) * 2)
    for f in (
        lambda game: game.derivatives(START, variation=True)[::2],
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


TORUS = (Torus(1), Torus(1))


def example(x, y):
    """Example 4.1 of Wang & Chizat (arXiv:2211.01280)."""
    ends = jnp.sin(4 * jnp.pi * x[0]) + jnp.sin(4 * jnp.pi * y[0])
    return ends + 2 * jnp.cos(2 * jnp.pi * (x[0] + y[0]))


@pytest.mark.parametrize("explicit", [True, False])
def test_explicit_steps_spiral_outward_and_mirror_prox_inward_as_linearised(explicit):
    key, eta = jax.random.key(1), 0.02
    places = jnp.array([[3 / 8, 7 / 8], [1 / 8, 5 / 8]])
    places += 1e-3 * jax.random.normal(key, places.shape)
    masses = jnp.array([[0.502, 0.498], [0.499, 0.501]])
    laws = [Measure(z[:, None], p) for z, p in zip(places, masses, strict=True)]
    wfr = WassersteinFisherRao(GradientFlow(1 / 40))
    run = train(
        Network.players(*laws), Game(example, spaces=TORUS), wfr if explicit else MirrorProx(wfr),
        step=eta, t1=16.0, times=jnp.array([8.0, 16.0]),
        observe=lambda n: jnp.hypot(*[p[0] - p[1] for p in n.masses]),
    )  # fmt: skip
    rate = jnp.log(run.observed[1] / run.observed[0]) / 400
    predicted = np.log(1 + 4 * eta**2 if explicit else 1 - 4 * eta**2 + 16 * eta**4) / 2
    np.testing.assert_allclose(rate, predicted, rtol=2e-3)


@pytest.mark.slow
def test_the_robust_margin_of_linear_neurons_is_the_distance_of_the_hull_less_the_radius():
    """A ball as the shadow of a sphere one dimension up, and samples that stay."""
    samples, radius = jnp.array([[1.0, 1.0], [1.0, -1.0], [2.0, 0.0], [3.0, 0.5]]), 0.4

    def margin(neuron, adversary):
        x = samples[adversary[-1].astype(int)] + radius * adversary[:2]
        return -neuron @ x

    a, u = (s.draw(8, jax.random.key(i)) for i, s in enumerate((Sphere(2), Sphere(3))))
    adversaries = jnp.concatenate([u, jnp.tile(jnp.arange(4.0), 2)[:, None]], axis=1)
    spaces = (Sphere(2), Product(Sphere(3), Atoms(jnp.arange(4.0)[:, None])))
    game = Game(margin, spaces=spaces)
    start = Network.players(*[Measure(z, jnp.full(8, 1 / 8)) for z in (a, adversaries)])
    run = train(start, game, MirrorProx(), step=0.1, t1=100.0)
    np.testing.assert_allclose(-run.energies[-1], 1 - radius, atol=1e-3)
    np.testing.assert_array_equal(run.final.points(1)[:, -1], adversaries[:, -1])
    assert nikaido_isoda(run.final, game, key=jax.random.key(2), starts=32, steps=200).value < 2e-3


class Fourier(eqx.Module):
    """Re Σ c_kl exp(2πi (k x + l y)), frequencies up to 3."""

    c: Array

    def __call__(self, x, y):
        angles = [2 * jnp.pi * jnp.arange(-3.0, 4.0) * z[0] for z in (x, y)]
        u, v = (jax.lax.complex(jnp.cos(a), jnp.sin(a)) for a in angles)
        return (u @ self.c @ v).real


@pytest.mark.slow
def test_mirror_prox_solves_random_games_where_other_dynamics_do_not():
    grid = jnp.arange(15.0)[:, None] / 15
    start = Network.players(*[Measure(grid, jnp.full(15, 1 / 15))] * 2)
    slow = WassersteinFisherRao(GradientFlow(1 / 400))
    updates = {
        "mirror prox": MirrorProx(slow),
        "explicit": slow,
        "fixed supports": FisherRao(),
        "masses stay": GradientFlow(1 / 40),
    }
    fine = (Atoms(jnp.arange(2000.0)[:, None] / 2000),) * 2
    solved = dict.fromkeys(updates, 0)
    for seed in range(8):
        game = Game(Fourier(jax.random.normal(jax.random.key(seed), (7, 7), complex)), spaces=TORUS)
        for name, update in updates.items():
            end = train(start, game, update, step=0.04, t1=64.0).final
            found = nikaido_isoda(end, game, key=jax.random.key(0), spaces=fine)
            solved[name] += found.value < 0.02
    print(f"solved, of 8 random games: {solved}")
    assert solved["mirror prox"] == 8 > solved["explicit"]
    assert max(solved["fixed supports"], solved["masses stay"]) <= 2
