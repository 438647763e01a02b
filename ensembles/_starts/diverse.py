"""Correlated weights: starts whose neurons are diverse in both directions."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import scipy
from jaxtyping import Array, ArrayLike, Float

from .._checks import concrete, count, number
from .._contractions import dot, matmul
from .._ensemble import NeuronalEnsemble
from .._layers.layer import Layer
from .._spaces.gaussian import Gaussian
from .._spaces.space import Space
from .labels import Labels, Part
from .laws import checked_depth, checked_law, first_law


def diverse(
    *,
    dim: int,
    depth: int,
    modes: int,
    first: Space | None = None,
    last: Space | None = None,
    scale: ArrayLike = 1.0,
    correlation: ArrayLike = 0.7,
    layers: Layer | Sequence[Layer],
) -> NeuronalEnsemble:
    """Correlated weights whose neurons are bidirectionally diverse in as many modes as asked for.

    Neurons of the middle layers have labels (h, ξ), standard Gaussian in R^modes each, and

        w(c, c') = scale Σ_k g_k(c) h_k(c') / k,   g = ρ h + (1 − ρ²)^½ ξ,   k = 1, …, modes.

    What comes in to a neuron, w(·, c'), has coefficients h_k(c') / k on the functions g_k, what
    goes out of it, w(c, ·), g_k(c) / k on the functions h_k: jointly Gaussian, with full support in
    these 2·modes directions (the bidirectional diversity of Nguyen & Pham, arXiv:2001.11443, in
    finitely many modes; the theorem asks for all of L²). Labels of the first hidden layer are
    (w_1, ξ), with h_k = √2 sin(ω_k · w_1) at fixed frequencies ω_k, of the last (h, w_L).

    The `correlation` ρ lets the modes pass from layer to layer: E[g_k σ(Σ_j a_j h_j)] would
    vanish for ρ = 0, the modes would never be excited, and the limit would be that of i.i.d.
    weights with the same means, for all times.

    Arguments: `first` the distribution of w_1 on R^dim (or of its entries), `last` that of w_L on
    R^outputs; standard Gaussians by default (one output). Raises `ValueError` for depth < 2,
    distributions of other dimensions, and a correlation outside [0, 1): at 1 both sides of a neuron
    were the same.
    """
    dim, depth, modes = count("dim", dim), checked_depth(depth), count("modes", modes)
    first = first_law(Gaussian(dim) if first is None else first, dim)
    last = checked_law("last", Gaussian(1) if last is None else last)
    mixing = number("correlation", correlation, "write correlation=0.7", first.dtype)
    rho = concrete(mixing)
    if rho is not None and not 0 <= rho < 1:
        raise ValueError(f"correlation must be at least 0 and below 1, got {correlation}")
    alpha = number("scale", scale, "write scale=1.0", first.dtype) / jnp.arange(
        1, modes + 1, dtype=first.dtype
    )
    normal = Gaussian(modes)
    ends = [dict(w_1=first), *[dict(h=normal)] * (depth - 2)]
    others = [*[dict(noise=normal)] * (depth - 2), dict(w_L=last)]
    labels = [Labels({**a, **b}, first.dtype) for a, b in zip(ends, others, strict=True)]
    waves = _Waves(labels[0].part("w_1"), jnp.asarray(_frequencies(dim, modes), first.dtype))
    incoming = [waves, *(label.part("h") for label in labels[1:])]
    between = [
        _Modes(alpha, mixing, incoming[i], labels[i].part("noise"), incoming[i + 1])
        for i in range(depth - 2)
    ]
    weights = [labels[0].part("w_1"), *between, labels[-1].part("w_L")]
    return NeuronalEnsemble([p.space for p in labels], weights, layers=layers)


def _frequencies(dim: int, modes: int) -> np.ndarray:
    """Gaussian frequencies (modes, dim) from Halton points, in the half-space of positive first
    coordinates: sin(−ω · w) would be sin(ω · w) over again."""
    points = scipy.stats.qmc.Halton(dim, scramble=False).random(modes + 1)[1:]
    points[:, 0] = (1 + points[:, 0]) / 2
    return scipy.special.ndtri(points)


class _Waves(eqx.Module):
    """√2 sin(ω_k · w)."""

    weight: Part
    frequencies: Float[Array, "modes dim"]

    def __call__(self, c: Float[Array, " dim"]) -> Float[Array, " modes"]:
        angles = matmul(self.frequencies, self.weight(c))
        return math.sqrt(2) * jnp.sin(angles)


class _Modes(eqx.Module):
    """Σ_k α_k g_k(c) h_k(c'), g = ρ h + (1 − ρ²)^½ ξ."""

    alpha: Float[Array, " modes"]
    rho: Float[Array, ""]
    h: _Waves | Part
    noise: Part
    h_next: Part

    def __call__(self, c: Float[Array, " dim"], e: Float[Array, " dim_out"]) -> Float[Array, ""]:
        g = self.rho * self.h(c) + jnp.sqrt(1 - self.rho**2) * self.noise(c)
        return dot(self.alpha * g, self.h_next(e))
