"""Networks whose masses grow, the dynamics that tests let them grow by, and what they look at."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from models import regression, smooth

from ensembles import NeuronalEnsemble
from limits import GradientFlow, Risk, WassersteinFisherRao, mean_field_gradient

DATA = regression(16, outputs=2)
RISK = Risk(DATA)
TIMES = np.linspace(0, 2, 9)


class Ramp(eqx.Module):
    """The schedule scale · (1/2 + t)."""

    scale: jax.Array

    def __call__(self, t):
        return self.scale * (0.5 + t)


class Damped(eqx.Module):
    """The schedule scale / (1 + t)."""

    scale: jax.Array

    def __call__(self, t):
        return self.scale / (1 + t)


def gains(prediction, y):
    """A loss that is linear in the outputs."""
    return -(y * prediction).sum()


LINEAR = Risk(DATA, gains)


def growth_rates(depth: int, scale: float = 1.0) -> list:
    return [Ramp(jnp.asarray(scale)), 1.5 * scale, 0.4 * scale][: depth - 1]


def moving(depth: int, transport: float = 1.0, growth: float = 1.0) -> WassersteinFisherRao:
    """Other learning rates and growth rates in every layer, some of them schedules; one program
    whatever their scales are."""
    learning = [transport, Damped(jnp.asarray(transport)), 1.5 * transport, 0.7 * transport]
    return WassersteinFisherRao(GradientFlow(learning[:depth]), growth_rates(depth, growth))


def model(depth: int) -> NeuronalEnsemble:
    return smooth(depth, outputs=2, biases=True)


def state(network):
    return network.parameters, network.masses


def masses_of(network):
    return network.masses


def outputs(network):
    return network(DATA.x)


def finite(tree) -> bool:
    return all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


def free_of_nan(tree) -> bool:
    return not any(bool(np.isnan(leaf).any()) for leaf in jax.tree.leaves(tree))


def unit_sums(masses) -> float:
    """How far masses are from summing to 1 over their last axis."""
    return max(float(np.abs(np.asarray(p).sum(-1) - 1).max()) for p in masses)


def single(tree):
    return jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_array(a) else a, tree)


@eqx.filter_jit
def around(network, energy):
    """Energy, first variation and derivatives per unit mass."""
    return energy.derivatives(network, variation=True)[::2], mean_field_gradient(network, energy)
