"""The nets: any size in and out, the null class, one image alone or in a batch, a fresh net answers zero."""

from collections.abc import Iterator

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from fromnoise.denoise import NetDenoiser, edm_weight, log_normal_levels, stratified
from fromnoise.exact import GaussianMixture
from fromnoise.nets import MLP, MLPSpec, UNet, UNetSpec
from fromnoise.nets.parts import modulated_silu
from fromnoise.noise import SCHEDULES, Condition, NoisyPair, corrupt
from tiny import awake, normals, one_thread

SPEC = UNetSpec(channels=3, classes=2, patch=2, width=16, blocks=(1, 1))
ALONE = 2e-5  # one image alone or in a batch: the same sums in another order, answers of order one


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


def unet(**fields: object) -> UNet:
    """A small U-Net with random weights everywhere."""
    net = awake(UNet(UNetSpec.model_validate(SPEC.model_dump() | fields)))
    assert isinstance(net, UNet)
    return net


def classes(*index: int) -> Condition:
    return Condition(torch.tensor(index))


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 7), (8, 8), (13, 8), (9, 30)])
@pytest.mark.parametrize(("channels", "patch", "multipliers"), [(1, 1, (1,)), (3, 2, (1, 2)), (4, 3, (1, 2, 2))])
@torch.no_grad()
def test_what_comes_out_has_the_shape_of_what_went_in(
    size: tuple[int, int], channels: int, patch: int, multipliers: tuple[int, ...]
) -> None:
    net = unet(channels=channels, patch=patch, multipliers=multipliers, blocks=(1,) * len(multipliers))
    x = normals(2, channels, *size)
    out = net(x, torch.zeros(2), Condition())
    assert out.shape == x.shape
    assert bool(torch.isfinite(out).all()) and float(out.std()) > 0


@pytest.mark.parametrize("size", [(5, 7), (6, 3), (1, 8)])
@torch.no_grad()
def test_a_size_that_does_not_divide_is_an_image_in_the_middle_of_zeros(size: tuple[int, int]) -> None:
    net = unet(multipliers=(1, 2))
    assert net.multiple == 4
    x, (height, width) = normals(1, 3, *size), size
    wide = torch.zeros(1, 3, height + -height % 4, width + -width % 4)
    top, left = (wide.shape[2] - height) // 2, (wide.shape[3] - width) // 2
    wide[..., top : top + height, left : left + width] = x
    within = net(wide, torch.zeros(1), Condition())[..., top : top + height, left : left + width]
    torch.testing.assert_close(net(x, torch.zeros(1), Condition()), within, rtol=0, atol=ALONE)


@torch.no_grad()
def test_content_far_from_the_border_moves_the_answer_with_it() -> None:
    net = unet(patch=1, multipliers=(1,), blocks=(1,))  # each answer sees 6 pixels each way
    here, there = torch.zeros(1, 3, 24, 24), torch.zeros(1, 3, 24, 24)
    blob = normals(1, 3, 4, 4)
    here[..., 8:12, 8:12], there[..., 11:15, 10:14] = blob, blob
    answers = [net(x, torch.zeros(1), Condition()) for x in (here, there)]
    torch.testing.assert_close(answers[0][..., 6:14, 6:14], answers[1][..., 9:17, 8:16], rtol=0, atol=ALONE)
    assert float((answers[0] - answers[1]).abs().max()) > 100 * ALONE


@pytest.mark.parametrize("kind", ["unet", "mlp"])
@torch.no_grad()
def test_no_class_is_the_last_row_of_the_table(kind: str) -> None:
    net: nn.Module = unet() if kind == "unet" else awake(MLP(MLPSpec(classes=2, width=16)))
    x = normals(2, 3, 8, 8) if kind == "unet" else normals(2, 2)

    def answer(condition: Condition) -> Tensor:
        out = net(x, torch.zeros(2), condition)
        assert isinstance(out, Tensor)
        return out

    none, minus, first = answer(Condition()), answer(classes(-1, -1)), answer(classes(0, 0))
    assert torch.equal(none, minus)
    assert not torch.allclose(none, first)
    assert torch.equal(answer(classes(-1, 0))[0], none[0]) and torch.equal(answer(classes(-1, 0))[1], first[1])
    net.get_parameter("embedding.classes.weight")[2] += 1.0
    assert not torch.allclose(answer(Condition()), none)
    assert torch.equal(answer(classes(0, 0)), first)


@pytest.mark.parametrize("kind", ["unet", "mlp"])
@torch.no_grad()
def test_each_number_is_heard_and_unknown_is_a_row_of_its_own(kind: str) -> None:
    net: nn.Module = unet(numbers=3) if kind == "unet" else awake(MLP(MLPSpec(numbers=3, classes=2, width=16)))
    x = normals(2, 3, 8, 8) if kind == "unet" else normals(2, 2)

    def answer(*row: float) -> Tensor:
        told = Condition(torch.tensor([1, 1]), torch.tensor([row, row])) if row else Condition(torch.tensor([1, 1]))
        out = net(x, torch.zeros(2), told)
        assert isinstance(out, Tensor) and bool(torch.isfinite(out).all())
        return out

    nan = torch.nan
    assert torch.equal(answer(), answer(nan, nan, nan))
    rows = [(nan, nan, nan), *((v, nan, nan) for v in (-1.0, 0.0, 1.0, 9.0)), (nan, 1.0, nan), (nan, nan, 1.0)]
    answers = [answer(*row) for row in (*rows, (1.0, 1.0, 1.0))]
    assert all(not torch.allclose(a, b, atol=1e-3) for k, a in enumerate(answers) for b in answers[:k])
    mixed = net(x, torch.zeros(2), Condition(torch.tensor([1, 1]), torch.tensor([rows[0], rows[5]])))
    assert torch.equal(mixed[0], answers[0][0]) and torch.equal(mixed[1], answers[5][1])
    null_of_second = [(*row[:1], nan, *row[2:]) for row in ((0.3, 1.0, 2.0), (nan, nan, nan))]
    before, known = [answer(*row) for row in null_of_second], answer(0.3, 1.0, 2.0)
    net.get_parameter("embedding.numbers.weight")[:, 3 + 1] += 1.0  # three numbers, then a flag for each
    assert all(not torch.allclose(answer(*row), old) for row, old in zip(null_of_second, before, strict=True))
    assert torch.equal(answer(0.3, 1.0, 2.0), known)


