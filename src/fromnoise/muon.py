"""Muon, an optimizer for matrices: each step is the momentum with its singular values brought near one.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025, arXiv 2502.16982. A
direction that few gradients point to moves as far as one that many do, so a short run learns more from each update.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from fromnoise.adam import Optimizer

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # X -> a X + b X X'X + c X X'X X'X; Jordan et al., section "tuning"
ROUNDS = 5


class Muon(Optimizer):
    """Weights of any number of dimensions from two on; all after the first count as columns.

    lr is the size of a step in the spectral norm: a weight of shape (m, n) moves by lr max(1, m / n)**0.5 times a
    matrix whose singular values are near one (``orthogonalised``), and shrinks by lr weight_decay.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float | Tensor, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    @record_function("Optimizer.Muon")
    def step(self) -> None:
        """One step along the present gradients, which every weight must have."""
        for group in self.param_groups:
            for weight in group["params"]:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            alike = _by_shape(group["params"])
            moves = orthogonalised([self._ahead(weights, group["momentum"]) for weights in alike])
            torch._foreach_mul_(group["params"], 1.0 - group["lr"] * group["weight_decay"])
            for weights, move in zip(alike, moves, strict=True):
                rows, columns = move.shape[1:]
                move *= -group["lr"] * max(1.0, rows / columns) ** 0.5
                torch._foreach_add_([_matrix(w, w) for w in weights], list(move.unbind(0)))

    def _ahead(self, weights: list[nn.Parameter], momentum: float) -> Float[Tensor, "b m n"]:
        """Nesterov's momentum of weights of one shape, their averages brought up to date."""
        averages = [_matrix(self.state[w]["momentum"], w) for w in weights]
        gradient, average = (
            torch.stack([_matrix(w.grad, w) for w in weights if w.grad is not None]),
            torch.stack(averages),
        )
        average.lerp_(gradient, 1.0 - momentum)
        torch._foreach_copy_(averages, list(average.unbind(0)))
        return gradient.lerp_(average, momentum)


def orthogonalised(batches: Sequence[Float[Tensor, "_ _ _"]]) -> list[Float[Tensor, "_ _ _"]]:
    """Each matrix with singular values above a hundredth of its norm brought into [0.68, 1.14], by Newton and Schulz.

    Smaller ones stay smaller; zero stays zero. Each batch holds matrices of one shape (B, M, N), and keeps it.

    On a processor the polynomial acts on the smaller of the two Gram matrices, so a long thin matrix costs two large
    products, and matrices of many shapes whose Gram matrices are of one size share the small ones. On a GPU, where
    bfloat16 is ten times as fast as float32, it acts on the matrices.
    """
    wide = [x if x.shape[1] <= x.shape[2] else x.mT for x in batches]
    wide = [x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7) for x in wide]
    moved = [_in_bfloat16(x) for x in wide] if wide[0].is_cuda else _by_grams(wide)
    return [y if y.shape == x.shape else y.mT for x, y in zip(batches, moved, strict=True)]


def _by_grams(wide: Sequence[Float[Tensor, "_ _ _"]]) -> list[Float[Tensor, "_ _ _"]]:
    grams, factors = [x @ x.mT for x in wide], dict[int, Tensor]()
    for size in {gram.shape[1] for gram in grams}:
        alike = [i for i, gram in enumerate(grams) if gram.shape[1] == size]
        shared = _polynomial(torch.cat([grams[i] for i in alike]))
        factors |= zip(alike, shared.split([len(grams[i]) for i in alike]), strict=True)
    return [factors[i] @ x for i, x in enumerate(wide)]


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


def _in_bfloat16(x: Float[Tensor, "b m n"]) -> Float[Tensor, "b m n"]:
    """The polynomial on the matrices themselves, as Jordan et al. have it, which bears the rounding of bfloat16.

    A Gram matrix rounded so has negative eigenvalues where singular values are small, and those grow without end.
    """
    a, b, c = NEWTON_SCHULZ
    y = x.bfloat16()
    for _ in range(ROUNDS):
        gram = torch.bmm(y, y.mT)
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.to(x.dtype)


def _by_shape(weights: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The weights, those of one shape together."""
    alike: dict[tuple[torch.Size, bool], list[nn.Parameter]] = defaultdict(list)
    for weight in weights:
        alike[weight.shape, _channels_last(weight)].append(weight)
    return list(alike.values())


def _matrix(tensor: Tensor, like: Tensor) -> Float[Tensor, "m n"]:
    """A view of a tensor laid out as ``like``; columns as in memory, whose order changes no singular value."""
    return (tensor.movedim(1, -1) if _channels_last(like) else tensor).view(len(tensor), -1)


def _channels_last(weight: Tensor) -> bool:
    return weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
