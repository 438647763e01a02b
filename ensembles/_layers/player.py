"""Networks that are distributions of strategies, without outputs."""

from typing import Any, ClassVar

from jaxtyping import Array

from .layer import Layer, Pullback


class Player(Layer):
    """No layer map: hidden layer i of a network of players is the measure of player i's strategies.

    Made by `players`; a `Game` depends on their measures. Such networks have no outputs.
    """

    affine: ClassVar[bool] = False

    def first(self, w: Array, b: Array | None, x: Array) -> Array:
        raise ValueError("players have no outputs: use network.measure(i), or the energy of a Game")

    def forward(self, masses: Array, w: Any, b: Any, h: Array) -> Array:
        return self.first(w, b, h)

    def pullback(
        self, masses: Array, w: Any, b: Any, h: Array, d: Array, masses_out: Array
    ) -> Pullback:
        raise ValueError("players have no derivatives of outputs: give a Game as energy")

    def check(self, name: str, w: tuple[int, ...] | None, first: bool) -> None:
        if (w is not None) != first:
            raise ValueError(f"{name} must be that of players: write players(space_1, space_2)")

    def input_shape(self, w: Array) -> tuple[int, ...] | None:
        return None
