"""Muon, an optimizer for matrices: each step is the momentum with its singular values brought near one.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025, arXiv 2502.16982. A
direction that few gradients point to moves as far as one that many do, so a short run learns more from each update.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # X -> a X + b X X'X + c X X'X X'X; Jordan et al., section "tuning"
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Weights of any number of dimensions from two on; all after the first count as columns.

    lr is the size of a step in the spectral norm: a weight of shape (m, n) moves by lr max(1, m / n)**0.5 times a
    matrix whose singular values are near one (``orthogonalised``), and shrinks by lr weight_decay.
    """

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along the present gradients, which every weight must have."""
        for group in self.param_groups:
            weights, momentum = group["params"], group["momentum"]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            gradients, averages = [w.grad for w in weights], [self.state[w]["momentum"] for w in weights]
            torch._foreach_lerp_(averages, gradients, 1.0 - momentum)
            ahead = torch._foreach_lerp(gradients, averages, momentum)
            torch._foreach_mul_(weights, 1.0 - group["lr"] * group["weight_decay"])
            places = _by_shape(weights)
            moves = orthogonalised([torch.stack([ahead[i].flatten(1) for i in alike]) for alike in places])
            for alike, matrices in zip(places, moves, strict=True):
                rows, columns = matrices.shape[1:]
                rate = -group["lr"] * max(1.0, rows / columns) ** 0.5
                shaped = matrices.view(-1, *weights[alike[0]].shape)
                torch._foreach_add_([weights[i] for i in alike], list(shaped.unbind(0)), alpha=rate)


def orthogonalised(batches: Sequence[Float[Tensor, "_ _ _"]]) -> list[Float[Tensor, "_ _ _"]]:
    """Each matrix with singular values above a hundredth of its norm brought into [0.68, 1.14], by Newton and Schulz.

    Smaller ones stay smaller; zero stays zero. Each batch holds matrices of one shape (B, M, N), and keeps it.

    The polynomial acts on the smaller of the two Gram matrices, so a long thin matrix costs two large products, and
    matrices of many shapes whose Gram matrices are of one size share the small ones: a net has few sizes of them.
    """
    wide = [x if x.shape[1] <= x.shape[2] else x.mT for x in batches]
    wide = [x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7) for x in wide]
    grams, factors = [x @ x.mT for x in wide], dict[int, Tensor]()
    for size in {gram.shape[1] for gram in grams}:
        alike = [i for i, gram in enumerate(grams) if gram.shape[1] == size]
        shared = _polynomial(torch.cat([grams[i] for i in alike]))
        factors |= zip(alike, shared.split([len(grams[i]) for i in alike]), strict=True)
    moved = [factors[i] @ x for i, x in enumerate(wide)]
    return [y if y.shape == x.shape else y.mT for x, y in zip(batches, moved, strict=True)]


def _polynomial(gram: Float[Tensor, "b m m"]) -> Float[Tensor, "b m m"]:
    """What ROUNDS of X -> a X + b X X'X + c X X'X X'X multiply X by, from the left, where ``gram`` is X X'."""
    a, b, c = NEWTON_SCHULZ
    total = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device).expand_as(gram)
    for left in reversed(range(ROUNDS)):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        total = factor @ total
        if left:
            gram = factor @ gram @ factor
    return total


def _by_shape(weights: list[nn.Parameter]) -> list[list[int]]:
    """The places of weights that are of one shape."""
    places: dict[torch.Size, list[int]] = defaultdict(list)
    for place, weight in enumerate(weights):
        places[weight.shape].append(place)
    return list(places.values())
