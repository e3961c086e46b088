"""A U-Net for images of any height, width and number of channels (Ronneberger et al. 2015, arXiv 1505.04597).

What the way down knows is added to the way up, not put beside it: nets learned as well, and every convolution of a
block has as many channels in as out (LOG.md).
"""

import itertools
from collections.abc import Iterator
from typing import Literal, cast

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from fromnoise.nets.parts import Block, Embedding, zero_start
from fromnoise.noise import Condition


class UNetSpec(BaseModel):
    """What a U-Net is, in full: equal specs build nets of equal shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["unet"] = "unet"
    channels: PositiveInt  # of the image
    classes: NonNegativeInt = 0  # 0 = unconditional
    numbers: NonNegativeInt = 0  # that an image may be known by
    patch: PositiveInt = 2  # pixels folded into channels before the first convolution, each way
    width: int = Field(32, gt=0, multiple_of=16)  # channels at the finest level
    multipliers: tuple[PositiveInt, ...] = (1, 2)  # channels of each level over width; each level halves the size
    blocks: tuple[PositiveInt, ...] = (2, 2)  # of each level, each way

    @model_validator(mode="after")
    def _consistent(self) -> "UNetSpec":
        if len(self.blocks) != len(self.multipliers):
            raise ValueError(f"multipliers {self.multipliers} and blocks {self.blocks} differ in length; one per level")
        return self


class UNet(nn.Module):
    """Tensors in, tensors out: (B, C, H, W) and a number per image -> (B, C, H, W)."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        widths, size = [spec.width * m for m in spec.multipliers], 4 * spec.width
        folded = spec.channels * spec.patch**2
        self.spec = spec
        self.multiple = spec.patch * 2 ** (len(widths) - 1)
        self.embedding = Embedding(size, spec.classes, spec.numbers)
        self.enter = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for width, blocks in zip(widths, spec.blocks, strict=True):
            self.down.append(nn.ModuleList(Block(width) for _ in range(blocks)))
            self.up.append(nn.ModuleList(Block(width) for _ in range(blocks)))
        pairs = list(itertools.pairwise(widths))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairs)
        self.modulated = [width for width, blocks in zip(widths, spec.blocks, strict=True) for _ in range(blocks)]
        self.modulated += self.modulated[::-1]  # channels of each block, in their order
        self.modulation = nn.Linear(size, 2 * sum(self.modulated))
        self.leave = zero_start(nn.Conv2d(widths[0], folded, 3, padding=1))

    @property
    def matrices(self) -> set[str]:
        """Names of the weights that Muon moves: the convolutions between the first and the last."""
        return {
            name for name, w in self.named_parameters() if w.ndim == 4 and not name.startswith(("enter.", "leave."))
        }

    def forward(
        self, x: Float[Tensor, "b c h w"], number: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """Any h and w: padded with zeros inside to the multiple the levels need, and cut back."""
        height, width = x.shape[-2:]
        modulation = self.modulation(self.embedding(number, condition))[:, :, None, None]
        padded = functional.pad(x, self._padding(height, width))
        hidden = self.enter(
            functional.pixel_unshuffle(padded, self.spec.patch).contiguous(memory_format=torch.channels_last)
        )
        scales, shifts = (part.split(self.modulated, 1) for part in modulation.chunk(2, 1))
        hidden = self._levels(hidden, zip(scales, shifts, strict=True))
        out = functional.pixel_shuffle(self.leave(functional.silu(hidden)), self.spec.patch)
        left, _, top, _ = self._padding(height, width)
        return out[..., top : top + height, left : left + width]

    def _padding(self, height: int, width: int) -> tuple[int, int, int, int]:
        extra_h, extra_w = -height % self.multiple, -width % self.multiple
        return extra_w // 2, extra_w - extra_w // 2, extra_h // 2, extra_h - extra_h // 2

    def _levels(self, x: Tensor, modulations: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
        """``modulations``: scale and shift of each block, down and then up."""
        kept: list[Tensor] = []
        for level, blocks in enumerate(self.down):
            if level > 0:
                x = self.shrink[level - 1](x)
            for block in cast(nn.ModuleList, blocks):
                x = block(x, *next(modulations))
                kept.append(x)
        for level in reversed(range(len(self.up))):
            for block in cast(nn.ModuleList, self.up[level]):
                x = block(x + kept.pop(), *next(modulations))
            if level > 0:
                x = self.grow[level - 1](functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x
