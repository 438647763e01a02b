"""The functions that users give: every public argument that takes one, with functions that break
what is asked of it and the words they meet."""

import collections.abc
import inspect
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from models import regression, smooth
from public import names

from contracts.common import KEY
from ensembles import (
    Affine,
    Elementwise,
    Gaussian,
    Group,
    Measure,
    Network,
    NeuronalEnsemble,
    Noisy,
    SetAverage,
    Symmetry,
    Torus,
    Uniform,
    Unit,
    from_mlp,
    quadrature,
    residual,
    shallow,
)
from ensembles.blocks import Block, GatedPerceptron, Normalised, Perceptron, layer_norm
from ensembles.channels import Pooling, Shared
from ensembles.groups import cyclic, defining, direct_sum, intertwining, trivial
from limits import (
    BirthDeath,
    Data,
    FisherRao,
    Game,
    GradientFlow,
    Interaction,
    Langevin,
    Penalty,
    Risk,
    WassersteinFisherRao,
    coupling,
    flow,
    fluctuations,
    jackknife,
    limit,
    mean_field_gradient,
    sgd_noise,
    simulate,
    train,
)
from limits.kernels import charged, from_potentials, teacher_student
from limits.references import ThreeSpin, grid_flow

LINE = Uniform(-1.0, 1.0)
DATA = regression(6)
X = DATA.x
PAIR = Measure(jnp.array([[-1.0], [0.2], [1.0]]), jnp.array([0.3, 0.3, 0.4]))
DUEL = Network.players(PAIR, PAIR)
CLOUD = Network.particles(PAIR)
TANH = Affine(jnp.tanh)


class Given(NamedTuple):
    """What takes a function, in a call that looks at it; and functions that break what is asked,
    each with the words it meets."""

    call: Callable[[Any], Any]
    broken: dict[Any, str]


def numpy(*given):
    """Not for JAX to trace."""
    return np.sin(given[0]).sum()


def numpy_array(*given):
    return np.sin(given[0])


def branch(*given):
    """Neither is an `if` on values."""
    return given[0].ravel()[0] if given[0].ravel()[0] > 0 else 0 * given[0].ravel()[0]


def untraced(name, number=True):
    words = rf"^{name} must be written with jnp"
    return {numpy if number else numpy_array: words, branch: words}


def _two(first=None, bias=None):
    def one(c):
        return jnp.stack([c[0], 1 + c[0]])

    return NeuronalEnsemble(
        [LINE], [one if first is None else first, lambda c: c], bias and [bias, None], layers=TANH
    )


def _mixed(mix):
    layers = [Shared(jnp.tanh, mix), Shared(jnp.tanh, Pooling())]
    weights = [lambda c: c[None], lambda c: c]
    network = NeuronalEnsemble([LINE], weights, layers=layers).sample(2, key=KEY)
    return network(jnp.ones((3, 1, 4)))


def _noisy(weight, mean):
    law = Noisy(weight, mean, Gaussian(1))
    weights = [lambda c: jnp.stack([c[0], c[0]]), law, lambda c: c]
    return NeuronalEnsemble([LINE, LINE], weights, layers=TANH)


def _smooth_pair(c, e):
    return c[0] * e[0]


def _risk(unit):
    return mean_field_gradient(shallow(unit, Gaussian(2)).sample(3, key=KEY), Risk(DATA))


def _seen(study, **given):
    return lambda f: study(smooth(2), Risk(DATA), observe=f, t1=0.1, **given)


