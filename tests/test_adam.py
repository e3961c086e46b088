"""Adam without torch's own class: the same steps, and no compiler imported for them."""

import subprocess
import sys

import torch
from torch import nn

from fromnoise.adam import Adam

BEGIN = """
import sys, torch
from fromnoise.adam import Adam
weight = torch.nn.Parameter(torch.ones(3))
weight.grad = torch.ones(3)
optimizer = Adam([weight], 0.1, (0.9, 0.99))
optimizer.step()
optimizer.zero_grad()
sys.exit("torch._dynamo" in sys.modules)
"""


def test_it_takes_the_steps_of_torch_optim_bit_for_bit() -> None:
    draw = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((4, 3), (5,), (2, 3, 3, 3))]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    optimizers = Adam(ours, 0.0, (0.9, 0.99)), torch.optim.Adam(theirs, 0.0, (0.9, 0.99), fused=True)
    for k in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=draw)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.1 / (k + 1)
            optimizer.step()
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))
    assert optimizers[0].state[ours[0]].keys() == optimizers[1].state[theirs[0]].keys()


def test_a_weight_without_a_gradient_stays_and_zero_grad_forgets() -> None:
    moved, left = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    moved.grad = torch.ones(2)
    optimizer = Adam([moved, left], 0.1, (0.9, 0.99))
    optimizer.step()
    optimizer.zero_grad()
    assert moved.grad is None and torch.equal(left, torch.ones(2)) and bool((moved < 1).all())


def test_the_first_step_imports_no_compiler() -> None:
    assert subprocess.run([sys.executable, "-c", BEGIN], check=False).returncode == 0
