"""Residual blocks: their neurons (perceptrons, attention heads, normalised streams), the layer, and
networks of every depth, which `residual` makes."""

from ._layers.block import Block as Block
from ._layers.heads import Normalised as Normalised
from ._layers.heads import attention as attention
from ._layers.heads import causal_attention as causal_attention
from ._layers.heads import layer_norm as layer_norm
from ._layers.heads import linear_attention as linear_attention
from ._layers.heads import rms_norm as rms_norm
from ._layers.perceptrons import GatedPerceptron as GatedPerceptron
from ._layers.perceptrons import Perceptron as Perceptron
from ._layers.stream_units import StreamUnit as StreamUnit
from ._starts.residual import Residual as Residual