ENTRYWISE = {
    jax.nn.softmax: "must act on every entry alone",
    jax.nn.standardize: "must act on every entry alone",
    jax.nn.glu: r"must act on every entry alone.* gives \(3, 2\) for an array \(3, 4\)",
    (lambda h: h[::-1]): "must act on every entry alone",
    (lambda h: h.astype(complex)): "must act on every entry alone.*not real numbers",
    np.sin: "^activation must be written with jnp",
    (lambda h: h if h > 0 else 0 * h): "^activation must",
}
SEEN = {numpy_array: "^observe must be written with jnp"}
BY_MASS = {
    (lambda n: n.weights[0].mean()[None]): "^observe must weigh neurons by masses",
    (lambda n: n.weights[0].max()[None]): "^observe must weigh neurons by masses",
}
CONTINUOUS = BY_MASS | {
    (
        lambda n: jnp.where(n.masses[0] > 0, n.weights[0][:, 0], -jnp.inf).max()[None]
    ): "^observe must depend on neurons in proportion to their masses"
}


def neuron(theta, h):
    return jnp.tanh(theta * h)


def _stream(sigma, theta, **ends):
    """A derivative of a residual network on a stream in R²."""
    ends = {"readout": lambda h: h[:1]} | ends
    network = residual(sigma, Gaussian(2), theta, depth=2, **ends).sample(3, key=KEY)
    return mean_field_gradient(network, Risk(DATA))


class At(eqx.Module):
    """A broken function of a network, as traced arrays see it."""

    f: Callable

    def __call__(self, network):
        return self.f(network(X))


def _of_networks(broken):
    return {At(f): words for f, words in broken.items()}


_UNITS = {
    (lambda theta, x: jnp.tanh(x[:, 0] * theta[0])): r"^x must fit the first layer.* one input ",
    (lambda theta, x: jnp.tanh(theta[0] * x[0])): r"^sigma must return an array \(outputs,\)",
    (lambda theta: theta): "^sigma must take 2 arguments",
    **untraced("sigma", number=False),
}
_ONE_UNIT = {(lambda theta: theta): "^sigma must take 2 arguments"}
_RATES = {
    numpy: "must be written with jnp",
    branch: "must be written with jnp",
    (lambda t: None): "must fit a time",
}
_PAYOFFS = {
    (lambda x, y: x * y): "^payoff must return a scalar",
    (lambda x, y: x[3] * y[0]): "^payoff must fit strategies",
    **untraced("payoff"),
}


def _rep(name):
    return {
        numpy_array: rf"^{name} must be written with jnp",
        (lambda g: g.astype(complex)): "must give floating matrices, got complex",
    }


