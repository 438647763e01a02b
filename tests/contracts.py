"""The registry: named members of every family, with what they need.

Whatever is listed here has to keep the contract of its family (`test_contracts.py`): a new class is
tested by being listed, and every public concrete class has to be.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from models import regression, smooth

from ensembles import (
    Affine,
    Atoms,
    Elementwise,
    Gauss,
    Gaussian,
    Group,
    Layer,
    Measure,
    MonteCarlo,
    Network,
    NeuronalEnsemble,
    Parameters,
    Product,
    Rule,
    Sobol,
    Space,
    Sphere,
    Symmetry,
    Torus,
    Uniform,
    diverse,
    from_mlp,
    iid,
    load,
    particles,
    players,
    quadrature,
    relative_measure_distance,
    save,
    shallow,
    to_mlp,
    wasserstein,
)
from ensembles.groups import (
    cyclic,
    defining,
    dihedral,
    direct_product,
    direct_sum,
    generated,
    intertwining,
    orthogonal,
    pixels,
    rotations,
    symmetric,
    trivial,
)
from limits import (
    SGD,
    Adaptive,
    BirthDeath,
    CrossEntropyLoss,
    Data,
    Dynamics,
    Energy,
    FisherRao,
    Game,
    GradientFlow,
    HuberLoss,
    Interaction,
    Langevin,
    LogisticLoss,
    MirrorProx,
    Optimiser,
    PathNorm,
    PowerPenalty,
    Risk,
    SquaredLoss,
    Steps,
    Update,
    WassersteinFisherRao,
    collapse,
    convergence,
    coupling,
    diversity,
    fit_rate,
    flow,
    fluctuations,
    initial_motion,
    limit,
    mean_field_gradient,
    nikaido_isoda,
    optimality_gap,
    sgd_noise,
    simulate,
    train,
)
from limits._solvers.solver import Solver
from limits.kernels import ErfKernel, charged, from_potentials, teacher_student
from limits.references import (
    activation_patterns,
    boltzmann,
    boltzmann_game,
    grid_flow,
    matrix_game,
    minimal_interpolation,
    minimising_movement,
    quadratic_on_sphere,
    single_neuron,
    sparse_relu,
)
from limits.symmetries import (
    EquivariantArchitecture,
    FeatureAveraging,
    augmented,
    discover_architecture,
)

KEY = jax.random.key(7)
FAMILIES = (Space, Rule, Layer, Energy, Dynamics, Update, Solver)


# Probability spaces and quadrature rules


class Law(NamedTuple):
    """A space of labels in any dtype it has; `gauss` says whether there are Gauss rules, and
    `gauss_error(m)` how far the mean of m nodes per axis is off."""

    make: Callable[[Any], Space]
    dtypes: tuple[Any, ...] = (jnp.float64, jnp.float32)
    gauss: bool = True
    gauss_error: Callable[[int], float] = lambda m: 0.0


def _atoms(dtype):
    points = jnp.asarray([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], dtype)
    return Atoms(points, jnp.asarray([0.5, 0.2, 0.3], dtype))


def _gaussian(dtype):
    return Gaussian(2, jnp.asarray([1.0, -0.5], dtype), jnp.asarray([0.5, 2.0], dtype))


def _uniform(dtype):
    return Uniform(jnp.asarray([-1.0, 0.0], dtype), jnp.asarray([1.0, 3.0], dtype))


def _torus(dtype):
    return Torus(2)  # follows JAX's switch


SPACES = {
    "atoms": Law(_atoms),
    "Gaussian": Law(_gaussian),
    "uniform": Law(_uniform),
    "torus": Law(_torus, dtypes=(jnp.float64,), gauss_error=lambda m: 1 / (2 * m)),
    "circle": Law(lambda dtype: Sphere(2, jnp.asarray(1.5, dtype))),
    "sphere": Law(lambda dtype: Sphere(3, jnp.asarray(1.5, dtype)), gauss=False),
    "product": Law(lambda dtype: Product(_gaussian(dtype), _atoms(dtype))),
}


class Nodes(NamedTuple):
    """A quadrature rule and the laws that it knows."""

    rule: Rule
    knows: Callable[[Law], bool]


def _has_gaussian(law: Law) -> bool:
    space = law.make(jnp.float64)
    parts = space.spaces if isinstance(space, Product) else (space,)
    return any(isinstance(part, Gaussian) for part in parts)


RULES = {
    "Gauss": Nodes(Gauss(), lambda law: law.gauss),
    "Monte Carlo": Nodes(MonteCarlo(), lambda law: True),
    "Sobol": Nodes(Sobol(), lambda law: True),
    "aligned Sobol": Nodes(Sobol(align=[[1.0, 2.0], [0.5, -1.0]]), _has_gaussian),
}


# Layers, in networks of two outputs for inputs in R²


def _vectors_first(w, b, x):
    return jnp.tanh(w * x + b)


def _vectors(w, b, h):
    return jnp.tanh(w * h + b) * w[::-1]


def _vectors_last(w, b, h):
    return w[1] * jnp.tanh(jnp.dot(w, h)) + b


def _vector_valued():
    """Weights and preactivations in R², φ not affine in the weights."""
    kinds = [Elementwise(_vectors_first), Elementwise(_vectors), Elementwise(_vectors_last)]
    return NeuronalEnsemble(
        [Uniform(-1.0, 1.0)] * 2,
        [
            lambda c: jnp.stack([jnp.sin(2 * c[0]), 1 + c[0]]),
            lambda c, e: jnp.stack([1 + jnp.sin(c[0] + 2 * e[0]), c[0] - e[0]]),
            lambda c: jnp.stack([jnp.cos(c[0] + jnp.arange(2.0)), 1 + c[0] * jnp.arange(2.0)]),
        ],
        [lambda c: 0.3 * c[0], lambda c: 0.5 * jnp.sin(c[0]), jnp.asarray([0.1, 0.2])],
        layers=kinds,
    )


def _neuron(theta, x):
    return theta[0] * jnp.stack([jnp.tanh(theta[0] + x[0]), jnp.sin(theta[0] * x[1])])


LAYERS: dict[str, Callable[[], NeuronalEnsemble]] = {
    "Affine tanh": lambda: smooth(3, outputs=2, biases=True),
    "Affine relu": lambda: smooth(3, Affine(jax.nn.relu), outputs=2, biases=True),
    "Elementwise": _vector_valued,
    "Unit": lambda: shallow(_neuron, Uniform(-1.0, 1.0)),
}


# Energies, of networks of two outputs for inputs in R²


def quartic(prediction, y):
    """A user's loss."""
    return ((prediction - y) ** 4).sum() / 4


