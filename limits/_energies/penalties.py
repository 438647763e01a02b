"""Penalties: averages over the neurons of one hidden layer, as energies to be added to a risk."""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Network
from ensembles.internal import (
    called,
    concrete,
    dot,
    indexed,
    is_number,
    kind,
    number,
    shape_of,
    shown,
    takes,
)

from .energy import Derivatives, Energy


class _OfNeurons(Energy):
    """∫ V dμ, V a function of single neurons θ, the points of `network.measure(0)`, in networks of
    one hidden layer (deeper ones: `PathNorm`, `GradientFlow(weight_decay=)`)."""

    @abc.abstractmethod
    def of_neuron(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """V(θ)."""

    def __call__(self, network: Network) -> Float[Array, ""]:
        kind("network", network, Network, "write Network.shallow(sigma, measure)")
        self.check(network)
        return dot(network.masses[0], jax.vmap(self.of_neuron)(network.points(0)))

    def derivatives(self, network: Network, *, variation: bool = False) -> Derivatives:
        points, back = jax.vjp(lambda p: p.rows(0), network.parameters)
        values, slopes = jax.vmap(jax.value_and_grad(self.of_neuron))(points)
        (gradient,) = back(slopes)
        value = dot(network.masses[0], values)
        return Derivatives(value, gradient.still(), (values,) if variation else None)

    def outputs(self, network: Network) -> Float[Array, "1 1"]:
        return self(network)[None, None]

    def size(self, outputs: Float[Array, "... 1 1"]) -> Float[Array, "..."]:
        return jnp.abs(outputs[..., 0, 0])

    def stationarity(self, network: Network) -> Float[Array, ""]:
        """0: added to a risk it has no outputs whose change would lower it."""
        return jnp.zeros((), network.dtype)

    def check_convex(self, network: Network, points: Float[Array, "m dim"]) -> None:
        """It is linear in the measure."""

    def draw(self, batch: int, key: PRNGKeyArray) -> Energy:
        return self

    def check(self, network: Network, batch: int | None = None) -> None:
        name = type(self).__name__
        if network.depth != 2:
            raise ValueError(
                f"network must have one hidden layer for a {name}, got depth {network.depth}: "
                "write GradientFlow(weight_decay=...) or PathNorm(...) for deeper networks"
            )
        points = jax.eval_shape(lambda: network.points(0))
        one = jax.ShapeDtypeStruct(points.shape[1:], points.dtype)
        fit = f"penalty must fit neurons of dimension {one.shape[0]}"
        indexed(fit, self.of_neuron, (one,), "write other entries of a row of network.points(0)")
        shape = shape_of(fit, self.of_neuron, one).shape
        if shape != ():
            raise ValueError(
                f"penalty must return a scalar for a neuron of shape {one.shape}, got shape "
                f"{shape}: write .sum()"
            )


class Penalty(_OfNeurons):
    """∫ V dμ for any function V of a neuron, `Risk(data) + Penalty(lambda theta: ...)`.

    V maps a neuron (dim,) to a scalar; define it once, as every new lambda is compiled. Networks of
    one hidden layer, whose neurons are the points of `network.measure(0)`. Raises `ValueError` for
    what is no function of a neuron.
    """

    function: Callable[[Array], Array]

    def __check_init__(self) -> None:
        if isinstance(self.function, Energy):
            raise ValueError(
                f"function must be a function of a neuron, got {self.function!r}: an energy is "
                "added as it is, Risk(data) + PowerPenalty(1e-3)"
            )
        if not callable(self.function):
            raise ValueError(
                f"function must be a function of a neuron, got {self.function!r}: write "
                "Penalty(lambda theta: (theta**2).sum())"
            )
        takes("function", self.function, 1, "a neuron (dim,)", "write Penalty(lambda theta: ...)")

    def of_neuron(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        with called("penalty must fit a neuron"):
            return self.function(theta)


class PowerPenalty(_OfNeurons):
    """λ ∫ Σ_i abs(θ_i)^q dμ(θ) over the entries i of a neuron θ (all if None); q ≥ 1.

    Added to a risk, `Risk(data) + PowerPenalty(1e-3)`, for networks of one hidden layer.

    q = 2 is the ridge (λ/2 Σ θ² has strength λ/2); with q = 1 on the charge of units c σ(w, x) of
    norm-one features, ∫ λ abs(c) dμ is λ times the variation norm of the signed measure c μ (the
    F_1 norm of Bach, arXiv:1412.8690), with q = 2 it is the ridge of random features (F_2) where
    the features are frozen. Below q = 2 it is not smooth at 0, where neurons come to rest: descend
    in steps (`train`), or under the ridge of a two-homogeneous unit a σ(w · x), whose minimum is
    that of q = 1 on a ‖w‖.
    """

    strength: Float[Array, ""]
    power: float = eqx.field(static=True)
    entries: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self, strength: ArrayLike, power: float = 2.0, entries: tuple[int, ...] | None = None
    ):
        self.strength = number("strength", strength, "write 1e-3", jnp.result_type(float))
        if not is_number(power) or concrete(power) is None:
            raise ValueError(f"power must be a known number, got {shown(power)}: write power=2.0")
        self.power = float(power)
        self.entries = None if entries is None else _chosen(entries)
        known = concrete(self.strength)
        if known is not None and not 0 <= known < float("inf"):
            raise ValueError(f"strength must be a finite number ≥ 0, got {strength}: write 1e-3")
        if not 1 <= self.power < float("inf"):
            raise ValueError(f"power must be at least 1, got {power}: write 1.0 for a sparse one")

    def of_neuron(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        n = theta.shape[-1]
        if self.entries is not None and not all(-n <= i < n for i in self.entries):
            raise ValueError(
                f"entries must be of neurons of dimension {n}, got {self.entries}: write some of "
                f"0, …, {n - 1}, as in a row of network.points(0)"
            )
        chosen = theta if self.entries is None else theta[jnp.array(self.entries)]
        size = jnp.abs(chosen)
        # of the powers 1 and 2 every derivative is a number at 0
        powers = {1.0: size, 2.0: size**2}.get(self.power)
        powers = size**self.power if powers is None else powers
        return self.strength.astype(theta.dtype) * powers.sum()


def _chosen(entries: Any) -> tuple[int, ...]:
    """`entries` as different ints."""
    each = tuple(entries) if isinstance(entries, Sequence | np.ndarray) else (None,)
    whole = all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in each)
    if not whole or not each or len(set(each)) < len(each):
        raise ValueError(
            f"entries must be a tuple of different ints, got {entries!r}: write entries=(0,) for "
            "the first entry of a neuron"
        )
    return tuple(int(i) for i in each if i is not None)