FUNCTIONS: dict[tuple[str, str], Given] = {
    ("NeuronalEnsemble", "weights"): Given(
        _two,
        {
            (lambda c: jnp.stack([c[0], c[3]])): r"^weights\[0\] must fit",
            (lambda c: [c[0], c[0]]): r"^weights\[0\] must return one array",
            **untraced(r"weights\[0\]", number=False),
        },
    ),
    ("NeuronalEnsemble", "biases"): Given(
        lambda f: _two(bias=f),
        untraced(r"biases\[0\]") | {(lambda c: c): r"^biases\[0\] must give"},
    ),
    ("Affine", "activation"): Given(Affine, ENTRYWISE),
    ("SetAverage", "activation"): Given(
        SetAverage, {jax.nn.softmax: "must act on every entry alone"}
    ),
    ("Shared", "activation"): Given(lambda f: Shared(f, Pooling()), ENTRYWISE),
    ("Shared", "mix"): Given(
        _mixed,
        {
            jnp.sin: "^mix must be linear",
            (lambda a: a[None] + 1): "^mix must be linear",
            (lambda a: jnp.stack([a, jnp.maximum(a, jnp.roll(a, 1))])): "^mix must be linear",
            (lambda a: a.sum()): r"^mix must map sites \(4,\) to \(K, \*sites\)",
            (lambda a: jnp.stack([a, a])): "^mix must give one row for each of the entries",
            (lambda a, b: a): "^mix must take 1 argument",
            **untraced("mix", number=False),
        },
    ),
    ("from_mlp", "mlp"): Given(
        lambda f: from_mlp(eqx.nn.MLP(2, 1, 3, 1, activation=f, key=KEY)),
        {jax.nn.softmax: "must act on every entry alone"},
    ),
    ("Elementwise", "phi"): Given(
        lambda f: mean_field_gradient(smooth(3, Elementwise(f)).sample(3, key=KEY), Risk(DATA)),
        {(lambda w, h: w * h): "^phi must take 3 arguments", **untraced("phi")},
    ),
    ("Unit", "sigma"): Given(Unit, _ONE_UNIT),
    ("shallow", "sigma"): Given(_risk, _UNITS),
    ("Network.shallow", "sigma"): Given(
        lambda f: mean_field_gradient(Network.shallow(f, PAIR), Risk(DATA)), _ONE_UNIT
    ),
    ("Block", "sigma"): Given(Block, _ONE_UNIT),
    ("Block", "embed"): Given(lambda f: Block(neuron, embed=f), {jnp.dot: "^embed must take 1"}),
    ("Block", "readout"): Given(
        lambda f: Block(neuron, readout=f), {(lambda: 1): "^readout must take 1"}
    ),
    ("residual", "sigma"): Given(
        lambda f: _stream(f, lambda s, c: c),
        {
            (lambda theta, h: h[:1]): "^sigma must give the shape and dtype of its stream",
            (lambda theta, h: theta[5] * h[:, 0]): "^sigma must fit a neuron",
            (lambda theta: theta): "^sigma must take 2 arguments",
            **untraced("sigma", number=False),
        },
    ),
    ("residual", "theta"): Given(
        lambda f: _stream(neuron, f),
        {
            (lambda c: c): "^theta must take 2 arguments",
            (lambda s, c: np.sin(c)): r"^weights\[0\] must be written with jnp",
        },
    ),
    ("Residual", "embed"): Given(
        lambda f: _stream(neuron, lambda s, c: c, embed=f),
        untraced("embed", number=False) | {(lambda: 1): "^embed must take 1 argument"},
    ),
    ("Residual", "readout"): Given(
        lambda f: _stream(neuron, lambda s, c: c, readout=f),
        untraced("readout", number=False) | {(lambda: 1): "^readout must take 1 argument"},
    ),
    ("Perceptron", "activation"): Given(Perceptron, ENTRYWISE),
    ("GatedPerceptron", "activation"): Given(GatedPerceptron, ENTRYWISE),
    ("Normalised", "sigma"): Given(lambda f: Normalised(f, layer_norm), _ONE_UNIT),
    ("Normalised", "norm"): Given(
        lambda f: Normalised(neuron, f), {(lambda: 1): "^norm must take 1 argument"}
    ),
    ("Measure.expectation", "f"): Given(PAIR.expectation, untraced("f")),
    ("Measure.pushforward", "f"): Given(
        PAIR.pushforward, untraced("f") | {(lambda c: c[0]): "^f must map a point"}
    ),
    ("Group", "haar"): Given(
        lambda f: Group(jnp.eye(2)[None], haar=f), {(lambda n, key: jnp.eye(2)[None]): "^haar"}
    ),
    ("Symmetry", "inputs"): Given(
        lambda f: Symmetry(cyclic(3), inputs=f, outputs=trivial(1)), _rep("inputs")
    ),
    ("Symmetry", "outputs"): Given(
        lambda f: Symmetry(cyclic(3), inputs=defining, outputs=f), _rep("outputs")
    ),
    ("Symmetry", "neurons"): Given(
        lambda f: Symmetry(cyclic(3), inputs=defining, outputs=trivial(1), neurons=f),
        _rep("neurons"),
    ),
    ("Symmetry.function", "f"): Given(
        lambda f: Symmetry(cyclic(2), inputs=defining, outputs=trivial(1)).function(f)(X),
        {(lambda x: x): r"^f must give \(12, 1\)"},
    ),
    ("direct_sum", "parts"): Given(
        lambda f: Symmetry(cyclic(3), inputs=direct_sum(f), outputs=trivial(1)), _rep("inputs")
    ),
    ("intertwining", "outputs"): Given(
        lambda f: Symmetry(cyclic(3), inputs=intertwining(f, trivial(1)), outputs=trivial(1)),
        {numpy_array: "^inputs must be written with jnp"},
    ),
    ("intertwining", "inputs"): Given(
        lambda f: Symmetry(cyclic(3), inputs=intertwining(trivial(1), f), outputs=trivial(1)),
        {numpy_array: "^inputs must be written with jnp"},
    ),
    ("Noisy", "weight"): Given(lambda f: _noisy(f, _smooth_pair), untraced(r"weights\[1\]")),
    ("Noisy", "mean"): Given(lambda f: _noisy(lambda c, e, u: u[0], f), untraced(r"weights\[1\]")),
    ("BirthDeath", "rate"): Given(lambda f: BirthDeath(rate=f), _RATES),
    ("FisherRao", "rate"): Given(FisherRao, _RATES),
    ("WassersteinFisherRao", "rate"): Given(lambda f: WassersteinFisherRao(rate=f), _RATES),
    ("GradientFlow", "learning_rates"): Given(GradientFlow, _RATES),
    ("GradientFlow", "bias_rates"): Given(lambda f: GradientFlow(bias_rates=f), _RATES),
    ("Langevin", "temperature"): Given(lambda f: Langevin(temperature=f), _RATES),
    ("Data", "sampler"): Given(
        lambda f: Data(X, DATA.y, sampler=f),
        {
            (lambda n, key: (X[:4], DATA.y[:4])): "^sampler must give samples .* as many as it is",
            (lambda n, key: (np.asarray(key), X)): "^sampler must be written with jnp",
            (lambda n: (X, X)): "^sampler must take 2 arguments",
        },
    ),
    ("Data.from_space", "target"): Given(
        lambda f: Data.from_space(Gaussian(2), f, 4),
        {
            (lambda x: x[:, :1]): "^target must fit one input",
            (lambda x: x[0]): r"^target must return an array \(outputs,\)",
            **untraced("target", number=False),
        },
    ),
    ("Game", "payoff"): Given(lambda f: mean_field_gradient(DUEL, Game(f)), _PAYOFFS),
    ("Game", "losses"): Given(
        lambda f: mean_field_gradient(DUEL, Game(lambda x, y: x @ y, f)), _PAYOFFS
    ),
    ("Game", "spaces"): Given(
        lambda f: Game(f, spaces=(Torus(1), Uniform(0.0, 1.0))).check(
            Network.players(quadrature(Torus(1), 3), quadrature(Uniform(0.0, 1.0), 3))
        ),
        {
            (lambda x, y: x[0] * y[0]): "^payoff must have period 1 in coordinate 0 of player 1",
            (lambda x, y: jnp.cos(2 * jnp.pi * x[0]) * jnp.log(y[0])): (
                r"^payoff must be finite on the walls of the space Uniform\(1\) of player 2"
            ),
        },
    ),
    ("Interaction", "F"): Given(
        lambda f: mean_field_gradient(CLOUD, Interaction(f, jnp.dot)),
        untraced("F") | {(lambda t: t): "^F must return a scalar"},
    ),
    ("Interaction", "K"): Given(
        lambda f: Interaction(jnp.sum, f).check(CLOUD),
        untraced("K") | {(lambda t, u: (t**4 * u**2).sum()): "^K must be symmetric"},
    ),
    ("Interaction.from_data", "sigma"): Given(
        lambda f: mean_field_gradient(CLOUD, Interaction.from_data(f, DATA)),
        untraced("F", number=False),
    ),
    ("Penalty", "function"): Given(
        lambda f: mean_field_gradient(CLOUD, Penalty(f)),
        untraced("penalty") | {(lambda t: t): "^penalty must return a scalar"},
    ),
    ("Risk", "loss"): Given(
        lambda f: mean_field_gradient(smooth(2).sample(3, key=KEY), Risk(DATA, f)),
        untraced("loss")
        | {
            (lambda p, y: (p - y) ** 2): "^loss must return a scalar",
            (lambda p, y: (p - y).astype(complex).sum()): "^loss must return a real number",
        },
    ),
    ("flow", "observe"): Given(
        lambda f: flow(smooth(2).sample(3, key=KEY), Risk(DATA), observe=f, t1=0.1),
        _of_networks(SEEN),
    ),
    ("train", "observe"): Given(
        lambda f: train(smooth(2).sample(3, key=KEY), Risk(DATA), observe=f, step=0.1, t1=0.1),
        _of_networks(SEEN),
    ),
    ("limit", "observe"): Given(_seen(limit, nodes=5), _of_networks(SEEN)),
    ("coupling", "observe"): Given(
        _seen(coupling, widths=[3], seeds=1, nodes=3, key=KEY), _of_networks(SEEN)
    ),
    ("fluctuations", "observe"): Given(
        _seen(fluctuations, nodes=4), _of_networks(SEEN) | CONTINUOUS
    ),
    ("jackknife", "observe"): Given(
        lambda f: jackknife(smooth(2).sample(4, key=KEY), Risk(DATA), f, t1=0.1),
        _of_networks(SEEN) | CONTINUOUS,
    ),
    ("sgd_noise", "observe"): Given(_seen(sgd_noise, nodes=4), _of_networks(SEEN) | CONTINUOUS),
    ("simulate", "observe"): Given(
        _seen(simulate, width=4, seeds=2, key=KEY), _of_networks(SEEN) | BY_MASS
    ),
    ("charged", "K"): Given(
        lambda f: mean_field_gradient(
            Network.particles(Measure(jnp.eye(2), jnp.full(2, 0.5))),
            Interaction(jnp.sum, charged(f)),
        ),
        untraced("K"),
    ),
    ("from_potentials", "V"): Given(
        lambda f: mean_field_gradient(CLOUD, from_potentials(f, jnp.dot)), untraced("F")
    ),
    ("from_potentials", "U"): Given(
        lambda f: mean_field_gradient(CLOUD, from_potentials(jnp.sum, f)), untraced("K")
    ),
    ("teacher_student", "K"): Given(lambda f: teacher_student(f, PAIR), untraced("K")),
    ("grid_flow", "density"): Given(
        lambda f: grid_flow(Interaction(jnp.sum, jnp.dot), f, low=-1.0, high=1.0, cells=8, t1=0.1),
        untraced("density") | {(lambda t: t): "^density must return scalars"},
    ),
    ("ThreeSpin.force", "h"): Given(
        lambda f: jax.eval_shape(ThreeSpin(3, 0.1).force(f), jnp.ones(4)), {}
    ),
}

