r"""The mean-field limit of deep networks started i.i.d., in plain NumPy: a reference for the tests.

The network has L layers, an activation s on the hidden ones and linear outputs::

    H_1(x, c) = w_1(c).x + b_1(c)
    H_i(x, c') = E_c[w_i(c, c') s(H_{i-1}(x, c))] + b_i(c')          2 <= i <= L
    D_L(x) = q (H_L(x) - y(x))
    D_{i-1}(x, c) = s'(H_{i-1}(x, c)) E_c'[w_i(c, c') D_i(x, c')]    (outputs summed when i = L)
    dw_i/dt(c, c') = - sum_x D_i(x, c') s(H_{i-1}(x, c)),   s(H_0) = x
    db_i/dt(c') = - sum_x D_i(x, c')

which decreases R = sum_x q |H_L(x) - y(x)|^2 / 2 at the rate of its squared velocities under the
masses. All entries start independent. An entry of a middle weight w_i(0), 2 <= i <= L-1, is then
only ever met inside an average over c or over c' of things independent of it, so that its mean m_i
is all that stays of its law, and

    w_i(t; c, c') = w_i(0; c, c') + Delta_i(t; label of c, label of c'),   Delta_i(0) = 0,

where a unit's label is what its layer still draws at random: (w_1(0), b_1(0)) in layer 1, b_i(0) in
the layers 2..L-2, (b_{L-1}(0), w_L(0)) in layer L-1, and (w_1(0), b_1(0), w_2(0)) in the only
hidden layer of L = 2. Every average of w_i is one of m_i + Delta_i over labels, which closes the
system. `constant_biases` writes it for biases without randomness, one structure for each of L = 2,
L = 3 and L >= 4; `random_biases` writes it once, with functions on the labels. The data have
q = 1/n, and laws are given by nodes and masses, for which the systems are exact.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
State = list[Array]
Field = Callable[[State], tuple[State, Array]]  # the velocity of a state, and its outputs (n, k)


def _tanh_slope(h: Array) -> Array:
    return 1 - np.tanh(h) ** 2


def constant_biases(
    depth: int,
    x: ArrayLike,
    y: ArrayLike,
    w1_nodes: ArrayLike,
    w1_masses: ArrayLike,
    means: Sequence[float],
    wl_nodes: ArrayLike,
    wl_masses: ArrayLike,
    biases: Sequence[Any] | None = None,
    activation: Function = np.tanh,
    derivative: Function = _tanh_slope,
    times: ArrayLike = (0.0, 0.5, 1.0),
    rtol: float = 1e-11,
    atol: float = 1e-12,
) -> dict[str, Array]:
    """The limit when no bias is random: each of `biases` a start it is trained from, or None.

    The data are x (n, d) and y (n, k); w_1(0) has the nodes (n1, d) and masses (n1,), w_L(0) the
    nodes (nl, k) and masses (nl,); `means` are m_2..m_{L-1}; `biases` lists b_1..b_L, of which the
    last may be an array (k,). Returns at the T times "loss" (T,), "outputs" (T, n, k) and
    "translations" (T, max(L-4, 0)), the numbers Delta_i, 3 <= i <= L-2.
    """
    x, y, w1, p, wl, r = map(_array, (x, y, w1_nodes, w1_masses, wl_nodes, wl_masses))
    given = [None] * depth if biases is None else list(biases)
    if len(given) != depth or len(means) != depth - 2:
        raise ValueError("a depth L needs L - 2 means, and L biases")
    b = [_array(0.0 if start is None else start) for start in given]
    b[-1] = b[-1] + np.zeros(y.shape[1])
    trained = _array([start is not None for start in given])
    system = _System(x, y, w1, p, list(means), wl, r, b, trained, activation, derivative)
    start, field = {2: _one_hidden, 3: _two_hidden}.get(depth, _deep)(system)
    states, result = _solve(start, field, y, times, rtol, atol)
    if depth > 4:
        result["translations"] = np.array([state[_TRANSLATIONS] for state in states])
    else:
        result["translations"] = np.zeros((len(states), 0))
    return result


class _System(NamedTuple):
    """Data, laws of w_1 and w_L, means, biases, which are trained, the activation and its slope."""

    x: Array
    y: Array
    w1: Array
    p: Array
    means: list[float]
    wl: Array
    r: Array
    b: list[Array]
    trained: Array
    s: Function
    ds: Function


def _one_hidden(system: _System) -> tuple[State, Field]:
    """L = 2: particles (w_1, b_1, w_2) labelled by (w_1(0), w_2(0)), with H_2 = E[w_2 s(H_1)]."""
    x, y, w1, p, _, wl, r, b, trained, s, ds = system
    mass = np.outer(p, r)
    ones = np.ones_like(mass)
    start = [w1[:, None] * ones[..., None], b[0] * ones, wl * ones[..., None], b[1]]

    def field(state: State) -> tuple[State, Array]:
        w, b1, v, b2 = state
        h = w @ x.T + b1[..., None]  # (n1, nl, n)
        out = np.tensordot(s(h), mass[..., None] * v, ((0, 1), (0, 1))) + b2
        err = (out - y) / len(x)
        d1 = ds(h) * (v @ err.T)
        db1, db2 = trained[0] * d1.sum(-1), trained[1] * err.sum(0)
        return [-(d1 @ x), -db1, -(s(h) @ err), -db2], out

    return start, field


def _two_hidden(system: _System) -> tuple[State, Field]:
    """L = 3: layer 1 labelled by u = w_1(0), layer 2 by v = w_3(0), and Delta_2(u, v) in between.

    H_2(x, v) = E_u[(m_2 + Delta_2(u, v)) s(H_1(x, u))] + b_2(v), H_3 = E_v[w_3(v) s(H_2(x, v))].
    """
    x, y, w1, p, means, wl, r, b, trained, s, ds = system
    n1, nl = len(p), len(r)
    start = [w1, b[0] + np.zeros(n1), np.zeros((n1, nl)), b[1] + np.zeros(nl), wl, b[2]]

    def field(state: State) -> tuple[State, Array]:
        w, b1, delta, b2, v, b3 = state
        h1 = w @ x.T + b1[:, None]  # (n1, n)
        h2 = (means[0] + delta).T @ (p[:, None] * s(h1)) + b2[:, None]  # (nl, n)
        out = s(h2).T @ (r[:, None] * v) + b3
        err = (out - y) / len(x)
        d2 = ds(h2) * (v @ err.T)
        d1 = ds(h1) * ((means[0] + delta) @ (r[:, None] * d2))
        db1, db2, db3 = (t * d.sum(1) for t, d in zip(trained, (d1, d2, err.T), strict=True))
        return [-(d1 @ x), -db1, -(s(h1) @ d2.T), -db2, -(s(h2) @ err), -db3], out

    return start, field


_TRANSLATIONS = 4  # where `_deep` keeps Delta_3..Delta_{L-2} in its state


def _deep(system: _System) -> tuple[State, Field]:
    """L >= 4: the layers 2..L-2 are one scalar H_i(x) each. With u = w_1(0) and v = w_L(0)::

    H_2(x) = E_u[(m_2 + alpha(u)) s(H_1(x, u))] + b_2
    H_i(x) = (m_i + Delta_i) s(H_{i-1}(x)) + b_i                            3 <= i <= L-2
    H_{L-1}(x, v) = (m_{L-1} + beta(v)) s(H_{L-2}(x)) + b_{L-1}(v)
    H_L(x) = E_v[w_L(v) s(H_{L-1}(x, v))] + b_L
    D_{L-2}(x) = s'(H_{L-2}(x)) E_v[(m_{L-1} + beta(v)) D_{L-1}(x, v)]
    D_{i-1}(x) = s'(H_{i-1}(x)) (m_i + Delta_i) D_i(x)                      3 <= i <= L-2
    D_1(x, u) = s'(H_1(x, u)) (m_2 + alpha(u)) D_2(x)
    dalpha(u) = - sum_x D_2 s(H_1(u)), dDelta_i = - sum_x D_i s(H_{i-1}),
    dbeta(v) = - sum_x D_{L-1}(v) s(H_{L-2})
    """
    x, y, w1, p, means, wl, r, b, trained, s, ds = system
    n1, nl, middle = len(p), len(r), len(b) - 3
    m2, *between, m_last = means
    start = [w1, b[0] + np.zeros(n1), np.zeros(n1), np.array(b[1:-2]), np.zeros(middle - 1)]
    start += [np.zeros(nl), b[-2] + np.zeros(nl), wl, b[-1]]

    def field(state: State) -> tuple[State, Array]:
        w, b1, alpha, c, delta, beta, b_last, v, b_out = state
        first = w @ x.T + b1[:, None]  # H_1, (n1, n)
        h = [(p * (m2 + alpha)) @ s(first) + c[0]]  # H_2, H_3..H_{L-2}, each (n,)
        for mean, shift, bias in zip(between, delta, c[1:], strict=True):
            h.append((mean + shift) * s(h[-1]) + bias)
        last = np.outer(m_last + beta, s(h[-1])) + b_last[:, None]  # H_{L-1}, (nl, n)
        out = s(last).T @ (r[:, None] * v) + b_out
        err = (out - y) / len(x)
        d_last = ds(last) * (v @ err.T)
        d = [ds(h[-1]) * ((r * (m_last + beta)) @ d_last)]  # D_{L-2}, then down to D_2
        for mean, shift, below in zip(between[::-1], delta[::-1], h[-2::-1], strict=True):
            d.insert(0, ds(below) * (mean + shift) * d[0])
        d_first = ds(first) * np.outer(m2 + alpha, d[0])
        velocity = [
            d_first @ x,
            trained[0] * d_first.sum(1),
            s(first) @ d[0],
            trained[1:-2] * np.sum(d, 1),
            np.array([top @ s(below) for top, below in zip(d[1:], h[:-1], strict=True)]),
            d_last @ s(h[-1]),
            trained[-2] * d_last.sum(1),
            s(last) @ err,
            trained[-1] * err.sum(0),
        ]
        return [-part for part in velocity], out

    return start, field


def random_biases(
    depth: int,
    x: ArrayLike,
    y: ArrayLike,
    w1_nodes: ArrayLike,
    w1_masses: ArrayLike,
    means: Sequence[float],
    wl_nodes: ArrayLike,
    wl_masses: ArrayLike,
    bias_nodes: Sequence[tuple[ArrayLike, ArrayLike]],
    times: ArrayLike = (0.0, 0.5, 1.0),
    activation: Function = np.tanh,
    derivative: Function = _tanh_slope,
    rtol: float = 1e-11,
    atol: float = 1e-12,
) -> dict[str, Array]:
    """The limit when b_1..b_{L-1} start random, with `bias_nodes` the (nodes, masses) of each law.

    There is no b_L; the rest is as in `constant_biases`, and so are "loss" and "outputs". Layer i
    carries its label set c_i with the product masses, and each increment is an array over two::

        H_i(x, c') = sum_c mass(c) (m_i + Delta_i(c, c')) s(H_{i-1}(x, c)) + b_i(c')   2 <= i < L
        H_L(x) = sum_c mass(c) w_L(c) s(H_{L-1}(x, c))
    """
    x, y, w1, p, wl, r = map(_array, (x, y, w1_nodes, w1_masses, wl_nodes, wl_masses))
    if len(bias_nodes) != depth - 1 or len(means) != depth - 2:
        raise ValueError("a depth L needs L - 2 means, and L - 1 laws of biases")
    laws = [[(_array(nodes), _array(masses))] for nodes, masses in bias_nodes]
    laws[0].append((w1, p))
    laws[-1].append((wl, r))
    labels, masses = zip(*(_product(law) for law in laws), strict=True)
    start = [labels[0][1], labels[-1][-1]]
    start += [label[0] for label in labels]
    start += [np.zeros((len(a), len(b))) for a, b in pairwise(masses)]

    def field(state: State) -> tuple[State, Array]:
        w, v, b, delta = state[0], state[1], state[2 : depth + 1], state[depth + 1 :]
        weights = [mean + shift for mean, shift in zip(means, delta, strict=True)]
        h = [w @ x.T + b[0][:, None]]  # each (labels, n)
        for weight, mass, bias in zip(weights, masses, b[1:], strict=False):
            h.append(weight.T @ (mass[:, None] * activation(h[-1])) + bias[:, None])
        out = activation(h[-1]).T @ (masses[-1][:, None] * v)
        err = (out - y) / len(x)
        d = [derivative(h[-1]) * (v @ err.T)]
        for i in reversed(range(depth - 2)):
            d.insert(0, derivative(h[i]) * (weights[i] @ (masses[i + 1][:, None] * d[0])))
        velocity = [d[0] @ x, activation(h[-1]) @ err]
        velocity += [part.sum(1) for part in d]
        velocity += [activation(a) @ top.T for a, top in zip(h, d[1:], strict=False)]
        return [-part for part in velocity], out

    return _solve(start, field, y, times, rtol, atol)[1]


def _array(values: Any) -> Array:
    return np.asarray(values, dtype=np.float64)


def _product(laws: Sequence[tuple[Array, Array]]) -> tuple[list[Array], Array]:
    """The product of laws (nodes, masses), flat: the nodes of each factor, and the masses."""
    index = np.indices([len(masses) for _, masses in laws]).reshape(len(laws), -1)
    nodes = [factor[i] for (factor, _), i in zip(laws, index, strict=True)]
    masses = [factor[i] for (_, factor), i in zip(laws, index, strict=True)]
    return nodes, np.prod(masses, axis=0)


def _solve(
    start: State, field: Field, y: Array, times: ArrayLike, rtol: float, atol: float
) -> tuple[list[State], dict[str, Array]]:
    """The states at the times, from `start` at time 0, and their losses and outputs."""
    shapes = [part.shape for part in start]
    cuts = np.cumsum([part.size for part in start])[:-1]

    def flat(state: State) -> Array:
        return np.concatenate([part.ravel() for part in state])

    def unpack(vector: Array) -> State:
        pieces = np.split(vector, cuts)
        return [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]

    def rate(_: float, vector: Array) -> Array:
        return flat(field(unpack(vector))[0])

    vector, now, states = flat(start), 0.0, []
    for time in np.atleast_1d(_array(times)):  # stops at each time, where nothing is interpolated
        if time > now:
            solution = solve_ivp(rate, (now, time), vector, method="DOP853", rtol=rtol, atol=atol)
            if not solution.success:
                raise RuntimeError(solution.message)
            vector, now = solution.y[:, -1], time
        elif time < now:
            raise ValueError("the times must be increasing and not negative")
        states.append(unpack(vector))
    outputs = np.array([field(state)[1] for state in states])
    if outputs.shape[1:] != y.shape:
        raise ValueError("y must be (n, k), with the k of the nodes of w_L")
    loss = ((outputs - y) ** 2).sum(-1).mean(-1) / 2
    return states, {"loss": loss, "outputs": outputs}
