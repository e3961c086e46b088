"""Muon, an optimizer for matrices: each step is the momentum with its singular values brought near one.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025, arXiv 2502.16982. A
direction that few gradients point to moves as far as one that many do, so a short run learns more from each update.
"""

from collections import defaultdict
from collections.abc import Iterable

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

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float | Tensor, momentum: float, weight_decay: float
    ) -> None:
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
            for alike in _by_shape(weights):
                rows, columns = weights[alike[0]].flatten(1).shape
                moves = orthogonalised(torch.stack([ahead[i].flatten(1) for i in alike]))
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                for i, move in zip(alike, moves, strict=True):
                    weights[i].sub_(move.view_as(weights[i]) * rate)


def orthogonalised(matrices: Float[Tensor, "b m n"]) -> Float[Tensor, "b m n"]:
    """Each with singular values above a hundredth of its norm brought into [0.68, 1.14], by Newton and Schulz.

    Smaller ones stay smaller; zero stays zero.

    The polynomial acts on the smaller of the two Gram matrices, so that a long thin matrix costs two large products.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalised(matrices.mT).mT
    a, b, c = NEWTON_SCHULZ
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    if x.is_cuda:
        return _on_matrices(x.bfloat16()).to(x.dtype)
    gram = x @ x.mT
    total = torch.eye(gram.shape[1], dtype=x.dtype, device=x.device)
    for _ in range(ROUNDS):
        factor = b * gram + c * gram @ gram
        factor.diagonal(dim1=1, dim2=2).add_(a)
        total, gram = factor @ total, factor @ gram @ factor
    return total @ x


def _on_matrices(x: Float[Tensor, "b m n"]) -> Float[Tensor, "b m n"]:
    """The polynomial on the matrices themselves, as Jordan et al. write it, which bfloat16 bears.

    A Gram matrix rounded to bfloat16 has negative eigenvalues where singular values are small, and those grow.
    """
    a, b, c = NEWTON_SCHULZ
    for _ in range(ROUNDS):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_shape(weights: list[nn.Parameter]) -> list[list[int]]:
    """The places of weights that are alike as matrices."""
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, weight in enumerate(weights):
        places[weight.shape[0], weight[0].numel()].append(place)
    return list(places.values())
