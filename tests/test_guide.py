"""Guidance: with and without the class and the numbers, and the difference exaggerated."""

from dataclasses import dataclass, replace
from itertools import accumulate

import pytest
import torch
from torch import Tensor

from fromnoise.denoise import Denoiser, noise_ratio
from fromnoise.guide import Guidance, evaluations
from fromnoise.noise import EDM, Condition, Flow, Schedule
from fromnoise.sample import Sampler, trajectory
from toys import conv_denoiser

X = torch.randn(3, 3, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
T = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
TOLD = Condition(class_index=torch.tensor([0, 1, 2]))
UNTOLD = Condition(class_index=torch.tensor([-1, -1, -1]))


def test_the_toy_net_listens_to_the_class():
    plain = conv_denoiser(EDM())
    assert not torch.allclose(plain(X, T, TOLD), plain(X, T, UNTOLD), atol=1e-3)


def test_guidance_one_is_the_answer_for_the_class():
    plain = conv_denoiser(EDM())
    torch.testing.assert_close(Guidance(plain, 1.0)(X, T, TOLD), plain(X, T, TOLD), rtol=1e-12, atol=1e-12)


def test_guidance_zero_is_the_answer_without():
    plain = conv_denoiser(EDM())
    torch.testing.assert_close(Guidance(plain, 0.0)(X, T, TOLD), plain(X, T, UNTOLD), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("guidance", [-1.0, 0.4, 2.0, 7.5])
def test_guidance_is_a_straight_line_through_the_two(guidance):
    plain = conv_denoiser(EDM())
    expected = (1 - guidance) * plain(X, T, UNTOLD) + guidance * plain(X, T, TOLD)
    found = Guidance(plain, guidance)(X, T, TOLD)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("condition", [TOLD, Condition(), None])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("told_too", [False, True])
def test_an_earlier_denoiser_is_asked_with_the_class_or_with_it_hidden(condition, guidance, told_too):
    """x0_hat + (guidance - 1) (x0_hat - earlier), between the bounds; with nothing told as well."""
    plain, earlier = conv_denoiser(EDM()), conv_denoiser(EDM(), "v")
    ratio = float(noise_ratio(EDM().log_snr(T[1])))
    hidden = UNTOLD if condition is TOLD else None
    told, other = plain(X, T, condition), earlier(X, T, condition if told_too else hidden)
    everywhere = told + (guidance - 1.0) * (told - other)
    found = Guidance(plain, guidance, None, earlier, told_too)
    torch.testing.assert_close(found(X, T, condition), everywhere, rtol=1e-12, atol=1e-12)
    bounded = Guidance(plain, guidance, (0.9 * ratio, 1.1 * ratio), earlier, told_too)
    expected = torch.stack([told[0], everywhere[1], told[2]])
    torch.testing.assert_close(bounded(X, T, condition), expected, rtol=1e-12, atol=1e-12)
    assert evaluations(bounded, T).tolist() == [1, 2, 1] and found.cost == 2
    moved = found.under(Flow())
    assert moved.earlier.schedule.name == moved.denoiser.schedule.name == "flow"


def test_one_time_serves_all_images():
    guided = Guidance(conv_denoiser(EDM()), 2.0)
    one = torch.tensor(0.5, dtype=torch.float64)
    torch.testing.assert_close(guided(X, one, TOLD), guided(X, one.expand(3), TOLD))


def test_the_second_evaluation_is_counted():
    guided = Guidance(conv_denoiser(EDM()), 2.0)
    sampler = Sampler("heun", steps=5)
    steps = list(trajectory(guided, X, sampler.times(guided.schedule), sampler.step(), condition=TOLD))
    assert guided.cost == 2 and [step.nfe for step in steps] == [4, 8, 12, 16, 18]


def test_outside_of_its_bounds_the_answer_is_the_plain_one_and_costs_one():
    plain = conv_denoiser(EDM())
    inside = T[1:2].expand(3)
    ratio = float(noise_ratio(EDM().log_snr(T[1])))
    bounded, guided = Guidance(plain, 2.0, (0.9 * ratio, 1.1 * ratio)), Guidance(plain, 2.0)
    expected = torch.stack([plain(X, T, TOLD)[0], guided(X, T, TOLD)[1], plain(X, T, TOLD)[2]])
    torch.testing.assert_close(bounded(X, T, TOLD), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bounded(X, inside, TOLD), guided(X, inside, TOLD), rtol=1e-12, atol=1e-12)
    assert torch.equal(bounded(X, T[0], TOLD), plain(X, T[0], TOLD))
    assert evaluations(bounded, T).tolist() == [1, 2, 1] and evaluations(guided, T).tolist() == [2, 2, 2]
    assert evaluations(plain, T).tolist() == [1, 1, 1] and int(evaluations(bounded, T[2])) == 1


def test_bounds_are_noise_ratios_whatever_the_schedule_calls_them():
    bounded = Guidance(conv_denoiser(EDM()), 2.0, (0.25, 5.0))
    t = EDM().t_at(-2.0 * torch.tensor([0.2, 0.3, 4.9, 5.1], dtype=torch.float64).log())
    moved = Flow().t_at(EDM().log_snr(t))
    assert bounded.guides(t).tolist() == bounded.under(Flow()).guides(moved).tolist() == [False, True, True, False]


def test_evaluations_are_counted_where_they_happen():
    bounded = Guidance(conv_denoiser(EDM()), 2.0, (0.25, 5.0))
    sampler = Sampler("heun", steps=5, grid="inner")
    times = sampler.times(EDM())
    twice = [int(bounded.guides(t)) for t in times[:-1]]
    assert 0 < sum(twice) < 5
    expected = [2 + twice[i] + (twice[i + 1] if i < 4 else 0) - (i == 4) for i in range(5)]
    steps = list(trajectory(bounded, X, times, sampler.step(), condition=TOLD))
    assert [step.nfe for step in steps] == list(accumulate(expected))


def test_guidance_goes_along_to_another_schedule():
    guided = Guidance(conv_denoiser(EDM()), 2.0, (0.25, 5.0))
    moved = guided.under(Flow())
    assert isinstance(moved, Denoiser) and (moved.guidance, moved.within) == (2.0, (0.25, 5.0))
    assert moved.schedule.name == moved.denoiser.schedule.name == "flow"


@dataclass(frozen=True)
class Hearsay:
    """Answers with the sum of what it is told."""

    schedule: Schedule
    cost: int = 1

    def under(self, schedule: Schedule) -> "Hearsay":
        return replace(self, schedule=schedule)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        total = condition.image + 0.0
        if condition.class_index is not None:
            total = total + condition.class_index[:, None, None, None]
        if condition.numbers is not None:
            total = total + condition.numbers.nan_to_num(-10.0).sum(1)[:, None, None, None]
        return total


CLASSES, NUMBERS = torch.tensor([0, 1, 2]), torch.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize(
    ("index", "numbers", "told_more"),
    [
        (CLASSES, None, 1.0 + CLASSES),
        (None, NUMBERS, 20.0 + NUMBERS.sum(1)),
        (CLASSES, NUMBERS, 21.0 + CLASSES + NUMBERS.sum(1)),
        (CLASSES, torch.full((3, 2), torch.nan), 1.0 + CLASSES),
    ],
)
def test_the_class_and_all_numbers_are_hidden_and_nothing_else(index, numbers, told_more):
    told, plain = Condition(index, numbers, X.float()), Hearsay(EDM())
    found = Guidance(plain, 2.0)(X, T, told)
    torch.testing.assert_close(found, plain(X, T, told) + told_more[:, None, None, None])


@pytest.mark.parametrize("condition", [None, Condition()])
def test_guidance_needs_a_class_or_numbers(condition):
    with pytest.raises(AssertionError, match="needs a class or numbers"):
        Guidance(conv_denoiser(EDM()), 2.0)(X, T, condition)