def _target(x):
    return jnp.stack([jnp.sin(x[0] * x[1]), jnp.cos(x[0])])


def _weighted(targets: Callable[[jax.Array], jax.Array]) -> Data:
    """Six points of unequal masses."""
    data = regression(6, outputs=2)
    return Data(data.x, targets(data.y), jnp.arange(1.0, 7.0) / 21)


SWAP = Symmetry(cyclic(2), inputs=defining, outputs=defining, neurons=trivial(1))
ENERGIES: dict[str, Energy] = {
    "risk": Risk(_weighted(lambda y: y)),
    "Huber risk": Risk(_weighted(lambda y: y), HuberLoss(0.4)),
    "logistic risk": Risk(_weighted(lambda y: jnp.where(y > 0, 1.0, -1.0)), LogisticLoss()),
    "cross-entropy": Risk(_weighted(lambda y: jax.nn.softmax(3 * y)), CrossEntropyLoss()),
    "risk of a user's loss": Risk(_weighted(lambda y: y), quartic),
    "risk of a population": Risk(
        Data.from_space(Uniform(jnp.array([-1.0, -1.0]), 1.0), _target, 64, Gauss())
    ),
    "feature averaging": FeatureAveraging(_weighted(lambda y: y), symmetry=SWAP),
}
PARTICLES: dict[str, Energy] = {
    "equivariant architecture": EquivariantArchitecture(_weighted(lambda y: y), symmetry=SWAP),
    "potentials of data": Interaction.from_data(_neuron, _weighted(lambda y: y)),
    "penalised risk": Risk(_weighted(lambda y: y), penalty=PowerPenalty(0.1, 1.5)),
}
NORMS: dict[str, Energy] = {
    "path norm": PathNorm(0.3),
    "risk and path norm": Risk(_weighted(lambda y: y)) + PathNorm(0.3),
}
GAMES: dict[str, Energy] = {"bilinear game": Game(jnp.dot)}  # of players, in `test_games.py`
LOSSES = (SquaredLoss, HuberLoss, LogisticLoss, CrossEntropyLoss)


