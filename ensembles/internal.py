"""What `limits` takes from the lower storey beyond the public names: checks of arguments, sums of
products in full precision, derivatives per unit mass, layers that users do not write. No promise to
anyone else."""

from ._checks import alike as alike
from ._checks import concrete as concrete
from ._checks import count as count
from ._checks import counts as counts
from ._checks import floating as floating
from ._checks import inside as inside
from ._checks import is_number as is_number
from ._checks import kind as kind
from ._checks import number as number
from ._checks import numeric as numeric
from ._checks import on_host as on_host
from ._checks import positive as positive
from ._checks import probabilities as probabilities
from ._checks import randomness as randomness
from ._checks import shown as shown
from ._checks import spare as spare
from ._checks import takes as takes
from ._checks import traced as traced
from ._contractions import dot as dot
from ._contractions import einsum as einsum
from ._contractions import matmul as matmul
from ._contractions import tensordot as tensordot
from ._final import Family as Family
from ._keeping.kept import Kept as Kept
from ._layers.player import Player as Player
from ._layers.unit import position as position
from ._measures import choose as choose
from ._network.backpropagate import backpropagate as backpropagate
from ._network.factors import Outer as Outer
from ._network.factors import factored as factored
from ._promises import called as called
from ._promises import entrywise as entrywise
from ._promises import indexed as indexed
from ._promises import shape_of as shape_of
from ._quadrature import default_rule as default_rule
