"""Pair potentials K(θ, θ') = E[φ_θ(x) φ_θ'(x)] in closed form.

A kernel takes two particles (dim,) and gives a scalar in their dtype; `Interaction` sums it.
"""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ensembles.internal import dot, positive

from .special import arc_cosine, log_sphere, two_erfs


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
        across = w - wv / jnp.where(vv > 0, vv, 1.0) * v  # nearly parallel weights cancel here
        rest = 1 + ww + vv + vv * dot(across, across)
        angle = jnp.arctan2(wv, jnp.sqrt(rest))
        if not self.bias:
            return 2 / math.pi * angle
        return two_erfs(theta[-1] / jnp.sqrt(1 + ww), other[-1] / jnp.sqrt(1 + vv), angle)


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
        value = arc_cosine(self.power, dot(apart, apart) / 4, dot(along, along) / 4)
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
        kappa, d, both = self.kappa.astype(theta.dtype), theta.shape[0], theta + other
        apart = kappa * (dot(theta, theta) + dot(other, other)) / 2
        if self.radius is None:
            wide = 1 + 2 * kappa
            return jnp.exp(kappa**2 * dot(both, both) / (2 * wide) - apart - d * jnp.log(wide) / 2)
        r = self.radius.astype(theta.dtype)
        return jnp.exp(log_sphere(d, (kappa * r) ** 2 * dot(both, both)) - kappa * r**2 - apart)


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
