"""The parts the nets are made of."""

import math
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fromnoise.noise import Condition

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class Embedding(nn.Module):
    """A noise level, and what else is known of an image -> one vector per image.

    The noise level passes through sines and cosines of 32 fixed frequencies from 0.5 to 50 (random in Song et al. 2021,
    arXiv 2011.13456, appendix C.2; evenly spaced in logarithm here), the class through a table, its last row for none.
    Each other number enters a linear layer as itself, or as a flag in its place where it is unknown: the column of the
    flag is that number's null row. The layers behind bend what is no straight line; sines and cosines of the number
    were no nearer to what was asked for, and worse beyond the trained range (LOG.md).
    """

    frequencies: Tensor  # (32,)

    def __init__(self, size: int, classes: int, numbers: int = 0) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(math.log(0.5), math.log(50.0), 32)), persistent=False
        )
        self.first = nn.Linear(64, size)
        self.second = nn.Linear(size, size)
        self.classes = nn.Embedding(classes + 1, size) if classes else None
        self.numbers = nn.Linear(2 * numbers, size, bias=False) if numbers else None

    def forward(self, level: Float[Tensor, " b"], condition: Condition) -> Float[Tensor, "b e"]:
        """level: of the noise; a field of the condition that is None is unknown of all images."""
        angle = level[:, None] * self.frequencies
        hidden = self.second(functional.silu(self.first(torch.cat([angle.sin(), angle.cos()], 1))))
        if self.classes is not None:
            none, index = self.classes.num_embeddings - 1, condition.class_index
            index = torch.full_like(level, none, dtype=torch.long) if index is None else index
            hidden = hidden + self.classes(torch.where(index < 0, none, index))
        if self.numbers is not None:
            numbers = condition.numbers
            if numbers is None:
                numbers = torch.full_like(level, torch.nan)[:, None].expand(-1, self.numbers.in_features // 2)
            unknown = torch.isnan(numbers)
            hidden = hidden + self.numbers(torch.cat([torch.where(unknown, 0.0, numbers), unknown.to(numbers)], 1))
        return functional.silu(hidden)


class Block(nn.Module):
    """Two 3x3 convolutions, added to their input; between them the channels of each image are scaled and shifted.

    As in Dhariwal, Nichol 2021 (arXiv 2105.05233, section 3), but without their normalisation: with Muon, whose steps
    do not depend on the size of what a layer is given, nets learned no worse without (LOG.md).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero_start(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(
        self, x: Float[Tensor, "b c h w"], scale: Float[Tensor, "b c 1 1"], shift: Float[Tensor, "b c 1 1"]
    ) -> Float[Tensor, "b c h w"]:
        """0 is the scale and the shift that change nothing."""
        return x + self.conv2(modulated_silu(self.conv1(functional.silu(x)), scale, shift))


def modulated_silu(
    x: Float[Tensor, "b c h w"], scale: Float[Tensor, "b c 1 1"], shift: Float[Tensor, "b c 1 1"]
) -> Float[Tensor, "b c h w"]:
    """silu(x (1 + scale) + shift), of x's dtype."""
    if x.device.type == "cpu":
        return cast(Tensor, _ModulatedSilu.apply(x, scale, shift))
    return functional.silu(x * (1.0 + scale) + shift)


class _ModulatedSilu(torch.autograd.Function):
    """The same on a processor, which broadcasts over few channels several times faster in float32 than in bfloat16.

    Only the arguments are kept for the way back, in their own dtype.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale, shift)
        _, _, inner = _modulated(x, scale, shift)
        return functional.silu(inner, inplace=True).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        x, scale, shift = ctx.saved_tensors
        wide, gain, inner = _modulated(x, scale, shift)
        change = torch.ops.aten.silu_backward(gradient.to(inner.dtype), inner)
        by_scale = torch.mul(change, wide, out=inner).sum((2, 3), keepdim=True)
        by_shift = change.sum((2, 3), keepdim=True)
        return change.mul_(gain).to(x.dtype), by_scale.to(scale.dtype), by_shift.to(shift.dtype)


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, 1 + scale and x (1 + scale) + shift, in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    wide, gain = x.to(dtype), 1.0 + scale.to(dtype)
    return wide, gain, torch.addcmul(shift.to(dtype), wide, gain)


def zero_start(layer: Layer) -> Layer:
    """The layer with all weights zero, so that what it is added to starts as itself."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
