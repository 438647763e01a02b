"""Wrong calls: each error names the argument, what arrived and the remedy."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from models import regression, smooth

from ensembles import (
    Affine,
    Atoms,
    Elementwise,
    Gauss,
    Gaussian,
    Measure,
    MonteCarlo,
    Network,
    NeuronalEnsemble,
    Noisy,
    Parameters,
    Product,
    Sobol,
    Space,
    Sphere,
    Uniform,
    Unit,
    diverse,
    iid,
    quadrature,
)
from limits import (
    RESULTS,
    SGD,
    Adaptive,
    Collapse,
    CrossEntropyLoss,
    Data,
    FailedRun,
    FisherRao,
    GradientFlow,
    HuberLoss,
    LogisticLoss,
    Optimiser,
    Risk,
    Steps,
    WassersteinFisherRao,
    collapse,
    convergence,
    coupling,
    diversity,
    fit_rate,
    flow,
    fluctuations,
    limit,
    sgd_noise,
    simulate,
    train,
)

KEY = jax.random.key(0)
X = jnp.ones((4, 2))
Y = jnp.ones((4, 1))


def ensemble():
    return smooth(3)


def network():
    return ensemble().sample(3, key=KEY)


def risk():
    return Risk(regression(8))


def smaller():
    return ensemble().sample(2, key=KEY)


ADAM = Optimiser(optax.adam(0.1))


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


def independent(depth, first=None, hidden=None, biases=None, layers=None):
    return iid(
        dim=2,
        depth=depth,
        first=Gaussian(1) if first is None else first,
        hidden=Gaussian(1, 1.0) if hidden is None else hidden,
        last=Gaussian(1, 1.0),
        biases=biases,
        layers=Affine(jnp.tanh) if layers is None else layers,
    )


def _product(w, b, h):
    return jnp.tanh(jnp.dot(w, h))


def _noise(c, e, u):
    return u


def _zero(c, e):
    return 0 * c[0]


def one(c):
    return jnp.ones(1)


def predict(observe, nodes=4, **options):
    return fluctuations(ensemble(), risk(), observe, t1=1.0, nodes=nodes, **options)


CALLS = {
    # measures and spaces
    "masses negative": (
        lambda: Measure(X, [0.5, 0.7, -0.2, 0.0]),
        r"masses must be non-negative, got -0\.2: .*put signs into the weights",
    ),
    "masses unnormalised": (
        lambda: Measure(X, [0.5, 0.5, 0.5, 0.5]),
        r"masses must sum to 1, got a sum of 2\.0: write masses / masses\.sum\(\)",
    ),
    "masses of another length": (
        lambda: Measure(X, [0.5, 0.5]),
        r"masses must have shape \(4,\), one mass per point, got shape \(2,\)",
    ),
    "points flat": (
        lambda: Measure(jnp.ones(4), jnp.full(4, 0.25)),
        r"points must have 2 axes, got shape \(4,\): write points\[:, None\]",
    ),
    "points NaN": (
        lambda: Atoms([[jnp.nan], [1.0]]),
        r"points has 1 NaN or infinite entries out of 2: remove or impute",
    ),
    "scale zero": (
        lambda: Gaussian(2, scale=0.0),
        r"scale must be positive, got .*: a constant label is Atoms",
    ),
    "mean of another shape": (
        lambda: Gaussian(2, mean=jnp.zeros(3)),
        r"mean must be a scalar or of shape \(2,\), got shape \(3,\)",
    ),
    "box upside down": (lambda: Uniform(1.0, 0.0), r"high - low must be positive, got"),
    "dim zero": (lambda: Gaussian(0), r"dim must be an int of at least 1, got 0"),
    "sphere of dimension 1": (
        lambda: Sphere(1),
        r"dim must be at least 2 for a sphere .* got 1: two points are Atoms",
    ),
    "product of nothing": (lambda: Product(), r"spaces must be one or more spaces, got \(\)"),
    "nodes zero": (lambda: quadrature(Gaussian(1), 0), r"n must be an int of at least 1, got 0"),
    "Gauss on a higher sphere": (
        lambda: quadrature(Sphere(3), 16, Gauss()),
        r"rule Gauss knows the circle only, got a sphere in R\^3: write rule=Sobol",
    ),
    "Sobol without key": (
        lambda: quadrature(Gaussian(1), 8, Sobol()),
        r"key is required: Sobol points .*; write key=jax\.random\.key\(0\)",
    ),
    "Monte Carlo without key": (
        lambda: quadrature(Gaussian(1), 8, MonteCarlo()),
        r"key is required: Monte Carlo",
    ),
    "Sobol of a number that is no power of two": (
        lambda: quadrature(Gaussian(1), 100, Sobol(), key=KEY),
        r"nodes must be a power of two for Sobol points, got 100: write 128",
    ),
    "tracers elsewhere": (
        lambda: quadrature(Gaussian(2), 4).with_tracers(jnp.ones((2, 3))),
        r"points must have dimension 2 .* got 3",
    ),
    # ensembles and networks
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
        lambda: independent(depth=4, layers=Elementwise(_product)),
        r"weights\[1\] is Noisy, but Elementwise\(_product\) is not affine in its weights.*Affine",
    ),
    "noise of a single neuron": (
        lambda: NeuronalEnsemble(
            [Uniform(0.0, 1.0)], [one, Noisy(_noise, one, Gaussian(1))], layers=Affine(jnp.tanh)
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
        r"hidden has no mean \(got \[nan\]\).*needs one; cut the law's tails",
    ),
    "a law without a mean among others": (
        lambda: independent(depth=4, hidden=[Gaussian(1), Cauchy()]),
        r"hidden\[1\] has no mean",
    ),
    "laws for other layers": (
        lambda: independent(depth=5, hidden=[Gaussian(1)] * 2),
        r"hidden must be one law or one for each of the 3 layers 2, …, L - 1, got 2 laws",
    ),
    "a law of vectors for an entry": (
        lambda: independent(depth=3, hidden=Gaussian(2)),
        r"hidden must be a law on R, of one entry, got one on R\^2",
    ),
    "no law": (lambda: independent(depth=3, hidden=1.0), r"hidden must be a law, e.g. Gaussian"),
    "first law of another dimension": (
        lambda: independent(depth=3, first=Gaussian(3)),
        r"first must be a law on R\^2 \(dim=2\), or on R .* got one on R\^3",
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
        r"biases\[1\] must be a law on R, of one entry, got one on R\^2",
    ),
    "no modes": (
        lambda: diverse(dim=2, depth=3, modes=0, layers=Affine(jnp.tanh)),
        r"modes must be an int of at least 1, got 0",
    ),
    "both sides of a neuron the same": (
        lambda: diverse(dim=2, depth=3, modes=2, correlation=1.0, layers=Affine(jnp.tanh)),
        r"correlation must be at least 0 and below 1, got 1.0",
    ),
    "more modes than labels can carry": (
        lambda: diversity(network(), risk().data, modes=3, key=KEY),
        r"modes must be fewer than the neurons of a layer, got modes=3 with widths \(3, 3\)",
    ),
    "diversity without key": (
        lambda: diversity(network(), risk().data, modes=2, key=None),
        r"key is required: directions are drawn at random",
    ),
    "points aligned with other inputs": (
        lambda: quadrature(Gaussian(3), 8, Sobol(align=X), key=KEY),
        r"align has inputs of shape \(4, 2\), but Gaussian\(3\) has no Gaussian factor on R\^2",
    ),
    "points aligned with one input": (
        lambda: Sobol(align=jnp.ones(2)),
        r"align must have 2 axes, got shape \(2,\): write align\[:, None\]",
    ),
    "negative weight decay": (
        lambda: GradientFlow(weight_decay=-1.0),
        r"weight_decay must be a finite number ≥ 0, got -1.0",
    ),
    "collapse of two layers": (
        lambda: collapse(independent(depth=2), risk(), widths=[4], seeds=1, t1=1.0, nodes=8),
        r"ensemble must have at least three layers, affine in their weights",
    ),
    "an unknown spread": (
        lambda: Collapse(None).largest("weights", 1),
        r"of must be one of \('increments', 'preactivations', 'dependence', 'residuals'\)",
    ),
    "convergence of other layers": (
        lambda: convergence(smooth(3, Elementwise(_product)).sample(3, key=KEY), risk()),
        r"network must have Affine layers, got Network",
    ),
    "observation of several arrays": (
        lambda: predict(lambda n: n.masses),
        r"observe must return one floating array, got \(ShapeDtypeStruct.*write jnp.stack",
    ),
    "observation of a word": (
        lambda: predict(lambda n: "loss"),
        r"observe must return one floating array, got 'loss'",
    ),
    "observation of integers": (
        lambda: predict(lambda n: jnp.argmax(n(X))),
        r"observe must return one floating array, got ShapeDtypeStruct",
    ),
    "observation that is NaN": (
        lambda: predict(lambda n: jnp.log(-1 - n(X)[:, 0] ** 2)),
        r"observe must return finite numbers, got 4 NaN or infinite ones out of 4 at the start",
    ),
    "observation no function": (
        lambda: predict(None),
        r"observe must be a function of a network, got None",
    ),
    "observation of a single neuron": (
        lambda: predict(lambda n: n.preactivations(X)[1][:, 0]),
        r"observe must see neurons by their masses, .*single neuron .* noise of its edges",
    ),
    "observation of the only neuron of a reduced layer": (
        lambda: fluctuations(
            independent(depth=5),
            risk(),
            lambda n: n.preactivations(X)[1][:, 0],
            t1=1.0,
            nodes=[16, 1, 1, 2],
        ),
        r"observe must see neurons by their masses",
    ),
    "observation without masses": (
        lambda: predict(lambda n: n.weights[0].mean()),
        r"observe must see neurons by their masses, .*network.masses",
    ),
    "observation of all neurons": (
        lambda: simulate(
            ensemble(), risk(), lambda n: n.weights[0], width=4, seeds=2, t1=1.0, key=KEY
        ),
        r"but neurons of mass 0, or one split in two, changed it \(shape \(4, 2\) → \(7, 2\)\)",
    ),
    "fluctuations at times out of order": (
        lambda: predict(lambda n: n(X), times=[0.5, 0.1]),
        r"times must increase from at least 0 to at most t1=1.0, got \[0\.5 0\.1\]",
    ),
    "fluctuations on no nodes": (
        lambda: predict(lambda n: n(X), nodes=0),
        r"nodes must be an int of at least 1, got 0",
    ),
    "fluctuations on one node": (
        lambda: predict(lambda n: n(X), nodes=1),
        r"nodes must be at least 2 on 1 axes to be compared with a coarser set, got 1",
    ),
    "fluctuations on random nodes without key": (
        lambda: predict(lambda n: n(X), rule=Sobol(), nodes=8),
        r"key is required: random nodes are drawn, and redrawn",
    ),
    "ratios for other layers": (
        lambda: predict(lambda n: n(X), ratios=[1.0]),
        r"ratios must be 2 positive numbers r_i, one per hidden layer .* got \[1\.0\]",
    ),
    "ratio zero": (
        lambda: predict(lambda n: n(X), ratios=[1.0, 0.0]),
        r"ratios must be 2 positive numbers",
    ),
    "one seed": (
        lambda: simulate(ensemble(), risk(), lambda n: n(X), width=4, seeds=1, t1=1.0, key=KEY),
        r"seeds must be at least 2 to have a variance, got 1",
    ),
    "SGD without step": (
        lambda: simulate(
            ensemble(), risk(), lambda n: n(X), width=4, seeds=2, t1=1.0, dynamics=SGD(), key=KEY
        ),
        r"dynamics must be a Dynamics, got SGD: write GradientFlow\(\)",
    ),
    "fluctuations in steps": (
        lambda: predict(lambda n: n(X), solver=Steps(0.1)),
        r"solver must be an? Adaptive, got Steps: it is of continuous time; write Adaptive",
    ),
    "fluctuations to tolerance zero": (
        lambda: predict(lambda n: n(X), solver=Adaptive(rtol=0.0)),
        r"rtol must be a positive finite number, got 0\.0",
    ),
    "an odd number of intervals": (
        lambda: sgd_noise(ensemble(), risk(), lambda n: n(X), t1=1.0, nodes=4, intervals=7),
        r"intervals must be even, got 7",
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
    # data, losses, dynamics
    "x integer": (
        lambda: Data(jnp.ones((4, 2), int), Y),
        r"x must be floating, got dtype int64: write x\.astype\(float\)",
    ),
    "y class labels": (
        lambda: Data(X, jnp.arange(4)),
        r"y must be floating, got dtype int64: .*jax\.nn\.one_hot",
    ),
    "y flat": (
        lambda: Data(X, jnp.ones(4)),
        r"y must have 2 axes, got shape \(4,\): write y\[:, None\]",
    ),
    "NaN in data": (
        lambda: Data(X.at[0, 0].set(jnp.nan), Y),
        r"x has 1 NaN or infinite entries out of 8: remove or impute",
    ),
    "rows do not match": (
        lambda: Data(X, jnp.ones((5, 1))),
        r"x and y must have one row per sample, got shapes \(4, 2\) and \(5, 1\)",
    ),
    "data of two dtypes": (
        lambda: Data(X, Y.astype(jnp.float32)),
        r"x and y must share one dtype, got float64 and float32: write y\.astype\(x\.dtype\)",
    ),
    "data and network of two dtypes": (
        lambda: flow(network(), Risk(Data(X.astype(jnp.float32), Y.astype(jnp.float32))), t1=1.0),
        r"energy has data of dtype float32 and the network dtype float64: make both the same",
    ),
    "outputs and targets of two shapes": (
        lambda: flow(network(), Risk(regression(8, outputs=2)), t1=1.0),
        r"y must have the shape \(8, 1\) of the network's outputs, got \(8, 2\)",
    ),
    "loss not a scalar": (
        lambda: flow(network(), Risk(regression(8), lambda p, y: (p - y) ** 2), t1=1.0),
        r"loss must return a scalar for one sample, got shape \(1,\): write \.sum\(\)",
    ),
    "Huber delta": (lambda: HuberLoss(-1.0), r"delta must be positive, got -1\.0"),
    "batch zero": (lambda: SGD(batch=0), r"batch must be an int of at least 1, got 0"),
    "batch > data": (
        lambda: train(network(), risk(), SGD(batch=9), step=0.1, t1=1.0, key=KEY),
        r"batch must be at most the 8 samples of the data, got 9: write batch=None",
    ),
    "negative learning rate": (
        lambda: GradientFlow(-1.0),
        r"learning_rates must be finite numbers ≥ 0 or functions of time, got -1\.0: 0 freezes",
    ),
    "learning rates for other layers": (
        lambda: flow(network(), risk(), GradientFlow([1.0, 1.0]), t1=1.0),
        r"learning_rates must be one for all or one for each of the 3 layers, got 2",
    ),
    "negative rate of masses": (
        lambda: FisherRao(rate=-1),
        r"rate must be finite numbers ≥ 0 or functions of time, got -1\.0",
    ),
    "learning rates that begin below zero": (
        lambda: flow(network(), risk(), GradientFlow(lambda t: t - 1), t1=1.0),
        r"learning_rates must be functions of time .* ≥ 0, got -1\.0 at t = 0",
    ),
    "rates of masses that begin as NaN": (
        lambda: flow(network(), risk(), FisherRao(lambda t: 0 * jnp.log(t)), t1=1.0),
        r"rate must be functions of time .* got nan at t = 0",
    ),
    "two learning rates at once": (
        lambda: flow(network(), risk(), GradientFlow(lambda t: jnp.ones(2)), t1=1.0),
        r"learning_rates must be functions of time .* got \[1\. 1\.\] at t = 0: .*for each layer",
    ),
    "a schedule of two": (
        lambda: GradientFlow(lambda t, u: 1.0),
        r"learning_rates must take 1 argument, the time, got <lambda>\(t, u\): write lambda t",
    ),
    "a learning rate in words": (
        lambda: GradientFlow("0.1"),
        r"learning_rates must be finite numbers .* got '0\.1': 0 freezes a layer",
    ),
    "no rates": (lambda: FisherRao([]), r"rate must be finite .* got none: 0 keeps a layer's mass"),
    "transport that is no flow": (
        lambda: WassersteinFisherRao(transport=3),
        r"transport must be a GradientFlow, got int: write transport=GradientFlow",
    ),
    "flow of an update": (
        lambda: flow(network(), risk(), SGD(), t1=1.0),
        r"dynamics must be a Dynamics, got SGD: write GradientFlow\(\); .*SGD go to train",
    ),
    "training by a flow": (
        lambda: train(network(), risk(), GradientFlow(), step=0.1, t1=1.0),
        r"dynamics must be an? Update, got GradientFlow: write SGD\(.*\), or use flow",
    ),
    "training by optax": (
        lambda: train(network(), risk(), optax.adam(0.1), step=0.1, t1=1.0),
        r"dynamics must be an? Update, got .*: train takes .* Optimiser\(optax\.adam\(1e-3\)\)",
    ),
    "SGD of optax": (
        lambda: SGD(optax.adam(0.1)),
        r"dynamics must be .* as Optimiser\(optax\.adam",
    ),
    "a line search": (
        lambda: train(network(), risk(), Optimiser(optax.lbfgs()), step=0.1, t1=1.0),
        r"transformation must need no more than gradients and parameters, .*lbfgs",
    ),
    "memory of SGD": (
        lambda: train(network(), risk(), step=0.1, t1=1.0, memory=jnp.ones(2)),
        r"memory must be None for SGD, which keeps none",
    ),
    "memory of another network": (
        lambda: train(network(), risk(), ADAM, step=0.1, t1=1.0, memory=ADAM.memory(smaller())),
        r"memory must be the \.memory of a run of the same network under the same Optimiser",
    ),
    "memory of another kind": (
        lambda: train(network(), risk(), ADAM, step=0.1, t1=1.0, memory=1.0),
        r"memory must be the \.memory of a run .*write memory=run\.memory",
    ),
    # solvers
    "t1 negative": (
        lambda: flow(network(), risk(), t1=-1.0),
        r"t1 must be a positive finite time, got -1\.0: write t1=1\.0",
    ),
    "t1 before t0": (
        lambda: flow(network(), risk(), t0=1.0, t1=1.0),
        r"t1 must be a finite time after t0=1\.0, got 1\.0: write t1=2\.0",
    ),
    "t0 negative": (
        lambda: flow(network(), risk(), t0=-1.0, t1=1.0),
        r"t0 must be a finite time of at least 0, got -1\.0: write t0=0\.0",
    ),
    "t1 in words": (lambda: flow(network(), risk(), t1="1"), r"t1 must be a number, got '1'"),
    "times in words": (
        lambda: flow(network(), risk(), t1=1.0, times=["0", "1"]),
        r"times must be numbers, got",
    ),
    "an observation of two": (
        lambda: flow(network(), risk(), t1=1.0, observe=lambda n, x: n(x)),
        r"observe must take 1 argument, the network, got <lambda>\(n, x\)",
    ),
    "a key that is a number": (
        lambda: train(network(), risk(), SGD(batch=2), step=0.1, t1=1.0, key=3),
        r"key must be one JAX key, got 3: write key=jax\.random\.key\(0\)",
    ),
    "a limit under jit": (
        lambda: jax.jit(lambda t: limit(ensemble(), risk(), t1=t).energies)(1.0),
        r"limit runs on the host and is not for use under jit",
    ),
    "times decreasing": (
        lambda: flow(network(), risk(), t1=1.0, times=[0.0, 0.6, 0.4]),
        r"times must increase from at least 0 to at most t1=1\.0, got .*: write jnp\.linspace",
    ),
    "times beyond t1": (
        lambda: flow(network(), risk(), t1=1.0, times=[0.0, 2.0]),
        r"times must increase from at least 0 to at most t1=1\.0",
    ),
    "times empty": (
        lambda: flow(network(), risk(), t1=1.0, times=[]),
        r"times must be an array of at least one time, got shape \(0,\)",
    ),
    "tolerance zero": (
        lambda: flow(network(), risk(), t1=1.0, rtol=0.0),
        r"rtol must be a positive finite number, got 0\.0",
    ),
    "step zero": (
        lambda: train(network(), risk(), step=0.0, t1=1.0),
        r"step must be a positive finite number, got 0\.0",
    ),
    "steps of size zero": (
        lambda: Steps(step=0),
        r"step must be a positive finite number, got 0",
    ),
    "a solver that is none": (
        lambda: Adaptive(solver="x"),
        r"solver must be an? AbstractSolver, got str: write solver=diffrax\.Tsit5\(\)",
    ),
    "times between steps": (
        lambda: train(network(), risk(), step=0.1, t1=1.0, times=[0.25]),
        r"times and t1 must be multiples of step=0\.1, got \[0\.25\]: .* write times = step",
    ),
    "SGD without key": (
        lambda: train(network(), risk(), SGD(batch=2), step=0.1, t1=1.0),
        r"key is required: the dynamics draws at random at every step",
    ),
    "key without randomness": (
        lambda: train(network(), risk(), step=0.1, t1=1.0, key=KEY),
        r"key must be None for a dynamics without randomness",
    ),
    "limit of a network": (
        lambda: limit(network(), risk(), t1=1.0),
        r"ensemble must be a NeuronalEnsemble, got Network: .*write flow",
    ),
    "limit with tol and nodes": (
        lambda: limit(ensemble(), risk(), t1=1.0, tol=1e-3, nodes=8),
        r"tol must be None when nodes are fixed, got tol=0\.001, nodes=8",
    ),
    "flow with kinks that do not increase": (
        lambda: flow(network(), risk(), t1=1.0, kinks=[0.5, 0.3]),
        r"kinks must be increasing times, got \[0\.5 0\.3\]: write jnp\.array",
    ),
    "limit with tol zero": (
        lambda: limit(ensemble(), risk(), t1=1.0, tol=0.0),
        r"tol must be at least .* in this precision, got 0\.0: write tol=1e-06",
    ),
    "limit of one node": (
        lambda: limit(ensemble(), risk(), t1=1.0, nodes=1),
        r"nodes must be at least 2 on 1 axes to be compared with a coarser set, got 1",
    ),
    "limit of Sobol points without key": (
        lambda: limit(ensemble(), risk(), t1=1.0, rule=Sobol()),
        r"key is required: random nodes are drawn",
    ),
    "coupling with one width": (
        lambda: coupling(ensemble(), risk(), widths=32, seeds=2, nodes=4, t1=1.0, key=KEY),
        r"widths must be a list of widths, got 32: write \[32, 64, 128\]",
    ),
    "coupling by a solver that is none": (
        lambda: coupling(
            ensemble(), risk(), widths=[4], seeds=2, nodes=4, t1=1.0, solver="euler", key=KEY
        ),
        r"solver must be a Solver, got str: write solver=Adaptive\(\) or solver=Steps",
    ),
    "coupling on batches beyond the data": (
        lambda: coupling(
            ensemble(),
            risk(),
            widths=[4],
            seeds=2,
            nodes=4,
            t1=1.0,
            solver=Steps(0.1, batch=9),
            key=KEY,
        ),
        r"batch must be at most the 8 samples of the data, got 9: write batch=None",
    ),
    "coupling at times between steps": (
        lambda: coupling(
            ensemble(), risk(), widths=[4], seeds=2, nodes=4, t1=1.0, solver=Steps(0.3), key=KEY
        ),
        r"times and t1 must be multiples of step=0\.3, got",
    ),
    "coupling without key": (
        lambda: coupling(ensemble(), risk(), widths=[4], seeds=2, nodes=4, t1=1.0, key=None),
        r"key is required: finite networks draw their labels",
    ),
    "coupling seeds": (
        lambda: coupling(ensemble(), risk(), widths=[4], seeds=[1, 2], nodes=4, t1=1.0, key=KEY),
        r"seeds must be an int or one int per",
    ),
    "logistic labels 0 and 1": (
        lambda: Risk(Data(X, jnp.array([[0.0], [1.0], [1.0], [0.0]])), LogisticLoss()),
        r"y must be −1 or 1 for LogisticLoss, got \[0\. 1\.\]: for labels 0 and 1 write 2 \* y - 1",
    ),
    "cross-entropy of one output": (
        lambda: Risk(Data(X, jnp.ones((4, 1))), CrossEntropyLoss()),
        r"y must have one column per class for CrossEntropyLoss, got shape \(4, 1\)",
    ),
    "cross-entropy of numbers": (
        lambda: Risk(Data(X, jnp.ones((4, 2))), CrossEntropyLoss()),
        r"y must be probabilities of classes for CrossEntropyLoss, got rows that sum to 1 up to 1",
    ),
    "rate of zeros": (
        lambda: fit_rate([1.0, 2.0, 4.0], [1.0, 0.0, 1.0]),
        r"x and y must be positive and finite",
    ),
    "rate of two points": (
        lambda: fit_rate([1.0, 2.0], [1.0, 0.5]),
        r"y \(n,\) with n ≥ 3, or \(seeds, n\) with n ≥ 2; got \(2,\) and \(2,\)",
    ),
    "rate of one seed": (
        lambda: fit_rate([1.0, 2.0], [[1.0, 0.5]]),
        r"y needs at least two seeds for every x to have an interval, got \[1, 1\] seeds",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call_names_the_argument_and_the_remedy(name):
    call, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()


def explosive(p, y):
    """A loss without lower bound, along which the flow leaves to infinity in finite time."""
    return -((p - y) ** 4).sum()


def test_a_diverging_flow_says_when_and_loses_nothing():
    times = jnp.linspace(0, 50, 201)
    run = flow(network(), Risk(regression(8), explosive), t1=50.0, times=times, throw=False)
    reached = float(run.stats["time_reached"])
    before = np.asarray(times) <= reached
    assert 0 < reached < 50 and run.result != RESULTS.successful
    assert np.isfinite(run.energies[before]).all() and np.isnan(run.energies[~before]).all()
    with pytest.raises(FailedRun, match=r"It broke down at time .* of 50\..*throw=False") as caught:
        flow(network(), Risk(regression(8), explosive), t1=50.0, times=times)
    np.testing.assert_array_equal(caught.value.partial.energies, run.energies)


def test_diverging_training_says_when_and_loses_nothing():
    times = jnp.linspace(0, 20, 41)
    options = dict(step=0.5, t1=20.0, times=times, observe=lambda n: n.weights[-1])
    with pytest.raises(
        FailedRun, match=r"The run diverged.*It broke down at time .* of 20"
    ) as caught:
        train(network(), Risk(regression(8), explosive), **options)
    run = caught.value.partial
    finite = np.isfinite(run.energies)
    assert run.result == RESULTS.diverged and finite[0] and not finite[-1]
    assert np.isfinite(run.observed[finite]).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.final))
    assert abs(float(run.final.weights[-1][0, 0] - run.observed[finite][-1, 0, 0])) == 0


@pytest.mark.slow
def test_a_run_that_is_not_finite_from_the_start_says_so():
    for loss, words in (
        (lambda p, y: jnp.log(-1 - (p - y) ** 2).sum(), r"^The energy is not finite at the start"),
        (lambda p, y: jnp.sqrt(0 * (p - y)).sum(), r"^The energy has no finite derivative at"),
    ):
        bad = Risk(regression(8), loss)
        with pytest.raises(FailedRun, match=words):
            train(network(), bad, step=0.1, t1=0.2)
    with pytest.raises(FailedRun, match=words):
        flow(network(), bad, t1=0.2, times=[0.1], step=0.1)


def test_too_few_steps_are_reported_with_what_was_reached():
    run = flow(network(), risk(), t1=5.0, step=0.01, max_steps=100, throw=False)
    assert "maximum number of solver steps" in RESULTS[run.result]
    assert float(run.stats["time_reached"]) < 5


def test_a_failure_inside_jit_is_an_error_too():
    with pytest.raises(Exception, match=r"diverged|minimum step size"):
        eqx.filter_jit(lambda n: flow(n, Risk(regression(8), explosive), t1=50.0).final)(network())


@pytest.mark.slow
def test_a_failed_coupling_keeps_the_seeds_that_did_not_fail():
    with pytest.raises(FailedRun, match=r"Some runs broke down \(width: failed seeds\)") as caught:
        coupling(
            ensemble(), Risk(regression(8), explosive), widths=[4], seeds=2, nodes=4, t1=50.0,
            key=KEY,
        )  # fmt: skip
    assert caught.value.partial.sup.shape == (2, 1, 3)


@pytest.mark.slow
def test_a_failed_simulation_and_a_failed_prediction_keep_what_they_have():
    options = dict(t1=50.0, times=jnp.linspace(0, 50, 11))
    bad = Risk(regression(8), explosive)
    with pytest.raises(FailedRun, match=r"2 of 2 seeds broke down") as caught:
        simulate(smooth(2), bad, lambda n: n(X)[:, 0], width=4, seeds=2, key=KEY, **options)
    values = caught.value.partial.values
    assert np.isfinite(values[:, 0]).all() and np.isnan(values[:, -1]).all()
    with pytest.raises(FailedRun, match=r"broke down at time") as caught:
        fluctuations(smooth(2), bad, lambda n: n(X)[:, 0], nodes=8, **options)
    assert np.isfinite(caught.value.partial.energies[0])


def test_checks_do_not_stand_in_the_way_of_tracing():
    """Under jit values are unknown: shapes are checked, masses and NaN are not."""
    jax.jit(lambda p: Measure(X, p).mean)(jnp.array([0.5, 0.5, 0.5, 0.5]))
    solver = diffrax.Heun()
    assert np.isfinite(flow(network(), risk(), t1=0.1, solver=solver).energies).all()
    assert repr(Elementwise(jnp.tanh)) == "Elementwise(tanh)"


def test_a_loss_must_be_a_function(monkeypatch):
    """As users run it: tests check types besides."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"loss must be a function .* got 'squared': write loss="):
        Risk(Data(X, jnp.ones((4, 2))), "squared")
