"""How far an energy is above its infimum: a certificate for energies convex on measures.

For E convex on probability measures, with first variation Ψ at μ, E(ν) ≥ E(μ) + ∫ Ψ d(ν − μ), hence

    E(μ) − inf E ≤ ∫ Ψ dμ − inf Ψ,

and μ is optimal exactly when it lives on the minimisers of Ψ (Mei, Montanari & Nguyen,
arXiv:1804.06561, Proposition 1; Chizat & Bach, arXiv:1805.09545).
"""

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembles import Network, Space
from ensembles.internal import count, dot, inside, kind, on_host, randomness

from .._energies.energy import Energy
from .._result import Result
from .starts import Starts, starting_points

_GREATER, _SMALLER = 1.5, 0.3  # factors of a step that lowered Ψ, and of one that did not
_REACH = 0.05  # of the range of where searches begin: the length of first steps
_FLAT = 1e-6  # of the steepest slope
_ROUNDED = 10  # units of the last place of Ψ, to which it is known
_SCALES = (0.0, 0.5, 1.0, 2.0, 4.0)  # of the coordinates at a wall: is Ψ homogeneous in them?
_ALIKE = 1e-3  # powers of a homogeneous Ψ
_DOUBLED = 8  # times at most, where a search ends: where Ψ falls slowly along a ray, to the wall
_FAR = 1e3  # times the largest initial norm: where a search has run away


class OptimalityGap(Result):
    """A bound of E(μ) − inf E over the probability measures of a space, and what it rests on.

    - `gap`: ∫ Ψ dμ − min Ψ ≥ E(μ) − inf E, as far as `minimum` is the infimum of Ψ, with ten units
      of the last place of Ψ, to which both are known; infinite where the search ran away along a
      Ψ that falls without end.
    - `minimum`, `minimiser` (dim,): the lowest Ψ that the search met, and where.
    - `excess` (n,): Ψ − min Ψ at the neurons of μ, of masses `masses`; μ is optimal exactly when it
      is 0 wherever there is mass.
    - `ends` (starts,): the Ψ at which each descent of the search came to rest, in increasing order;
      `steps` of it.
    - `agreeing`: how many descents moved and ended there (within 1e-3 of the range of `ends`): they
      are evidence for the minimum, not a proof. `stood`: how many found no lower Ψ around where
      they began, as on a plateau, and are no evidence.
    - `walled`: whether the minimiser is at a wall of the space beyond which Ψ falls further, which
      is no wall of where the energy's neurons live: a wider space may have a lower minimum.
      `degree`: k where Ψ falls from the middle of the space's coordinates, 0, to this wall and
      beyond as the k-th power of the distance, and with it the bound (k = 1 for charges, 2 for
      units c relu(w · x)); None otherwise.
    - `combinations`: how many there are of atoms of finite factors of the space, and `visited`: of
      how many of them a descent began.
    """

    gap: float
    minimum: float
    minimiser: Float[np.ndarray, " dim"]
    excess: Float[np.ndarray, " neurons"]
    masses: Float[np.ndarray, " neurons"]
    ends: Float[np.ndarray, " starts"]
    steps: int
    agreeing: int
    stood: int
    walled: bool
    combinations: int
    visited: int
    degree: float | None = None

    @property
    def support_excess(self) -> float:
        """The largest excess of a neuron with mass above 1e-6 of the largest one's."""
        return float(self.excess[self.masses > 1e-6 * self.masses.max()].max())

    def _words(self) -> list[str]:
        return [str(self)]

    def __str__(self) -> str:
        if not np.isfinite(self.gap):
            return (
                f"E − inf E ≤ {self.gap}: Ψ falls without end (or is not finite) on this space, "
                f"seen at {np.array2string(self.minimiser, precision=3)}; give a penalty, "
                "Risk(data) + PowerPenalty(1e-3), or a bounded space, Uniform(low, high)"
            )
        above = f"neurons with mass exceed it by up to {self.support_excess:.3g}"
        if self.steps == 0:
            return (
                f"E − inf E ≤ {self.gap:.3g}: min Ψ = {self.minimum:.6g}, the lowest of all "
                f"{len(self.ends)} points of a finite space; {above}"
            )
        n = len(self.ends)
        found = {
            0: f"where one of {n} initial points was, and found from no other",
            1: f"found by 1 of {n} initial points alone, so that others may be lower: give starts=",
        }.get(self.agreeing, f"found by {self.agreeing} of {n} initial points")
        stood = f" ({self.stood} found nothing lower around them)" if self.stood else ""
        words = [
            f"E − inf E ≤ {self.gap:.3g}: min Ψ = {self.minimum:.6g}, {found}{stood}, "
            f"{self.steps} projected gradient steps",
            above,
        ]
        if self.walled and self.degree is not None:
            words.append(
                "the minimum is at a wall of the space, to which and beyond which Ψ falls as the "
                f"power {self.degree:.3g} of the distance from 0, as in a charge, so that a wider "
                "space has a bound as much larger. Train longer, and give the smallest space that "
                "holds the neurons; a wider one where measures on it are meant"
            )
        elif self.walled:
            words.append(
                "the minimum is at a wall of the space, beyond which Ψ falls further: give a wider "
                "one, or spaces of the energy where the wall is a constraint"
            )
        if self.visited < self.combinations:
            words.append(
                f"{self.visited} of {self.combinations} combinations of atoms were looked at: give "
                "starts="
            )
        return "; ".join(words)


