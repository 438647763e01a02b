"""The cells of a box, the potentials of an interaction there, and the flow across their faces."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import xlogy
from jaxtyping import Array, ArrayLike, Float

from ensembles import Measure, Network
from ensembles.internal import called, concrete, counts, dot, indexed, kind, numeric

from .._energies.interaction import Interaction
from ._walls import Real, real_walls

_STORED = 4096  # cells up to which the matrix of K is kept; beyond, it is recomputed

Density = Callable[[Array], Array] | ArrayLike


class Grid(eqx.Module):
    """The cells of a box, flattened in the order of `shape`."""

    points: Float[Array, "n dim"]
    widths: Float[Array, " dim"]
    interaction: Interaction
    shape: tuple[int, ...] = eqx.field(static=True)
    real: Real = eqx.field(static=True)  # walls that are constraints, low and high of each axis

    def potentials(self) -> "Potentials":
        F, K = self.interaction.F, self.interaction.K
        stored = len(self.points) <= _STORED
        matrix = jax.lax.map(self.row, self.points) if stored else None
        diagonal = jax.vmap(K)(self.points, self.points).reshape(self.shape)
        dim = len(self.shape)
        places, bends = self.points.reshape(*self.shape, dim), []
        for axis in range(dim):
            first, second = _sides(axis)
            a, b = (places[side].reshape(-1, dim) for side in (first, second))
            near = jax.vmap(K)(a, b).reshape(diagonal[first].shape)
            bend = jnp.abs(diagonal[first] + diagonal[second] - 2 * near)
            bends.append(bend / self.widths[axis] ** 2)
        return Potentials(self, jax.vmap(F)(self.points), matrix, diagonal, tuple(bends))

    def row(self, theta: Array) -> Array:
        return jax.vmap(lambda other: self.interaction.K(theta, other))(self.points)


class Potentials(eqx.Module):
    """F and K at the cells, and how K bends across their faces, ∂∂'K."""

    grid: Grid
    forces: Float[Array, " n"]
    matrix: Float[Array, "n n"] | None
    diagonal: Float[Array, "..."]
    bends: tuple[Array, ...]

    def pull(self, masses: Array) -> Array:
        """∫ K(·, θ') dμ(θ') at the cells."""
        m = masses.ravel()
        if self.matrix is not None:
            return dot(self.matrix, m)
        return jax.lax.map(lambda theta: dot(self.grid.row(theta), m), self.grid.points)

    def variation(self, masses: Array) -> Array:
        return (self.pull(masses) - self.forces).reshape(masses.shape)

    def energies(self, masses: Array, temperature: Array) -> tuple[Array, Array]:
        """The energy and the free energy."""
        m = masses.ravel()
        energy = self.grid.interaction.constant + dot(m, self.pull(m) / 2 - self.forces)
        return energy, energy + temperature * xlogy(m, m / self.grid.widths.prod()).sum()

    def stiffness(self, masses: Array, rate: Array) -> Array:
        """∫ (tr ∂∂'K + α K)(θ, θ) dμ: a bound of how fast the flow relaxes, where K ≥ 0."""
        total = rate * (masses * self.diagonal).sum()
        for axis, bend in enumerate(self.bends):
            first, second = _sides(axis)
            total = total + ((masses[first] + masses[second]) / 2 * bend).sum()
        return total


def upwind(m: Array, step: Array, h: Array, axis: int) -> tuple[Array, Array]:
    """Net flow across the faces, for differences `step` of Ψ; the largest rate of a flow."""
    first, second = _sides(axis)
    left = jnp.diff(m, axis=axis)
    a, b = left[first], left[second]
    steepest = jnp.minimum(2 * jnp.minimum(jnp.abs(a), jnp.abs(b)), jnp.abs(a + b) / 2)
    inner = jnp.where(a * b > 0, jnp.sign(a) * steepest, 0.0)
    slope = walls(inner, axis)
    speed = -step / h**2  # of Ψ's descent, in cells
    net = jnp.maximum(speed, 0) * (m + slope / 2)[first]
    net = net + jnp.minimum(speed, 0) * (m - slope / 2)[second]
    return net, jnp.abs(speed).max()


def exponential(
    m: Array, step: Array, h: Array, axis: int, temperature: Array
) -> tuple[Array, Array]:
    """As `upwind`, with diffusion."""
    first, second = _sides(axis)
    x = step / temperature
    there, back = (temperature / h**2 * _bernoulli(s) for s in (x, -x))
    return there * m[first] - back * m[second], jnp.maximum(there.max(), back.max())


