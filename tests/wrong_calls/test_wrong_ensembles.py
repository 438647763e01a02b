"""Wrong ensembles and networks: each error names the argument, what arrived and the remedy."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import smooth
from right import KEY, X, ensemble, independent, network, product, risk

from ensembles import (
    Affine,
    Atoms,
    Elementwise,
    Gauss,
    Gaussian,
    Measure,
    Network,
    NeuronalEnsemble,
    Noisy,
    Parameters,
    Sobol,
    Space,
    Uniform,
    Unit,
    diverse,
    from_mlp,
    quadrature,
)
from limits import Adaptive, flow, limit


class Cauchy(Space):
    """A law without a mean, on the line."""

    dim = 1
    dtype = jnp.dtype(float)
    mean = np.full(1, np.nan)

    def draw(self, n, key):
        return jax.random.cauchy(key, (n, 1))

    def from_cube(self, u):
        return np.tan(np.pi * (u - 0.5))

    def grid(self, m):
        return self.from_cube((np.arange(m)[:, None] + 0.5) / m), np.full(m, 1 / m)


def _noise(c, e, u):
    return u


def _zero(c, e):
    return 0 * c[0]


def one(c):
    return jnp.ones(1)


MLP = eqx.nn.MLP(2, 1, 3, 1, dtype=jnp.float64, key=KEY)


def network_of(first, increment=None):
    start = Parameters((first, jnp.ones((4, 1))), (None, None))
    return Network((Affine(jnp.tanh),) * 2, (X,), (jnp.full(4, 0.25),), start, increment)


CALLS = {
    "layer counts": (
        lambda: NeuronalEnsemble([Gaussian(1)], [one, one, one], layers=Affine(jnp.tanh)),
        r"weights: L ≥ 2 weight functions go with L − 1 spaces, got 3 weights and 1 spaces",
    ),
    "layers unknown": (
        lambda: NeuronalEnsemble([Gaussian(1)], [one, one], layers=jnp.tanh),
        r"layers must be one layer map or 2.*write layers=Affine\(jnp\.tanh\)",
    ),
    "too many layers": (
        lambda: NeuronalEnsemble([Gaussian(1)], [one, one], layers=[Affine(jnp.tanh)] * 3),
        r"layers must be one layer map or 2",
    ),
    "biases of another length": (
        lambda: NeuronalEnsemble([Gaussian(1)], [one, one], [None], layers=Affine(jnp.tanh)),
        r"biases must have one entry per layer \(2\), got 1: write None",
    ),
    "last bias a function": (
        lambda: NeuronalEnsemble([Gaussian(1)], [one, one], [None, one], layers=Affine(jnp.tanh)),
        r"biases\[1\] belongs to the outputs, .* give an array \(outputs,\)",
    ),
    "vector weights in an affine layer": (
        lambda: NeuronalEnsemble(
            [Gaussian(1)] * 2, [one, lambda c, e: c, one], layers=Affine(jnp.tanh)
        ),
        r"weights\[1\] must give shape \(\), .* got \(1,\): .*Elementwise",
    ),
    "scalar first weight": (
        lambda: NeuronalEnsemble([Gaussian(1)], [lambda c: c[0], one], layers=Affine(jnp.tanh)),
        r"weights\[0\] must give shape \(d,\), one weight per input .* got \(\): write w\[None\]",
    ),
    "first weights for other inputs": (
        lambda: limit(
            NeuronalEnsemble([Gaussian(1)], [one, one], layers=Affine(jnp.tanh)), risk(), t1=1.0
        ),
        r"x must have shape \(batch, 1\), got shape \(8, 2\): weights\[0\] gives \(1,\) for every "
        r"neuron, where an input has \(2,\)",
    ),
    "scalar last weight": (
        lambda: NeuronalEnsemble([Gaussian(1)], [one, lambda c: c[0]], layers=Affine(jnp.tanh)),
        r"weights\[1\] must give shape \(outputs,\), got \(\): write w\[None\]",
    ),
    "second weight of a unit": (
        lambda: NeuronalEnsemble([Gaussian(1)], [one, one], layers=Unit(lambda w, x: w)),
        r"weights\[1\] must be None for a Unit layer: write weights=\(theta, None\)",
    ),
    "width zero": (
        lambda: ensemble().sample(0, key=KEY),
        r"width must be an int of at least 1, got 0",
    ),
    "width a float": (
        lambda: ensemble().sample(32.0, key=KEY),
        r"width must be an int of at least 1, got 32\.0: write width=8",
    ),
    "widths for other layers": (
        lambda: ensemble().sample([4, 4, 4], key=KEY),
        r"width must be an int or one int per hidden layer \(2\), got 3",
    ),
    "sample without key": (
        lambda: ensemble().sample(4, key=None),
        r"key is required: a finite network draws its labels",
    ),
    "rules for other layers": (
        lambda: ensemble().discretise(4, [Gauss()]),
        r"rule must be one rule or one per hidden layer \(2\)",
    ),
    "noise where the layer is not affine": (
        lambda: independent(depth=4, layers=Elementwise(product)),
        r"weights\[1\] is Noisy, but Elementwise\(product\) is not affine in its weights.*Affine",
    ),
    "noise of a single neuron": (
        lambda: NeuronalEnsemble(
            [Uniform(0.0, 1.0)], [one, Noisy(_noise, _zero, Gaussian(1))], layers=Affine(jnp.tanh)
        ),
        r"weights\[1\] is Noisy, but has one neuron at its end.*belongs to its label",
    ),
    "noise of another shape than its mean": (
        lambda: NeuronalEnsemble(
            [Uniform(0.0, 1.0)] * 2,
            [one, Noisy(_noise, _zero, Gaussian(2)), one],
            layers=Affine(jnp.tanh),
        ),
        r"weights\[1\] must have one shape and dtype .* got \(2,\) float64 and \(\) float64",
    ),
    "a law without a mean": (
        lambda: independent(depth=3, hidden=Cauchy()),
        r"hidden has no mean \(got \[nan\]\).*needs one; cut its tails",
    ),
    "a law without a mean among others": (
        lambda: independent(depth=4, hidden=[Gaussian(1), Cauchy()]),
        r"hidden\[1\] has no mean",
    ),
    "laws for other layers": (
        lambda: independent(depth=5, hidden=[Gaussian(1)] * 2),
        r"hidden must be one distribution, or one for each of the 3 layers 2, …, L - 1, got 2",
    ),
    "a law of vectors for an entry": (
        lambda: independent(depth=3, hidden=Gaussian(2)),
        r"hidden must be a distribution on R, of one entry, got one on R\^2",
    ),
    "no law": (
        lambda: independent(depth=3, hidden=1.0),
        r"hidden must be a distribution, e.g. Gaussian",
    ),
    "first law of another dimension": (
        lambda: independent(depth=3, first=Gaussian(3)),
        r"first must be a distribution on R\^2 \(dim=2\), or on R .* got one on R\^3",
    ),
    "a single layer": (lambda: independent(depth=1), r"depth must be at least 2, got 1"),
    "a single diverse layer": (
        lambda: diverse(dim=2, depth=1, modes=2, layers=Affine(jnp.tanh)),
        r"depth must be at least 2, got 1",
    ),
    "biases for other layers": (
        lambda: independent(depth=3, biases=[None]),
        r"biases must have one entry per layer \(3\), got 1",
    ),
    "a vector law of a bias": (
        lambda: independent(depth=3, biases=[None, Gaussian(2), None]),
        r"biases\[1\] must be a distribution on R, of one entry, got one on R\^2",
    ),
    "no modes": (
        lambda: diverse(dim=2, depth=3, modes=0, layers=Affine(jnp.tanh)),
        r"modes must be an int of at least 1, got 0",
    ),
    "both sides of a neuron the same": (
        lambda: diverse(dim=2, depth=3, modes=2, correlation=1.0, layers=Affine(jnp.tanh)),
        r"correlation must be at least 0 and below 1, got 1.0",
    ),
    "points aligned with other inputs": (
        lambda: quadrature(Gaussian(3), 8, Sobol(align=X), key=KEY),
        r"align has inputs of shape \(4, 2\), but Gaussian\(3\) has no Gaussian factor on R\^2",
    ),
    "points aligned with one input": (
        lambda: Sobol(align=jnp.ones(2)),
        r"align must have 2 axes, got shape \(2,\): write align\[:, None\]",
    ),
    "tracers of another depth": (
        lambda: ensemble().discretise(4, tracers=smooth(4).sample(3, key=KEY)),
        r"tracers must have the ensemble's depth 3, got 4",
    ),
    "weights in another dtype": (
        lambda: NeuronalEnsemble(
            [Uniform(jnp.float32(0.0), jnp.float32(1.0))],
            [lambda c: c, lambda c: jnp.ones(1)],
            layers=Affine(jnp.tanh),
        ).sample(3, key=KEY),
        r"one dtype for labels, masses, weights and biases, got \['float32', 'float64'\]",
    ),
    "weights NaN at half of the labels": (
        lambda: NeuronalEnsemble(
            [Atoms([[-1.0], [1.0]])], [lambda c: jnp.sqrt(c), one], layers=Affine(jnp.tanh)
        ).discretise(2),
        r"weights\[0\] must give finite numbers, got 1 NaN or infinite entries out of 2: check",
    ),
    "infinite weights of a sample": (
        lambda: NeuronalEnsemble(
            [Atoms([[0.0]])], [one, lambda c: 1 / c], layers=Affine(jnp.tanh)
        ).sample(3, key=KEY),
        r"weights\[1\] must give finite numbers, got 3 NaN or infinite entries out of 3",
    ),
    "infinite biases of an ensemble with a limit": (
        lambda: limit(
            NeuronalEnsemble(
                [Uniform(-1.0, 1.0)],
                [lambda c: jnp.ones(2), one],
                [lambda c: jnp.log(c[0]), None],
                layers=Affine(jnp.tanh),
            ),
            risk(),
            t1=1.0,
        ),
        r"biases\[0\] must give finite numbers, got \d+ NaN or infinite entries out of",
    ),
    "network weights NaN": (
        lambda: network_of(X.at[0, 0].set(jnp.nan)),
        r"weights\[0\] has 1 NaN or infinite entries out of 8: write finite ones",
    ),
    "MLP with a weight that overflowed": (
        lambda: from_mlp(
            eqx.tree_at(lambda m: m.layers[1].weight, MLP, MLP.layers[1].weight.at[0].set(jnp.inf))
        ),
        r"weights\[1\] has 3 NaN or infinite entries out of 3: write finite ones",
    ),
    "increments NaN": (
        lambda: network_of(X, Parameters((X * jnp.nan, jnp.ones((4, 1))), (None, None))),
        r"increment\.weights\[0\] has 8 NaN or infinite entries out of 8",
    ),
    "increments of another shape": (
        lambda: network_of(X, Parameters((X[:3], jnp.ones((4, 1))), (None, None))),
        r"increment\.weights\[0\] must have the shape of weights\[0\], \(4, 2\), got \(3, 2\)",
    ),
    "network weights of another shape": (
        lambda: Network(
            (Affine(jnp.tanh),) * 2,
            (X,),
            (jnp.full(4, 0.25),),
            Parameters((X, jnp.ones((3, 1))), (None, None)),
        ),
        r"weights\[1\] must have leading shape \(4,\), one entry per neuron .* got shape \(3, 1\)",
    ),
    "one input": (
        lambda: network()(jnp.ones(2)),
        r"x must have shape \(batch, 2\), got shape \(2,\): write x\[None\]",
    ),
    "inputs of another dimension": (
        lambda: network()(jnp.ones((4, 3))),
        r"x must have shape \(batch, 2\), got shape \(4, 3\)",
    ),
    "inputs of another dtype": (
        lambda: network()(jnp.ones((4, 2), jnp.float32)),
        r"x must have the network's dtype float64, got float32: write jnp\.asarray",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_the_remedy(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_checks_do_not_stand_in_the_way_of_tracing():
    """Under jit values are unknown: shapes are checked, masses and NaN are not."""
    jax.jit(lambda p: Measure(X, p).mean)(jnp.array([0.5, 0.5, 0.5, 0.5]))
    solver = Adaptive(method=diffrax.Heun())
    assert np.isfinite(flow(network(), risk(), t1=0.1, solver=solver).energies).all()
    assert repr(Elementwise(product)) == "Elementwise(product)"


BIASES = {"a number": 0.0, "a flag": True, "a law": Gaussian(1), "a word": "ab", "a set": {0.0}}


@pytest.mark.parametrize("name", BIASES)
def test_biases_that_are_no_list_are_told_to_be_one(name):
    said = (
        r"^biases must be a list of one entry per layer \(3\), got .*: write \[b\] \* 2 \+ \[None\]"
    )
    with pytest.raises(ValueError, match=said):
        independent(depth=3, biases=BIASES[name])
    with pytest.raises(ValueError, match=said):
        NeuronalEnsemble(
            [Uniform(0.0, 1.0)] * 2, [one, _zero, one], BIASES[name], layers=Affine(jnp.tanh)
        )


def test_laws_of_layers_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"^hidden must be one .* each of the 0 layers"):
        independent(depth=2, hidden=[Gaussian(1)])
