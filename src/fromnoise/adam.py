"""Adam, and what the optimizers here have in common.

The classes of torch.optim import the compiler when the first of them is made: more than a second of every start.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.optim.adam import adam


class Optimizer:
    """Weights with their settings, and what is remembered of each; the names are those of torch.optim."""

    def __init__(self, weights: Iterable[nn.Parameter], settings: dict[str, Any]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": list(weights)} | settings]
        self.state: defaultdict[nn.Parameter, dict[str, Tensor]] = defaultdict(dict)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None


class Adam(Optimizer):
    """Adam (Kingma, Ba 2015, arXiv 1412.6980, algorithm 1) without weight decay, in torch's fused kernel.

    lr: a number, or on a GPU a tensor of shape (), so that a captured step can read another rate at each replay.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float | Tensor, betas: tuple[float, float]) -> None:
        super().__init__(weights, {"lr": lr, "betas": betas})

    @torch.no_grad()
    @record_function("Optimizer.Adam")
    def step(self) -> None:
        """One step of every weight that has a gradient."""
        group = self.param_groups[0]
        moved = [weight for weight in group["params"] if weight.grad is not None]
        for weight in moved:
            if not self.state[weight]:
                zeros = {key: torch.zeros_like(weight) for key in ("exp_avg", "exp_avg_sq")}
                self.state[weight] |= {"step": torch.zeros((), device=weight.device)} | zeros
        steps, means, squares = (
            [self.state[weight][key] for weight in moved] for key in ("step", "exp_avg", "exp_avg_sq")
        )
        adam(
            moved,
            [weight.grad for weight in moved],
            means,
            squares,
            [],
            steps,
            fused=True,
            capturable=isinstance(group["lr"], Tensor),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
