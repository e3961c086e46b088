"""Nets made ready to answer: weights that no longer change, of one dtype, with all folded in that can be."""

import copy
import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from fromnoise.nets.parts import Block, Embedding, Norm
from fromnoise.nets.unet import UNet
from fromnoise.noise import Condition

WARM_UP = 3  # calls before a recording, in which libraries choose their kernels


def ready(net: nn.Module, dtype: torch.dtype, device: str) -> nn.Module:
    """A copy of a net with the weights it has now, for answering alone, its layers working in ``dtype``."""
    copied = Folded(net, dtype) if isinstance(net, UNet) else Cast(net, dtype)
    return Recorded(copied) if device.startswith("cuda") else copied


class Folded(nn.Module):
    """A copy of a U-Net.

    Its layers work in ``dtype``, so nothing is cast between them. The embedding stays float32, and one product makes of
    it the scales and shifts of all blocks. The image goes in and comes out in its own dtype.
    """

    def __init__(self, net: UNet, dtype: torch.dtype) -> None:
        super().__init__()
        own = copy.deepcopy(net).requires_grad_(False).eval()
        parts = dict(own.named_modules())
        blocks = {name: part for name, part in parts.items() if isinstance(part, Block)}
        layers = [block.scale_shift for block in blocks.values()]
        starts = itertools.accumulate((layer.out_features for layer in layers), initial=0)
        told = _Told(own.embedding, layers)
        own.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        own.embedding = told
        for (name, block), start in zip(blocks.items(), starts, strict=False):
            own.set_submodule(name, _Block(block, start))
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


class Cast(nn.Module):
    """A copy of any net, its products alone in ``dtype``."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = copy.deepcopy(net).requires_grad_(False).eval(), dtype

    def forward(
        self, x: Float[Tensor, "b *shape"], number: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b *shape"]:
        """What the net answers, up to rounding to ``dtype``."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            answer: Tensor = self.net(x, number, condition)
        return answer.to(x.dtype)


class Recorded(nn.Module):
    """A net on a GPU: what it launches is recorded once for each shape of its input, then replayed as one CUDA graph.

    Its weights must not need gradients.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.recordings = net, dict[tuple[torch.Size | None, ...], _Recording]()

    def forward(
        self, x: Float[Tensor, "b c h w"], number: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """What the net answers."""
        given = (x, number, condition.class_index, condition.numbers)
        shapes = tuple(None if each is None else each.shape for each in given)
        if shapes not in self.recordings:
            self.recordings[shapes] = _Recording(self.net, given)
        return self.recordings[shapes].replay(given)


class _Recording:
    """One graph, and the places in memory that it reads and writes."""

    def __init__(self, net: nn.Module, given: Sequence[Tensor | None]) -> None:
        self.given = [None if each is None else each.clone() for each in given]
        self.graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._ask(net)
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self.graph):
            self.answer = self._ask(net)

    def _ask(self, net: nn.Module) -> Tensor:
        x, number, index, numbers = self.given
        answer: Tensor = net(x, number, Condition(index, numbers))
        return answer

    def replay(self, given: Sequence[Tensor | None]) -> Tensor:
        """The answer to these, which are of the shapes recorded."""
        for place, each in zip(self.given, given, strict=True):
            if place is not None and each is not None:
                place.copy_(each)
        self.graph.replay()
        return self.answer.clone()


class _Told(nn.Module):
    """The embedding, and behind it what all blocks make of it, as one product: of each 1 + scale, then shift."""

    weight: Tensor  # (sum of 2 C, E)
    bias: Tensor

    def __init__(self, embedding: Embedding, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.embedding = copy.deepcopy(embedding)
        ones = [torch.arange(layer.out_features) < layer.out_features // 2 for layer in layers]
        self.register_buffer("weight", torch.cat([layer.weight for layer in layers]))
        self.register_buffer("bias", torch.cat(ones).to(self.weight) + torch.cat([layer.bias for layer in layers]))

    def forward(self, number: Float[Tensor, " b"], condition: Condition) -> Float[Tensor, "b told"]:
        """Block after block."""
        return functional.linear(self.embedding(number, condition), self.weight, self.bias)


class _Block(nn.Module):
    """A block that finds what it is told from ``start`` on."""

    def __init__(self, block: Block, start: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1.norm, block.norm2.norm
        self.conv1, self.conv2, self.shortcut = block.conv1, block.conv2, block.shortcut
        self.told = slice(start, start + block.scale_shift.out_features)

    def forward(self, x: Float[Tensor, "b c h w"], told: Float[Tensor, "b told"]) -> Float[Tensor, "b d h w"]:
        """As ``Block`` answers."""
        hidden = self.norm2(self.conv1(functional.silu(self.norm1(x), inplace=True)))
        hidden = _scaled(hidden, *told[:, self.told].chunk(2, 1))
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