def optimality_gap(
    network: Network,
    energy: Energy,
    *,
    space: Space,
    key: PRNGKeyArray,
    starts: int = 256,
    steps: int = 500,
) -> OptimalityGap:
    """Bound how far `energy` at `network` is above its infimum over measures on `space`.

    The infimum of the first variation Ψ is searched for by projected gradient descent (every one
    with a step of its own, that grows while Ψ falls) from `starts` draws of `space` and from the
    neurons themselves; neurons (dim,) are the points of `network.measure(0)`. A space without axes
    (`Atoms`) is evaluated completely; where other factors of a `Product` are finite, as many
    descents begin at each combination of their atoms, up to 4,096 (`starts` is increased to it).
    The search can miss a narrow minimum, and the bound is then too low; the more `starts`, the less
    so: how many descents agree, and whether the minimum is at a wall, is in the result.

    Gradient steps alternate with steps in random directions, which find the way where Ψ has a kink
    (ReLU units, penalties of power 1). At the end neurons are doubled, as far as the space allows,
    while Ψ falls: charges, along which it falls slowly, come to their walls.

    Unbounded spaces need a Ψ with an infimum: give penalties, or units and boxes that bound it.
    Where the search ran more than 1,000 times as far as where it began and Ψ still fell, the gap is
    infinite, and its text says so.

    Runs on the host. Raises `ValueError` for networks of several hidden layers, spaces of another
    dimension, neurons with mass outside of the space, and energies that are not convex in the
    measure (`Energy.check_convex`).
    """
    kind("network", network, Network, "write Network.particles(measure), or .final of a run")
    kind("energy", energy, Energy, "write Risk(data)")
    on_host("optimality_gap", network, energy, space, jnp.zeros(()))
    kind("space", space, Space, "write Uniform(low, high), or Product(Uniform(-1, 1), Sphere(2))")
    count("starts", starts)
    count("steps", steps)
    energy.check(network)
    if network.depth != 2:
        raise ValueError(
            f"network must have one hidden layer, got {network.depth} layers: the energy of deeper "
            "ones is not convex in their measures"
        )
    if network.start.biases[-1] is not None:
        raise ValueError(
            "network must have no output bias for a bound, got one: it is no neuron's, and lowers "
            "the energy besides; write biases=(..., None)"
        )
    points = network.points(0)
    if space.dim != points.shape[1]:
        raise ValueError(
            f"space must have the dimension {points.shape[1]} of the neurons, got {space.dim}: a "
            "neuron is a row of network.points(0)"
        )
    inside(
        "neurons", space, points, network.masses[0],
        "write network.with_points(space.project(network.points(0))), or give a larger space",
    )  # fmt: skip
    key = randomness(key, "the search begins at random draws")
    begin = starting_points(space, points, starts, steps, key)
    energy.check_convex(network, begin.points)
    return search(network, energy, 0, space, begin)


def search(network: Network, energy: Energy, i: int, space: Space, starts: Starts) -> OptimalityGap:
    """The gap of hidden layer i, others as they are."""
    found = _search(network, energy, i, space, starts.points, starts.steps)
    best = jnp.argmin(found.ends)
    lowest = float(found.ends[best])
    endless = not np.isfinite(lowest) or bool(found.far[best] & (found.falling | found.beyond))
    ends = np.asarray(found.ends)
    near = (
        ends <= lowest + max(1e-3 * np.ptp(ends), 1e-9 * abs(lowest)) if not endless else ends < 0
    )
    stood = np.asarray(found.stood)
    largest = max(abs(float(found.mean)), abs(lowest))
    rounding = _ROUNDED * float(np.finfo(ends.dtype).eps) * largest
    return OptimalityGap(
        gap=math.inf if endless else max(float(found.mean) - lowest, 0.0) + rounding,
        minimum=-math.inf if endless else lowest,
        minimiser=np.asarray(found.places[best]),
        excess=np.asarray(found.own - found.ends[best]) if not endless
        else np.full(len(found.own), np.inf, found.own.dtype),
        masses=np.asarray(network.masses[i]),
        ends=np.sort(ends),
        steps=starts.steps,
        agreeing=0 if endless else int((near & ~stood).sum()),
        stood=int(stood.sum()) if starts.steps else 0,
        walled=bool(found.walled) and not endless and starts.steps > 0,
        combinations=starts.combinations,
        visited=starts.visited,
        degree=_degree(np.asarray(found.scaled)) if bool(found.walled) and not endless else None,
    )  # fmt: skip


