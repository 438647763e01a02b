"""Pair potentials K(θ, θ') = E[φ_θ(x) φ_θ'(x)] in closed form.

A kernel takes two particles (dim,) and gives a scalar in their dtype; `Interaction` sums it.
"""

import math
from functools import cache, partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy import special

from ensembles._contractions import dot

from .._checks import positive


class ErfKernel(eqx.Module):
    """Units erf(⟨w, x⟩/√2), x ~ N(0, I_d), θ = w of shape (d,):

    K = 2/π · arcsin(⟨w, v⟩ / √((1 + |w|²)(1 + |v|²))).

    With `bias`, units erf((⟨w, x⟩ + b)/√2), θ = (w, b) of shape (d + 1,):

    K = 4 Φ₂(h, k; ρ) − 2 Φ(h) − 2 Φ(k) + 1, with h = b/√(1 + |w|²), k = b'/√(1 + |v|²), ρ the
    argument of the arcsine and Φ₂ the bivariate normal distribution function; its integral over
    the correlation (Plackett 1954; Drezner & Wesolowsky 1990) is taken with 32 nodes. The error is
    1e-13 up to abs(ρ) = 0.999, then 1e-10 at 0.9999 and 5e-8 at 1 − 1e-6; gradients are exact.

    Sources: Williams, Computing with infinite networks (1997); Goldt et al. (arXiv:1906.08632).
    """

    bias: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        if not isinstance(self.bias, bool):
            raise ValueError(
                f"bias must be True or False, got {self.bias!r}: write ErfKernel(bias=True) for "
                "particles (w, b)"
            )

    def __call__(self, theta: Array, other: Array) -> Float[Array, ""]:
        _pair(theta, other, 2 if self.bias else 1)
        w, v = (theta[:-1], other[:-1]) if self.bias else (theta, other)
        ww, vv, wv = dot(w, w), dot(v, v), dot(w, v)
        # arcsin(s/√(AB)) = atan2(s, √(AB − s²)), whose derivative is finite at large weights
        rest = 1 + ww + vv + jnp.maximum(ww * vv - wv**2, 0.0)
        angle = jnp.arctan2(wv, jnp.sqrt(rest))
        if not self.bias:
            return 2 / math.pi * angle
        return _two_erfs(theta[-1] / jnp.sqrt(1 + ww), other[-1] / jnp.sqrt(1 + vv), angle)


class ReLUKernel(eqx.Module):
    """Units max(⟨w, x⟩, 0)^power, of power 0 (the step), 1 or 2; θ = w of shape (d,).

    K = |w|^p |v|^p J_p(∠(w, v)) / 2π for x ~ N(0, I_d), with J_0 = π − θ,
    J_1 = sin θ + (π − θ) cos θ, J_2 = 3 sin θ cos θ + (π − θ)(1 + 2 cos² θ).

    With `radius` r, x is uniform on the sphere of that radius, and K is multiplied by r²/d for
    power 1, r⁴/(d(d + 2)) for power 2. Source: Cho & Saul, Kernel methods for deep learning (2009).

    Gradients are finite everywhere. Where K has a kink (the step at parallel w, v, ReLU at w = 0)
    they are 0, at w = 0 like those of `jax.nn.relu`.
    """

    power: int = eqx.field(static=True)
    radius: Float[Array, ""] | None

    def __init__(self, power: int, radius: ArrayLike | None = None):
        if isinstance(power, bool) or power not in (0, 1, 2):
            raise ValueError(
                f"power must be 0, 1 or 2, got {power!r}: write ReLUKernel(1); for other units "
                "Interaction.from_data(sigma, data)"
            )
        self.power, self.radius = int(power), _radius(radius)

    def __call__(self, theta: Array, other: Array) -> Float[Array, ""]:
        _pair(theta, other)
        alive = (dot(theta, theta) > 0) & (dot(other, other) > 0)
        w, v = (jnp.where(alive, x, 1.0) for x in (theta, other))
        a, b = jnp.sqrt(dot(w, w)), jnp.sqrt(dot(v, v))
        apart, along = w / a - v / b, w / a + v / b
        value = _angular(self.power, dot(apart, apart) / 4, dot(along, along) / 4)
        value = jnp.where(alive, (a * b) ** self.power * value / (2 * math.pi), 0.0)
        if self.radius is None:
            return value
        d, r = theta.shape[0], self.radius.astype(theta.dtype)
        return value * r ** (2 * self.power) / (1, d, d * (d + 2))[self.power]


