"""Flows against exactly solvable ensembles."""

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest
from models import largest, regression, smooth
from scipy.integrate import solve_ivp

from ensembles import Affine, Gaussian, NeuronalEnsemble, Uniform
from limits import Adaptive, Data, GradientFlow, Risk, flow


def identity(h):
    return h


def solve(rhs, start, times):
    run = solve_ivp(
        rhs, (0, times[-1]), start, method="DOP853", t_eval=times, rtol=1e-12, atol=1e-13
    )
    assert run.success
    return run.y.T


def test_two_layer_linear_ensemble_follows_its_moment_equations():
    """ŷ = E[w_2 w_1 · x] with squared loss: the moments A = E w_1 w_1ᵀ, u = E w_2 w_1, s = E w_2²
    are closed, with g = E_x[(ŷ − y) x]:  A' = −(g uᵀ + u gᵀ), u' = −(A + s) g, s' = −2 u · g."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 3))
    y = x @ np.array([[1.0], [-0.5], [0.3]]) + 0.1 * rng.standard_normal((20, 1))
    mix = rng.standard_normal((3, 2))
    ensemble = NeuronalEnsemble(
        [Gaussian(2)],
        [lambda c: jnp.asarray(mix) @ c + 0.2, lambda c: c[:1] * c[1:] + 0.5 * c[:1] + 0.1],
        layers=Affine(identity),
    )
    # moments of C ~ N(0, I): w_1 = mix c + 0.2, w_2 = c_0 c_1 + c_0 / 2 + 0.1
    A = mix @ mix.T + 0.04
    u = 0.5 * mix[:, 0] + 0.02
    s = 1 + 0.25 + 0.01

    def rhs(t, z):
        A, u, s = z[:9].reshape(3, 3), z[9:12], z[12]
        g = x.T @ (x @ u - y[:, 0]) / 20
        du = -(A + s * np.eye(3)) @ g
        return np.concatenate([-(np.outer(g, u) + np.outer(u, g)).ravel(), du, [-2 * u @ g]])

    times = np.linspace(0, 4, 9)
    moments = solve(rhs, np.concatenate([A.ravel(), u, [s]]), times)
    network = ensemble.discretise(36)
    run = flow(
        network,
        Risk(Data(x, y)),
        t1=4.0,
        times=times,
        solver=Adaptive(rtol=1e-11, atol=1e-12),
        observe=lambda n: n(jnp.asarray(x)),
    )
    predictions = moments[:, 9:12] @ x.T
    np.testing.assert_allclose(run.observed[:, :, 0], predictions, atol=1e-8, rtol=0)
    energies = ((predictions - y.T) ** 2).mean(1) / 2
    np.testing.assert_allclose(run.energies, energies, atol=1e-8, rtol=0)


@pytest.mark.parametrize("depth", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_deep_linear_ensemble_stays_in_a_finite_dimensional_space(depth):
    """With w_1 = f_1(c)ᵀ W_1, w_i = f_{i-1}(c)ᵀ W_i f_i(c'), w_L = f_{L-1}(c)ᵀ W_L for fixed
    functions f_i and Gram matrices G_i = E f_i f_iᵀ, the mean-field ODE keeps this form:
    W_i' = −(W_1 G_1 … W_{i-1})ᵀ g (W_{i+1} … G_{L-1} W_L)ᵀ,  g = E_x[x (ŷ − y)ᵀ]."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((15, 2))
    y = np.stack([x[:, 0] - x[:, 1], 0.5 * x[:, 1]], axis=1)
    powers = [3, 2, 3][: depth - 1]
    gram = [
        np.array([[0.0 if (i + j) % 2 else 1 / (i + j + 1) for j in range(k)] for i in range(k)])
        for k in powers
    ]
    sizes = [2, *powers, 2]
    start = [rng.standard_normal((a, b)) for a, b in pairwise(sizes)]

    def monomials(c, k):
        return jnp.stack([c[0] ** j for j in range(k)])

    def first(c):
        return jnp.asarray(start[0]) @ monomials(c, powers[0])

    def hidden(i):
        return lambda c, e: (
            monomials(c, powers[i - 1]) @ jnp.asarray(start[i]) @ monomials(e, powers[i])
        )

    def last(c):
        return monomials(c, powers[-1]) @ jnp.asarray(start[-1])

    ensemble = NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * (depth - 1),
        [first, *(hidden(i) for i in range(1, depth - 1)), last],
        layers=Affine(identity),
    )

    def chain(matrices, grams):
        out = matrices[0]
        for g, m in zip(grams, matrices[1:], strict=True):
            out = out @ g @ m
        return out

    shapes = [w.shape for w in start]
    cuts = np.cumsum([w.size for w in start])[:-1]

    def rhs(t, z):
        W = [part.reshape(s) for part, s in zip(np.split(z, cuts), shapes, strict=True)]
        g = x.T @ (x @ chain(W, gram) - y) / 15
        return np.concatenate(
            [
                -(
                    (np.eye(2) if i == 0 else chain(W[:i], gram[: i - 1])).T
                    @ g
                    @ (np.eye(2) if i == depth - 1 else chain(W[i + 1 :], gram[i + 1 :])).T
                ).ravel()
                for i in range(depth)
            ]
        )

    times = np.linspace(0, 3, 7)
    exact = solve(rhs, np.concatenate([w.ravel() for w in start]), times)
    predictions = np.stack(
        [
            x @ chain([p.reshape(s) for p, s in zip(np.split(z, cuts), shapes, strict=True)], gram)
            for z in exact
        ]
    )
    run = flow(
        ensemble.discretise(4),
        Risk(Data(x, y)),
        t1=3.0,
        times=times,
        solver=Adaptive(rtol=1e-11, atol=1e-12),
        observe=lambda n: n(jnp.asarray(x)),
    )
    np.testing.assert_allclose(run.observed, predictions, atol=1e-8, rtol=0)


def test_constant_weights_are_the_one_neuron_network():
    ensemble = NeuronalEnsemble(
        [Uniform(-1.0, 1.0), Gaussian(1)],
        [
            lambda c: jnp.array([0.7, -0.2]),
            lambda c, e: jnp.asarray(1.3),
            lambda c: jnp.array([2.0]),
        ],
        layers=Affine(jnp.tanh),
    )
    risk = Risk(regression())
    many = flow(ensemble.discretise(12), risk, t1=2.0, solver=Adaptive(step=0.05))
    one = flow(ensemble.discretise(1), risk, t1=2.0, solver=Adaptive(step=0.05))
    assert largest(many.energies, one.energies) < 1e-14
    assert largest(many.final.weights[1], jnp.full((12, 12), one.final.weights[1][0, 0])) < 1e-13


def test_learning_rates_scale_time_and_freeze_layers():
    ensemble, risk = smooth(3), Risk(regression())
    network = ensemble.discretise(8)
    fast = flow(network, risk, GradientFlow(2.0), t1=1.0)
    slow = flow(network, risk, t1=2.0)
    assert largest(fast.final.parameters, slow.final.parameters) < 1e-6
    ramp = flow(network, risk, GradientFlow(lambda t: 2 * t), t1=np.sqrt(2.0))
    assert largest(ramp.final.parameters, slow.final.parameters) < 1e-6
    frozen = flow(network, risk, GradientFlow([1.0, 0.0, lambda t: 1.0 + t]), t1=1.0)
    assert largest(frozen.final.increment.weights[1], jnp.zeros((8, 8))) == 0
    assert float(jnp.abs(frozen.final.increment.weights[2]).max()) > 1e-3
