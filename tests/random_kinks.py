"""Random networks with kinks and their data: labels on a line, weights that are waves of them."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from random_ensembles import Curve, Pair

from ensembles import Affine, NeuronalEnsemble, Uniform
from limits import Data, Risk


class Outputs(eqx.Module):
    x: jax.Array

    def __call__(self, network):
        return network(self.x)[:, 0]


class Problem(NamedTuple):
    """Two of the inputs `seen` are data, two are not."""

    weights: list
    risk: Risk
    seen: Outputs

    def ensemble(self, activation) -> NeuronalEnsemble:
        spaces = [Uniform(-1.0, 1.0)] * (len(self.weights) - 1)
        return NeuronalEnsemble(spaces, self.weights, layers=Affine(activation))


def candidate(rng, depth) -> Problem:
    """Four Gaussian data on the plane with targets of size 3, first layers that are fast waves of
    their label."""

    def curve(size, scale, top):
        return Curve(
            a=jnp.asarray(rng.normal(size=size) * scale / 2),
            b=jnp.asarray(rng.normal(size=(size, 2)) * scale),
            s=jnp.asarray(rng.uniform(-top, top, (size, 2))),
            shift=jnp.asarray(rng.uniform(-3, 3, (size, 2))),
        )

    def pair():
        made = (rng.normal(), *2 * rng.normal(size=2), rng.uniform(-3, 3), rng.normal())
        return Pair(*map(jnp.asarray, made))

    weights = [curve(2, 0.4, 6.0), *(pair() for _ in range(depth - 2)), curve(1, 1.0, 3.0)]
    x, a = rng.normal(size=(6, 2)), rng.normal(size=2)
    y = 3 * np.sin(2 * x @ a)[:, None]
    risk = Risk(Data(jnp.asarray(x[:4]), jnp.asarray(y[:4])))
    return Problem(weights, risk, Outputs(jnp.asarray(x[2:])))
