"""How far retrained networks would scatter, from one network that is at hand."""

import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float

from ensembles import Network
from ensembles.internal import kind, on_host, tensordot

from .._dynamics.dynamics import Dynamics
from .._dynamics.gradient_flow import GradientFlow
from .._energies.energy import Energy
from .._solvers.adaptive import Adaptive
from .._solvers.observables import Observable, check_observable
from .._solvers.time import checkpoints
from .._solvers.trajectory import Trajectory
from .influence import apart, apart_in_size, centred, jacobian, of_masses
from .jackknife_result import Jackknife, plain, variances

_Parts = tuple[tuple[Array, ...], Array, Array]  # influence, of edges, of biases of outputs


def jackknife(
    network: Network,
    energy: Energy,
    observe: Observable,
    *,
    t1: ArrayLike,
    times: ArrayLike | None = None,
    dynamics: Dynamics | None = None,
    solver: Adaptive | None = None,
) -> Jackknife:
    """The scatter of `observe` over networks drawn and trained as `network` was, from it alone.

    `network` is one that was drawn, of equal masses and before its training: its neurons stand for
    the distributions they were drawn from, which need not be known. Where the ensemble is known,
    `fluctuations` says more.

    Arguments: `observe`, `times`, `dynamics` and `solver` as in `fluctuations`. The flow of the
    network, and of each half of its neurons, is differentiated in masses and in the weights between
    hidden layers; and that of the network once more on finer nodes of a population
    (`Data.from_space`), whose distance is in the errors.

    Neurons with kinks (ReLU) are differentiated as `flow` says: each that crosses a datum adds its
    jump, few of which are a rough estimate of the limit's integral over them.

    Nodes of equal masses (`Sobol`, `MonteCarlo`) cannot be told from draws: for what is no draw,
    as Sobol points, the scatter that it reports is none of anything.

    Raises `ValueError` for arguments that do not fit, networks whose masses are unequal (Gauss
    nodes) or that have been trained, and observables that single out neurons; `FailedRun` if the
    flow breaks down.
    """
    kind("network", network, Network, "write ensemble.sample(64, key=key), or from_mlp(mlp)[0]")
    kind("energy", energy, Energy, "write Risk(data)")
    on_host("jackknife", network, energy, dynamics, t1, times, solver, observe, jnp.zeros(()))
    dynamics = GradientFlow() if dynamics is None else dynamics
    solver = Adaptive() if solver is None else solver
    kind("solver", solver, Adaptive, "it is of continuous time; write Adaptive()")
    _check(network)
    check_observable(observe, network, differentiable=True)
    _, when = checkpoints(times, 0.0, t1, network.dtype)
    solver.check(network, energy, dynamics, when)
    solver = solver.resolved(network.dtype)

    def derived(
        network: Network, drawn: bool = False, energy: Energy = energy
    ) -> tuple[Array, _Parts]:
        found, parts, run = _differentiate(network, energy, dynamics, solver, observe, when, drawn)
        run.raise_if_failed()
        return found, parts

    standard, last = _standard(network, dynamics), network.start.biases[-1]
    drawn = standard and last is not None and bool(np.asarray(last).any())
    observed, (influence, edges, biases) = derived(network, drawn)
    halves = [derived(half)[1][:2] for half in _halves(network)]
    scales = jnp.asarray([(n // 2) / n for n in network.width], network.dtype)
    halved = [
        tensordot(scales, variances(own), axes=1) - 2 * scales.mean() * beside
        for own, beside in halves
    ]
    missed = None
    finer_data = energy.with_finer_data()
    if finer_data is not None:
        other, parts = derived(network, drawn, finer_data)
        told, theirs = plain(influence, edges, biases), plain(*parts)
        missed = jnp.asarray([apart(observed, [other]), apart_in_size(told, [theirs])])
    return Jackknife(
        times=when,
        observed=observed,
        influence=influence,
        edges=edges,
        halved=sum(halved[1:], halved[0]) / len(halved),
        biases=biases,
        standard=standard,
        missed=missed,
    )


def _standard(network: Network, dynamics: Dynamics) -> bool:
    """Whether the layers that move do at rates ξ_i = c N_{i-1}/N_i, N_0 = N_L = 1: gradient descent
    of the matrices N_{i-1}⁻¹ w_i."""
    flow = getattr(dynamics, "transport", dynamics)
    if not isinstance(flow, GradientFlow):
        return False
    own, _ = flow.rates(network, jnp.zeros((), network.dtype))
    sizes = np.array([1, *network.width, 1])
    scaled = np.array([float(a) for a in own]) * sizes[1:] / sizes[:-1]
    moving = scaled[scaled != 0]
    return len(moving) > 1 and bool(np.ptp(moving) < 1e-3 * abs(moving[0]))


def _halves(network: Network) -> list[Network]:
    """The networks of the first and the second half of the neurons of each layer."""
    sizes = [n // 2 for n in network.width]
    parts = [network.neurons([slice(j * n, (j + 1) * n) for n in sizes]) for j in range(2)]
    equal = tuple(jnp.full(n, 1 / n, network.dtype) for n in sizes)
    return [eqx.tree_at(lambda n: n.initial_masses, part, equal) for part in parts]


def _check(network: Network) -> None:
    for i, p in enumerate(network.initial_masses):
        known = np.asarray(p)
        if len(known) < 4 or np.ptp(known) > 1e-3 / len(known):
            raise ValueError(
                f"network must have equal masses, at least 4, in every layer, got {len(known)} "
                f"from {known.min():.3g} to {known.max():.3g} in layer {i + 1}: one that was drawn "
                "stands for the distribution of its neurons; of quadrature nodes write "
                "fluctuations(ensemble, ..., nodes=...)"
            )
    if any(np.asarray(leaf).any() for leaf in jax.tree.leaves(network.increment)):
        raise ValueError(
            "network must be as training found it, got one that has moved: what neurons do "
            "together is no draw any more. Write network.moved(jax.tree.map(jnp.zeros_like, "
            "network.increment)) for its initial weights"
        )


@eqx.filter_jit
def _differentiate(
    network: Network,
    energy: Energy,
    dynamics: Dynamics,
    solver: Adaptive,
    observe: Observable,
    times: Array,
    drawn: bool,
) -> tuple[Array, _Parts, Trajectory]:
    """What is observed (T, ...), its influence functions, the parts of edges and of biases of the
    outputs if they are `drawn`, and the trajectory."""
    last = network.start.biases[-1] if drawn else None
    start = network.masses, network.start.weights[1:-1], last
    flat, shaped = ravel_pytree(start)
    tangent = of_masses(network, energy, dynamics)

    def run(at: Array, adjoint: diffrax.AbstractAdjoint) -> tuple[Array, Trajectory]:
        masses, between, last = shaped(at)
        there = eqx.tree_at(lambda n: n.start.weights[1:-1], network.weighed(masses), between)
        if drawn:
            there = eqx.tree_at(lambda n: n.start.biases[-1], there, last)
        trajectory = solver.run(
            there, energy, dynamics, times=times, observe=observe, tangent=tangent, adjoint=adjoint
        )
        return trajectory.observed, trajectory

    def reduced(slopes: Array) -> _Parts:
        of_neurons, of_edges, of_last = shaped(slopes)
        influence = tuple(map(centred, of_neurons, network.masses))
        pairs = zip(of_edges, start[1], strict=True)
        each = [_interaction((g * w).sum(tuple(range(2, w.ndim)))) for g, w in pairs]
        zero = jnp.zeros((), slopes.dtype)
        if not drawn:
            return influence, sum(each, zero), zero
        entries = network.masses[-1][:, None] * network.start.weights[-1]
        return influence, sum(each, zero), (of_last**2 * (entries**2).mean(0)).sum()

    entries = sum(leaf.size for leaf in jax.tree.leaves(network.increment))
    seen = math.prod(jax.eval_shape(observe, network).shape) * len(times)
    found, parts, trajectory = jacobian(run, flat, values=seen, entries=entries, reduced=reduced)
    return found, parts, trajectory


def _interaction(y: Float[Array, "n m"]) -> Float[Array, ""]:
    """Σ r² n m / ((n − 1) (m − 1)), r being `y` less the means of its rows and columns."""
    n, m = y.shape
    r = y - y.mean(0, keepdims=True) - y.mean(1, keepdims=True) + y.mean()
    return (r**2).sum() * (n * m / ((n - 1) * (m - 1)))