def test_a_net_without_numbers_begins_as_it_would_if_there_were_none() -> None:
    weights = []
    for numbers in (0, 2):
        torch.manual_seed(0)
        weights.append(MLP(MLPSpec(classes=2, numbers=numbers)).state_dict())
    assert weights[1].keys() - weights[0].keys() == {"embedding.numbers.weight"}
    assert torch.equal(weights[0]["embedding.classes.weight"], weights[1]["embedding.classes.weight"])


@torch.no_grad()
def test_one_image_alone_is_answered_as_in_a_batch() -> None:
    net = unet()
    x, number, index = normals(5, 3, 8, 12), torch.linspace(-1, 1, 5), torch.tensor([0, 1, -1, 1, 0])
    together = net(x, number, Condition(index))
    for k in range(5):
        alone = net(x[k : k + 1], number[k : k + 1], Condition(index[k : k + 1]))
        torch.testing.assert_close(alone[0], together[k], rtol=0, atol=ALONE)


@torch.no_grad()
def test_the_answer_depends_on_the_number_told_and_not_on_the_batch_beside_it() -> None:
    net, x = unet(), normals(2, 3, 8, 8)
    before = net(x, torch.tensor([0.0, 0.0]), Condition())
    after = net(x, torch.tensor([0.0, 0.7]), Condition())
    assert torch.equal(before[0], after[0]) and not torch.allclose(before[1], after[1])


def test_a_block_sees_every_image_at_one_size_and_deviation() -> None:
    """Each group of 16 channels has mean 0 and deviation 1 before its scale and shift, whatever came in."""
    x, nothing = normals(2, 32, 4, 5).double(), torch.zeros(2, 32, 1, 1)
    linear = x.view(2, 2, -1)
    normal = ((linear - linear.mean(2, keepdim=True)) / linear.std(2, correction=0, keepdim=True)).view_as(x)
    expected = torch.nn.functional.silu(3.0 * normal - 0.5)
    for size, place in ((1.0, 0.0), (1e3, -20.0)):
        found = modulated_silu(size * x + place, nothing + 2.0, nothing - 0.5)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_fresh_net_answers_exactly_zero() -> None:
    assert not UNet(SPEC)(normals(2, 3, 8, 8), torch.zeros(2), classes(0, -1)).any()
    assert not MLP(MLPSpec())(normals(4, 2), torch.zeros(4), Condition()).any()


def test_equal_specs_build_nets_of_equal_shapes_and_bad_ones_are_refused() -> None:
    shapes = [{name: w.shape for name, w in UNet(SPEC).state_dict().items()} for _ in range(2)]
    assert shapes[0] == shapes[1]
    for wrong in (
        {"width": 20},
        {"width": 0},
        {"channels": 0},
        {"classes": -1},
        {"numbers": -1},
        {"colour": 1},
        {"blocks": (1,)},
    ):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            UNetSpec.model_validate(SPEC.model_dump() | wrong)


def test_an_mlp_learns_a_mixture_of_points_to_near_the_known_optimum() -> None:
    """The denoiser known in closed form has the least loss there is; at least 95 % of the way to it is covered."""
    schedule = SCHEDULES["edm"]()
    draw = torch.Generator().manual_seed(0)
    angles = torch.arange(4, dtype=torch.float64) * torch.pi / 2
    centres = 0.8 * torch.stack([angles.cos(), angles.sin()], 1)
    even = torch.full((4,), 0.25, dtype=torch.float64)
    exact = GaussianMixture(schedule, centres, torch.full((4,), 0.003, dtype=torch.float64), even)
    sigma_data = (0.8**2 / 2 + 0.003) ** 0.5
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MLP(MLPSpec(width=64))
    denoiser = NetDenoiser(net, schedule, sigma_data)

    def pair(count: int) -> tuple[NoisyPair, Tensor]:
        points = centres[torch.randint(4, (count,), generator=draw)].float()
        points = points + 0.003**0.5 * torch.randn(points.shape, generator=draw)
        u = stratified(torch.rand(count, generator=draw, dtype=torch.float64))
        log_snr = log_normal_levels(u, -1.2, 1.2)
        eps = torch.randn(points.shape, generator=draw)
        return corrupt(schedule, points, eps, schedule.t_at(log_snr), Condition()), edm_weight(log_snr, sigma_data)

    shown, weight = pair(4096)
    best = float((weight * (exact(shown.x_t, shown.t) - shown.x0).square().mean(1)).mean())
    with torch.no_grad():
        before = float(denoiser.loss(shown, weight).mean())
    optimizer = torch.optim.Adam(net.parameters(), 4e-3)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / 400)
        denoiser.loss(*pair(256)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = float(denoiser.loss(shown, weight).mean())
    assert best < after < best + 0.05 * (before - best)
