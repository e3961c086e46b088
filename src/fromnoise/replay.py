"""A training step on CUDA as one graph: recorded once, then replayed without launching its parts one by one.

A small net's step is some thousand short kernels, and a processor launches them more slowly than a GPU runs them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from fromnoise.noise import Condition, NoisyPair

WARM = 3  # calls before recording: libraries choose their kernels in the first, optimizers make their state


class Replayed:
    """A function of a pair that changes only what lives on the GPU, at fixed addresses, and never waits for it.

    What it gives is overwritten by the next call. The first WARM calls run it as it is.
    """

    def __init__(self, function: Callable[[NoisyPair], Float[Tensor, " n"]], device: str) -> None:
        self.function, self.device, self.calls = function, device, 0
        self.side = torch.cuda.Stream(device)  # what is recorded must not have run on the default stream before

    def __call__(self, pair: NoisyPair) -> Float[Tensor, " n"]:
        """As the function itself; every pair must be of the first one's shapes."""
        self.calls += 1
        with torch.cuda.device(self.device):
            if self.calls <= WARM:
                return self._run(pair)
            if self.calls == WARM + 1:
                self._record(pair)
            for here, there in zip(_tensors(self.pair), _tensors(pair), strict=True):
                here.copy_(there, non_blocking=True)
            self.graph.replay()
            return self.out

    def _run(self, pair: NoisyPair) -> Tensor:
        current = torch.cuda.current_stream()
        self.side.wait_stream(current)
        with torch.cuda.stream(self.side), _kernels_tried():
            out = self.function(pair)
        current.wait_stream(self.side)
        return out

    def _record(self, pair: NoisyPair) -> None:
        self.pair, self.graph = _copy(pair), torch.cuda.CUDAGraph()
        # thread_local: another thread may go on making batches meanwhile
        with torch.cuda.graph(self.graph, stream=self.side, capture_error_mode="thread_local"), _kernels_tried():
            self.out = self.function(self.pair)


@contextmanager
def _kernels_tried() -> Iterator[None]:
    """Convolutions by the kernel that was fastest when first run: worth its time where the choice is kept for a run."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _copy(pair: NoisyPair) -> NoisyPair:
    """The same values elsewhere, laid out alike."""
    own = {name: getattr(pair, name).clone() for name in ("x0", "eps", "t", "alpha", "sigma", "x_t")}
    told = (None if rows is None else rows.clone() for rows in vars(pair.condition).values())
    return replace(pair, condition=Condition(*told), **own)


def _tensors(pair: NoisyPair) -> list[Tensor]:
    return [value for value in (*vars(pair).values(), *vars(pair.condition).values()) if isinstance(value, Tensor)]
