"""Problems whose symmetry leaves particles of few coordinates: potentials in closed form.

A network of units σ(⟨w, x⟩), w in R^d, whose data and initial measure are invariant under rotations
stays so, and is a measure on few coordinates of w, |w| say. The particles of the reduced one follow
−∇Ψ in these coordinates: no Jacobian appears, as the norm of a gradient is that of the derivative
in |w| (Mei, Montanari & Nguyen, arXiv:1804.06561; their risk is twice the energy here,
their time half of that here). K is averaged over the relative rotation of two particles.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.scipy.special import ndtr
from jaxtyping import Array, ArrayLike, Float

from ensembles.internal import concrete, count, dot, is_number, shown

from .._energies.interaction import Interaction

_KINKS, _LEVELS = (0.5, 1.5), (-2.5, 7.5)  # of the unit that is linear between two constants
_DEGREES = 512  # even Hermite degrees at most
_TAIL = 1e-10


def single_neuron(dim: int | None = None, *, nodes: int = 32) -> Interaction:
    """The risk of learning y = erf(⟨w*, x⟩/√2), |w*| = 1, x ~ N(0, I_d) with a·erf(⟨w, x⟩/√2).

    Particles are (a, s, r), with s = ⟨w, w*⟩ and r the norm of the rest of w, whose direction is
    uniform. With A = (1 + s² + r²)^½ and t the cosine of two such directions, of density
    ∝ (1 − t²)^((d−4)/2),

        F = (2a/π) asin(s / √2 A),   K = (2aa'/π) E asin((ss' + rr't) / AA'),   C = 1/6,

    by a Gauss rule of `nodes` in t; `dim=None` is d → ∞, where t = 0. Ψ is even in r: particles
    with r ≥ 0 keep it, and those at r = 0 stay there. The risk is 0 at δ(1, 1, 0). Source: the
    single-index problem of Mei, Montanari & Nguyen (arXiv:1804.06561). Raises `ValueError` for a
    `dim` that is neither None nor an int of at least 2.
    """
    t, p = _cosines(_dimension(dim), count("nodes", nodes))
    dtype = jnp.result_type(float)
    return Interaction(
        _neuron_force, _NeuronPairs(jnp.asarray(t, dtype), jnp.asarray(p, dtype)), 1 / 6
    )


def _neuron_force(theta: Array) -> Array:
    a, s, r = theta
    return 2 / jnp.pi * a * jnp.arcsin(s / jnp.sqrt(2 * (1 + s**2 + r**2)))


class _NeuronPairs(eqx.Module):
    cosines: Float[Array, " k"]
    masses: Float[Array, " k"]

    def __call__(self, theta: Array, other: Array) -> Array:
        (a, s, r), (b, u, v) = theta, other
        norm = jnp.sqrt((1 + s**2 + r**2) * (1 + u**2 + v**2))
        angles = jnp.arcsin((s * u + r * v * self.cosines) / norm)
        return 2 / jnp.pi * a * b * dot(self.masses, angles)


def _cosines(d: int | None, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss rule of the cosine of two directions in R^(d−1), by its tridiagonal matrix, which
    is exact for any d; nodes of no mass left out."""
    if d is None:
        return np.zeros(1), np.ones(1)
    k = np.arange(2, max(nodes, 2))
    squares = k * (k + d - 4) / ((2 * k + d - 3) * (2 * k + d - 5))
    off = np.sqrt(np.concatenate([[1 / (d - 1)], squares]))
    t, vectors = scipy.linalg.eigh_tridiagonal(np.zeros(len(off) + 1), off)
    p = vectors[0] ** 2
    kept = p > 1e-17
    return t[kept], p[kept] / p[kept].sum()