def _degree(scaled: np.ndarray) -> float | None:
    """k where Ψ minus its value at 0 is homogeneous of degree k, from those at `_SCALES`."""
    falls = scaled[0] - scaled[1:]
    if not (np.isfinite(falls).all() and (falls > 0).all()):
        return None
    powers = np.log2(falls[1:] / falls[:-1])
    return float(powers.mean()) if np.ptp(powers) < _ALIKE else None


class _Found(NamedTuple):
    mean: Float[Array, ""]
    own: Float[Array, " n"]
    ends: Float[Array, " starts"]
    places: Float[Array, "starts dim"]
    far: Bool[Array, " starts"]  # from where all descents began
    falling: Bool[Array, ""]  # the lowest Ψ in the second half of the steps
    beyond: Bool[Array, ""]  # lower still (or no number) at twice the lowest place
    stood: Bool[Array, " starts"]  # where they began
    walled: Bool[Array, ""]  # the lowest place is held by a wall of the space
    scaled: Float[Array, " sizes"]  # Ψ there, where coordinates at walls are multiplied


@eqx.filter_jit
def _search(
    network: Network, energy: Energy, i: int, space: Space, drawn: Float[Array, "m dim"], steps: int
) -> _Found:
    own = network.points(i)
    n = len(own)
    at = jnp.concatenate([drawn, space.project(own)]) if steps else drawn
    wider = network.padded([n + len(at) if j == i else m for j, m in enumerate(network.width)])

    def at_points(points: Array) -> tuple[Array, Array]:
        """Ψ and its gradient at `points`, which are tracers."""
        seen = wider.with_points(jnp.concatenate([own, points]), i)
        found = energy.derivatives(seen, variation=True)
        gradient, variation = found.gradient, found.varied(energy)
        return variation[i][n:], energy.domain.downhill(seen, gradient).rows(i)[n:]

    def lower(
        carry: tuple[Array, Array, Array], others: Array
    ) -> tuple[tuple[Array, Array, Array], Array]:
        """`others`, within the space, where Ψ is lower there; and where it is."""
        places, values, slopes = carry
        tried = space.project(others)
        new, steeper = at_points(tried)
        better = new < values
        kept = (
            jnp.where(better[:, None], tried, places),
            jnp.where(better, new, values),
            jnp.where(better[:, None], steeper, slopes),
        )
        return kept, better

    def one(
        carry: tuple[Array, Array, Array], ways: Array, size: Array, smaller: float
    ) -> tuple[tuple[Array, Array, Array], Array]:
        """A step against `ways`, kept where Ψ is lower; and the next size."""
        kept, better = lower(carry, carry[0] - size[:, None] * ways)
        return kept, size * jnp.where(better, _GREATER, smaller).astype(size.dtype)

    def step(k: Array, carry: tuple[Any, Array, Array, Array]) -> tuple[Any, Array, Array, Array]:
        kept, size, far, half = carry
        half = jnp.where(k == steps // 2, kept[1].min(), half)
        kept, size = one(kept, kept[2], size, _SMALLER)
        ways = jax.random.normal(jax.random.fold_in(jax.random.key(0), k), at.shape, at.dtype)
        kept, far = one(kept, ways, far, _GREATER**-0.25)  # as many fail as keep the size
        return kept, size, far, half

    values, slopes = at_points(at)
    reach, steep = _REACH * jnp.ptp(at, axis=0).max(), jnp.linalg.norm(slopes, axis=1)
    reach = jnp.where(reach > 0, reach, _REACH)
    least = _FLAT * steep.max()  # of slopes, below which a step is no longer as long
    size = reach / jnp.where(steep.max() > 0, jnp.maximum(steep, least), 1)
    far = jnp.full_like(size, reach)
    begin = ((at, values, slopes), size, far, values.min())
    kept, _, _, half = jax.lax.fori_loop(0, steps, step, begin)
    twice_as_far = _DOUBLED if steps else 0
    places, ends, down = jax.lax.fori_loop(
        0, twice_as_far, lambda _, kept: lower(kept, 2 * kept[0])[0], kept
    )
    best = jnp.argmin(ends)
    twice = at_points(space.project(2 * places))[0][best]
    here, way = places[best][None], -down[best][None]
    held = space.along(here, way) != space.tangent(here, way)
    walled = held.any()

    def scaled(size: Array) -> Array:
        return at_points(jnp.where(held, size * places, places))[0][best]

    sizes = jax.lax.map(scaled, jnp.asarray(_SCALES, at.dtype))
    psi = energy.first_variation(network)[i]
    mean = dot(network.masses[i], psi)
    away = jnp.linalg.norm(places, axis=1) > _FAR * jnp.linalg.norm(at, axis=1).max()
    lowest = ends.min()
    falling = half - lowest > 1e-3 * (mean - lowest)
    beyond = ~(lowest - twice <= 1e-3 * (mean - lowest))
    return _Found(mean, psi, ends, places, away, falling, beyond, ends == values, walled, sizes)
