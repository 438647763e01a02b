"""Channels as neurons: layers with shared weights, and the maps of sites that they share."""

from ._layers.convolution import Convolution as Convolution
from ._layers.mixes import Pooling as Pooling
from ._layers.mixes import SetMix as SetMix
from ._layers.operators import Operators as Operators
from ._layers.shared import Shared as Shared
