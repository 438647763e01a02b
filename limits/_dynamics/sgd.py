"""Stochastic gradient descent: Euler steps of a dynamics on random batches."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles.internal import count, kind

from .._energies.energy import Energy, aside
from .dynamics import Dynamics, Update
from .gradient_flow import GradientFlow
from .optimiser import instead


class SGD(Update):
    """Step k adds ε velocity(kε) of `dynamics`, taken on a batch of the data.

    With the `GradientFlow` of the default, w_i ← w_i − ε ξ_i(kε) (Δ_i(batch) + λ w_i). `batch` is
    the number of fresh samples per step, drawn by the masses of the data; None is the full batch,
    gradient descent. Source: Nguyen & Pham (arXiv:2001.11443), where N_{i-1} N_i times the gradient
    is Δ_i. A random dynamics adds its noise, √ε times standard Gaussians (Euler–Maruyama).
    """

    dynamics: Dynamics
    batch: int | None = eqx.field(static=True)

    def __init__(self, dynamics: Dynamics | None = None, batch: int | None = None):
        self.dynamics = GradientFlow() if dynamics is None else dynamics
        remedy = instead(self.dynamics, "write SGD(GradientFlow(), batch=1)")
        kind("dynamics", self.dynamics, Dynamics, remedy)
        self.batch = None if batch is None else count("batch", batch)

    @property
    def random(self) -> bool:
        return self.batch is not None or self.dynamics.random

    @property
    def takes_factors(self) -> bool:
        return self.dynamics.takes_factors and type(self) is SGD

    def prepare(self, network: Network) -> Network:
        return self.dynamics.prepare(network)

    def __call__(
        self,
        t: Float[Array, ""],
        step: Float[Array, ""],
        network: Network,
        memory: Any,
        energy: Energy,
        key: PRNGKeyArray | None,
    ) -> tuple[Float[Array, ""], Parameters, Any]:
        if self.batch is not None:
            assert key is not None
            energy = energy.draw(self.batch, key)
        value, velocity = self.dynamics.value_and_velocity(t, network, energy)
        change = velocity.scaled(step.astype(network.dtype))
        if self.dynamics.random:
            assert key is not None
            size = self.dynamics.diffusion(t, network)
            white = _gaussians(size, aside(key, 0))
            noise = self.dynamics.shaped(white, network)
            root = jnp.sqrt(step)
            change = jax.tree.map(
                lambda c, s, z: c + root.astype(c.dtype) * s * z, change, size, noise
            )
        return value, change, memory

    def check(self, network: Network, energy: Energy, step: Float[Array, ""]) -> None:
        self.dynamics.check(network, energy)
        if self.batch is not None:
            energy.check(network, self.batch)


def _gaussians(like: Parameters, key: PRNGKeyArray) -> Parameters:
    """Independent standard Gaussians of the shape of `like`."""
    leaves, tree = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, drawn)
