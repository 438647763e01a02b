"""Steps in Wasserstein space: what a gradient flow is the limit of."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, ArrayLike, Float

from ensembles import Network
from ensembles.internal import concrete, kind, on_host, positive

from .._energies.energy import Energy
from .._solvers.time import checkpoints, whole_steps
from .._solvers.trajectory import RESULTS, Trajectory


def minimising_movement(
    network: Network,
    energy: Energy,
    *,
    step: ArrayLike,
    t1: ArrayLike,
    blur: float = 0.05,
    max_steps: int = 1_000,
) -> Trajectory:
    """Steps μ_{k+1} = argmin E(μ) + W_2²(μ, μ_k)/(2ε) over the places of particles, of size ε.

    The scheme of Jordan, Kinderlehrer & Otto (1998), for particles whose masses stand still: it is
    independent of any velocity, lowers the energy at every step, and tends to `flow` with an error
    of order ε. W_2² is the Sinkhorn divergence of ott-jax, with an entropic regularisation of
    `blur` times the mean square of a step's displacement under the gradient, within which it is
    exact as `blur` → 0. Minimised by BFGS from where the particles are (`max_steps` at most).

    Returns the `Trajectory` of all steps, `.observed` the particles (T, n, dim). Needs `ott-jax`.
    Raises `ValueError` for networks of several hidden layers and steps that do not divide `t1`;
    the result is `max_steps_reached` where a minimum was not found.
    """
    kind("network", network, Network, "write Network.particles(measure)")
    kind("energy", energy, Energy, "write Interaction(F, K)")
    on_host("minimising_movement", network, energy, step, t1, jnp.zeros(()))
    energy.check(network)
    size = positive("step", step, network.dtype)
    _, when = checkpoints(None, 0.0, t1, network.dtype)
    count = int(whole_steps(when, size)[-1])
    if network.depth != 2:
        raise ValueError(
            f"network must have one hidden layer, got {network.depth} layers: distances are "
            "between measures of neurons"
        )
    if energy.domain.bounded:
        raise ValueError(
            "energy must leave particles free for a minimising movement, which moves them in all "
            "of R^dim, but they live in a space with walls or curvature: write flow, or the energy "
            "without its space"
        )
    positive("blur", blur, network.dtype)
    known = concrete(network.masses[0])
    if known is not None and not (known > 0).all():
        raise ValueError(
            f"masses must be positive for a minimising movement, got {known.min()}: a particle of "
            "mass 0 has no part in what is minimised"
        )
    # ott-jax relies on JAX's own promotion, whatever is set
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        return _iterate(network, energy, size, count, blur, max_steps)


def _divergence() -> Any:
    try:
        from ott.geometry import pointcloud
        from ott.tools import sinkhorn_divergence
    except ImportError as error:
        raise ImportError(
            "minimising_movement needs ott-jax: pip install ott-jax, or "
            "neuronal-ensembles[references]"
        ) from error

    def squared(x: Array, y: Array, masses: Array, epsilon: Array) -> Array:
        return sinkhorn_divergence.sinkhorn_divergence(
            pointcloud.PointCloud, x, y, a=masses, b=masses, epsilon=epsilon
        )[0]

    return squared


@eqx.filter_jit
def _iterate(
    network: Network, energy: Energy, step: Array, steps: int, blur: float, max_steps: int
) -> Trajectory:
    squared, masses = _divergence(), network.masses[0]
    root = float(jnp.finfo(network.dtype).eps) ** 0.5

    def one(points: Float[Array, "n dim"], _: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        size = jnp.abs(points - points.mean(0)[None]).max()
        size = jnp.where(size > 0, size, 1)
        solver = optx.BFGS(rtol=root, atol=root * size)
        now = network.with_points(points)
        slope = energy.derivatives(now).gradient.rows(0)
        far = step**2 * (masses[:, None] * slope**2).sum()

        def objective(x: Array, args: None) -> Array:
            apart = squared(x, points, masses, blur * jnp.maximum(far, root * size**2))
            return energy(network.with_points(x)) + apart / (2 * step)

        found = optx.minimise(objective, solver, points, max_steps=max_steps, throw=False)
        good = found.result == optx.RESULTS.successful
        return found.value, (energy(network.with_points(found.value)), found.value, good)

    start = network.points(0)
    final, (energies, places, good) = jax.lax.scan(one, start, jnp.arange(steps))
    return Trajectory(
        times=step * jnp.arange(steps + 1, dtype=step.dtype),
        energies=jnp.concatenate([energy(network)[None], energies]),
        observed=jnp.concatenate([start[None], places]),
        final=network.with_points(final),
        error=None,
        result=RESULTS.where(good.all(), RESULTS.successful, RESULTS.max_steps_reached),  # pyright: ignore[reportArgumentType]
        stats={"steps": jnp.asarray(steps)},
    )
