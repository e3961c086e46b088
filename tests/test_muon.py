"""Muon: steps whose singular values are near one, whatever the gradient's."""

import pytest
import torch
from torch import nn

from fromnoise.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 40), (2, 40, 8), (4, 1, 9)])
def test_the_singular_values_come_near_one_and_the_directions_stay(shape: tuple[int, ...]) -> None:
    """A = U S V' becomes U S' V' with S' in [0.68, 1.14]: so U' A' V is diagonal."""
    source = torch.Generator().manual_seed(0)
    matrices = torch.randn(shape, generator=source, dtype=torch.float64)
    left, sizes, right = torch.linalg.svd(matrices, full_matrices=False)
    sizes = torch.linspace(1.0, 0.05, sizes.shape[1], dtype=torch.float64).expand_as(sizes)
    (moved,) = orthogonalised([left @ torch.diag_embed(sizes) @ right])
    found = left.mT @ moved @ right.mT
    values = found.diagonal(dim1=1, dim2=2)
    assert float(values.min()) > 0.68 and float(values.max()) < 1.14
    assert torch.allclose(found, torch.diag_embed(values), atol=1e-9)


def test_the_polynomial_on_the_gram_matrix_is_the_one_on_the_matrix() -> None:
    """X -> a X + b X X'X + c X X'X X'X five times, as Jordan et al. write it."""
    x = torch.randn(2, 6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = x / torch.linalg.matrix_norm(x, keepdim=True)
    for _ in range(5):
        gram = expected @ expected.mT
        expected = 3.4445 * expected + (-4.7750 * gram + 2.0315 * gram @ gram) @ expected
    assert torch.allclose(orthogonalised([x])[0], expected, atol=1e-6)


def test_batches_together_are_moved_as_each_alone() -> None:
    source = torch.Generator().manual_seed(5)
    batches = [torch.randn(shape, generator=source) for shape in ((2, 4, 9), (3, 9, 4), (1, 4, 4), (2, 6, 5))]
    for together, batch in zip(orthogonalised(batches), batches, strict=True):
        torch.testing.assert_close(together, orthogonalised([batch])[0], rtol=0, atol=1e-5)


def test_a_zero_gradient_moves_nothing_but_the_decay() -> None:
    weight = nn.Parameter(torch.ones(4, 2, 3, 3))
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    assert torch.allclose(weight.detach(), torch.full_like(weight, 0.95))


def test_a_step_is_that_of_torch_on_each_matrix_alone() -> None:
    """torch.optim.Muon takes matrices only: given the same ones, it moves them to the same places."""
    source = torch.Generator().manual_seed(2)
    shapes = [(8, 3, 3, 3), (8, 3, 3, 3), (16, 4, 1, 1), (4, 16, 1, 1)]
    ours = [nn.Parameter(torch.randn(shape, generator=source)) for shape in shapes]
    starts = [weight.detach().flatten(1).clone() for weight in ours]
    theirs = [nn.Parameter(start.clone()) for start in starts]
    optimizers = [
        Muon(ours, lr=0.02, momentum=0.95, weight_decay=0.1),
        torch.optim.Muon(theirs, lr=0.02, momentum=0.95, weight_decay=0.1, adjust_lr_fn="original"),
    ]
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=source)
            other.grad = one.grad.flatten(1).clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, start in zip(ours, theirs, starts, strict=True):
        apart, moved = (one.flatten(1) - other).norm(), (other - start).norm()
        assert apart < 0.05 * moved  # torch's products are bfloat16


def test_channels_last_weights_move_like_others() -> None:
    plain = nn.Parameter(torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(3)))
    last = nn.Parameter(plain.detach().to(memory_format=torch.channels_last))
    gradient = torch.randn(plain.shape, generator=torch.Generator().manual_seed(4))
    plain.grad, last.grad = gradient, gradient.to(memory_format=torch.channels_last)
    for weight in (plain, last):
        Muon([weight], lr=0.1, momentum=0.95, weight_decay=0.0).step()
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(plain, last, rtol=0, atol=1e-6)  # the same sums in another order