class IsotropicGaussians(eqx.Module):
    """The risk of telling N(0, (1 + Δ)² I_d), y = 1, from N(0, (1 − Δ)² I_d), y = −1.

    Units are σ(⟨w, x⟩), with σ(u) = −2.5 up to u = 0.5, 7.5 from u = 1.5 and linear between; the
    particles are r = |w| (1,). With τ = 1 ± Δ and q(t) = E σ(tG),

        F = ½ (q(τ₊r) − q(τ₋r)),   K = ½ Σ_± E σ(τ r G) σ(τ r' G'),   C = ½,

    where G, G' are standard Gaussian with the correlation of two uniform directions in R^d. In
    Hermite polynomials K is a sum of products c_k(τr) c_k(τr') E t^k of known terms: for
    `dim=None`, d → ∞, the first one, q q'; for d ≥ 6 as many as leave 1e-10 of it; for smaller d
    those up to degree 1022, which leave some 1e-5, 1e-6, 1e-7, 1e-8 for d = 2, 3, 4, 5 and r ≤ 3.
    Ψ is even in r and flat at r = 0: particles there stay.

    Source: Mei, Montanari & Nguyen (arXiv:1804.06561); their risk E(y − ŷ)² is twice the
    energy here. Raises `ValueError` unless 0 < `delta` < 1 and `dim` is None or at least 2.
    """

    delta: Float[Array, ""]
    moments: Float[Array, " k"]  # E t^k for even k, t the cosine of two directions
    dim: int | None = eqx.field(static=True)

    def __init__(self, delta: ArrayLike, dim: int | None = None):
        known = concrete(delta)
        if not is_number(delta) or (known is not None and not 0 < known < 1):
            raise ValueError(f"delta must be between 0 and 1, got {shown(delta)}: write delta=0.4")
        self.dim = _dimension(dim)
        self.delta = jnp.asarray(delta, jnp.result_type(float))
        self.moments = jnp.asarray(_moments(self.dim), self.delta.dtype)

    @property
    def interaction(self) -> Interaction:
        """The energy, of particles r (1,)."""
        return Interaction(_Force(self), _Pairs(self), 0.5)

    def risk_of_point(self, r: ArrayLike) -> Float[Array, ""]:
        """The energy of all mass at `r`."""
        theta = jnp.asarray(r, self.delta.dtype).reshape(1)
        return 0.5 - _Force(self)(theta) + _Pairs(self)(theta, theta) / 2

    @staticmethod
    def q(t: ArrayLike) -> Array:
        """E σ(tG)."""
        return _hinges(jnp.asarray(t, jnp.result_type(float)))

    @staticmethod
    def threshold() -> float:
        """The Δ up to which no measure of r has zero risk as d → ∞, about 0.47.

        There one point is right in both classes: q((1 + Δ)r) = 1 and q((1 − Δ)r) = −1.
        """
        right, wrong = _inverse(1.0), _inverse(-1.0)
        return (right - wrong) / (right + wrong)

    def features(self, r: Array) -> Float[Array, "2 k"]:
        """Those of which K(r, r') is the scalar product."""
        sides = jnp.stack([1 + self.delta, 1 - self.delta]) * jnp.abs(r)
        return jnp.sqrt(self.moments / 2)[None] * jax.vmap(self._coefficients)(sides)

    def _coefficients(self, t: Array) -> Array:
        """E σ(tG) h_k(G) for the normalised Hermite polynomials of even degrees k."""
        first = _hinges(t)[None]
        pairs = len(self.moments) - 1
        if pairs == 0:
            return first
        away = t > 1e-3  # else the kinks are too far out to matter
        scale = jnp.where(away, t, 1.0)
        x = jnp.asarray(_KINKS, t.dtype) / scale
        degrees = 2.0 * jnp.arange(pairs, dtype=t.dtype)  # k − 2

        def step(at: tuple[Array, Array], j: Array) -> tuple[tuple[Array, Array], Array]:
            before, now = at  # φ h_{j-1}, φ h_j
            after = (x * now - jnp.sqrt(j) * before) / jnp.sqrt(j + 1)
            beyond = (x * after - jnp.sqrt(j + 1) * now) / jnp.sqrt(j + 2)
            return (after, beyond), now[0] - now[1]

        density = jnp.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
        _, bends = jax.lax.scan(step, (jnp.zeros_like(x), density), degrees)
        rest = _slope() * scale * bends / jnp.sqrt((degrees + 1) * (degrees + 2))
        return jnp.concatenate([first, jnp.where(away, rest, 0.0)])


class _Force(eqx.Module):
    problem: IsotropicGaussians

    def __call__(self, theta: Array) -> Array:
        r, delta = theta[0], self.problem.delta
        return (_hinges((1 + delta) * r) - _hinges((1 - delta) * r)) / 2


class _Pairs(eqx.Module):
    problem: IsotropicGaussians

    def __call__(self, theta: Array, other: Array) -> Array:
        a, b = (self.problem.features(point[0]).ravel() for point in (theta, other))
        return dot(a, b)


def _hinges(t: Array) -> Array:
    """E σ(tG) = s + c (h₁ − h₂), with h = E(tG − kink)₊."""
    t = jnp.abs(t)
    away = t > 1e-3
    t = jnp.where(away, t, 1.0)

    def h(kink: float) -> Array:
        density = jnp.exp(-((kink / t) ** 2) / 2) / math.sqrt(2 * math.pi)
        return t * density - kink * ndtr(-kink / t)

    return _LEVELS[0] + jnp.where(away, _slope() * (h(_KINKS[0]) - h(_KINKS[1])), 0.0)


def _inverse(level: float) -> float:
    """The t > 0 at which q(t) is `level`."""
    root = scipy.optimize.brentq(
        lambda t: float(_hinges(jnp.asarray(t))) - level, 0.1, 100.0, xtol=1e-13
    )
    return float(root)  # pyright: ignore[reportArgumentType]


def _slope() -> float:
    return (_LEVELS[1] - _LEVELS[0]) / (_KINKS[1] - _KINKS[0])


def _moments(d: int | None) -> np.ndarray:
    """E t^k, k = 0, 2, 4, …, for the cosine of two directions in R^d, as far as K needs them."""
    if d is None:
        return np.ones(1)
    j = np.arange(1, _DEGREES)
    moments = np.cumprod(np.concatenate([np.ones(1), (2 * j - 1) / (d + 2 * j - 2)]))
    weights = moments[1:] / (4 * j**2)
    left = np.cumsum(weights[::-1])[::-1]  # from degree 2j on
    return moments[: 1 + int((left > _TAIL * 1e-2).sum())]


def _dimension(dim: int | None) -> int | None:
    if dim is None or dim == math.inf:
        return None
    if count("dim", dim) < 2:
        raise ValueError(f"dim must be at least 2, or None for d → ∞, got {dim}: write dim=40")
    return int(dim)
