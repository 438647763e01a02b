"""The functions that kernels are made of, with derivatives of all orders in closed form."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy import special


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def arc_cosine(power: int, apart: Array, along: Array) -> Array:
    """J_power(θ) of apart = sin²(θ/2) and along = cos²(θ/2), which are smooth where θ is not."""
    left = math.pi - 2 * jnp.arctan2(jnp.sqrt(apart), jnp.sqrt(along))
    if power == 0:
        return left
    cos, sin = along - apart, 2 * jnp.sqrt(apart * along)
    if power == 1:
        return sin + left * cos
    return 3 * sin * cos + left * (1 + 2 * cos**2)


@arc_cosine.defjvp
def _(power: int, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    """dJ_p/dcos θ = p² J_{p−1}, and 1/sin θ for p = 0: taken as 0 where θ is 0 or π to rounding."""
    apart, along = primals
    if power:
        slope = power**2 * arc_cosine(power - 1, apart, along)
    else:
        square = apart * along
        smooth = square > 16 * jnp.finfo(square.dtype).eps ** 2
        slope = jnp.where(smooth, 1 / (2 * jnp.sqrt(jnp.where(smooth, square, 1.0))), 0.0)
    return arc_cosine(power, apart, along), slope * (tangents[1] - tangents[0])


@jax.custom_jvp
def two_erfs(h: Array, k: Array, angle: Array) -> Array:
    """4 Φ₂(h, k; sin angle) − 2 Φ(h) − 2 Φ(k) + 1.

    It is erf(h/√2) erf(k/√2) + 2/π ∫_0^angle of `_ridge`, which is steep at ±π/2 only: the nodes
    are even in the logarithm of the distance from there.
    """
    nodes, weights = (jnp.asarray(x, h.dtype) for x in _legendre())
    sign = jnp.where(angle < 0, -1.0, 1.0).astype(h.dtype)
    turn = jnp.minimum(jnp.abs(angle) * (2 / math.pi), 1 - jnp.finfo(h.dtype).eps)
    length = -jnp.log1p(-turn)

    def slope(node: Array) -> Array:
        gap = math.pi / 2 * jnp.exp(-length * node)
        return length * gap * _ridge(h, sign * k, jnp.cos(gap), jnp.sin(gap))

    integral = _one_by_one(slope, nodes, weights)
    root = math.sqrt(0.5)
    return jax.lax.erf(root * h) * jax.lax.erf(root * k) + sign * (2 / math.pi) * integral


@two_erfs.defjvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    h, k, angle = primals
    sign = jnp.where(angle < 0, -1.0, 1.0).astype(h.dtype)
    cos = jnp.maximum(jnp.cos(angle), jnp.finfo(h.dtype).eps)
    sin = jnp.sin(angle)
    slopes = (
        _edge(h, k, sin, cos),
        _edge(k, h, sin, cos),
        2 / math.pi * _ridge(h, sign * k, jnp.abs(sin), cos),
    )
    change = sum((s * t for s, t in zip(slopes, tangents, strict=True)), jnp.zeros_like(h))
    return two_erfs(h, k, angle), change


def _ridge(h: Array, k: Array, sin: Array, cos: Array) -> Array:
    """exp(−(h² + k² − 2hk sin)/(2 cos²)) for sin ≥ 0."""
    return jnp.exp(-((h - k) ** 2) / (2 * cos**2) - h * k / (1 + sin))


def _edge(h: Array, k: Array, sin: Array, cos: Array) -> Array:
    """The derivative of `two_erfs` in h."""
    density = math.sqrt(2 / math.pi) * jnp.exp(-(h**2) / 2)
    return density * jax.lax.erf(math.sqrt(0.5) * (k - sin * h) / cos)


def _one_by_one(f: Callable[[Array], Array], nodes: Array, weights: Array) -> Array:
    """Σ weight · f(node), in memory that does not grow with the nodes, for all pairs at once."""

    def add(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        return total + node[1] * f(node[0]), None

    return jax.lax.scan(add, jnp.zeros((), nodes.dtype), (nodes, weights))[0]


@cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """32 Gauss–Legendre nodes on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    return (1 + nodes) / 2, weights / 2


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_sphere(dim: int, square: Array) -> Array:
    """log E exp(⟨u, x⟩) of square = |u|², for x uniform on the unit sphere of R^dim.

    The density of t = ⟨u, x⟩/|u| is (1 − t²)^{(dim − 3)/2}/B. With t = tanh s the integrand has a
    single peak; the trapezoidal rule is set around it, s = peak + width · sinh(node).
    """
    z, m = jnp.sqrt(square), dim - 1
    if m == 0:
        return z + jnp.log1p(jnp.exp(-2 * z)) - math.log(2)
    root = jnp.sqrt(m**2 + 4 * z**2)
    peak = jnp.log((root + m + 2 * z) / (m + m**2 / (root + 2 * z))) / 2
    width = 1 / jnp.sqrt(m * (1 + (2 * z / (m + root)) ** 2))
    nodes = np.linspace(-4.2, 4.2, 80)
    steps = np.cosh(nodes) * (nodes[1] - nodes[0])

    def exponent(s: Array) -> Array:
        """z (tanh s − 1) − m log cosh s."""
        return -2 * z * jax.nn.sigmoid(-2 * s) - m * (jnp.logaddexp(s, -s) - math.log(2))

    top = exponent(peak)
    total = _one_by_one(
        lambda node: jnp.exp(exponent(peak + width * node) - top),
        jnp.asarray(np.sinh(nodes), z.dtype),
        jnp.asarray(steps, z.dtype),
    )
    return z + top + jnp.log(width * total) - float(special.betaln(m / 2, 0.5))


@log_sphere.defjvp
def _(dim: int, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Array, Array]:
    """dE/dsquare is E in dimension dim + 2, over 2 dim."""
    value = log_sphere(dim, primals[0])
    slope = jnp.exp(log_sphere(dim + 2, primals[0]) - value) / (2 * dim)
    return value, slope * tangents[0]
