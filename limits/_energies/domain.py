"""Where neurons live: the spaces that confine them, as one object."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ensembles import Network, Parameters, Space
from ensembles.internal import traced


class Domain(eqx.Module):
    """The spaces in which neurons live, the points `network.points(i)` of each hidden layer; None,
    or no entry, is all of R^dim.

    Velocities are made tangent to it and steps are brought back to it (`Space.tangent`,
    `Space.project`).
    """

    spaces: tuple[Space | None, ...] = ()

    @property
    def bounded(self) -> bool:
        """Whether it has walls or is curved, so that a step may leave it."""
        return any(space is not None and space.bounded for space in self.spaces)

    def project(self, network: Network) -> Network:
        """`network` with neurons brought back to where they live, when a step has left it."""
        for i, space in enumerate(self.spaces):
            if space is not None and space.bounded:
                network = network.with_points(space.project(network.points(i)), i)
        return network

    def tangent(self, network: Network, velocity: Parameters) -> Parameters:
        """The part of a velocity at `network` that leaves neurons where they live."""
        return self._kept(network, velocity, lambda space, x, v: space.tangent(x, v))

    def along(self, network: Network, velocity: Parameters) -> Parameters:
        """The part of a velocity at `network` along the spaces, as if they had no walls.

        A step from z with the velocity at another point z' takes it: at a wall that z' has met,
        `tangent` would be 0 however far z is from it, and no step of z would ever get there. What
        it leads out of walls is brought back by `project`, once, in the end."""
        return self._kept(network, velocity, lambda space, x, v: space.along(x, v))

    def _kept(
        self, network: Network, velocity: Parameters, kept: Callable[[Space, Array, Array], Array]
    ) -> Parameters:
        if not self.bounded:
            return velocity

        confined = [(i, space) for i, space in enumerate(self.spaces) if space is not None]

        def rows(parameters: Parameters) -> tuple[Array, ...]:
            return tuple(parameters.rows(i) for i, _ in confined)

        each, pull = jax.vjp(rows, velocity)
        pairs = zip(confined, each, strict=True)
        parts = tuple(kept(space, network.points(i), v) for (i, space), v in pairs)
        (before,), (after,) = pull(each), pull(parts)  # what is in no row stays as it is
        moves = jax.tree.map(lambda v, a, b: v - a + b, velocity, before, after)
        return moves.with_growth(velocity.growth)

    def downhill(self, network: Network, gradient: Parameters) -> Parameters:
        """`gradient` without the part against which a descent would leave where neurons live."""
        way = self.tangent(network, jax.tree.map(jnp.negative, gradient))
        return jax.tree.map(jnp.negative, way)

    def shared(self, other: "Domain") -> "Domain":
        """The domain of two energies of the same neurons: where one of them says none, the other's.

        Raises `ValueError` where both give spaces that differ: neurons live in one.
        """
        layers = range(max(len(self.spaces), len(other.spaces)))
        return Domain(tuple(_one(i, self._of(i), other._of(i)) for i in layers))

    def _of(self, i: int) -> Space | None:
        return self.spaces[i] if i < len(self.spaces) else None


def _one(i: int, a: Space | None, b: Space | None) -> Space | None:
    if a is None or b is None:
        return b if a is None else a
    if type(a) is not type(b) or not (traced(a, b) or eqx.tree_equal(a, b)):
        raise ValueError(
            f"spaces[{i}] must be the same in both energies of a sum, got {a!r} and {b!r}: give "
            "spaces= to one of them"
        )
    return a
