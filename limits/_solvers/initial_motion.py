"""Ensembles that do not move: the limit's gradient vanishes although the loss could fall.

In the mean-field scaling a layer passes on an average over neurons. Where weights average to zero
and preactivations are odd, nothing passes, forward or backward: centred i.i.d. weights of four
layers or more, and networks of odd activations with centred first and last layers, stand still in
the limit, while finite networks of width N move at a speed of order N^-1/2 (Nguyen & Pham,
arXiv:2001.11443, recommend non-zero means).
"""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembles import Network, NeuronalEnsemble, Parameters, Rule
from ensembles.internal import dot, kind, on_host, randomness, spare, tensordot

from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .._result import Result
from .nodes import check_noisy, many_nodes, padded_measures, probing

_REDRAWS = 4
_REFINEMENTS = 4  # of random nodes: 16 times as many
_ROUNDED = 1e3  # units of the last place that a derivative of 0 may have
_PERIOD = 4093  # of numbers that are as good as random, a prime
_VANISHING = 0.35  # independent nodes of a vanishing average would give 1/4


class StationaryStart(UserWarning):
    """The limit's gradient vanishes at time 0, the loss's derivative in the outputs does not."""


class InitialMotion(Result):
    """How the limit of an ensemble begins to move.

    - `speed`: the root mean square of the derivative per unit mass over all weights and biases that
      move (by mass, layers added in squares; with the first variation, where masses move), relative
      to the root mean square of ∂R/∂ŷ. What has a rate of 0 is frozen and does not count.
    - `stationary`: whether the derivatives of the outputs in all that moves vanish, up to what the
      nodes resolve and relative to the sizes of the other layers' weights, while ∂R/∂ŷ does not.
      Then the speed vanishes for any target. At a minimum it vanishes too, but they don't.
    - `vanishing`: the layers 1, …, L whose weights have mean zero.
    """

    speed: float
    stationary: bool
    vanishing: Annotated[tuple[int, ...], "vanishing_layer"]

    def _words(self) -> list[str]:
        return [str(self)]

    def __str__(self) -> str:
        if not self.stationary:
            return f"The limit moves: speed {self.speed:.2e} relative to the loss's derivative."
        means = ", ".join(f"w_{i}" for i in self.vanishing) or "the average features"
        return (
            "The limit's gradient vanishes at time 0 while the loss is not stationary in the "
            f"outputs: the limit stays there, and finite networks leave it only by their "
            f"fluctuations. The means that vanish: {means}. Give them non-zero means (e.g. "
            "iid(..., hidden=Gaussian(1, mean=1.0), last=Gaussian(1, mean=1.0))), or biases. What "
            "has a rate of 0 is taken as it is: frozen."
        )


def initial_motion(
    ensemble: NeuronalEnsemble,
    energy: Energy,
    dynamics: Dynamics | None = None,
    *,
    rule: Rule | Sequence[Rule | None] | None = None,
    key: PRNGKeyArray | None = None,
) -> InitialMotion:
    """Whether the limit of `ensemble` moves from its initial weights, and how fast.

    Under a `dynamics` that moves masses the speed counts the standard deviation over neurons of the
    first variation too.

    With deterministic nodes (some 500 a layer) derivatives are zero up to rounding or they are not.
    With random ones (four independent sets, from `key`) they are taken to vanish when 16 times the
    nodes reduce them as they reduce an average of zero, to a third or less. `limit` asks this of
    every ensemble, and warns.
    """
    kind(
        "ensemble", ensemble, NeuronalEnsemble, "a network has no limit of its own: write iid(...)"
    )
    kind("energy", energy, Energy, "write Risk(data)")
    on_host("initial_motion", ensemble, energy, dynamics, jnp.zeros(()))
    dynamics = GradientFlow() if dynamics is None else dynamics
    kind("dynamics", dynamics, Dynamics, "write dynamics=GradientFlow()")
    check_noisy(ensemble, energy)
    rules = ensemble.rules(rule)
    random = any(r.random for r in rules)
    coarsest = [r.coarsest(space) for r, space in zip(rules, ensemble.spaces, strict=True)]
    more = probing(ensemble.spaces, rules, coarsest)
    sizes = [n if r.random else m for n, m, r in zip(coarsest, more, rules, strict=True)]
    eps = float(jnp.finfo(ensemble.spaces[0].dtype).eps)
    rounding = eps**0.5

    def probe(network: Network) -> _Probe:
        dynamics.check(network, energy)
        return _probe(network, energy, dynamics.moves(network))

    spare(key)
    if not random:
        seen = [probe(ensemble.network(many_nodes(ensemble, rules, coarsest, None)))]
        vanishing, tolerance = 0.0, rounding
    else:
        key = randomness(key, "random nodes are drawn to find whether the limit moves")
        keys = jax.random.split(key, _REDRAWS)
        fine = [n * 2**_REFINEMENTS if r.random else n for n, r in zip(sizes, rules, strict=True)]
        coarse, seen = (
            [probe(ensemble.network(padded_measures(ensemble.measures(n, rules, key=k), fine)))
             for k in keys]
            for n in (sizes, fine)
        )  # fmt: skip
        vanishing, tolerance = _VANISHING * _mean_square(coarse).features, 3 / np.sqrt(max(fine))
    found = _mean_square(seen)
    still = found.features <= max(vanishing, rounding * found.scale)
    return InitialMotion(
        speed=float(found.speed),
        stationary=bool(still and found.slope > _ROUNDED * eps * found.steep),
        vanishing=tuple(i + 1 for i, mean in enumerate(found.means) if mean <= tolerance),
    )


