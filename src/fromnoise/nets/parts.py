"""The parts the nets are made of."""

import math
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fromnoise.noise import Condition

GROUP, EPSILON = 16, 1e-5  # channels that are normalised together; added to their variance
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
    """Two 3x3 convolutions, added to their input; between them each image is normalised, scaled and shifted.

    As in Dhariwal, Nichol 2021 (arXiv 2105.05233, section 3), but without their norm before the first convolution: nets
    learned as well without. Without the other, too, one long run of four went astray (LOG.md).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero_start(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(
        self, x: Float[Tensor, "b c h w"], scale: Float[Tensor, "b c 1 1"], shift: Float[Tensor, "b c 1 1"]
    ) -> Float[Tensor, "b c h w"]:
        """scale, shift: 0 changes nothing."""
        return x + self.conv2(modulated_silu(self.conv1(functional.silu(x)), scale, shift))


def modulated_silu(
    x: Float[Tensor, "b c h w"], scale: Float[Tensor, "b c 1 1"], shift: Float[Tensor, "b c 1 1"]
) -> Float[Tensor, "b c h w"]:
    """silu(norm(x) (1 + scale) + shift), of x's dtype; the norm is over GROUP channels of an image.

    In float32, as over few channels a processor broadcasts several times faster than in bfloat16.
    """
    normal = functional.group_norm(x.float(), x.shape[1] // GROUP, eps=EPSILON)
    return functional.silu(torch.addcmul(shift.float(), normal, 1.0 + scale.float())).to(x.dtype)


def zero_start(layer: Layer) -> Layer:
    """The layer with all weights zero, so that what it is added to starts as itself."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
