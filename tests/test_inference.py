"""Nets ready to answer: what the trained net says, up to rounding; the trained net stays what it was."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fromnoise import model as rooms
from fromnoise.denoise import NetDenoiser
from fromnoise.images import open_images
from fromnoise.machine import has_bf16
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.nets import UNet, UNetSpec, ready
from fromnoise.noise import Condition
from tiny import awake, one_thread, recipe

SPEC = UNetSpec(channels=3, classes=2, numbers=1, patch=1, width=16, multipliers=(1, 2), blocks=(1, 2))
TOLD = Condition(torch.tensor([0, -1, 1]), torch.tensor([[0.5], [torch.nan], [-2.0]]))
SAME = 1e-5  # of answers of order one: the same sums in another order
ROUGH = 0.02  # of answers of order one, root mean square: some tens of roundings to 8 bits


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


def asked(net: nn.Module, side: int = 8, condition: Condition = TOLD) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    x, number = torch.randn(3, 3, side, side + 3, generator=draw), torch.randn(3, generator=draw)
    with torch.no_grad():
        return net(x, number, condition)


@pytest.mark.parametrize("condition", [TOLD, Condition()], ids=["told", "untold"])
@pytest.mark.parametrize("side", [8, 7])
def test_a_ready_net_answers_as_the_net(side: int, condition: Condition) -> None:
    net = awake(UNet(SPEC))
    wanted = asked(net, side, condition)
    exact, rough = (asked(ready(net, dtype, "cpu"), side, condition) for dtype in (torch.float32, torch.bfloat16))
    torch.testing.assert_close(exact, wanted, rtol=0, atol=SAME)
    assert rough.dtype == torch.float32
    assert SAME < float((rough - wanted).square().mean().sqrt()) < ROUGH * float(wanted.square().mean().sqrt())


def test_a_ready_net_keeps_the_weights_it_was_made_of_and_leaves_the_net_alone() -> None:
    net = awake(UNet(SPEC))
    made = ready(net, torch.bfloat16, "cpu")
    before, wanted = asked(made), asked(net)
    assert {weight.dtype for weight in net.parameters()} == {torch.float32}
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(0.5)
    assert torch.equal(asked(made), before) and not torch.allclose(asked(net), wanted)
    assert all(weight.requires_grad for weight in net.parameters())
    assert not any(weight.requires_grad for weight in made.parameters())


def test_samples_in_bfloat16_are_those_in_float32_within_levels_of_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a net with random weights, which is rougher than any trained one: docs/sample.md has the figures of those."""
    told = recipe(sampler={"steps": 8}, dtype="bfloat16")
    spec = open_images("menagerie:16", size=(8, 8)).spec
    model = Model(told, spec, build_denoiser(told, awake(build_net(told))), 0, "ema", "")
    found = {}
    for bf16 in (False, True):
        monkeypatch.setattr(rooms, "has_bf16", lambda device, bf16=bf16: bf16)
        found[bf16] = replace(model).sample(16, seed=3).images.astype(int)
    apart = np.abs(found[True] - found[False])
    assert 0 < apart.mean() < 2 and np.quantile(apart, 0.99) <= 8


def test_what_asks_for_exactness_is_answered_in_float32() -> None:
    told = recipe()
    spec = open_images("menagerie:16", size=(8, 8)).spec
    model = Model(told, spec, build_denoiser(told, awake(build_net(told))), 0, "ema", "")
    assert model.denoiser is not model.quick and model.quick is model.quick
    assert {weight.dtype for weight in model.denoiser.net.parameters()} == {torch.float32}  # type: ignore[attr-defined]


@pytest.mark.parametrize("device_has_it", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sampling_is_in_bfloat16_only_where_training_is(
    dtype: str, device_has_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "has_bf16", lambda device: device_has_it)
    told = recipe(dtype=dtype)
    spec = open_images("menagerie:16", size=(8, 8)).spec
    quick = Model(told, spec, build_denoiser(told, build_net(told)), 0, "ema", "").quick
    assert isinstance(quick, NetDenoiser) and isinstance(quick.net, nn.Module)
    found = {part.weight.dtype for part in quick.net.modules() if isinstance(part, nn.Conv2d)}
    assert found == {torch.bfloat16 if device_has_it and dtype == "bfloat16" else torch.float32}


def test_bfloat16_is_asked_of_the_device_itself() -> None:
    assert has_bf16("mps") is False and isinstance(has_bf16("cpu"), bool)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_net_answers_as_the_net_at_every_shape() -> None:
    net = awake(UNet(SPEC)).cuda()
    made = ready(net, torch.float32, "cuda")
    for n in (3, 2, 3):
        x, number = torch.randn(n, 3, 8, 8, device="cuda"), torch.randn(n, device="cuda")
        for condition in (Condition(torch.zeros(n, dtype=torch.long, device="cuda")), Condition()):
            with torch.no_grad():
                torch.testing.assert_close(made(x, number, condition), net(x, number, condition), rtol=0, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_net_recorded_without_gradients_to_come_is_asked_with_them_later() -> None:
    made = ready(awake(UNet(SPEC)).cuda(), torch.float32, "cuda")
    x, number = torch.randn(2, 3, 8, 8, device="cuda"), torch.randn(2, device="cuda")
    with torch.inference_mode():
        first = made(x, number, Condition())
    torch.testing.assert_close(made(x, number, Condition()), first.clone(), rtol=0, atol=0)
