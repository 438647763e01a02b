"""By what errors of a solve are measured: the size of what moves, in whatever units.

With θ = θ(0) + δ, a step may be off in an entry i of coordinate j of neurons (their j-th weight) by

    rtol (|δ_i| + min(max(s_j, 4 m_j), 30 |θ_i|)) + rounding,

s_j the standard deviation of θ_j(0) over neurons and m_j the root mean square of δ_j, by mass. This
is homogeneous, and blind to translations: networks that leave a saddle at 1e-9 are solved as well,
relative to their size, as others from starts of size 1, and clouds of width 1 around 1e6 as those
around 0. Where neurons start alike (a last layer of zeros) the motion alone counts, of which a
first step of size h misses a share O(h⁴). An entry much smaller than its likes is held to its own
size. Growth, the logarithm of a density, has the unit 1; derivatives are measured as weights are.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ensembles import Network, Parameters

from .state import filled, packing

_MOTION = 4.0  # times what neurons have moved, which is the size of those that start alike
_OWN = 30.0  # sizes of an entry that the spread of its likes is at most taken to be
_PLACE, _STEP = (
    8.0,
    32.0,
)  # units of the last place of an entry, and of the largest change in a step
_FIRST = 1e-3  # of their spread, or of the run, that neurons move in the first step


class Sizes(eqx.Module):
    """The sizes of the entries of a state, an increment that was `begin` at the `place` θ(0).

    All are trees like the state, but for `weights`, those of neurons in an average (a list of
    arrays), and `axes`, which count neurons in each. `spread` is s_j, or the unit of growth where
    `fixed`; entries that have no mass are not `counted`.
    """

    place: Any
    begin: Any
    spread: Any
    fixed: Any
    counted: Any
    weights: list[Array]
    axes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @staticmethod
    def of(
        network: Network, place: Parameters, begin: Parameters, shares: Parameters, unit: float
    ) -> "Sizes":
        """Those of increments like `begin`, of parameters `place` or a derivative of them, with the
        parts `shares` in a mean square; growth has that `unit`, 0 for a derivative."""
        growth, pack = jax.tree.map(jnp.zeros_like, begin.growth), packing(begin)[0]
        each = [p.ndim for p in network.edge_masses()], [1] * network.depth
        kinds = zip(each, (begin.weights, begin.biases), strict=True)
        moved = [
            n for ns, arrays in kinds for n, a in zip(ns, arrays, strict=True) if a is not None
        ]
        axes = tuple(tuple(range(n)) for n in moved + [1] * len(begin.growth or ()))
        place, tree = place.with_growth(growth), jax.tree.structure(begin)
        parts = zip(jax.tree.leaves(shares), axes, strict=True)
        weights = [p / p.sum(n, keepdims=True) for p, n in parts]
        spread = [
            jnp.broadcast_to(_spread(a, w, n), a.shape)
            for a, w, n in zip(jax.tree.leaves(place), weights, axes, strict=True)
        ]
        units = jax.tree.map(lambda g: jnp.full_like(g, unit), growth)
        spread = jax.tree.unflatten(tree, spread).with_growth(units)
        fixed = jax.tree.map(jnp.zeros_like, begin).with_growth(units)
        return Sizes(
            pack(place), pack(begin), pack(spread), pack(fixed),
            pack(jax.tree.map(lambda p: (p > 0).astype(p.dtype), shares)), weights, axes,
        )  # fmt: skip

    @staticmethod
    def along(network: Network, tangent: Network, begin: Parameters, shares: Parameters) -> "Sizes":
        """Those of derivatives along `tangent`, with None for what does not move."""
        start, further = (filled(a, begin) for a in (tangent.start, tangent.increment))
        return Sizes.of(network, jax.tree.map(jnp.add, start, further), further, shares, 0.0)

    def allowed(
        self, rtol: Array, before: Any, after: Any, like: Parameters, beside: Array | float = 0.0
    ) -> Any:
        """How far a step between two states may be off in every entry; changes are sums that cancel
        of some as large as `beside`."""

        def moved(begin: Array, *ends: Array) -> Array:
            return reduce(jnp.maximum, [jnp.abs(end - begin) for end in ends])

        motion = jax.tree.map(moved, self.begin, before, after)
        scale = _largest(motion)
        scale = jnp.where(scale > 0, scale, 1)  # squares of small numbers are none
        pack, unpack = packing(like)
        leaves, tree = jax.tree.flatten(unpack(jax.tree.map(lambda m: m / scale, motion)))
        means = zip(leaves, self.weights, self.axes, strict=True)
        alike = [
            jnp.broadcast_to(scale * jnp.sqrt((w * m**2).sum(n, keepdims=True)), m.shape)
            for m, w, n in means
        ]
        change = jax.tree.map(lambda c, a, b: c * jnp.abs(b - a), self.counted, before, after)
        eps = jnp.finfo(scale.dtype).eps
        rounding = _STEP * eps * jnp.maximum(_largest(change), beside)

        def one(place: Array, begin: Array, spread: Array, fixed: Array, *found: Array) -> Array:
            motion, alike, *ends = found
            own = reduce(jnp.maximum, [jnp.abs(place + (end - begin)) for end in ends])
            size = jnp.minimum(jnp.maximum(spread, _MOTION * alike), _OWN * own)
            return rtol * (motion + jnp.maximum(size, fixed)) + _PLACE * eps * own + rounding

        given = self.place, self.begin, self.spread, self.fixed, motion
        return jax.tree.map(one, *given, pack(jax.tree.unflatten(tree, alike)), before, after)


def _largest(tree: Any) -> Array:
    return reduce(jnp.maximum, [a.max(initial=0) for a in jax.tree.leaves(tree)])


def _spread(a: Array, weights: Array, axes: tuple[int, ...]) -> Array:
    """The standard deviation of `a` over these axes."""
    apart = a - (weights * a).sum(axes, keepdims=True)
    scale = jnp.abs(apart).max(initial=0)
    apart = apart / jnp.where(scale > 0, scale, 1)
    return scale * jnp.sqrt((weights * apart**2).sum(axes, keepdims=True))


class RelativeSteps(diffrax.AbstractAdaptiveStepSizeController):
    """Steps that `steps` chooses from errors in units of what `sizes` allows, of a state and of its
    derivative (None where there is none); states are packed increments `like` these."""

    steps: diffrax.PIDController
    sizes: tuple[Sizes, Sizes | None]
    like: Parameters
    rtol: Any
    atol: Any  # that of implicit methods for the equations of a step
    norm: Callable[[Any], Any]

    def __init__(
        self,
        steps: diffrax.PIDController,
        sizes: tuple[Sizes, Sizes | None],
        like: Parameters,
        rtol: Array,
    ):
        self.steps, self.norm, self.rtol = steps, steps.norm, rtol
        self.sizes, self.like = jax.lax.stop_gradient((sizes, like))
        places = jax.tree.leaves(self.sizes[0].place)
        largest = reduce(jnp.maximum, [jnp.abs(a).max(initial=0) for a in places])
        self.atol = rtol * jnp.maximum(largest, jnp.finfo(largest.dtype).tiny)

    def wrap(self, direction: Any) -> "RelativeSteps":
        return self

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: Any,
        dt0: Any,
        args: Any,
        func: Any,
        error_order: Any,
    ) -> Any:
        dt0 = _FIRST * (t1 - t0)
        if isinstance(terms, diffrax.ODETerm):
            velocity = jax.lax.stop_gradient(func(terms, t0, y0, args)[0])
            own = self.sizes[0]
            rates = jax.tree.map(
                lambda v, s: jnp.where(s > 0, v / jnp.where(s > 0, s, 1), 0), velocity, own.spread
            )
            rate = self.norm((rates, None))
            dt0 = jnp.minimum(dt0, _FIRST / jnp.where(rate > 0, rate, _FIRST / dt0))
        return self.steps.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self, t0: Any, t1: Any, y0: Any, y1_candidate: Any, args: Any, y_error: Any,
        error_order: Any, controller_state: Any,
    ) -> Any:  # fmt: skip
        y0, y1, y_error = jax.lax.stop_gradient((y0, y1_candidate, y_error))
        y1 = jax.tree.map(lambda a, b: jnp.where(jnp.isfinite(b).all(), b, a), y0, y1)

        # derivatives in masses are sums of changes of the state that cancel where neurons are equal
        change = _largest(jax.tree.map(lambda a, b: jnp.abs(b - a), y0[0], y1[0]))

        def scaled(sizes: Sizes | None, before: Any, after: Any, error: Any) -> Any:
            if sizes is None:
                return None
            beside = 0.0 if sizes is self.sizes[0] else change
            allowed = sizes.allowed(self.rtol, before, after, self.like, beside)
            return jax.tree.map(lambda e, a: e / (a + jnp.finfo(a.dtype).tiny), error, allowed)

        error = tuple(map(scaled, self.sizes, y0, y1, y_error))
        nothing = jax.tree.map(jnp.zeros_like, error)
        return self.steps.adapt_step_size(
            t0, t1, nothing, nothing, args, error, error_order, controller_state
        )
