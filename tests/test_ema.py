"""The average of weights: its profile is tau**gamma, and its length what was asked for."""

import numpy as np
import pytest
import torch

from fromnoise import ema

LENGTHS = [0.02, 0.05, 0.1, 0.2, 0.27]


def averaged(values: torch.Tensor, gamma: float, batch: int) -> torch.Tensor:
    """What ``update`` makes of the weights (N, D) that stood at batch, 2 batch, ..., N batch images seen."""
    average = {"w": torch.zeros_like(values[0])}
    for k, value in enumerate(values, start=1):
        ema.update(average, {"w": value}, ema.share(gamma, k * batch, batch))
    return average["w"]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("batch", [1, 64])
def test_it_is_the_average_weighted_by_position_to_the_power_gamma(length: float, batch: int) -> None:
    """Each weight holds over the images it saw last: its share is the integral of tau**gamma over them."""
    values = torch.randn(300, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gamma, ends = ema.gamma_of(length), np.arange(301) / 300
    shares = np.diff(ends ** (gamma + 1))
    assert shares.sum() == pytest.approx(1)
    expected = torch.from_numpy(shares) @ values
    torch.testing.assert_close(averaged(values, gamma, batch), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_profile_has_the_relative_deviation_asked_for(length: float) -> None:
    """Read off by averaging the unit vectors: entry k of the result is the share of the k-th weights."""
    steps = 1000
    shares = averaged(torch.eye(steps, dtype=torch.float64), ema.gamma_of(length), 8).numpy()
    middles = (np.arange(steps) + 0.5) / steps
    mean = shares @ middles
    deviation = np.sqrt(shares @ (middles - mean) ** 2)
    assert deviation == pytest.approx(length, rel=1e-3)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 6.94, 16.97, 100.0])
def test_gamma_is_found_back_from_the_deviation_it_has(gamma: float) -> None:
    """The variance of the beta law (gamma + 1, 1), whose density is proportional to tau**gamma."""
    variance = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))
    assert ema.gamma_of(variance**0.5) == pytest.approx(gamma, rel=1e-9)


def test_the_first_update_copies_and_the_weights_stay_as_they_are() -> None:
    weights = {"a": torch.randn(3), "b": torch.randn(2, 2)}
    before = {name: value.clone() for name, value in weights.items()}
    average = {name: torch.full_like(value, 7.0) for name, value in weights.items()}
    ema.update(average, weights, ema.share(6.0, 64, 64))
    for name in weights:
        assert torch.equal(average[name], weights[name]) and torch.equal(weights[name], before[name])
