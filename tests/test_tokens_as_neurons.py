"""Tokens as neurons: self-attention of n tokens on the sphere, against one equation.

Source: Geshkovski, Letrouit, Polyanskiy & Rigollet, *A mathematical perspective on transformers*
(arXiv:2312.10794). Tokens x_i on the unit sphere, with queries, keys and values the identity, obey

    ẋ_i = P_i Σ_j e^{β⟨x_i, x_j⟩} x_j / Z_i,    P_i u = u − ⟨x_i, u⟩ x_i,

with Z_i = n (unnormalised), or Z_i = Σ_j e^{β⟨x_i, x_j⟩} (softmax). If ⟨x_i, x_j⟩ = γ for all i ≠ j
it stays so: P_i x_l = x_l − γ x_i gives ⟨x_j, ẋ_i⟩ = e^{βγ}(1 − γ)(1 + (n−1)γ)/Z, and so

    γ̇ = 2 e^{βγ}(1 − γ)((n−1)γ + 1)/Z,    Z = n or e^β + (n−1)e^{βγ}.

At β = 0 from γ = 0 it is γ = (e^{2t} − 1)/(e^{2t} + n − 1).

Unnormalised it is the gradient flow of E = −(1/2β) ∬ e^{β⟨x, y⟩} dμ dμ on the sphere. With softmax
it is the limit in depth of a residual network whose blocks all have the one head, and see and keep
the stream on the sphere. A stream that is only seen normalised, as transformers do, grows:
h_i = r x_i with ṙ = (e^β + (n−1) γ e^{βγ})/Z and γ̇ as above over r.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from ensembles import Atoms, Measure, Network, Sphere, residual
from ensembles.blocks import Normalised, attention
from limits import Adaptive, Interaction, flow

N, END = 4, 2.0
TIMES = jnp.linspace(0, END, 9)
ONES = 1 - np.eye(N)


def rate(gamma, beta, softmax):
    e = np.exp(beta * gamma)
    z = np.exp(beta) + (N - 1) * e if softmax else N
    return 2 * e * (1 - gamma) * ((N - 1) * gamma + 1) / z


def solved(velocity, start):
    options = dict(method="DOP853", rtol=1e-13, atol=1e-14)
    return solve_ivp(
        lambda t, y: velocity(*y), (0, END), start, t_eval=np.asarray(TIMES), **options
    ).y


def inner_products(network):
    x = network.points(0)
    return x @ x.T


def energy(beta):
    """Of the unnormalised flow: K = −(e^{β⟨x, y⟩} − 1)/β, which is −⟨x, y⟩ at β = 0."""

    def pull(x, y):
        return -jnp.expm1(beta * (x @ y)) / beta if beta else -(x @ y)

    return Interaction(lambda x: 0 * x[0], pull, space=Sphere(N))


@pytest.mark.slow
def test_unnormalised_attention_is_a_flow_of_particles():
    """To nine digits, all pairs; at β = 0 by the closed form. Another β is the control."""
    tokens = Network.particles(Measure(jnp.eye(N), jnp.full(N, 1 / N)))
    tight = Adaptive(rtol=1e-11, atol=1e-12)
    print()
    for beta in (0.0, 1.0, 3.0):
        run = flow(tokens, energy(beta), t1=END, times=TIMES, observe=inner_products, solver=tight)
        (gamma,) = solved(lambda g, b=beta: [rate(g, b, False)], [0.0])
        (other,) = solved(lambda g, b=beta: [rate(g, b + 0.1, False)], [0.0])
        found = np.asarray(run.observed)
        apart, control = (np.abs((found - g[:, None, None]) * ONES).max() for g in (gamma, other))
        print(f"  β = {beta:.0f}: γ(2) = {gamma[-1]:.10f}, off by {apart:.1e}; from β + 0.1 "
              f"{control:.1e}")  # fmt: skip
        assert apart < 1e-9 and control > 1e-3
        if not beta:
            t = np.asarray(TIMES)
            closed = np.expm1(2 * t) / (np.exp(2 * t) + N - 1)
            assert np.abs(closed - gamma).max() < 1e-11


def on_sphere(h):
    return h / jnp.linalg.norm(h, axis=-1, keepdims=True)


def along_sphere(theta, h):
    """A head that adds along the sphere to a stream that it sees on the sphere."""
    x = on_sphere(h)
    added = attention(theta, x)
    return added - (added * x).sum(-1, keepdims=True) * x


def head(beta):
    """(Q, K, V, O): the identity, with scores β⟨x, y⟩ (√r taken back) and depth 1 at time END."""
    scales = jnp.array([beta * N**0.5, 1, 1, END])
    return scales[:, None, None] * jnp.eye(N)[None]


def shaped(s, c):
    return c.reshape(4, N, N)


def seen(h):
    """γ of all pairs, and |h|, of which tokens have one each."""
    x = on_sphere(h)
    pairs = (x @ x.T)[jnp.triu_indices(N, 1)]
    return jnp.concatenate([pairs, jnp.linalg.norm(h, axis=-1)])


@eqx.filter_jit
def outputs(network):
    return network(jnp.eye(N)[None])[0]


def along(g, beta):
    return [rate(g, beta, True)]


def grown(g, r, beta):
    e = np.exp(beta * g)
    z = np.exp(beta) + (N - 1) * e
    return [rate(g, beta, True) / r, (np.exp(beta) + (N - 1) * g * e) / z]


KINDS = {  # the unit, the velocity of (γ) or (γ, r), and its start
    "kept on the sphere": (along_sphere, along, [0.0]),
    "seen on the sphere": (Normalised(attention, on_sphere), grown, [0.0, 1.0]),
}
BETAS, DEPTHS = (0.0, 1.0, 3.0), (128, 256)
PAIRS = N * (N - 1) // 2


def off(found, wanted):
    """Of γ, and of |h| where it is not 1."""
    apart = [np.abs(found[:PAIRS] - wanted[0]).max()]
    return max(apart + [np.abs(found[PAIRS:] - r).max() for r in wanted[1:]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_softmax_attention_is_the_limit_in_depth_of_blocks_with_one_head(kind):
    """Off by 1/L, and by L⁻² with the midpoint rule, at its depth 256 to five digits; all pairs.
    Orders are those from depth 128 to 256 (the midpoint rule is at 2.051 from 64 to 128 on the
    sphere at β = 1, where its first coefficient is small). Another β is the control."""
    sigma, velocity, start = KINDS[kind]
    print(f"\n  {kind}")
    behind = {}
    for depth, midpoint in itertools.product(DEPTHS, (False, True)):
        networks = residual(sigma, Atoms(jnp.zeros((1, 4 * N * N))), shaped, readout=seen)
        network = networks.of_depth(depth, midpoint=midpoint).discretise(1)
        for beta in BETAS:
            headed = jax.tree.map(lambda a, b=beta: 0 * a + head(b)[None], network.start)
            there = eqx.tree_at(lambda n: n.start, network, headed)
            behind[depth, midpoint, beta] = np.asarray(outputs(there))
    for beta in BETAS:
        exact, other = (
            solved(lambda *y, b=b: velocity(*y, b), start)[:, -1] for b in (beta, beta + 0.1)
        )
        for midpoint, order in ((False, 1), (True, 2)):
            errors = [off(behind[depth, midpoint, beta], exact) for depth in DEPTHS]
            found = np.log2(errors[0] / errors[1])
            print(f"  β = {beta:.0f}: γ, r = {exact.round(6)}, at depths {DEPTHS} off by "
                  f"{errors[0]:.2e}, {errors[1]:.2e}: order {found:.3f}")  # fmt: skip
            assert abs(found - order) < 0.05
        control = off(behind[DEPTHS[-1], True, beta], other)
        print(f"  from β + 0.1: {control:.1e}")
        assert errors[-1] < 1e-5 and control > 1e-3