class _Probe(NamedTuple):
    """At one network: its speed, the energy's derivative in the outputs (`slope`, and `steep` with
    weights as far again as they are large, where nothing cancels), the speed for a random
    derivative in the outputs (`features`), of which size that is where nothing cancels (`scale`),
    and the means of weights relative to their root mean squares."""

    speed: Float[Array, ""]
    slope: Float[Array, ""]
    steep: Float[Array, ""]
    features: Float[Array, ""]
    scale: Float[Array, ""]
    means: Float[Array, " layers"]


def _mean_square(redraws: list[_Probe]) -> _Probe:
    return jax.tree.map(lambda *a: np.sqrt(np.mean(np.square(a), axis=0)), *redraws)


@eqx.filter_jit
def _probe(network: Network, energy: Energy, moves: Parameters) -> _Probe:
    grows = moves.growth is not None and any(moves.growth)
    masses, by_entry = network.masses, network.parameter_masses()
    tiny = jnp.finfo(network.dtype).tiny

    def size(slopes: Parameters, variation: tuple[Array, ...]) -> Array:
        """The root of Σ p |slope|² + Σ Var_p Ψ."""
        each = jax.tree.map(
            lambda p, g, move: (p * g**2).sum() * float(move), by_entry, slopes, moves.still()
        )
        squares = jax.tree.leaves(each)
        if grows:
            each = zip(masses, variation, moves.growth or (), strict=True)
            squares += [dot(p, (psi - dot(p, psi)) ** 2) * float(move) for p, psi, move in each]
        return jnp.sqrt(sum(squares, jnp.zeros((), network.dtype)))

    def seen(start: Parameters, masses: tuple[Array, ...]) -> Any:
        return energy.outputs(eqx.tree_at(lambda n: n.start, network.weighed(masses), start))

    outputs, pull = jax.vjp(seen, network.parameters.still(), masses)

    def some(a: Array) -> Array:
        return _irregular(a) / jnp.asarray(a.shape[0], a.dtype)

    slopes, changes = pull(jax.tree.map(some, outputs))
    per_mass = jax.tree.map(lambda g, p: jnp.where(p > 0, g / p, 0), slopes, by_entry)
    found = energy.derivatives(network, variation=grows)
    gradient, variation = energy.domain.downhill(network, found.gradient), found.variation or ()
    slope = energy.stationarity(network)
    far = eqx.tree_at(lambda n: n.start, network, jax.tree.map(_displaced, network.start))
    steep = energy.stationarity(far)
    pairs = zip(network.edge_masses(), network.weights, strict=True)
    means, sizes = zip(*(_moments(*pair) for pair in pairs), strict=True)
    others = [jnp.stack([*sizes[:i], *sizes[i + 1 :]]).prod() for i in range(len(sizes))]
    return _Probe(
        speed=size(gradient.still(), variation) / jnp.maximum(slope, tiny),
        slope=slope,
        steep=jnp.where(steep > slope, steep, slope),
        features=size(per_mass, changes),
        scale=jnp.stack(others).max(),
        means=jnp.stack([m / jnp.maximum(s, tiny) for m, s in zip(means, sizes, strict=True)]),
    )


def _displaced(a: Array) -> Array:
    """Entries as far from `a` as they are large, at random."""
    return a + jnp.abs(a).max(initial=0) * _irregular(a)


def _irregular(a: Array) -> Array:
    """Normal numbers of the shape of `a`, the same in every run: from the host, since to draw them
    in a program takes longer to compile than all else in it; over and over where there are many."""
    normal = np.random.default_rng(0).standard_normal(min(a.size, _PERIOD))
    return jnp.resize(jnp.asarray(normal, a.dtype), a.shape)


def _moments(p: Array, w: Array | None) -> tuple[Array, Array]:
    """The size of the mean of weights, and their root mean square."""
    if w is None:
        return jnp.ones((), p.dtype), jnp.ones((), p.dtype)
    first, second = (tensordot(p, power, axes=p.ndim) for power in (w, w**2))
    return jnp.sqrt((first**2).sum()), jnp.sqrt(second.sum())
