"""Rules that turn a probability space into a measure of finitely many nodes."""

import abc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ._checks import concrete, count, floating, kind, randomness, spare
from ._final import Family
from ._measures import Measure
from ._spaces.space import Space

_FEW_AXES = 16  # of a cube, of which each may be mirrored alone


class Rule(Family):
    """A quadrature rule: `rule(space, n, key)` gives about `n` nodes.

    `coarsest` is the number of nodes a refinement begins with; `refine` and `coarsen` step from
    one number to the next, `nearly` to one that is somewhat smaller.
    A rule that is `random` needs a key; independent keys give independent, unbiased node sets.
    """

    random: ClassVar[bool]

    @abc.abstractmethod
    def __call__(self, space: Space, n: int, key: PRNGKeyArray | None = None) -> Measure:
        """At least `n` nodes of `space` with their masses."""

    def aligned(self, space: Space, x: Float[Array, "n d"]) -> "Rule":
        """The rule made for inputs `x` of a first layer on `space`: itself, where it has no use for
        them."""
        return self

    def mirrored(self, space: Space) -> "list[Rule]":
        """Rules like this one whose points come in pairs that some averages cancel over."""
        return []

    def coarsest(self, space: Space) -> int:
        """The number of nodes a refinement begins with."""
        return 64

    def refine(self, space: Space, n: int) -> int:
        """The number of nodes one level finer than `n`."""
        return 2 * n

    def coarsen(self, space: Space, n: int) -> int:
        """The number of nodes one level coarser than `n`."""
        return max(1, n // 2)

    def nearly(self, space: Space, n: int) -> int:
        """A number of nodes that is somewhat smaller than `n`."""
        return self.coarsen(space, n)


class Gauss(Rule):
    """Tensor products of one-dimensional Gauss rules.

    Gauss–Hermite for Gaussian, Gauss–Legendre for uniform coordinates, the trapezoidal rule on
    circles and tori (spectral for periodic functions), the atoms themselves for atomic spaces. `n`
    is the number of nodes in all, rounded up to a full grid: the smallest a m^d ≥ n on d axes and a
    atoms.
    """

    random: ClassVar[bool] = False

    def __call__(self, space: Space, n: int, key: PRNGKeyArray | None = None) -> Measure:
        points, masses = space.grid(_per_axis(n, space))
        space.check_points("grid(m)", points, len(masses))
        return _measure(space, points, masses)

    def coarsest(self, space: Space) -> int:
        """Eight nodes for each atom, and one where there is no axis."""
        return 8 * _atoms(space) if space.axes else 1

    def refine(self, space: Space, n: int) -> int:
        """Twice the nodes and one on every axis: sets that share no node and no alias."""
        return _atoms(space) * (2 * _per_axis(n, space) + 1) ** space.axes

    def coarsen(self, space: Space, n: int) -> int:
        """What `refine` takes to `n`, or the next smaller set that it could come from."""
        m, atoms = _per_axis(n, space), _atoms(space)
        if m == 1 and space.axes:
            raise ValueError(
                f"nodes must be at least {atoms + 1} on {space.axes} axes to be compared with a "
                f"coarser set, got {n}"
            )
        return atoms * max(1, (m - 1) // 2) ** space.axes

    def nearly(self, space: Space, n: int) -> int:
        """A tenth fewer on every axis, and one at least."""
        m = _per_axis(n, space)
        return _atoms(space) * max(1, m - max(1, round(m / 10))) ** space.axes


class Sobol(Rule):
    """Scrambled Sobol points (`scipy.stats.qmc`) of equal mass; `n` is a power of two.

    `align` (n, d) are the inputs of a Gaussian first layer on R^d. Only w·x for these x
    matter, so the leading coordinates of the points, the most even ones, are turned into the
    principal directions of the inputs.

    `reflect` are axes of the cube. The second half of the points is the first, mirrored there at
    the middle: what is odd in them averages to zero exactly, what is even as over half the points.
    """

    random: ClassVar[bool] = True
    align: Float[Array, "n d"] | None
    reflect: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, align: ArrayLike | None = None, reflect: Sequence[int] = ()):
        self.align = None if align is None else floating("align", align, ndim=2)
        self.reflect = tuple(reflect)

    def __call__(self, space: Space, n: int, key: PRNGKeyArray | None = None) -> Measure:
        key = randomness(key, "Sobol points are scrambled at random")
        if n & (n - 1):
            raise ValueError(
                f"nodes must be a power of two for Sobol points, got {n}: "
                f"write {1 << n.bit_length()}"
            )
        space = space if self.align is None else space.aligned(self.align)
        engine = scipy.stats.qmc.Sobol(space.cube_dim, rng=_host_generator(key))
        wrong = [axis for axis in self.reflect if not 0 <= axis < space.cube_dim]
        if wrong or (self.reflect and n < 2):
            raise ValueError(
                f"reflect must be axes from 0 to {space.cube_dim - 1} of the cube, of 2 nodes or "
                f"more, got {self.reflect} for {n} nodes"
            )
        if self.reflect:
            u = engine.random(n // 2)
            mirrored = u.copy()
            mirrored[:, list(self.reflect)] = 1 - mirrored[:, list(self.reflect)]
            u = np.concatenate([u, mirrored])
        else:
            u = engine.random(n)
        u = np.clip(u, np.finfo(float).tiny, 1 - np.finfo(float).epsneg)
        points = space.from_cube(u)
        space.check_points("from_cube(u)", points, n)
        return _measure(space, points, np.full(n, 1 / n))

    def aligned(self, space: Space, x: Float[Array, "n d"]) -> "Sobol":
        try:
            space.aligned(x)
        except ValueError:  # no Gaussian factor of the dimension of the inputs
            return self
        return Sobol(x, self.reflect)

    def mirrored(self, space: Space) -> list[Rule]:
        """Mirrored at all axes of a factor of the space, or at one alone where there are few."""
        ends = np.cumsum([0, *(factor.cube_dim for factor in space.factors)]).tolist()
        choices = [tuple(range(a, b)) for a, b in pairwise(ends)]
        if space.cube_dim <= _FEW_AXES:
            choices += [(axis,) for axis in range(space.cube_dim)]
        return [Sobol(self.align, axes) for axes in dict.fromkeys(choices)]


class MonteCarlo(Rule):
    """Independent draws from the space, of equal mass: what a finite network uses."""

    random: ClassVar[bool] = True

    def __call__(self, space: Space, n: int, key: PRNGKeyArray | None = None) -> Measure:
        return space.sample(n, key=randomness(key, "Monte Carlo nodes are drawn at random"))


def quadrature(
    space: Space, n: int, rule: Rule | None = None, *, key: PRNGKeyArray | None = None
) -> Measure:
    """About `n` nodes of `space` in all; `rule=None` is Gauss on at most two axes, else Sobol.

    Raises `ValueError` for n < 1, and for a random rule without a key.
    """
    kind("space", space, Space, "write Gaussian(1)")
    rule = default_rule(space) if rule is None else rule
    kind("rule", rule, Rule, "write Gauss(), Sobol() or MonteCarlo()")
    spare(key)
    return rule(space, count("n", n), key)


def default_rule(space: Space) -> Rule:
    """Gauss on at most two axes, scrambled Sobol points beyond."""
    return Gauss() if space.axes <= 2 else Sobol()


def _atoms(space: Space) -> int:
    """The nodes of a grid with one on each axis; 1 where there is no axis to refine."""
    return len(space.grid(1)[1]) if space.axes else 1


def _per_axis(n: int, space: Space) -> int:
    """The smallest m with m^axes ≥ n, for each atom."""
    n, axes = -(-n // _atoms(space)), space.axes
    if axes == 0:
        return 1
    m = max(1, round(n ** (1 / axes)))
    while m**axes < n:
        m += 1
    while m > 1 and (m - 1) ** axes >= n:
        m -= 1
    return m


def _host_generator(key: PRNGKeyArray) -> np.random.Generator:
    with jax.ensure_compile_time_eval():
        known = concrete(jax.random.key_data(key))
    if known is None:
        raise ValueError(
            "key must be known for Sobol points, which are made on the host, got a traced one: "
            "draw them outside of jit, or write rule=MonteCarlo()"
        )
    return np.random.default_rng(known.ravel().tolist())


def _measure(space: Space, points: Any, masses: Any) -> Measure:
    return Measure(points.astype(space.dtype), (masses / masses.sum()).astype(space.dtype))
