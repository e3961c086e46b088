"""Nets made ready to answer: weights that no longer change, cast once, and on a GPU recorded once."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fromnoise.nets.unet import UNet
from fromnoise.noise import Condition

MOST_SHAPES = 8
WARM_UP = 3  # calls before a recording, in which libraries choose their kernels


def ready(net: nn.Module, dtype: torch.dtype, device: str) -> nn.Module:
    """A copy of a net with the weights it has now, for answering alone, its layers working in ``dtype``."""
    copied = Cast(net, dtype) if isinstance(net, UNet) else Autocast(net, dtype)
    return Recorded(copied) if device.startswith("cuda") else copied


class Cast(nn.Module):
    """A copy of a U-Net, whose convolutions and all that passes between them are of ``dtype``: nothing is cast there.

    What blocks are told stays float32. The image goes in and comes out in its own dtype.
    """

    def __init__(self, net: UNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = _copied(net), dtype
        for part in self.net.modules():
            if isinstance(part, nn.Conv2d):
                part.to(dtype)

    def forward(
        self, x: Float[Tensor, "b c h w"], number: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """What the net answers, up to rounding to ``dtype``."""
        answer: Tensor = self.net(x.to(self.dtype), number, condition)
        return answer.to(x.dtype)


class Autocast(nn.Module):
    """A copy of any net, the products in it of ``dtype``."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = _copied(net), dtype

    def forward(
        self, x: Float[Tensor, "b *shape"], number: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b *shape"]:
        """What the net answers, up to rounding to ``dtype``."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            answer: Tensor = self.net(x, number, condition)
        return answer.to(x.dtype)


class Recorded(nn.Module):
    """A net on a GPU: what it launches is recorded once for each shape of its input, then replayed as one CUDA graph.

    A shape of another dtype is another. Each holds memory, so beyond MOST_SHAPES (a sampler of adaptive steps meets
    many) the net is asked plainly. Its weights must not need gradients.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.recordings = net, dict[tuple[object, ...], _Recording]()

    def forward(
        self, x: Float[Tensor, "b c h w"], number: Float[Tensor, " b"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """What the net answers."""
        given = (x, number, condition.class_index, condition.numbers)
        key = (x.dtype, *(None if each is None else each.shape for each in given))
        with torch.cuda.device(x.device):  # where its current stream and the recording are
            if key not in self.recordings:
                if len(self.recordings) == MOST_SHAPES:
                    answer: Tensor = self.net(x, number, condition)
                    return answer
                self.recordings[key] = _Recording(self.net, given)
            return self.recordings[key].replay(given)


class _Recording:
    """One graph, and the places in memory that it reads and writes."""

    def __init__(self, net: nn.Module, given: Sequence[Tensor | None]) -> None:
        with torch.inference_mode(False):  # or what was made in that mode could be written to in it alone
            self.given = [None if each is None else each.detach().clone() for each in given]
        self.graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._ask(net)
        torch.cuda.current_stream().wait_stream(aside)
        # thread_local: in training another thread makes the next batches meanwhile
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
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


def _copied(net: nn.Module) -> Any:
    return copy.deepcopy(net).requires_grad_(False).eval()
