"""Layers with shared weights that do not fit inputs, sites or weights."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from ensembles import Affine, Gaussian, Symmetry, iid
from ensembles.channels import Convolution, Operators, Pooling, SetMix, Shared
from ensembles.groups import defining, generated, trivial
from limits import Data, Risk, mean_field_gradient

KEY = jax.random.key(0)


def start(*mixes, last=1, first=None, hidden=None, dim=1):
    layers = [Affine(jnp.tanh) if mix is None else Shared(jnp.tanh, mix) for mix in mixes]
    return iid(
        dim=dim, depth=len(mixes), first=first or Gaussian(1), hidden=hidden or Gaussian(1),
        last=Gaussian(last), layers=layers,
    )  # fmt: skip


def at(shape, *mixes):
    network = start(*mixes).sample(2, key=KEY)
    return lambda: mean_field_gradient(network, Risk(Data(jnp.ones(shape), jnp.ones((3, 1)))))


POOLED, LINE = Pooling(), Convolution(3)
SIX = Operators(np.eye(6)[None])

WRONG = {
    r"^x must have shape \(batch, 1, \*sites\).*write x\[:, None\]": at((3, 6), LINE, POOLED),
    r"^x must have shape \(batch, 1, \*sites\).*moveaxis": at((3, 6, 1), LINE, POOLED),
    r"^mix must have one size for each axis.*Convolution\(\(3, 3\)\)": at(
        (3, 1, 6, 6), LINE, POOLED
    ),
    "^mix must be at most as large as the sites": at((3, 1, 2), LINE, POOLED),
    r"^mix must act on the sites there are.* 6 sites where there are \(5,\)": at(
        (3, 1, 5), SIX, POOLED
    ),
    "^mix must be given sites that its windows divide": at((3, 1, 6), Pooling(4), POOLED),
    "^mix must be given sites, got preactivations": at((3, 1, 6), POOLED, LINE, POOLED),
    "^y must have the shape": at((3, 1, 6), LINE, Pooling(1)),
    r"^first must be a distribution on R\^3 \(dim=1, 3 entries": lambda: start(
        LINE, POOLED, first=Gaussian(2)
    ),
    r"^hidden must be a distribution on R\^3": lambda: start(
        LINE, LINE, POOLED, hidden=Gaussian(2)
    ),
    "^last must be a distribution on": lambda: start(LINE, SetMix()),
    "^first must be a distribution on R.*of the 2 channels": lambda: start(
        lambda a: a, POOLED, dim=2, first=Gaussian(3)
    ),
    "^mix must be an object, got the class": lambda: Shared(jnp.tanh, Convolution),
    "^mix must be a function": lambda: Shared(jnp.tanh, 3),
    "^padding must be one of": lambda: Convolution(3, "same"),
    "^size must be an int": lambda: Convolution(0),
    "^stride must be one number": lambda: Convolution((3, 3), stride=(1, 2, 3)),
    "^matrices must have 3 axes": lambda: Operators(np.eye(3)),
    "^matrices has 1 NaN": lambda: Operators(np.array([[[np.nan]]])),
    "^matrices must be known": lambda: jax.jit(lambda a: Operators(a) and a)(jnp.ones((1, 2, 2))),
    "^matrices must be real": lambda: Operators(1j * np.eye(3)[None]),
    "^matrix must be square": lambda: Operators.powers(np.ones((2, 3)), 1),
    "^degree must be an int": lambda: Operators.powers(np.ones((2, 2)), 0),
    "^end must be": lambda: SWAP.operators("neurons"),
    "^symmetry must have maps that commute": lambda: SIGN.operators("outputs"),
}
SWAP = Symmetry(generated(jnp.eye(2)[::-1]), inputs=defining, outputs=trivial(1))
SIGN = Symmetry(generated(-jnp.eye(2)), inputs=defining, outputs=trivial(1))


@pytest.mark.parametrize("words", WRONG)
def test_what_does_not_fit_is_refused_by_name(words, monkeypatch):
    """Without the checks of types that tests run the library under."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=words):
        WRONG[words]()


def test_weights_have_one_entry_for_each_operator():
    layer = Shared(jnp.tanh, LINE)
    for w, first in (((), False), ((2,), False), ((3,), True), (None, True)):
        with pytest.raises(ValueError, match=r"^weights\[1\] must give shape"):
            layer.check("weights[1]", w, first)
    layer.check("weights[1]", (3,), False)
    layer.check("weights[0]", (4, 3), True)