# Of solvers and networks themselves: functions of this library.
INSIDE = {
    ("Network.map_neurons", "change"),
    ("Parameters.map_neurons", "change"),
    ("Moment", "fresh"),
    ("Adaptive.run", "observe"),
    ("Adaptive.controller", "schedules"),
    ("Adaptive.controller", "norm"),
    ("Solver.run", "observe"),
    ("Steps.run", "observe"),
}


def taken():
    """(name, argument) of every public argument whose annotation has a function in it."""
    found = set()
    for name, value in names().items():
        for full, f in _members(name.rpartition(".")[2], value):
            found |= {(full, p) for p, hint in _hints(f).items() if _has_function(hint)}
    return found


def _members(name, value):
    if callable(value):
        yield name, value
    if inspect.isclass(value):
        for method, f in vars(value).items():
            f = getattr(f, "__func__", f)
            f = getattr(f, "__wrapped__", f)
            if not method.startswith("_") and inspect.isfunction(f):
                yield f"{name}.{method}", f


def _hints(f):
    try:
        return {p.name: p.annotation for p in inspect.signature(f).parameters.values()}
    except (TypeError, ValueError):
        return {}


def _has_function(hint):
    if isinstance(hint, str):
        return any(word in hint for word in ("Callable", "Observ", "Rates", "Schedule"))
    if collections.abc.Callable in (hint, typing.get_origin(hint)):
        return True
    return any(_has_function(part) for part in typing.get_args(hint) if not isinstance(part, list))