def _sides(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The cells before and behind the faces across `axis`."""
    before = (slice(None),) * axis
    return (*before, slice(None, -1)), (*before, slice(1, None))


def walls(inner: Array, axis: int) -> Array:
    """`inner` with a zero at both ends of `axis`."""
    return jnp.pad(inner, [(int(k == axis),) * 2 for k in range(inner.ndim)])


def _bernoulli(x: Array) -> Array:
    """x / (eˣ − 1)."""
    small = jnp.abs(x) < 1e-3
    safe = jnp.where(small, 1.0, x)
    return jnp.where(small, 1 - x / 2 + x**2 / 12, safe / jnp.expm1(safe))


def box(
    low: ArrayLike, high: ArrayLike, cells: int | tuple[int, ...]
) -> tuple[Float[Array, "n dim"], Float[Array, " dim"], tuple[int, ...]]:
    """The centres of the cells of a box, flattened, their widths, and how many on every axis."""
    for name, end in (("low", low), ("high", high)):
        numeric(name, end, f"write {name}=1.0")
        if concrete(end) is None:
            raise ValueError(
                f"{name} must be known numbers, got traced ones, on which cells depend: keep it "
                "out of jit, vmap and grad"
            )
    ends = [np.atleast_1d(np.asarray(end, float)) for end in (low, high)]
    fits = ends[0].shape == ends[1].shape and ends[0].shape in ((1,), (2,))
    if not (fits and np.isfinite(ends).all() and (ends[0] < ends[1]).all()):
        raise ValueError(
            "low and high must be finite numbers, or two of each, with low < high on every axis, "
            f"got low={low} and high={high}: write low=-4.0, high=4.0 or low=[0, -1], high=[1, 1]"
        )
    shape = counts("cells", cells, len(ends[0]), each="axis")
    if min(shape) < 3:
        raise ValueError(f"cells must be at least 3 on every axis, got {cells}: write cells=100")
    widths = (ends[1] - ends[0]) / shape
    axes = [a + h * (np.arange(n) + 0.5) for a, h, n in zip(ends[0], widths, shape, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(shape))
    dtype = jnp.result_type(float)
    return jnp.asarray(points, dtype), jnp.asarray(widths, dtype), shape


def make_grid(
    interaction: Interaction, low: ArrayLike, high: ArrayLike, cells: int | tuple[int, ...]
) -> Grid:
    kind("interaction", interaction, Interaction, "write Interaction(F, K)")
    points, widths, shape = box(low, high, cells)
    n, dim = points.shape
    for name, f, k in (("F", interaction.F, 1), ("K", interaction.K, 2)):
        one = jax.ShapeDtypeStruct((dim,), points.dtype)
        indexed(
            f"{name} must fit the grid", f, (one,) * k,
            f"low and high have dimension {dim}; write low=[-4.0, -4.0], high=[4.0, 4.0] for two",
        )  # fmt: skip
    real = real_walls("the space of the interaction", interaction.space, low, high)
    network = Network.particles(Measure(points, jnp.full(n, 1 / n, points.dtype)))
    interaction.check(network)
    return Grid(points, widths, interaction, shape, real)


def cell_masses(density: Density, grid: Grid) -> Array:
    """The masses of the cells, normalised."""
    if callable(density):
        with called("density must fit one point (dim,)"):
            given = jax.vmap(density)(grid.points)
        wanted, remedy = (len(grid.points),), "return a scalar for one point (dim,)"
        name = f"density must return scalars, got values of shape {given.shape[1:]}"
    else:
        given = jnp.asarray(density)
        wanted, remedy = grid.shape, "write a function of θ, or an array of masses"
        name = f"density must have one mass per cell, shape {grid.shape}, got shape {given.shape}"
    if given.shape != wanted:
        raise ValueError(f"{name}: {remedy}")
    known = concrete(given)
    if known is not None and not (np.isfinite(known).all() and known.min() >= 0 < known.sum()):
        raise ValueError(
            "density must be finite, non-negative and somewhere positive, got values from "
            f"{known.min()} to {known.max()}: write lambda t: jnp.exp(-(t**2).sum() / 2)"
        )
    masses = given.reshape(grid.shape).astype(grid.points.dtype)
    return masses / masses.sum()
