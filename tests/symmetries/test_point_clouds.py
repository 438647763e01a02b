"""Point clouds, classified by their shape: functions of sets in three dimensions.

Zweig & Bruna, arXiv:2008.06952, learn clouds with networks ρ(mean φ(x_j)) of which all layers are
trained (S1), φ is frozen at random (S2), or φ and the layer behind it (S3), the frozen ones wider.
(Theirs are clouds of handwritten digits, in two dimensions and a shade.)
Clouds here are drawn from surfaces of one mean square |x|² = 1, with noise: a sphere, a cube and a
torus, as they stand or turned at random, so that neither place nor size tells them apart.
"""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ensembles import Affine, Elementwise, Gaussian, Parameters, SetAverage, Sphere, iid
from limits import CrossEntropyLoss, Data, Optimiser, Risk, train

pytestmark = pytest.mark.slow

SEEDS, CLOUDS, SIZE, SIZES, NOISE, STEPS = 8, 300, 32, [8, 32, 128], 0.05, 1000
SHAPES, KEY = 3, 0


def sphere(key, n):
    x = jax.random.normal(key, (n, 3))
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def cube(key, n):
    inside, face = jax.random.split(key)
    x = jax.random.uniform(inside, (n, 3), minval=-1.0)
    side = jax.random.randint(face, (n,), 0, 6)
    on = jax.nn.one_hot(side % 3, 3)
    return on * jnp.where(side < 3, 1.0, -1.0)[:, None] + (1 - on) * x


def torus(key, n, ratio=0.4):
    """Uniform in both angles, denser at the inner side."""
    a, b = 2 * jnp.pi * jax.random.uniform(key, (2, n))
    return jnp.stack([(1 + ratio * jnp.cos(b)) * jnp.cos(a), (1 + ratio * jnp.cos(b)) * jnp.sin(a),
                      ratio * jnp.sin(b)], 1)  # fmt: skip


MEAN_SQUARES = [1.0, 5 / 3, 1 + 0.4**2]


def cloud(key, size, turned):
    """A cloud with a constant 1 beside each point, and its shape."""
    which, draw, noise, turn = jax.random.split(key, 4)
    shape = jax.random.randint(which, (), 0, SHAPES)
    surfaces = [sphere(draw, size), cube(draw, size), torus(draw, size)]
    unit = jnp.stack([s / m**0.5 for s, m in zip(surfaces, MEAN_SQUARES, strict=True)])
    x = unit[shape] + NOISE * jax.random.normal(noise, (size, 3))
    x = x @ jax.random.orthogonal(turn, 3) if turned else x
    return jnp.concatenate([x, jnp.ones((size, 1))], 1), jax.nn.one_hot(shape, SHAPES)


def clouds(key, n, size, turned, mixed=False):
    """`mixed`: points are those of all clouds, dealt anew, so that labels say nothing."""
    x, y = jax.vmap(lambda k: cloud(k, size, turned))(jax.random.split(key, n))
    if mixed:
        x = jax.random.permutation(key, x.reshape(n * size, 4)).reshape(x.shape)
    return Data(x, y)


def identity(h):
    return h


def start(first, hidden):
    return iid(dim=4, depth=3, first=first, hidden=Gaussian(1, scale=hidden),
               last=Gaussian(SHAPES),
               layers=[Elementwise(SetAverage(jax.nn.relu)), Affine(identity), Affine(jax.nn.relu)],
               )  # fmt: skip


def adam(frozen):
    def rest(updates, params):
        weights = tuple(0 * w if i < frozen else w for i, w in enumerate(updates.weights))
        return Parameters(weights, updates.biases)

    steps = optax.adam(optax.cosine_decay_schedule(5e-2, STEPS))
    return Optimiser(optax.chain(steps, optax.stateless(rest)))


KINDS = {
    "S1": (start(Gaussian(1), 1.0), (32, 32), adam(0)),
    "S2": (start(Sphere(4), 1.0), (128, 32), adam(1)),
    "S3": (start(Sphere(4), 8.0), (128, 128), adam(2)),
}


@eqx.filter_jit
def errors(kind, turned, mixed=False):
    """Shares of clouds taken for another shape, of those learnt from and new ones by their size."""
    ensemble, width, update = KINDS[kind]

    def one(key):
        data, test, draw, run = jax.random.split(key, 4)
        seen = clouds(data, CLOUDS, SIZE, turned, mixed)
        network = ensemble.sample(width, key=draw)
        risk = Risk(seen, CrossEntropyLoss())
        final = train(network, risk, update, step=1.0, batch=50, t1=float(STEPS), key=run).final
        new = [clouds(test, 300, n, turned, mixed) for n in SIZES]
        wrong = [final(c.x).argmax(1) != c.y.argmax(1) for c in (seen, *new)]
        return jnp.stack([w.mean() for w in wrong])

    return jax.vmap(one)(jax.random.split(jax.random.key(KEY), SEEDS))


def apart(worse, better):
    """The mean difference over seeds, in standard errors."""
    gap = worse - better
    return gap.mean() / (gap.std(ddof=1) / len(gap) ** 0.5)


def test_trained_layers_tell_shapes_apart_in_clouds_of_any_size_and_frozen_ones_less():
    """Learnt from 300 clouds of 32 points. The more layers are trained, the fewer mistakes; larger
    clouds than those seen are classified better, smaller ones worse. Turned at random, S2 and S3
    are within a few hundredths of chance, 2/3, and have 0.57 and 0.59 on the clouds that they learn
    from, so that S2 before S3 is asserted for upright clouds only.

    Control: points dealt anew among clouds."""
    print(f"\nmistakes on clouds learnt from, and on new ones of {SIZES} points")
    found = {}
    for turned, kind in product((False, True), KINDS):
        wrong = found[turned, kind] = np.asarray(errors(kind, turned))
        print(f"{'turned' if turned else 'upright'} {kind}: {wrong.mean(0).round(3)} ± "
              f"{(wrong.std(0, ddof=1) / SEEDS**0.5).round(3)}", flush=True)  # fmt: skip
    seen = 1 + SIZES.index(SIZE)
    for turned in (False, True):
        one, two = found[turned, "S1"], found[turned, "S2"]
        assert apart(two[:, seen], one[:, seen]) > 3 and apart(one[:, 1], one[:, -1]) > 3
        assert one[:, -1].mean() < one[:, seen].mean()
    assert apart(found[False, "S3"][:, seen], found[False, "S2"][:, seen]) > 2
    control = np.asarray(errors("S1", False, mixed=True))[:, 1:].mean(1)
    print(f"points dealt anew, S1: {control.mean():.3f} ± {control.std(ddof=1) / SEEDS**0.5:.3f}")
    assert abs(control.mean() - 2 / 3) < 0.05
