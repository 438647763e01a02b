"""Masses that have grown: p exp(g) / Σ p exp(g), whatever the size of g."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def grown(masses: Float[Array, " n"], growth: Float[Array, " n"]) -> Float[Array, " n"]:
    """p exp(g) / Σ p exp(g)."""
    raw, _ = _terms(masses, growth)
    total = raw.sum()
    return raw / jnp.where(total == 0, 1, total)


def log_total(masses: Float[Array, " n"], growth: Float[Array, " n"]) -> Float[Array, ""]:
    """log Σ p exp(g); 0 where there is no mass."""
    raw, top = _terms(masses, growth)
    total = raw.sum()
    return jnp.where(total == 0, 0, top + jnp.log(jnp.where(total == 0, 1, total)))


def _terms(masses: Float[Array, " n"], growth: Float[Array, " n"]) -> tuple[Array, Array]:
    """p exp(g − top) and top, which counts the largest term as 1. The growth of mass 0 is bounded,
    so that nothing overflows; exp(g) is taken as a square, whose root never does where p > 0."""
    logs = jnp.where(masses > 0, jnp.log(jnp.where(masses > 0, masses, 1)) + growth, -jnp.inf)
    top = jax.lax.stop_gradient(logs.max())
    top = jnp.where(top == -jnp.inf, 0, top)
    bound = 0.99 * math.log(float(jnp.finfo(growth.dtype).max))
    root = jnp.exp(jnp.minimum(growth - top, bound) / 2)
    return masses * root * root, top
