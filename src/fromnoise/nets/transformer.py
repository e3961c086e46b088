"""A transformer on the pixels themselves, folded into patches (Peebles, Xie 2023, arXiv 2212.09748: DiT)."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from fromnoise.nets.parts import Embedding, zero_start
from fromnoise.noise import Condition

HEAD = 64  # channels of one head of attention
RATIO = 4  # of the channels between the two layers that act on each position alone to those outside
LONGEST_WAVE = 256.0  # positions, of the slowest of the sines that tell where a patch lies


class TransformerSpec(BaseModel):
    """What a transformer is, in full: equal specs build nets of equal shapes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["transformer"] = "transformer"
    channels: PositiveInt  # of the image
    classes: NonNegativeInt = 0  # 0 = unconditional
    numbers: NonNegativeInt = 0  # that an image may be known by
    patch: PositiveInt = 2  # pixels of a position, each way
    width: int = Field(256, gt=0, multiple_of=HEAD)  # channels of each position
    depth: PositiveInt = 4  # layers


class Layer(nn.Module):
    """Attention over all positions, then two linear layers on each, both scaled, shifted and gated by the embedding.

    The gates start at zero and the layer as the identity (adaLN-Zero; Peebles, Xie 2023, section 3.2). Queries and keys
    have length one before they meet, or their products outgrow bfloat16 (Henry et al. 2020, arXiv 2010.04245).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulation = zero_start(nn.Linear(width, 6 * width))
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, RATIO * width), nn.Linear(RATIO * width, width)

    def forward(self, x: Float[Tensor, "b n c"], embedding: Float[Tensor, "b c"]) -> Float[Tensor, "b n c"]:
        """Of x's shape and dtype."""
        scale, shift, gate, scale_alone, shift_alone, gate_alone = self.modulation(embedding)[:, None].chunk(6, -1)
        x = torch.addcmul(x, gate, self.out(self._gathered(modulated(x, scale, shift))))
        hidden = functional.gelu(self.widen(modulated(x, scale_alone, shift_alone)), approximate="tanh")
        return torch.addcmul(x, gate_alone, self.narrow(hidden))

    def _gathered(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        heads = self.query_key_value(x).unflatten(-1, (3, -1, HEAD))
        with torch.autocast(x.device.type, enabled=False):
            query, key = functional.rms_norm(heads[:, :, :2], (HEAD,)).transpose(1, 3).unbind(2)
        value = heads[:, :, 2].transpose(1, 2)
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Transformer(nn.Module):
    """Tensors in, tensors out: (B, C, H, W) and a number per image -> (B, C, H, W)."""

    def __init__(self, spec: TransformerSpec) -> None:
        super().__init__()
        folded = spec.channels * spec.patch**2
        self.spec = spec
        self.embedding = Embedding(spec.width, spec.classes, spec.numbers)
        self.enter = nn.Linear(folded, spec.width)
        self.layers = nn.ModuleList(Layer(spec.width) for _ in range(spec.depth))
        self.modulation = zero_start(nn.Linear(spec.width, 2 * spec.width))
        self.leave = zero_start(nn.Linear(spec.width, folded))

    @property
    def matrices(self) -> set[str]:
        """Names of the weights that Muon moves: those that every position passes through, but the first and last."""
        return {
            name
            for name, weight in self.named_parameters()
            if name.startswith("layers.") and weight.ndim == 2 and ".modulation." not in name
        }

    def compiled(self) -> Callable[..., Tensor]:
        """The same weights, each layer compiled on its own: they are alike, so that one compilation serves them all."""
        layers = [torch.compile(layer, dynamic=False) for layer in self.layers]
        return partial(self._through, layers)

    def forward(
        self, x: Float[Tensor, "b c h w"], number: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """Any h and w: padded with zeros inside to a multiple of the patch, and cut back."""
        return self._through(self.layers, x, number, condition)

    def _through(
        self, layers: Iterable[Callable[..., Tensor]], x: Tensor, number: Tensor, condition: Condition
    ) -> Tensor:
        (height, width), patch = x.shape[-2:], self.spec.patch
        top, left = -height % patch // 2, -width % patch // 2
        padded = functional.pad(x, (left, -width % patch - left, top, -height % patch - top))
        folded = functional.pixel_unshuffle(padded, patch)
        embedding, hidden = self.embedding(number, condition), self.enter(folded.flatten(2).transpose(1, 2))
        hidden = hidden + positions(folded.shape[-2], folded.shape[-1], hidden)
        for layer in layers:
            hidden = layer(hidden, embedding)
        scale, shift = self.modulation(embedding)[:, None].chunk(2, -1)
        rows = self.leave(modulated(hidden, scale, shift)).transpose(1, 2).unflatten(2, folded.shape[-2:])
        return functional.pixel_shuffle(rows, patch)[..., top : top + height, left : left + width]


def modulated(
    x: Float[Tensor, "b n c"], scale: Float[Tensor, "b 1 c"], shift: Float[Tensor, "b 1 c"]
) -> Float[Tensor, "b n c"]:
    """Each position brought to mean 0 and variance 1 over its channels, then scaled and shifted; of x's dtype.

    Autocast would have the norm's answer in float32, and all that is done with it; its sums are in float32 as it is.
    """
    with torch.autocast(x.device.type, enabled=False):
        return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:]), 1 + scale)


def positions(height: int, width: int, like: Float[Tensor, "*_ c"]) -> Float[Tensor, "n c"]:
    """Sines and cosines of each position's row and column, counted from the middle of the image, n = height * width.

    Frequencies fall evenly in logarithm from 1 to 2 pi / LONGEST_WAVE (Vaswani et al. 2017, arXiv 1706.03762, section
    3.5, there to a 10,000th): an image of another size finds its middle where it was. Of like's device and dtype.
    """
    count = like.shape[-1] // 4
    steps = torch.arange(count, device=like.device) / (count - 1)
    frequencies = torch.exp(-math.log(LONGEST_WAVE / (2 * math.pi)) * steps)
    down, across = (
        (torch.arange(size, device=like.device) - (size - 1) / 2)[:, None] * frequencies for size in (height, width)
    )
    rows = torch.cat([down.sin(), down.cos()], 1)[:, None].expand(-1, width, -1)
    columns = torch.cat([across.sin(), across.cos()], 1)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1).to(like.dtype)
