"""Ensembles that do not move: the limit's gradient vanishes although the loss could fall.

In the mean-field scaling a layer passes on an average over neurons. Where weights average to zero
and preactivations are odd, nothing passes, forward or backward: centred i.i.d. starts of four
layers or more, and networks of odd activations with centred first and last layers, stand still in
the limit, while finite networks of width N move at a speed of order N^-1/2 (Nguyen & Pham,
arXiv:2001.11443, recommend non-zero means).
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Rule
from ensembles._checks import kind, randomness
from ensembles._contractions import dot, tensordot

from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .nodes import padded, shared

_REDRAWS = 4
_REFINEMENTS = 4  # of random nodes: 16 times as many
_VANISHING = 0.35  # independent nodes of a vanishing average would give 1/4


class StationaryStart(UserWarning):
    """The limit's gradient vanishes at the start, the loss's derivative in the outputs does not."""


class InitialMotion(eqx.Module):
    """How the limit of an ensemble begins to move.

    - `speed`: the root mean square of the derivative per unit mass over all weights and biases (by
      mass, layers added in squares; with the first variation's share, where masses move), relative
      to the root mean square of ∂R/∂ŷ; `stationary`: whether it vanishes, up to what the nodes
      resolve.
    - `vanishing`: the layers 1, …, L whose weights have mean zero.
    """

    speed: float
    stationary: bool
    vanishing: tuple[int, ...]

    def __str__(self) -> str:
        if not self.stationary:
            return f"The start moves: speed {self.speed:.2e} relative to the loss's derivative."
        means = ", ".join(f"w_{i}" for i in self.vanishing) or "the average features"
        return (
            "The limit's gradient vanishes at the start while the loss is not stationary in the "
            f"outputs: the limit stays there, and finite networks leave it only by their "
            f"fluctuations. The means that vanish: {means}. Give them non-zero means (e.g. "
            "iid(..., hidden=Gaussian(1, mean=1.0), last=Gaussian(1, mean=1.0))), or biases."
        )


def initial_motion(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    dynamics: Dynamics | None = None,
    *,
    rule: Rule | Sequence[Rule | None] | None = None,
    key: PRNGKeyArray | None = None,
) -> InitialMotion:
    """Whether the limit of `ensemble` moves from its start, and how fast.

    Under a `dynamics` that moves masses the speed counts the standard deviation over neurons of the
    first variation too.

    With deterministic nodes the speed is zero up to rounding or it is not. With random ones (four
    independent sets, from `key`) it is taken to vanish when 16 times the nodes reduce it as they
    reduce an average of zero, to a third or less. `limit` asks this of every ensemble, and warns.
    """
    kind("ensemble", ensemble, NeuronalEnsemble, "a network has no limit of its own")
    kind("energy", energy, Energy, "write Risk(data)")
    dynamics = GradientFlow() if dynamics is None else dynamics
    kind("dynamics", dynamics, Dynamics, "write dynamics=GradientFlow()")
    rules = ensemble.rules(rule)
    random = any(r.random for r in rules)
    sizes = [r.coarsest(space) for r, space in zip(rules, ensemble.spaces, strict=True)]
    rounding = float(jnp.finfo(ensemble.spaces[0].dtype).eps) ** 0.5
    if not random:
        nodes = padded(ensemble.measures(sizes, rules), shared(ensemble.spaces))
        speed, slope, *means = np.asarray(_look(ensemble.network(nodes), energy, dynamics))
        still, tolerance = speed <= rounding, rounding
    else:
        key = randomness(key, "random nodes are drawn to see whether the start moves")
        keys = jax.random.split(key, _REDRAWS)
        fine = [n * 2**_REFINEMENTS if r.random else n for n, r in zip(sizes, rules, strict=True)]
        coarse, (speed, slope, *means) = (
            _mean_square(
                [_look(ensemble.discretise(n, rules, key=k), energy, dynamics) for k in keys]
            )
            for n in (sizes, fine)
        )
        still, tolerance = speed <= max(_VANISHING * coarse[0], rounding), 3 / np.sqrt(max(fine))
    vanishing = tuple(i + 1 for i, mean in enumerate(means) if mean <= tolerance)
    return InitialMotion(float(speed), bool(still and slope > rounding), vanishing)


def _mean_square(redraws: list[Array]) -> np.ndarray:
    return np.sqrt(np.mean(np.square(redraws), axis=0))


@eqx.filter_jit
def _look(network: Network, energy: Energy, dynamics: Dynamics) -> Array:
    """Speed, derivative in the outputs, and mean of each layer's weights relative to their size."""
    _, gradient = energy.value_and_gradient(network)
    squares = jax.tree.leaves(
        jax.tree.map(lambda p, g: (p * g**2).sum(), network.parameter_masses(), gradient)
    )
    if dynamics.prepare(network).increment.growth is not None:
        pairs = zip(network.masses, energy.first_variation(network), strict=True)
        squares += [dot(p, (psi - dot(p, psi)) ** 2) for p, psi in pairs]
    total = jnp.sqrt(sum(squares, jnp.zeros((), network.dtype)))
    slope = energy.stationarity(network)

    def mean(p: Array, w: Array | None) -> Array:
        if w is None:
            return jnp.ones((), network.dtype)
        first, second = (tensordot(p, power, axes=p.ndim) for power in (w, w**2))
        return jnp.sqrt((first**2).sum() / jnp.maximum(second.sum(), 1e-30))

    pairs = zip(network.edge_masses(), network.weights, strict=True)
    means = [mean(*pair) for pair in pairs]
    return jnp.stack([total / jnp.maximum(slope, 1e-30), slope, *means])