# Dynamics, of networks of three layers


def slowing(t):
    """A schedule."""
    return 1 / (1 + t)


class Motion(NamedTuple):
    """A dynamics, and whether the energy falls along it."""

    dynamics: Dynamics
    descends: bool = True


DYNAMICS = {
    "gradient flow": Motion(GradientFlow()),
    "scheduled gradient flow with decay": Motion(
        GradientFlow([slowing, 0.5, 2.0], weight_decay=0.1), descends=False
    ),
    "Fisher–Rao": Motion(FisherRao([slowing, 0.5])),
    "Wasserstein–Fisher–Rao": Motion(
        WassersteinFisherRao(GradientFlow([1.0, slowing, 0.5]), rate=0.7)
    ),
}


class Still(NamedTuple):
    """A dynamics with rates of 0, and the part of a velocity that they stop."""

    dynamics: Dynamics
    part: Callable[[Parameters], Any]


FROZEN = {
    "first layer": Still(GradientFlow([0.0, 1.0, 1.0]), lambda v: (v.weights[0], v.biases[0])),
    "last layer": Still(GradientFlow([slowing, 1.0, 0.0]), lambda v: (v.weights[2], v.biases[2])),
    "decay of a frozen layer": Still(
        GradientFlow([1.0, 0.0, 1.0], weight_decay=0.1), lambda v: (v.weights[1], v.biases[1])
    ),
    "masses of one layer": Still(
        FisherRao([0.0, 1.0]), lambda v: (v.growth[0], v.weights, v.biases)
    ),
    "one layer's masses beside transport": Still(
        WassersteinFisherRao(rate=[1.0, 0.0]), lambda v: v.growth[1]
    ),
    "transport of one layer beside masses": Still(
        WassersteinFisherRao(GradientFlow([1.0, 0.0, 1.0])), lambda v: (v.weights[1], v.biases[1])
    ),
}

BAD_RATES = {
    "two learning rates": (lambda: GradientFlow([1.0, 1.0]), "learning_rates"),
    "a negative learning rate": (lambda: GradientFlow([1.0, -1.0, 1.0]), "learning_rates"),
    "an infinite learning rate": (lambda: GradientFlow(jnp.inf), "learning_rates"),
    "negative decay": (lambda: GradientFlow(weight_decay=-0.1), "weight_decay"),
    "three rates of masses": (lambda: FisherRao([1.0, 1.0, 1.0]), "rate"),
    "a negative rate": (lambda: FisherRao(-1.0), "rate"),
    "no rate": (lambda: FisherRao([]), "rate"),
    "rates of masses beside transport": (lambda: WassersteinFisherRao(rate=[1.0] * 3), "rate"),
    "a negative rate beside transport": (lambda: WassersteinFisherRao(rate=[1.0, -1.0]), "rate"),
    "rates of transport": (
        lambda: WassersteinFisherRao(GradientFlow([1.0] * 4)),
        "learning_rates",
    ),
}


# Updates, of networks of two layers


class HeavyBall(Update):
    """A user's update: momentum, carried as memory."""

    dynamics: Dynamics
    momentum: float = 0.8

    @property
    def random(self):
        return False

    def memory(self, network):
        return jax.tree.map(jnp.zeros_like, network.increment)

    def __call__(self, t, step, network, memory, energy, key):
        value, velocity = self.dynamics.value_and_velocity(t, network, energy)
        change = jax.tree.map(lambda m, v: self.momentum * m + step * v, memory, velocity)
        return value, change, change

    def check(self, network, energy, step):
        self.dynamics.check(network, energy)


