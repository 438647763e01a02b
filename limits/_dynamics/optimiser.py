"""Steps of any gradient transformation, applied to derivatives per unit mass."""

from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, Parameters
from ensembles._checks import count

from .._energies.energy import Energy
from .dynamics import Update


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
    measures finite ones. Those that see all entries at once do not see masses: the global norm of
    the gradients of N² edges is N (E Δ²)^½, so that steps clipped to a fixed one fall as 1/N, and
    there is no limit unless the bound grows as N. `batch` as in `SGD`. Make the transformation
    once: a fresh one compiles anew. Masses stand still.

    Raises `ValueError` for what has no `init` and `update`, and (in a run) for an update that needs
    more than gradients and parameters.
    """

    transformation: GradientTransformation
    batch: int | None = eqx.field(static=True)

    def __init__(self, transformation: GradientTransformation, batch: int | None = None):
        if not all(callable(getattr(transformation, f, None)) for f in ("init", "update")):
            raise ValueError(
                f"transformation must have init and update, got {transformation!r}: write "
                "Optimiser(optax.adam(1e-3))"
            )
        self.transformation = transformation
        self.batch = None if batch is None else count("batch", batch)

    @property
    def random(self) -> bool:
        return self.batch is not None

    def memory(self, network: Network) -> Any:
        return jax.tree.map(jnp.asarray, self.transformation.init(network.parameters.still()))

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
        value, slope = energy.value_and_gradient(network)
        slope = energy.downhill(network, slope)
        now = network.parameters.still()
        # foreign code relies on JAX's own promotion, whatever is set
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            change, memory = self.transformation.update(slope.still(), memory, now)
        growth = jax.tree.map(jnp.zeros_like, network.increment.growth)
        return value, Parameters(change.weights, change.biases, growth), memory

    def check(self, network: Network, energy: Energy, step: Float[Array, ""]) -> None:
        energy.check(network, self.batch)
        now = network.parameters.still()

        try:
            jax.eval_shape(self._first, now, now)
        except TypeError as error:
            raise ValueError(
                "transformation must need no more than gradients and parameters, as optax.adam "
                f"does, but its update says: {error}: those that search along a line or see values "
                "(optax.lbfgs, say) have no place in an Optimiser"
            ) from error

    def check_limit(self, network: Network) -> None:
        now = network.parameters.still()
        leaves, tree = jax.tree.flatten(now)
        keys = jax.random.split(jax.random.key(0), len(leaves))
        slopes = [jax.random.normal(k, a.shape, a.dtype) for k, a in zip(keys, leaves, strict=True)]
        # the first entry of every array changes, and no other entry may see it
        other = [a.reshape(-1).at[0].multiply(1e3).reshape(a.shape) for a in slopes]
        before, after = (
            jax.tree.leaves(self._first(tree.unflatten(s), now)) for s in (slopes, other)
        )
        for a, b in zip(before, after, strict=True):
            if not bool((a.reshape(-1)[1:] == b.reshape(-1)[1:]).all()):
                raise ValueError(
                    "transformation must act on every entry alone to have a limit, but one entry's "
                    "gradient changed another's step (a norm of all entries, as in clipping, sees "
                    "their number and not their masses): leave it out, or write train, whose "
                    "networks it may move as it likes"
                )

    def _first(self, slope: Parameters, now: Parameters) -> Parameters:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return self.transformation.update(slope, self.transformation.init(now), now)[0]
