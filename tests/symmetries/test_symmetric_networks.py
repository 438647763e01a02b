"""Symmetric ensembles of any depth, networks on sets, and the path norm."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import largest
from swapped import ARBITRARY, EQUIVARIANT, KEY, PLAIN, SETS, SWAP, X, risks, sigma

from ensembles import Affine, Gaussian, Group, NeuronalEnsemble, Symmetry, Uniform, iid, shallow
from ensembles.groups import cyclic, defining, direct_sum, rotations, trivial
from limits import Adaptive, GradientFlow, Langevin, PathNorm, Risk, flow, mean_field_gradient
from limits.symmetries import EquivariantArchitecture

# Deep ensembles


@pytest.mark.parametrize("depth", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_symmetric_ensembles_of_any_depth_stay_so_along_their_limit(depth):
    """The group acts on labels: Q_G f at the start, equivariant to rounding, weights of images are
    images of weights; DA = FA on any data, DA = vanilla on those of an equivariant teacher on
    closed inputs; vanilla on arbitrary data leaves."""

    def first(c):
        return jnp.stack([jnp.sin(2 * c[0]), jnp.cos(c[0]) + c[0]])

    def hidden(c, e):
        return 1 + jnp.sin(c[0] + 2 * e[0]) + c[0] * e[0]

    def last(c):
        return jnp.stack([jnp.cos(3 * c[0]) + c[0], jnp.sin(c[0]) - 0.5])

    line = Uniform(-1.0, 1.0)
    plain = NeuronalEnsemble(
        [line] * (depth - 1), [first, *[hidden] * (depth - 2), last], layers=Affine(jnp.tanh)
    )
    both = SWAP.ensemble(plain)
    network = both.discretise(8)
    assert largest(network(X), SWAP.function(plain.discretise(4))(X)) < 1e-13

    def broken(net):
        return largest(net(X[:, ::-1])[:, ::-1], net(X))

    def end(energy):
        return flow(network, energy, t1=2.0, solver=Adaptive(rtol=1e-9, atol=1e-11)).final

    ends = {n: end(e) for n, e in risks(ARBITRARY).items() if n != "EA"}
    free, same = (end(risks(EQUIVARIANT)[way]) for way in ("vanilla", "DA"))
    assert max(map(broken, (network, ends["DA"], ends["FA"], free))) < 1e-9
    assert largest(ends["DA"].weights, ends["FA"].weights) < 1e-9
    assert largest(free.weights, same.weights) < 1e-9
    assert largest(free(X), network(X)) > 1e-2
    assert broken(ends["vanilla"]) > 1e-2
    g = np.asarray(network.labels[0][:, -1])
    w = np.asarray(free.weights[0])
    assert largest(w[g == 1], w[g == 0][:, ::-1]) < 1e-9  # labels in one order in both


def test_symmetric_ensembles_refuse_what_they_cannot_be_made_of():
    wide = iid(dim=2, depth=3, first=Gaussian(1), hidden=Gaussian(1), last=Gaussian(2),
               layers=Affine(jnp.tanh))  # fmt: skip
    for call, message in (
        (lambda: SWAP.ensemble(shallow(sigma, Gaussian(4))), "ensemble must have Affine layers"),
        (lambda: Symmetry(rotations(2), inputs=defining, outputs=defining).ensemble(wide),
         "group must be finite"),
        (lambda: Risk(ARBITRARY, prediction=EquivariantArchitecture(SWAP)).check(
            wide.sample(3, key=KEY)), "network must have one hidden layer"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


def test_output_biases_are_averaged_in_ensembles_and_refused_where_neurons_are_projected():
    turn = Symmetry(cyclic(2), inputs=defining, outputs=defining,
                    neurons=direct_sum(defining, defining))  # fmt: skip
    with_bias = NeuronalEnsemble(
        [Gaussian(2)], [lambda c: c, lambda c: c], [None, jnp.array([1.0, 0.0])],
        layers=Affine(jnp.tanh),
    )  # fmt: skip
    network = with_bias.discretise(16)
    assert largest(turn.ensemble(with_bias).discretise(32)(X), turn.function(network)(X)) < 1e-14
    noisy = iid(dim=2, depth=3, first=Gaussian(1), hidden=Gaussian(1), last=Gaussian(2),
                layers=Affine(jnp.tanh))  # fmt: skip
    for call, message in (
        (lambda: Risk(ARBITRARY, prediction=EquivariantArchitecture(turn)).check(network),
         "output bias"),
        (lambda: turn.symmetrised(network), "without output bias"),
        (lambda: turn.projected(noisy.sample(3, key=KEY)), "of one hidden layer"),
        (lambda: turn.ensemble(noisy), "functions of labels"),
        (lambda: Group(cyclic(3).elements, jnp.array([0.5, 0.3, 0.2])), "masses must be equal"),
        (lambda: flow(PLAIN, Risk(ARBITRARY), Langevin(transport=GradientFlow([1.0, 0.5]),
                      projection=SWAP.projection), t1=1.0, key=KEY), "one learning rate"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


# Networks on sets, and the path norm


def test_networks_on_sets_do_not_see_the_order_of_elements():
    x = jax.random.normal(KEY, (4, 6, 3))
    w = [np.asarray(a) for a in SETS.weights]
    inner = np.maximum(np.asarray(x) @ w[0].T, 0).mean(1)
    by_hand = np.maximum(inner @ w[1] / 5, 0) @ w[2] / 7
    assert largest(SETS(x), by_hand) < 1e-14
    assert largest(SETS(x), SETS(x[:, ::-1])) < 1e-14
    group = Symmetry(cyclic(6), inputs=lambda g: jnp.kron(g, jnp.eye(3)), outputs=trivial(1))
    assert largest(group.function(SETS)(x), SETS(x)) < 1e-14


@pytest.mark.parametrize("depth", [2, *(pytest.param(d, marks=pytest.mark.slow) for d in (3, 4))])
def test_the_path_norm_is_a_sum_over_paths_and_its_gradient_ordinary_over_masses(depth):
    network = iid(
        dim=2, depth=depth, first=Gaussian(1), last=Gaussian(2),
        hidden=Gaussian(1, 0.3) if depth > 2 else None, layers=Affine(jnp.tanh),
    ).sample([3, 4, 2][: depth - 1], key=KEY)  # fmt: skip
    w = [np.asarray(a) for a in network.weights]
    paths = np.linalg.norm(w[0], axis=1) / len(w[0])
    for a in w[1:-1]:
        paths = paths @ np.abs(a) / a.shape[1]
    total = 0.7 * (paths @ np.linalg.norm(w[-1], axis=1))
    energy = PathNorm(0.7)
    assert abs(energy(network) - total) < 1e-14
    by_autodiff = jax.grad(lambda s: energy(eqx.tree_at(lambda n: n.start, network, s)))(
        network.start
    )
    masses = network.parameter_masses().weights
    for found, ordinary, p in zip(
        mean_field_gradient(network, energy).weights, by_autodiff.weights, masses, strict=True
    ):
        assert largest(found, ordinary / p) < 1e-13
    flat = eqx.tree_at(lambda n: n.start.weights[0], network, jnp.zeros_like(network.weights[0]))
    assert energy(flat) == 0 and np.isfinite(mean_field_gradient(flat, energy).weights[0]).all()
