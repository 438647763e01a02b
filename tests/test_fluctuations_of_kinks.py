"""N Var of networks with kinks, predicted and simulated, in random problems whose neurons cross
data; and what is predicted where crossings are hidden."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembles import Affine, Gaussian, Sobol, iid
from limits import Adaptive, Data, Risk, flow, fluctuations

pytestmark = pytest.mark.slow

T1 = 3.0
TIMES = jnp.array([T1])
NODES = {2: 1024, 3: [512, 64], 4: [512, 1, 64]}
HEUN = Adaptive(step=0.02, method=diffrax.Heun())
PROBLEMS = [  # depth, activation, seed
    (2, "relu", 0),
    (2, "relu", 1),
    (2, "leaky relu", 2),
    (2, "leaky relu", 3),
    (3, "relu", 4),
    (3, "relu", 5),
    (3, "leaky relu", 6),
    (4, "relu", 7),
    (4, "leaky relu", 8),
    (4, "leaky relu", 9),
]
ACTIVATIONS = {"relu": jax.nn.relu, "leaky relu": jax.nn.leaky_relu}


def hidden_relu(h):
    """ReLU by a comparison that is not followed."""
    return h * jnp.argmax(jnp.stack([jnp.zeros_like(h), h]), 0).astype(h.dtype)


def hidden_leaky_relu(h):
    on = jnp.argmax(jnp.stack([jnp.zeros_like(h), h]), 0).astype(h.dtype)
    return h * (0.01 + 0.99 * on)


HIDDEN = {"relu": hidden_relu, "leaky relu": hidden_leaky_relu}


class Outputs(eqx.Module):
    x: jax.Array

    def __call__(self, network):
        return network(self.x)[:, 0]


def problem(depth, activation, seed):
    """Six Gaussian data on the plane with a random target, laws of weights of random size;
    observed are the outputs at two of them and two others."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(2026), seed), 4)
    scale, shift = jax.random.uniform(keys[0], (2,), minval=0.7, maxval=1.3)
    x = jax.random.normal(keys[1], (8, 2))
    a, b = jax.random.normal(keys[2], (2, 2))
    y = 2 * jnp.sin(2 * x @ a) + 2 * x @ b
    ensemble = iid(
        dim=2,
        depth=depth,
        first=Gaussian(2, scale=scale),
        last=Gaussian(1),
        hidden=Gaussian(1, mean=shift, scale=0.5) if depth > 2 else None,
        biases=None if depth == 2 else [*[None] * (depth - 2), -0.4, None],
        layers=Affine(activation),
    )
    return ensemble, Risk(Data(x[:6], y[:6, None])), Outputs(x[4:8]), keys[3]


def predicted(ensemble, risk, seen, key):
    found = fluctuations(
        ensemble, risk, seen, t1=T1, times=TIMES, nodes=NODES[ensemble.depth], rule=Sobol(), key=key,
        solver=Adaptive(rtol=1e-4),
    )  # fmt: skip
    return np.asarray(found.variance[-1]), np.asarray(found.variance_error[-1])


@eqx.filter_jit
def ends(ensemble, risk, seen, width, keys):
    def end(key):
        network = ensemble.sample(width, key=key)
        return seen(flow(network, risk, t1=T1, solver=HEUN).final)

    return jax.lax.map(end, keys, batch_size=20)


def simulated(ensemble, risk, seen, key, width, networks):
    """N Var, and its standard error by the fourth moment."""
    found = np.asarray(ends(ensemble, risk, seen, width, jax.random.split(key, networks)))
    square = width * (found - found.mean(0)) ** 2
    return square.mean(0), square.std(0) / np.sqrt(networks)
