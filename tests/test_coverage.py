"""How often bands told of nominal 95 % hold networks that were simulated: a table of settings."""

import contextlib
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import regression, smooth
from sklearn.datasets import load_diabetes

from ensembles import Affine, Gaussian, Network, NeuronalEnsemble, from_mlp, iid
from limits import (
    Adaptive,
    CrossEntropyLoss,
    Data,
    Dynamics,
    Energy,
    GradientFlow,
    Risk,
    WassersteinFisherRao,
    fluctuations,
    jackknife,
    simulate,
)

pytestmark = pytest.mark.slow
TANH = Affine(jnp.tanh)
LEAST, MOST = 0.92, 0.98


class Outputs(eqx.Module):
    """The first output at some inputs."""

    x: jax.Array

    def __call__(self, network: Network) -> jax.Array:
        return network(self.x)[:, 0]


def two_layers(dim: int = 2, scale: float = 1.0, layers: Affine = TANH) -> NeuronalEnsemble:
    first, last = Gaussian(1, scale=scale), Gaussian(1)
    return iid(dim=dim, depth=2, first=first, last=last, layers=layers)


def diabetes() -> tuple[Risk, Outputs]:
    """Ten features of 128 patients, standardised; asked of four others."""
    table = load_diabetes()
    order = np.random.default_rng(0).permutation(len(table.data))[:132]
    x, y = table.data[order], table.target[order, None]
    x, y = (jnp.asarray((a - a.mean(0)) / a.std(0)) for a in (x, y))
    return Risk(Data(x[:128], y[:128])), Outputs(x[128:])


def classes() -> Risk:
    """Whether the product of the inputs is positive, by cross-entropy."""
    x = regression(16).x
    positive = jnp.asarray(x[:, 0] * x[:, 1] > 0, x.dtype)
    return Risk(Data(x, jnp.stack([positive, 1 - positive], 1)), CrossEntropyLoss())


@dataclasses.dataclass
class Setting:
    """Networks of `width` at times t1/4 and t1, and the limit on `nodes`."""

    ensemble: NeuronalEnsemble
    width: int
    t1: float
    nodes: Any
    energy: Energy | None = None
    observe: Outputs | None = None
    dynamics: Dynamics | None = None
    rule: Any = None
    solver: Adaptive = dataclasses.field(default_factory=lambda: Adaptive(rtol=1e-6))
    seeds: int = 500

    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Of networks within the band told, and within that without its errors, by time."""
        data = regression.__wrapped__(16)  # of the precision that is set now
        options = dict(t1=self.t1, times=jnp.array([self.t1 / 4, self.t1]), dynamics=self.dynamics)
        asked = (
            self.ensemble, Risk(data) if self.energy is None else self.energy,
            Outputs(data.x[:4]) if self.observe is None else self.observe,
        )  # fmt: skip
        found = fluctuations(
            *asked, nodes=self.nodes, rule=self.rule, key=jax.random.key(7), **options
        )
        drawn = simulate(
            *asked, width=self.width, seeds=self.seeds, key=jax.random.key(8), **options
        )
        low, high = map(np.asarray, found.band(self.width))
        held = (low <= drawn.values) & (drawn.values <= high)
        bare = 1.959964 * np.sqrt(np.asarray(found.variance) / self.width)
        plain = np.abs(drawn.values - np.asarray(found.mean)) <= bare
        return held.mean((0, 2)), plain.mean((0, 2))


def diabetes_limit() -> Setting:
    risk, observe = diabetes()
    return Setting(two_layers(10, scale=10**-0.5), 64, 10.0, 2048, risk, observe)


def settings() -> dict[str, Any]:
    three = iid(
        dim=2, depth=3, first=Gaussian(1), hidden=Gaussian(1, mean=1.0),
        last=Gaussian(1, mean=0.5), layers=TANH,
    )  # fmt: skip
    return {
        "depth 4": lambda: Setting(smooth(4), 64, 3.0, 16),
        "ReLU": lambda: Setting(
            two_layers(layers=Affine(jax.nn.relu)), 100, 2.0, 512, solver=Adaptive(step=0.05)
        ),
        "cross-entropy": lambda: Setting(smooth(2, outputs=2), 100, 60.0, 48, classes()),
        "growth": lambda: Setting(
            two_layers(), 100, 3.0, 2048, dynamics=WassersteinFisherRao(rate=1.0)
        ),
        "width 8": lambda: Setting(smooth(2), 8, 3.0, 32, seeds=2000),
        "weight decay": lambda: Setting(
            smooth(3), 64, 3.0, 24, dynamics=GradientFlow(weight_decay=0.1)
        ),
        "single precision": lambda: Setting(smooth(3), 64, 3.0, 24),
        "diabetes": diabetes_limit,
        "i.i.d., three layers": lambda: Setting(three, 64, 3.0, (256, 12)),
    }


@pytest.mark.parametrize("name", settings())
def test_bands_of_the_limit_hold_simulated_networks(name):
    single = name == "single precision"
    with jax.enable_x64(False) if single else contextlib.nullcontext():
        held, plain = settings()[name]().shares()
    print(f"\n{name:>22}: {held.round(3)}, without errors {plain.round(3)}")
    assert (held > LEAST).all() and (held < MOST).all()


def mlps(depth: int, width: int) -> Any:
    """Draws of `equinox.nn.MLP` as they come, and the dynamics of their own training."""

    def draw(key):
        return eqx.nn.MLP(10, 1, width, depth, activation=jnp.tanh, dtype=float, key=key)

    rates = from_mlp(draw(jax.random.key(0))).rates
    return eqx.filter_jit(lambda key: from_mlp(draw(key)).network), GradientFlow(**rates)


def mean_field(width: int) -> Any:
    ensemble = two_layers(10, scale=10**-0.5)
    return eqx.filter_jit(lambda key: ensemble.sample(width, key=key)), None


OF_ONE = {
    "MLP, one hidden layer of 64": (lambda: mlps(1, 64), [0.1, 1.0]),
    "MLP, two hidden layers of 40": (lambda: mlps(2, 40), [0.1, 1.0]),
    "mean field, 64": (lambda: mean_field(64), [3.0, 10.0]),
}


@pytest.mark.filterwarnings("ignore::limits.warnings.VagueBand")
@pytest.mark.parametrize("name", OF_ONE)
def test_bands_of_one_network_hold_others(name):
    """On the diabetes data: the band of each of 300 networks, and all the others."""
    make, times = OF_ONE[name]
    (draw, dynamics), (risk, observe), seeds = make(), diabetes(), 300
    bands, values, told = [], [], []
    for s in range(seeds):
        found = jackknife(
            draw(jax.random.fold_in(jax.random.key(5), s)), risk, observe, t1=times[-1],
            times=jnp.array(times), dynamics=dynamics, solver=Adaptive(rtol=1e-4),
        )  # fmt: skip
        bands.append([np.asarray(a) for a in found.band()])
        values.append(np.asarray(found.observed))
        told.append(np.asarray(found.variance))
    low, high, values = *np.swapaxes(bands, 0, 1), np.stack(values)
    held = (low[:, None] <= values[None]) & (values[None] <= high[:, None])
    shares = (held.sum((0, 1)) - seeds).mean(-1) / (seeds * (seeds - 1))
    deviation = np.sqrt(np.median(told, 0) / values.var(0, ddof=1)).mean(-1)
    print(f"\n{name}: {shares.round(3)} at {times}; deviation told / actual {deviation.round(2)}")
    assert (shares > LEAST).all() and (shares < MOST).all()