class CosineKernel(eqx.Module):
    """Units cos(⟨w, x⟩ + b), x ~ N(0, I_d), θ = (w, b) of shape (d + 1,):

    K = (cos(b − b') e^{−|w − v|²/2} + cos(b + b') e^{−|w + v|²/2}) / 2.

    Source: Rahimi & Recht, Random features for large-scale kernel machines (2007).
    """

    def __call__(self, theta: Array, other: Array) -> Float[Array, ""]:
        _pair(theta, other, 2)

        def term(shift: Array) -> Array:
            return jnp.cos(shift[-1]) * jnp.exp(-dot(shift[:-1], shift[:-1]) / 2)

        return (term(theta - other) + term(theta + other)) / 2


class RBFKernel(eqx.Module):
    """Units exp(−κ |x − y|²/2), θ = y of shape (d,). For x ~ N(0, I_d)

    K(y, z) = (1 + 2κ)^{−d/2} exp(−κ(|y|² + |z|²)/2 + κ²|y + z|²/(2(1 + 2κ))).

    With `radius` r, x is uniform on the sphere of that radius, and
    K(y, z) = exp(−κr² − κ(|y|² + |z|²)/2) M(κr|y + z|), with
    M(s) = Γ(d/2) (2/s)^{d/2 − 1} I_{d/2 − 1}(s) from 80 nodes, to a relative 1e-11 for all s and d.
    Source: Rotskoff & Vanden-Eijnden (arXiv:1805.00915), with r = √d.
    """

    kappa: Float[Array, ""]
    radius: Float[Array, ""] | None

    def __init__(self, kappa: ArrayLike, radius: ArrayLike | None = None):
        self.kappa = positive("kappa", kappa, jnp.result_type(float))
        self.radius = _radius(radius)

    def __call__(self, theta: Array, other: Array) -> Float[Array, ""]:
        _pair(theta, other)
        kappa, d, sum = self.kappa.astype(theta.dtype), theta.shape[0], theta + other
        apart = kappa * (dot(theta, theta) + dot(other, other)) / 2
        if self.radius is None:
            wide = 1 + 2 * kappa
            return jnp.exp(kappa**2 * dot(sum, sum) / (2 * wide) - apart - d * jnp.log(wide) / 2)
        r = self.radius.astype(theta.dtype)
        return jnp.exp(_log_sphere(d, (kappa * r) ** 2 * dot(sum, sum)) - kappa * r**2 - apart)


class GaussianOverlap(eqx.Module):
    """Units N(x; y, s² I), of `variance` s², under the Lebesgue measure; θ = y of shape (d,):

    K(y, z) = N(y; z, 2s² I) = (4πs²)^{−d/2} exp(−|y − z|²/(4s²)).

    Source: Rotskoff, Jelassi, Bruna & Vanden-Eijnden (arXiv:1902.01843).
    """

    variance: Float[Array, ""]

    def __init__(self, variance: ArrayLike):
        self.variance = positive("variance", variance, jnp.result_type(float))

    def __call__(self, theta: Array, other: Array) -> Float[Array, ""]:
        _pair(theta, other)
        twice, shift = 2 * self.variance.astype(theta.dtype), theta - other
        norm = theta.shape[0] * jnp.log(2 * math.pi * twice) / 2
        return jnp.exp(-dot(shift, shift) / (2 * twice) - norm)


def _pair(theta: Array, other: Array, least: int = 1) -> None:
    """Raise `ValueError` unless both are points (dim,) of at least `least` coordinates."""
    if theta.ndim != 1 or theta.shape != other.shape or theta.shape[0] < least:
        raise ValueError(
            "theta and other must be two particles of one shape (dim,)"
            + (" with the bias last" if least > 1 else "")
            + f", got shapes {theta.shape} and {other.shape}: write jax.vmap over particles, and "
            "charged(K) for particles (c, θ)"
        )


