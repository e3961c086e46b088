"""A net made ready to answer: weights that no longer change, of one dtype, with all folded in that can be."""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fromnoise.nets.parts import Block, Embedding, Norm
from fromnoise.nets.unet import UNet
from fromnoise.noise import Condition


class Folded(nn.Module):
    """A copy of a U-Net with the weights it has now, for answering alone.

    Its layers work in ``dtype``, so nothing is cast between them. The embedding stays float32, and one product makes of
    it the scales and shifts of all blocks. The image goes in and comes out in its own dtype.
    """

    def __init__(self, net: UNet, dtype: torch.dtype) -> None:
        super().__init__()
        own = copy.deepcopy(net).requires_grad_(False).eval()
        parts = dict(own.named_modules())
        blocks = {name: part for name, part in parts.items() if isinstance(part, Block)}
        told = _Told(own.embedding, list(blocks.values()))
        own.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        own.embedding = told
        for k, (name, block) in enumerate(blocks.items()):
            own.set_submodule(name, _Block(block, k))
        for name in ("middle.norm", "leave.0"):
            if isinstance(norm := parts.get(name), Norm):
                own.set_submodule(name, norm.norm)
        self.net, self.dtype = own, dtype

    def forward(
        self, x: Float[Tensor, "b c h w"], number: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """What the net answers, up to rounding to ``dtype``."""
        answer: Tensor = self.net(x.to(self.dtype), number, condition)
        return answer.to(x.dtype)


class _Told(nn.Module):
    """The embedding, and behind it what all blocks make of it: for each (1 + scale, shift), every one (B, C)."""

    weight: Tensor  # (sum of 2 C, E)
    bias: Tensor

    def __init__(self, embedding: Embedding, blocks: list[Block]) -> None:
        super().__init__()
        layers = [block.scale_shift for block in blocks]
        self.embedding = copy.deepcopy(embedding)
        self.sizes = [layer.out_features // 2 for layer in layers for _ in range(2)]
        ones = [torch.arange(layer.out_features) < layer.out_features // 2 for layer in layers]
        self.register_buffer("weight", torch.cat([layer.weight for layer in layers]))
        self.register_buffer("bias", torch.cat([layer.bias + one for layer, one in zip(layers, ones, strict=True)]))

    def forward(self, number: Float[Tensor, " b"], condition: Condition) -> tuple[Tensor, ...]:
        """Of block k the scales at 2 k, the shifts at 2 k + 1."""
        return functional.linear(self.embedding(number, condition), self.weight, self.bias).split(self.sizes, 1)


class _Block(nn.Module):
    """A block that is told its scales and shifts."""

    def __init__(self, block: Block, k: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1.norm, block.norm2.norm
        self.conv1, self.conv2, self.shortcut, self.k = block.conv1, block.conv2, block.shortcut, k

    def forward(self, x: Float[Tensor, "b c h w"], told: tuple[Tensor, ...]) -> Float[Tensor, "b d h w"]:
        """As ``Block`` answers."""
        hidden = self.norm2(self.conv1(functional.silu(self.norm1(x), inplace=True)))
        hidden = _scaled(hidden, *told[2 * self.k : 2 * self.k + 2])
        return self.conv2(functional.silu(hidden, inplace=True)).add_(self.shortcut(x))


def _scaled(x: Float[Tensor, "b c h w"], scale: Float[Tensor, "b c"], shift: Float[Tensor, "b c"]) -> Tensor:
    """scale x + shift, each channel its own.

    In channels-last order a row of the image is one stretch of w c numbers. Scales repeated along it are read as the
    image is: several times faster than c numbers at a time.
    """
    b, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(b, h, w * c)
    along = [each.to(x.dtype).repeat(1, w)[:, None] for each in (shift, scale)]
    return torch.addcmul(along[0], rows, along[1]).view(b, h, w, c).permute(0, 3, 1, 2)
