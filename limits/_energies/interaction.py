"""The energy of interacting particles: a force potential and a pair potential."""

import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembles import Network, Space
from ensembles.internal import (
    called,
    concrete,
    count,
    dot,
    einsum,
    indexed,
    inside,
    is_number,
    kind,
    shape_of,
    shown,
    takes,
)

from .data import Data
from .domain import Domain
from .energy import Derivatives, Energy
from .pairs import averages, each, value_and_slope
from .symmetric import check_symmetric

_PROBED = 128  # particles, and points of a space, of which K is evaluated


class Interaction(Energy):
    """E(μ) = C − ∫ F dμ + ½ ∬ K dμ dμ, with first variation Ψ = −F + ∫ K(·, θ') dμ(θ').

    `F(θ)` and the symmetric `K(θ, θ')` give scalars for particles θ (dim,), C is `constant`. The
    particles of a network of one hidden layer are the points of `network.measure(0)`. With
    F = E[y σ(θ, x)], K = E[σ(θ, x) · σ(θ', x)] and C = E‖y‖²/2 it is the squared-loss `Risk` of
    the shallow model ∫ σ(θ, ·) dμ. Conventions of the sources: `docs/conventions.md`. Sources:
    Rotskoff & Vanden-Eijnden (arXiv:1805.00915), Mei, Montanari & Nguyen (arXiv:1804.06561; their
    V is −F, their U is K).

    `space` is what particles live on, a `Sphere` or a box: velocities are made tangent to it and
    steps are brought back to it. None is all of R^dim, whatever space the particles were drawn
    from; of particles that begin on one sphere, and will leave it, a warning says so
    (`limits.warnings.LeavesSphere`).

    Pairs are summed in blocks, in memory linear in the number of particles. Raises `ValueError`
    for potentials that are no functions, that don't give scalars, K that is not symmetric, and
    particles with mass outside of their space.
    """

    F: Callable[[Array], Array]
    K: Callable[[Array, Array], Array]
    constant: Array
    sampler: "_Sampler | None"
    space: Space | None

    def __init__(
        self,
        F: Callable[[Array], Array],
        K: Callable[[Array, Array], Array],
        constant: ArrayLike = 0.0,
        *,
        space: Space | None = None,
    ):
        for name, f in (("F", F), ("K", K)):
            if not callable(f):
                raise ValueError(
                    f"{name} must be a function, got {f!r}: write Interaction(lambda t: ..., "
                    "lambda t, u: ...)"
                )
        remedy = "write Interaction(lambda t: ..., lambda t, u: ...)"
        takes("F", F, 1, "a particle (dim,)", remedy)
        takes("K", K, 2, "two particles (dim,)", remedy)
        self.F, self.K, self.sampler = F, K, None
        known = concrete(constant)
        if not is_number(constant) or (known is not None and not np.isfinite(known)):
            raise ValueError(f"constant must be a finite number, got {shown(constant)}: write 0.0")
        self.constant = jnp.asarray(constant, jnp.result_type(float))
        if space is not None:
            kind("space", space, Space, "write Interaction(F, K, space=Sphere(3))")
        self.space = space

    @staticmethod
    def from_data(
        sigma: Callable[[Array, Array], Array], data: Data, *, space: Space | None = None
    ) -> "Interaction":
        """The squared-loss risk of the shallow model of units `sigma(θ, x)`, as potentials.

        `space` is as above. Expectations are over `data`, finite or a population's quadrature;
        batches draw from it. A `Risk` of the same data costs less where there are more particles
        than samples.
        """
        kind("data", data, Data, "write Data(x, y)")
        constant = dot(data.masses, (data.y**2).sum(1)) / 2
        forces, pairs = _Correlation(sigma, data), _Overlap(sigma, data)
        exact = Interaction(forces, pairs, constant, space=space)
        sampler = _Sampler(sigma, data)
        return eqx.tree_at(lambda e: e.sampler, exact, sampler, is_leaf=lambda x: x is None)

    @property
    def domain(self) -> Domain:
        return Domain() if self.space is None else Domain((self.space,))

    def __call__(self, network: Network) -> Float[Array, ""]:
        kind("network", network, Network, "write Network.particles(measure)")
        self._check_fit(network)
        first, second = self._moments(network)
        return self._constant(network) - first + second

    def _constant(self, network: Network) -> Array:
        return self.constant.astype(network.dtype)

    def _moments(self, network: Network) -> tuple[Array, Array]:
        """∫ F dμ and ½ ∬ K dμ dμ."""
        (forces, pairs), p = self._felt(network), network.masses[0]
        return dot(p, forces), dot(p, pairs) / 2

    def _felt(self, network: Network) -> tuple[Array, Array]:
        """F and ∫ K(·, θ') dμ(θ') at every particle."""
        points = network.points(0)
        with called("F must fit a particle"):
            forces = each(self.F, points, len(points))
        with called("K must fit two particles"):
            return forces, averages(self._pull, points, points, network.masses[0])

    def _pull(self, theta: Array, points: Array, masses: Array) -> Array:
        """Σ_j p_j K(θ, θ_j)."""
        return dot(masses, jax.vmap(lambda other: self.K(theta, other))(points))

    def derivatives(self, network: Network, *, variation: bool = False) -> Derivatives:
        points, back = jax.vjp(lambda p: p.rows(0), network.parameters)
        masses = network.masses[0]

        def pull(theta: Array, others: Array, masses: Array) -> tuple[Array, Array]:
            return value_and_slope(lambda t: self._pull(t, others, masses), theta)

        forces, down = each(lambda theta: value_and_slope(self.F, theta), points, len(points))
        pairs, up = averages(pull, points, points, masses)
        value = self._constant(network) + dot(masses, pairs / 2 - forces)
        psi = (pairs - forces,) if variation else None
        return Derivatives(value, back(up - down)[0].still(), psi)

    def samples(self, network: Network) -> int:
        return network.width[0]

    def with_finer_data(self) -> "Interaction | None":
        if self.sampler is None:
            return None
        data = self.sampler.data.finer()
        if data is None:
            return None
        return Interaction.from_data(self.sampler.sigma, data, space=self.space)

    def outputs(self, network: Network) -> Float[Array, "1 2"]:
        """∫ F dμ and ½ ∬ K dμ dμ: all that the energy depends on."""
        return jnp.stack(self._moments(network))[None]

    def size(self, outputs: Float[Array, "... n outputs"]) -> Float[Array, "..."]:
        return jnp.sqrt((outputs**2).mean((-2, -1)))

    def stationarity(self, network: Network) -> Float[Array, ""]:
        """The standard deviation of Ψ over the particles: 0 when no change of their masses lowers
        the energy to first order."""
        (psi,), p = self.first_variation(network), network.masses[0]
        return jnp.sqrt(dot(p, (psi - dot(p, psi)) ** 2))

    def check_convex(self, network: Network, points: Float[Array, "m dim"]) -> None:
        some = jnp.concatenate([network.points(0)[:_PROBED], points[:_PROBED]])
        pairs = jax.vmap(lambda a: jax.vmap(lambda b: self.K(a, b))(some))(some)
        centred = pairs - pairs.mean(0)[None] - pairs.mean(1)[:, None] + pairs.mean()
        values = np.linalg.eigvalsh(np.asarray(centred))
        if values[0] < -(1e-6 if centred.dtype.itemsize >= 8 else 1e-4) * values[-1]:
            raise ValueError(
                "K must be positive semi-definite (on measures of total 0) for a bound, got a "
                f"matrix of {len(some)} particles with eigenvalues from {values[0]:.3g} to "
                f"{values[-1]:.3g}: the energy is not convex"
            )

    def draw(self, batch: int, key: PRNGKeyArray) -> "Interaction":
        assert self.sampler is not None
        drawn = self.sampler(batch, key)
        return eqx.tree_at(lambda e: e.space, drawn, self.space, is_leaf=lambda x: x is None)

    def check(self, network: Network, batch: int | None = None) -> None:
        self._check_fit(network)
        if batch is not None:
            count("batch", batch)
            if self.sampler is None:
                raise ValueError(
                    f"batch must be None for potentials that are known exactly, got {batch}: "
                    "write Interaction.from_data(sigma, data) for potentials from samples"
                )
            samples = self.sampler.data
            if samples.sampler is None and batch > len(samples.y):
                raise ValueError(
                    f"batch must be at most the {len(samples.y)} samples of the data, got {batch}: "
                    "write batch=None for the full batch"
                )
        self._check_space(network)
        check_symmetric(self.K, network.points(0))

    def _check_fit(self, network: Network) -> None:
        """Raise `ValueError` for networks and potentials that do not fit."""
        if network.depth != 2:
            raise ValueError(
                f"network must have one hidden layer for an Interaction, got depth {network.depth}:"
                " write Network.particles(measure), Network.shallow(sigma, measure), or use a Risk"
            )
        points = jax.eval_shape(lambda: network.points(0))
        one = jax.ShapeDtypeStruct(points.shape[1:], points.dtype)
        for name, f, n in (("F", self.F, 1), ("K", self.K, 2)):
            fit = f"{name} must fit particles of dimension {one.shape[0]}"
            indexed(fit, f, (one,) * n, "write points of another dimension, or other entries")
            found = shape_of(fit, f, *(one,) * n)
            shape = found.shape
            if shape != ():
                raise ValueError(
                    f"{name} must return a scalar for particles of shape {one.shape}, got shape "
                    f"{shape}: write .sum(), or index the entry"
                )
            if not jnp.issubdtype(found.dtype, jnp.floating):
                raise ValueError(
                    f"{name} must return real numbers, got dtype {found.dtype}: write .real, or "
                    f".astype({points.dtype})"
                )

    def _check_space(self, network: Network) -> None:
        points, masses = network.points(0), network.masses[0]
        dim = points.shape[1]
        if self.space is not None:
            if self.space.dim != dim:
                raise ValueError(
                    f"space must have the dimension {dim} of the particles, got {self.space.dim}"
                )
            remedy = "write energy.domain.project(network), or give a larger space"
            inside("particles", self.space, points, masses, remedy)
            return
        known = concrete(points)
        if known is None or known.ndim != 2 or not 2 <= dim < len(known):
            return
        lengths = np.linalg.norm(known, axis=1)
        if lengths[0] > 0 and np.ptp(lengths) <= 1e-6 * lengths[0]:
            warnings.warn(
                f"All {len(known)} particles are on the sphere of radius {lengths[0]:.6g}, and "
                "nothing keeps them there when they move: write Interaction(F, K, "
                f"space=Sphere({dim}, {lengths[0]:.6g})), or space=Gaussian({dim}) for all of "
                f"R^{dim}.",
                LeavesSphere,
                stacklevel=3,
            )


class LeavesSphere(UserWarning):
    """Particles that begin on one sphere are not kept there."""


class _Correlation(eqx.Module):
    """F(θ) = E[y · σ(θ, x)]."""

    sigma: Callable = eqx.field(static=True)
    data: Data

    def __call__(self, theta: Array) -> Array:
        values = jax.vmap(lambda x: self.sigma(theta, x))(self.data.x)
        return einsum("k,ko,ko->", self.data.masses, self.data.y, values)


class _Overlap(eqx.Module):
    """K(θ, θ') = E[σ(θ, x) · σ(θ', x)]."""

    sigma: Callable = eqx.field(static=True)
    data: Data

    def __call__(self, theta: Array, other: Array) -> Array:
        a, b = (jax.vmap(lambda x, t=t: self.sigma(t, x))(self.data.x) for t in (theta, other))
        return einsum("k,ko,ko->", self.data.masses, a, b)


class _Sampler(eqx.Module):
    """The potentials of fresh samples."""

    sigma: Callable = eqx.field(static=True)
    data: Data

    def __call__(self, size: int, key: PRNGKeyArray) -> Interaction:
        return Interaction.from_data(self.sigma, self.data.draw(size, key))
