"""Steps of any gradient transformation, applied to derivatives per unit mass."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembles import Network, Parameters

from .._energies.energy import Energy
from .dynamics import Moment, Update

_PROBES = 12  # steps in which it is probed what a transformation depends on
_ENTRIES = 2**23  # of all these steps


class GradientTransformation(Protocol):
    """What optax calls one: `init(parameters)` and `update(gradient, state, parameters)`."""

    def init(self, params: Any) -> Any: ...

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]: ...


def instead(value: Any, remedy: str) -> str:
    """What to write in place of `value`: `remedy`, unless it is a gradient transformation."""
    if all(callable(getattr(value, f, None)) for f in ("init", "update")):
        return "train takes gradient transformations as Optimiser(optax.adam(1e-3))"
    return remedy


class Optimiser(Update):
    """Steps of `transformation`, an optax one such as `optax.adam(1e-3)`, on mean-field gradients.

    The gradient of a weight is its derivative per unit mass, N_{i-1} N_i times the ordinary one in
    a finite network. What the transformation returns is added to the weights and biases: the size
    of steps is its own learning rate, the `step` of `train` only says what time one takes. Its
    state is the run's `memory`, carried from step to step and differentiated through.

    Transformations that act on every entry alone (momentum, RMSProp, Adam, ...) have a limit: the
    run of a network of quadrature nodes under the same transformation, from which `coupling`
    measures finite ones. Those that take all entries at once ignore masses: the global norm of
    the gradients of N² edges is N (E Δ²)^½, so that steps clipped to a fixed one fall as 1/N, and
    there is no limit unless the bound grows as N. Make the transformation once, as
    every new one is compiled. Masses stand still.

    Derivatives of a run under Adam, RMSProp and their like are NaN where a gradient is exactly 0
    (of a layer behind weights that start at 0, say): they divide by the root of its mean square,
    which has no derivative at 0. Give it one under the root, `optax.adam(1e-3, eps_root=1e-12)`.

    Raises `ValueError` for what has no `init` and `update`, and (in a run) for an update that needs
    more than gradients and parameters.
    """

    transformation: GradientTransformation

    def __init__(self, transformation: GradientTransformation):
        if not all(callable(getattr(transformation, f, None)) for f in ("init", "update")):
            raise ValueError(
                f"transformation must have init and update, got {transformation!r}: write "
                "Optimiser(optax.adam(1e-3))"
            )
        self.transformation = transformation

    def memory(self, network: Network) -> Any:
        return jax.tree.map(jnp.asarray, self.transformation.init(network.parameters.still()))

    def step(
        self, at: Moment, network: Network, memory: Any, energy: Energy
    ) -> tuple[Float[Array, ""], Parameters, Any]:
        value, slope, _ = energy.derivatives(network)
        slope = energy.domain.downhill(network, slope)
        now = network.parameters.still()
        change, memory = self._update(slope.still(), memory, now)
        growth = jax.tree.map(jnp.zeros_like, network.increment.growth)
        return value, change.with_growth(growth), memory

    def check(self, network: Network, energy: Energy) -> None:
        energy.check(network)
        now = network.parameters.still()

        try:
            jax.eval_shape(self._first, now, now)
        except TypeError as error:
            raise ValueError(
                "transformation must need no more than gradients and parameters, as optax.adam "
                f"does, but its update says: {error}: those that search along a line or use values "
                "(optax.lbfgs, say) have no place in an Optimiser"
            ) from error

    def check_limit(self, network: Network, noisy: bool) -> None:
        """Several steps along random gradients, fewer of large networks (transformations that
        factor do so from a size on). No entry may depend on another's gradient or parameter, nor
        where it is; and where weights have noise, of which the limit keeps the mean, steps must be
        affine in parameters."""
        now = network.parameters.still()
        entries = sum(leaf.size for leaf in jax.tree.leaves(now))
        probes = int(np.clip(_ENTRIES // entries, 2, _PROBES))
        tree = jax.tree.structure(now)
        drawn = jax.tree.unflatten(tree, jax.random.split(jax.random.key(0), tree.num_leaves))
        slopes = jax.tree.map(
            lambda a, k: jax.random.normal(k, (probes, *a.shape), a.dtype), now, drawn
        )

        def first(a: Array, change: Callable[[Array], Array], axes: int) -> Array:
            at = (slice(None),) * axes + (0,) * (a.ndim - axes)
            return a.at[at].set(change(a[at]))

        other = jax.tree.map(lambda a: first(a, lambda v: 1e9 * v, 1), slopes)
        moved = jax.tree.map(lambda a: first(a, lambda v: v + 10, 0), now)
        steps, changed = (self._steps(*given) for given in ((slopes, now), (other, moved)))
        for a, b in zip(jax.tree.leaves(steps), jax.tree.leaves(changed), strict=True):
            apart = (a != b).reshape(probes, -1)
            if apart[:, 1:].any():
                raise ValueError(
                    "transformation must act on every entry alone to have a limit, but one entry's "
                    "gradient or parameter changed another's step (a norm of all entries, as in "
                    "clipping, depends on their number, not on masses): leave it out, or write "
                    "train, whose networks it may move as it likes"
                )
        ones = jax.tree.map(jnp.ones_like, (slopes, now))
        for a in jax.tree.leaves(self._steps(*ones)):
            flat = a.reshape(probes, -1)
            if (flat != flat[:, :1]).any():
                raise ValueError(
                    "transformation must be without randomness here, and treat all entries of an "
                    "array alike, but equal gradients got different steps: noise is not that of a "
                    "limit's nodes. Leave it out, or write train"
                )
        if noisy:
            self._check_affine(jax.tree.map(lambda a: a[0], slopes), now)

    def _check_affine(self, slope: Parameters, now: Parameters) -> None:
        apart = jax.tree.map(jnp.ones_like, now)
        above, below = (jax.tree.map(lambda p, q, s=s: p + s * q, now, apart) for s in (1, -1))
        three = (self._first(slope, at) for at in (now, above, below))
        for a, b, c in zip(*map(jax.tree.leaves, three), strict=True):
            eps = float(jnp.finfo(a.dtype).eps)
            if float(jnp.abs(b + c - 2 * a).max()) > 1e3 * eps * (1 + float(jnp.abs(a).max())):
                raise ValueError(
                    "transformation must be affine in parameters where weights have noise of their "
                    "own, whose mean alone is in the limit, but its steps are not: leave out what "
                    "bounds or normalises weights, or write train"
                )

    def _steps(self, slopes: Parameters, now: Parameters) -> Parameters:
        """The steps along gradients one after the other."""

        def one(carry: tuple[Parameters, Any], slope: Parameters) -> tuple[Any, Parameters]:
            at, memory = carry
            change, memory = self._update(slope, memory, at)
            return (jax.tree.map(jnp.add, at, change), memory), change

        memory = jax.tree.map(jnp.asarray, self.transformation.init(now))
        return jax.lax.scan(one, (now, memory), slopes)[1]

    def _first(self, slope: Parameters, now: Parameters) -> Parameters:
        return self._update(slope, self.transformation.init(now), now)[0]

    def _update(self, slope: Parameters, memory: Any, now: Parameters) -> tuple[Parameters, Any]:
        # foreign code relies on JAX's own promotion, whatever is set
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return self.transformation.update(slope, memory, now)
