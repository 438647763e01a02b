"""
Games against their payoffs
===========================

What a step of a zero-sum game costs: with 1,000 + 1,000 strategies, over the payoffs of all pairs
and the two sums of their gradients, written by hand and evaluated once (for mirror prox, which
looks twice, twice); and 200 random games of 15 + 15 strategies, in one batch and one by one, over
the same mirror prox written by hand. Ratios are medians of paired repeats, in single precision.
"""

# %%

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ensembles import Measure, Network, Sphere, Torus, players
from limits import Game, GradientFlow, MirrorProx, WassersteinFisherRao, train

REPEATS, STEP, SLOWER = 9, 0.04, 1 / 40  # positions move at 1/40 of the rate of masses
PI = np.pi
wfr = WassersteinFisherRao(GradientFlow(SLOWER))


def seconds(calls, repeats=REPEATS):
    """Seconds of every call (repeats,), taken in turn."""
    for call in calls.values():
        jax.block_until_ready(call())
    spent = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            spent[name].append(time.perf_counter() - began)
    return {name: np.array(s) for name, s in spent.items()}


def ratio(a, b):
    low, middle, high = np.quantile(a / b, [0.25, 0.5, 0.75])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


# %%
# A step over the bare payoffs
# ----------------------------
# On the circle a payoff is sines and cosines of pairs, on the sphere in R^20 a tanh of a product.
# The products are those of every step, with nothing that could be left out of a loop.

N, STEPS = 1000, 20
A = jax.random.normal(jax.random.key(1), (20, 20)) / 20**0.5


def waves(x, y):
    ends = jnp.sin(4 * PI * x[0]) + jnp.sin(4 * PI * y[0])
    return ends + 2 * jnp.cos(2 * PI * (x[0] + y[0]))


def units(x, y):
    return jnp.tanh(x @ (A @ y))


def bare_waves(x, y, p, q):
    angle = 2 * PI * (x + y.T)
    table = jnp.sin(4 * PI * x) + jnp.sin(4 * PI * y.T) + 2 * jnp.cos(angle)
    slope = -4 * PI * jnp.sin(angle)
    g = 4 * PI * jnp.cos(4 * PI * x[:, 0]) + slope @ q
    h = 4 * PI * jnp.cos(4 * PI * y[:, 0]) + p @ slope
    return g[:, None], h[:, None], table @ q, p @ table


def bare_units(x, y, p, q):
    mixed = y @ A.T
    table = jnp.tanh(x @ mixed.T)
    slope = 1 - table**2
    return slope @ (q[:, None] * mixed), slope.T @ (p[:, None] * x) @ A, table @ q, p @ table


def repeated(bare):
    @jax.jit
    def loop(x, y, p, q):
        def body(_, at):
            g, h, psi, phi = bare(*at)
            x, y, p, q = at
            return x - 1e-9 * g, y + 1e-9 * h, p - 1e-9 * psi, q + 1e-9 * phi

        return jax.lax.fori_loop(0, STEPS, body, (x, y, p, q))

    return loop


print(f"{N:,} + {N:,} strategies: a step over the bare payoffs, [quartiles]")
for name, payoff, bare, space in (
    ("circle, waves", waves, bare_waves, Torus(1)),
    ("sphere in R^20, tanh", units, bare_units, Sphere(20)),
):
    network = players(space, space).sample(N, key=jax.random.key(0))
    game = Game(payoff, spaces=(space, space))
    at = (network.points(0), network.points(1), *network.masses)
    loop = repeated(bare)

    def ours(update, network=network, game=game):
        end = [STEP * STEPS]
        return lambda: train(network, game, update, step=STEP, t1=end[0], times=end).final

    spent = seconds(
        {
            "bare": lambda loop=loop, at=at: loop(*at),
            "explicit": ours(wfr),
            "mirror prox": ours(MirrorProx(wfr)),
        }
    )
    one = spent["bare"]
    print(
        f"  {name}: explicit {ratio(spent['explicit'], one)}, mirror prox over two "
        f"{ratio(spent['mirror prox'], 2 * one)}   (bare: {np.median(one) / STEPS * 1e3:.1f} ms)",
        flush=True,
    )

# %%
# Many small games
# ----------------
# Random Fourier payoffs of frequencies up to 3 on two circles (Wang & Chizat, arXiv:2211.01280).

GAMES, SIZE, LONG = 200, 15, 200
K = np.arange(-3.0, 4.0, dtype=np.float32)[:, None]


class Fourier(eqx.Module):
    """Re Σ c_kl exp(2πi (k x + l y))."""

    c: jax.Array

    def __call__(self, x, y):
        u, v = (jnp.exp(2j * PI * (K @ z)) for z in (x, y))
        return (u @ self.c @ v).real


@eqx.filter_jit
def played(c):
    grid = jnp.arange(SIZE)[:, None] / SIZE
    start = Network.players(*[Measure(grid, jnp.full(SIZE, 1 / SIZE))] * 2)
    game = Game(Fourier(c), spaces=(Torus(1), Torus(1)))
    return train(start, game, MirrorProx(wfr), step=STEP, t1=STEP * LONG).final.masses


def step_by_hand(c, here, ahead):
    """What positions and masses `here` become with the velocity at those `ahead`."""
    x, y, p, q = ahead
    u, v = (jnp.exp(2j * PI * z[:, None] * K[:, 0]) for z in (x, y))
    left, right = (p @ u) @ c @ v.T, u @ c @ (v.T @ q)
    g = (2j * PI * K[:, 0] * u @ c @ (v.T @ q)).real
    h = ((p @ u) @ c @ (2j * PI * K[:, 0] * v).T).real
    p, q = here[2] * jnp.exp(-STEP * right.real), here[3] * jnp.exp(STEP * left.real)
    pace = STEP * SLOWER
    return (here[0] - pace * g) % 1, (here[1] + pace * h) % 1, p / p.sum(), q / q.sum()


@jax.jit
def by_hand(c):
    grid, p = jnp.arange(SIZE) / SIZE, jnp.full(SIZE, 1 / SIZE)

    def body(_, z):
        return step_by_hand(c, z, step_by_hand(c, z, z))

    return jax.lax.fori_loop(0, LONG, body, (grid, grid, p, p))[2:]


coefficients = jax.random.normal(jax.random.key(2), (GAMES, 7, 7), jnp.complex64)
batch, batch_by_hand = eqx.filter_jit(jax.vmap(played)), jax.jit(jax.vmap(by_hand))
off = [
    float(jnp.median(jnp.abs(a - b).max(1)))
    for a, b in zip(batch(coefficients), batch_by_hand(coefficients), strict=True)
]
print(f"\n{GAMES} games of {SIZE} + {SIZE}, {LONG} steps of mirror prox (masses differ from those "
      f"by hand by {max(off):.0e}, median over games)", flush=True)  # fmt: skip
spent = seconds(
    {
        "batch": lambda: batch(coefficients),
        "one by one": lambda: [played(c) for c in coefficients],
        "batch by hand": lambda: batch_by_hand(coefficients),
        "one by one by hand": lambda: [by_hand(c) for c in coefficients],
    },
    repeats=5,
)
for one, other in (
    ("one by one", "batch"),
    ("batch", "batch by hand"),
    ("one by one", "one by one by hand"),
):
    print(f"  {one} over {other}: {ratio(spent[one], spent[other])}")
print(f"  (batch: {np.median(spent['batch']):.2f} s)")