UPDATES: dict[str, Update] = {
    "gradient descent": SGD(),
    "SGD": SGD(GradientFlow([slowing, 1.0]), batch=2),
    "SGD with masses": SGD(WassersteinFisherRao(), batch=2),
    "heavy ball": HeavyBall(GradientFlow()),
    "Adam": Optimiser(optax.adam(0.05), batch=2),
    "mirror prox": MirrorProx(WassersteinFisherRao(GradientFlow([slowing, 1.0])), batch=2),
    "Langevin": SGD(Langevin(temperature=1e-4)),
    "birth and death": BirthDeath(SGD(batch=2), rate=0.1),
}


# Solvers: what a run of theirs is, written with `flow` or `train`


class Way(NamedTuple):
    solver: Solver
    alone: Callable[..., Any]


def _steps(batch):
    def alone(network, energy, dynamics, key, **options):
        key = None if batch is None else key
        return train(network, energy, SGD(dynamics, batch), step=0.125, key=key, **options)

    return alone


SOLVERS = {
    "adaptive": Way(
        Adaptive(rtol=1e-6, max_step=0.3),
        lambda network, energy, dynamics, key, **options: flow(
            network, energy, dynamics, rtol=1e-6, max_step=0.3, **options
        ),
    ),
    "steps": Way(Steps(0.125), _steps(None)),
    "steps on batches": Way(Steps(0.125, batch=2), _steps(2)),
}


# Wrong calls: what is easily mistaken for what, and a right call of every public function


@functools.cache
def mistakable() -> dict[type, tuple[Any, ...]]:
    ensemble, risk = smooth(3), Risk(regression(6))
    network, measure = ensemble.sample(3, key=KEY), quadrature(Uniform(-1.0, 1.0), 2)
    return {
        NeuronalEnsemble: (network, risk, measure),
        Network: (ensemble, risk.data, measure),
        Energy: (risk.data, SquaredLoss(), network),
        Data: (risk, measure),
        Dynamics: (SGD(), risk, GradientFlow),
        GradientFlow: (SGD(), FisherRao(), GradientFlow),
        Update: (GradientFlow(), risk, SGD),
        Solver: (diffrax.Tsit5(), GradientFlow(), Adaptive),
        Adaptive: (Steps(0.1), diffrax.Tsit5()),
        diffrax.AbstractSolver: (Adaptive(), diffrax.Tsit5),
        Space: (measure, Gauss(), Uniform),
        Measure: (network, Gauss()),
        Rule: (Uniform(-1.0, 1.0), Gauss),
        Symmetry: (cyclic(2), Symmetry),
        Group: (jnp.eye(2), Group),
    }


def _outputs(network):
    return network.biases[-1]


def _mlp():
    return eqx.nn.MLP(2, 1, 3, 1, dtype=jnp.float64, key=KEY)


