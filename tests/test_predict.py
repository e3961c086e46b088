"""One table between what a network may predict."""

import itertools

import pytest
import torch
from torch import Tensor

from fromnoise.noise import SCHEDULES, spread
from fromnoise.predict import FROM_X0, PREDICTIONS, TO_X0, convert

PAIRS = [(1.0, 0.5), (0.8, 0.6), (0.3, 0.95), (0.6, 0.4), (1.0, 3.0)]
"""(alpha, sigma): variance exploding, preserving twice, flow, exploding."""


CONVERSIONS = list(itertools.product(PREDICTIONS, PREDICTIONS))


def images(seed: int) -> Tensor:
    return torch.randn(4, 3, 5, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def everything(x0: Tensor, eps: Tensor, alpha: float | Tensor, sigma: float | Tensor) -> dict[str, Tensor]:
    """Each kind by its definition from image and noise, not through the table."""
    return {
        "x0": x0,
        "eps": eps,
        "v": alpha * eps - sigma * x0,
        "velocity": eps - x0,
        "score": -eps / sigma,
    }


def test_the_table_has_the_five_kinds_both_ways():
    assert tuple(FROM_X0) == PREDICTIONS == ("x0", "eps", "v", "velocity", "score")


@pytest.mark.parametrize(("alpha", "sigma"), PAIRS)
@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_every_kind_converts_to_every_other_by_definition(source, target, alpha, sigma):
    """Relative to the largest value: 1e-12 leaves room for the cancellation at these alpha and sigma, no more."""
    x0, eps = images(0), images(1)
    kinds = everything(x0, eps, alpha, sigma)
    found = convert(kinds[source], alpha * x0 + sigma * eps, alpha, sigma, source, target)
    assert (found - kinds[target]).abs().max() <= 1e-12 * kinds[target].abs().max()


@pytest.mark.parametrize(("alpha", "sigma"), PAIRS)
@pytest.mark.parametrize(("source", "target"), CONVERSIONS)
def test_there_and_back_is_the_same(source, target, alpha, sigma):
    """For any values, as a network's prediction is no true noise of any image."""
    value, x_t = images(2), images(3)
    there = convert(value, x_t, alpha, sigma, source, target)
    back = convert(there, x_t, alpha, sigma, target, source)
    assert (back - value).abs().max() <= 1e-12 * value.abs().max()


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_pair_per_image_is_converted_image_by_image(name):
    schedule = SCHEDULES[name]()
    x0, eps = images(0), images(1)
    alpha, sigma = (spread(value, x0) for value in schedule.alpha_sigma(torch.tensor([0.2, 0.4, 0.6, 0.8])))
    x_t = alpha * x0 + sigma * eps
    for kind, value in everything(x0, eps, alpha, sigma).items():
        torch.testing.assert_close(TO_X0[kind](value, x_t, alpha, sigma), x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("alpha", "sigma"), PAIRS)
def test_the_score_is_the_gradient_of_the_log_density(alpha, sigma):
    """x0 normal (mean, variance) makes x_t normal (alpha mean, alpha**2 variance + sigma**2), and E[x0 | x_t] known."""
    mean, variance = 0.3, 0.4
    total = alpha**2 * variance + sigma**2
    x_t = images(4).requires_grad_()
    (gradient,) = torch.autograd.grad((-((x_t - alpha * mean) ** 2) / (2 * total)).sum(), x_t)
    x0_hat = mean + alpha * variance / total * (x_t - alpha * mean)
    found = FROM_X0["score"](x0_hat, x_t, alpha, sigma)
    torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)


def test_an_unknown_kind_is_an_error():
    with pytest.raises(KeyError):
        convert(images(0), images(1), 0.8, 0.6, "noise", "x0")
