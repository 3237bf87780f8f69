"""Samples of a layer: where on their faces the pixels are, and what those faces carry."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from .pairs import Pairs


@dataclass(frozen=True, eq=False)
class Samples:
    """P samples of faces of one kind: a run of a layer."""

    pairs: Pairs
    pair: Tensor  # int64 [P]
    u: Tensor
    v: Tensor
    fu: Tensor  # footprint along u [m]
    fv: Tensor
    lamps: Tensor  # [P] or [1]: 0 off, 1 on
    horizon: Tensor  # [3, P] or [3, 1]: sky colour that glass mirrors

    @cached_property
    def color(self) -> Tensor:
        """Colour of the face, [3, P]."""
        return self.pairs.color.index_select(1, self.pair)

    @cached_property
    def width(self) -> Tensor:
        """Length of the face's lower edge [P], metres."""
        return self.pairs.width.index_select(0, self.pair)

    @cached_property
    def height(self) -> Tensor:
        """Height of the face [P], metres."""
        return self.pairs.height.index_select(0, self.pair)

    @cached_property
    def rise(self) -> Tensor:
        """Share of the face's height below the sample, [P]."""
        return (self.v / self.height).clamp_(0, 1)

    def attribute(self, k: int) -> Tensor:
        """An attribute of the face's kind (`faces.Kind`), [P]."""
        return self.pairs.attributes[k].index_select(0, self.pair)