@functools.cache
def right_calls() -> dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, type]]]:
    """Every public function with arguments that fit, and the kinds of those that are objects of
    this library; then what else is made of such objects."""
    ensemble, risk = smooth(3, biases=True), Risk(regression(6))
    network, affine = ensemble.sample(3, key=KEY), Affine(jnp.tanh)
    run = dict(t1=0.5)
    pair = dict(network=network, energy=risk)
    study = dict(ensemble=ensemble, energy=risk, **run)
    wide = dict(**study, widths=[3], seeds=2, nodes=3, key=KEY)
    observed = dict(**study, observe=_outputs)
    laws = dict(dim=2, depth=3, layers=affine, first=Gaussian(1), last=Gaussian(1, 1.0))
    started = {"network": Network, "energy": Energy}
    studied = {"ensemble": NeuronalEnsemble, "energy": Energy}
    moved = {"dynamics": Dynamics}
    space = Uniform(-1.0, 1.0)
    duel, game = Network.players(*[quadrature(space, 2)] * 2), GAMES["bilinear game"]
    return {
        "quadrature": (quadrature, dict(space=space, n=4), {"space": Space, "rule": Rule}),
        "shallow": (shallow, dict(sigma=_neuron, neurons=space), {"neurons": Space}),
        "particles": (particles, dict(positions=space), {"positions": Space}),
        "players": (
            lambda strategies: players(strategies, space),
            dict(strategies=space),
            {"strategies": Space},
        ),
        "Network.shallow": (
            Network.shallow,
            dict(sigma=_neuron, neurons=quadrature(space, 2)),
            {"neurons": Measure},
        ),
        "Network.particles": (
            Network.particles,
            dict(positions=quadrature(space, 2)),
            {"positions": Measure},
        ),
        "Network.players": (
            lambda strategies: Network.players(strategies, quadrature(space, 2)),
            dict(strategies=quadrature(space, 2)),
            {"strategies": Measure},
        ),
        "wasserstein": (
            wasserstein,
            dict(mu=quadrature(space, 2), nu=quadrature(space, 3)),
            {"mu": Measure, "nu": Measure},
        ),
        "relative_measure_distance": (
            relative_measure_distance,
            dict(mu=quadrature(space, 2), nu=quadrature(space, 3)),
            {"mu": Measure, "nu": Measure},
        ),
        "cyclic": (cyclic, dict(n=3), {}),
        "symmetric": (symmetric, dict(n=3), {}),
        "dihedral": (dihedral, dict(n=3), {}),
        "generated": (lambda: generated(jnp.eye(2)), {}, {}),
        "direct_product": (lambda: direct_product(cyclic(2), cyclic(2)), {}, {}),
        "rotations": (rotations, dict(dim=2), {}),
        "orthogonal": (orthogonal, dict(dim=2, samples=3, key=KEY), {}),
        "defining": (defining, dict(g=jnp.eye(2)), {}),
        "trivial": (trivial, dict(dim=2), {}),
        "direct_sum": (lambda: direct_sum(defining, trivial(1)), {}, {}),
        "intertwining": (intertwining, dict(outputs=defining, inputs=defining), {}),
        "pixels": (pixels, dict(size=2), {}),
        "augmented": (
            augmented,
            dict(data=_weighted(lambda y: y), symmetry=SWAP),
            {"data": Data, "symmetry": Symmetry},
        ),
        "discover_architecture": (
            discover_architecture,
            dict(
                network=Network.shallow(_neuron, quadrature(space, 2)),
                energy=PARTICLES["penalised risk"],
                step=0.1,
                t1=0.2,
            ),
            started,
        ),
        "Symmetry": (
            Symmetry,
            dict(group=cyclic(2), inputs=defining, outputs=defining),
            {"group": Group},
        ),
        "Symmetry.symmetrised": (SWAP.symmetrised, dict(law=quadrature(space, 2)), {"law": Rule}),
        "Symmetry.projected": (SWAP.projected, dict(law=quadrature(space, 2)), {"law": Rule}),
        "Symmetry.ensemble": (
            SWAP.ensemble,
            dict(ensemble=smooth(3, outputs=2)),
            {"ensemble": NeuronalEnsemble},
        ),
        "optimality_gap": (
            optimality_gap,
            dict(
                network=Network.shallow(_neuron, quadrature(space, 2)),
                space=space,
                key=KEY,
                energy=PARTICLES["penalised risk"],
            ),
            started | {"space": Space},
        ),
        "iid": (
            iid,
            dict(**laws, hidden=Gaussian(1, 1.0)),
            {"first": Space, "hidden": Space, "last": Space},
        ),
        "diverse": (diverse, dict(**laws, modes=2), {"first": Space, "last": Space}),
        "mean_field_gradient": (mean_field_gradient, pair, started),
        "flow": (
            flow,
            dict(**pair, **run),
            started | moved | {"solver": diffrax.AbstractSolver},
        ),
        "train": (train, dict(**pair, **run, step=0.5), started | {"dynamics": Update}),
        "limit": (
            limit,
            study,
            studied | moved | {"rule": Rule, "solver": diffrax.AbstractSolver},
        ),
        "initial_motion": (
            initial_motion,
            dict(ensemble=ensemble, energy=risk),
            studied | {"rule": Rule},
        ),
        "coupling": (coupling, wide, studied | moved | {"solver": Solver, "rule": Rule}),
        "collapse": (collapse, wide, studied | moved | {"solver": Solver, "rule": Rule}),
        "convergence": (convergence, pair, started),
        "diversity": (
            diversity,
            dict(network=network, data=risk.data, modes=2, key=KEY),
            {"network": Network, "data": Data, "ensemble": NeuronalEnsemble},
        ),
        "fluctuations": (
            fluctuations,
            dict(**observed, nodes=3),
            {k: v for k, v in studied.items() if k != "ensemble"}  # it may be a network, too
            | moved
            | {"solver": Adaptive, "rule": Rule},
        ),
        "sgd_noise": (
            sgd_noise,
            dict(**observed, nodes=3),
            studied | moved | {"solver": Adaptive, "rule": Rule},
        ),
        "simulate": (
            simulate,
            dict(**observed, width=3, seeds=2, key=KEY),
            studied | moved | {"solver": Solver},
        ),
        "activation_patterns": (activation_patterns, dict(x=risk.data.x), {}),
        "sparse_relu": (sparse_relu, dict(data=risk.data, penalty=0.1), {"data": Data}),
        "minimal_interpolation": (
            minimal_interpolation,
            dict(data=risk.data, directions=risk.data.x),
            {"data": Data},
        ),
        "charged": (charged, dict(K=ErfKernel()), {}),
        "from_potentials": (from_potentials, dict(V=jnp.sum, U=ErfKernel()), {}),
        "teacher_student": (
            teacher_student,
            dict(K=ErfKernel(), teacher=quadrature(space, 2)),
            {"teacher": Measure},
        ),
        "grid_flow": (
            grid_flow,
            dict(
                interaction=Interaction(jnp.sum, jnp.dot),
                density=jnp.exp,
                low=-1.0,
                high=1.0,
                cells=8,
                t1=0.1,
            ),
            {"interaction": Data},
        ),
        "boltzmann": (
            boltzmann,
            dict(
                interaction=Interaction(jnp.sum, jnp.dot),
                low=-1.0,
                high=1.0,
                cells=8,
                temperature=1.0,
            ),
            {"interaction": Data},
        ),
        "nikaido_isoda": (
            nikaido_isoda,
            dict(network=duel, game=game, spaces=(space, space), key=KEY),
            {"network": Network, "game": Energy},
        ),
        "matrix_game": (matrix_game, dict(payoff=[[0.0, 1.0]]), {}),
        "quadratic_on_sphere": (
            quadratic_on_sphere,
            dict(matrix=jnp.eye(2), vector=jnp.ones(2)),
            {},
        ),
        "boltzmann_game": (
            boltzmann_game,
            dict(game=game, low=-1.0, high=1.0, cells=8, temperature=1.0),
            {"game": Energy},
        ),
        "minimising_movement": (
            minimising_movement,
            dict(
                network=Network.particles(quadrature(space, 2)),
                step=0.1,
                t1=0.2,
                energy=Interaction(jnp.sum, jnp.dot),
            ),
            started,
        ),
        "single_neuron": (single_neuron, dict(dim=3), {}),
        "fit_rate": (fit_rate, dict(x=[1.0, 2.0, 4.0], y=[1.0, 0.7, 0.5]), {}),
        "from_mlp": (from_mlp, dict(mlp=_mlp()), {"mlp": Network}),
        "to_mlp": (to_mlp, dict(network=from_mlp(_mlp()).network), {"network": Network}),
        "save": (save, dict(path="", value=1), {}),
        "load": (load, dict(path=""), {}),
        "Risk": (Risk, dict(data=risk.data), {"data": Data}),
        "SGD": (SGD, {}, moved),
        "MirrorProx": (MirrorProx, {}, moved),
        "BirthDeath": (BirthDeath, {}, {"prior": Space}),
        "Langevin": (Langevin, {}, {"transport": GradientFlow}),
        "Interaction.from_data": (
            Interaction.from_data,
            dict(sigma=_neuron, data=risk.data),
            {"data": Data},
        ),
        "WassersteinFisherRao": (WassersteinFisherRao, {}, {"transport": GradientFlow}),
        "Adaptive": (Adaptive, {}, {"solver": diffrax.AbstractSolver}),
        "Steps": (Steps, dict(step=0.1), {"limit": Adaptive}),
        "Data.from_space": (
            Data.from_space,
            dict(space=Gaussian(2), target=_target, nodes=4),
            {"space": Space, "rule": Rule},
        ),
        "NeuronalEnsemble.measures": (ensemble.measures, dict(nodes=3), {"rule": Rule}),
        "NeuronalEnsemble.discretise": (
            ensemble.discretise,
            dict(nodes=3),
            {"rule": Rule, "tracers": Network},
        ),
    }