def _radius(radius: ArrayLike | None) -> Float[Array, ""] | None:
    return None if radius is None else positive("radius", radius, jnp.result_type(float))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _angular(power: int, apart: Array, along: Array) -> Array:
    """J_power(θ) of apart = sin²(θ/2) and along = cos²(θ/2), which are smooth where θ is not."""
    left = math.pi - 2 * jnp.arctan2(jnp.sqrt(apart), jnp.sqrt(along))
    if power == 0:
        return left
    cos, sin = along - apart, 2 * jnp.sqrt(apart * along)
    if power == 1:
        return sin + left * cos
    return 3 * sin * cos + left * (1 + 2 * cos**2)


@_angular.defjvp
def _(power: int, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    """dJ_p/dcos θ = p² J_{p−1}, and 1/sin θ for p = 0: taken as 0 where θ is 0 or π to rounding."""
    apart, along = primals
    if power:
        slope = power**2 * _angular(power - 1, apart, along)
    else:
        square = apart * along
        smooth = square > 16 * jnp.finfo(square.dtype).eps ** 2
        slope = jnp.where(smooth, 1 / (2 * jnp.sqrt(jnp.where(smooth, square, 1.0))), 0.0)
    return _angular(power, apart, along), slope * (tangents[1] - tangents[0])


@jax.custom_jvp
def _two_erfs(h: Array, k: Array, angle: Array) -> Array:
    """4 Φ₂(h, k; sin angle) − 2 Φ(h) − 2 Φ(k) + 1.

    It is erf(h/√2) erf(k/√2) + 2/π ∫_0^angle of `_ridge`, which is steep at ±π/2 only: the nodes
    are even in the logarithm of the distance from there.
    """
    nodes, weights = (jnp.asarray(x, h.dtype) for x in _legendre())
    sign = jnp.where(angle < 0, -1.0, 1.0).astype(h.dtype)
    turn = jnp.minimum(jnp.abs(angle) * (2 / math.pi), 1 - jnp.finfo(h.dtype).eps)
    length = -jnp.log1p(-turn)
    gap = math.pi / 2 * jnp.exp(-length * nodes)
    integral = dot(weights, length * gap * _ridge(h, sign * k, jnp.cos(gap), jnp.sin(gap)))
    root = math.sqrt(0.5)
    return jax.lax.erf(root * h) * jax.lax.erf(root * k) + sign * (2 / math.pi) * integral


@_two_erfs.defjvp
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
    return _two_erfs(h, k, angle), change


def _ridge(h: Array, k: Array, sin: Array, cos: Array) -> Array:
    """exp(−(h² + k² − 2hk sin)/(2 cos²)) for sin ≥ 0."""
    return jnp.exp(-((h - k) ** 2) / (2 * cos**2) - h * k / (1 + sin))


def _edge(h: Array, k: Array, sin: Array, cos: Array) -> Array:
    """The derivative of `_two_erfs` in h."""
    density = math.sqrt(2 / math.pi) * jnp.exp(-(h**2) / 2)
    return density * jax.lax.erf(math.sqrt(0.5) * (k - sin * h) / cos)


@cache
def _legendre() -> tuple[np.ndarray, np.ndarray]:
    """32 Gauss–Legendre nodes on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    return (1 + nodes) / 2, weights / 2


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_sphere(dim: int, square: Array) -> Array:
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
    log_steps = jnp.asarray(np.log(np.cosh(nodes) * (nodes[1] - nodes[0])), z.dtype)
    s = peak + width * jnp.asarray(np.sinh(nodes), z.dtype)
    exponent = -2 * z * jax.nn.sigmoid(-2 * s) - m * (jnp.logaddexp(s, -s) - math.log(2))
    total = jax.nn.logsumexp(exponent + log_steps)
    return z + total + jnp.log(width) - float(special.betaln(m / 2, 0.5))


@_log_sphere.defjvp
def _(dim: int, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Array, Array]:
    """dE/dsquare is E in dimension dim + 2, over 2 dim."""
    value = _log_sphere(dim, primals[0])
    slope = jnp.exp(_log_sphere(dim + 2, primals[0]) - value) / (2 * dim)
    return value, slope * tangents[0]
