"""Schedules, the one forward formula, and the chain that gets there step by step."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from fromnoise.noise import (
    EDM,
    LOG_SNR_MAX,
    LOG_SNR_MIN,
    SCHEDULES,
    Condition,
    Flow,
    Tabulated,
    VPCosine,
    VPLinear,
    corrupt,
    spread,
    walk,
)

NAMES = tuple(SCHEDULES)
MADE = {name: make() for name, make in SCHEDULES.items()}
FRACTIONS = st.floats(0.0, 1.0)


def between(schedule, fraction: float) -> float:
    return min(schedule.t_min + fraction * (schedule.t_max - schedule.t_min), schedule.t_max)


def inner_times(schedule, count: int = 501) -> torch.Tensor:
    """Evenly over [t_min, t_max], both included."""
    return schedule.t_min + (schedule.t_max - schedule.t_min) * torch.linspace(0, 1, count, dtype=torch.float64)


def noise_images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 2, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(one=FRACTIONS, other=FRACTIONS)
def test_log_snr_falls_strictly(name, one, other):
    schedule = MADE[name]
    early, late = sorted([between(schedule, one), between(schedule, other)])
    if late - early > 1e-12:
        assert schedule.log_snr(early) > schedule.log_snr(late)


@pytest.mark.parametrize("name", NAMES)
def test_log_snr_falls_strictly_over_a_fine_grid(name):
    assert (MADE[name].log_snr(inner_times(MADE[name], 20_001)).diff() < 0).all()


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(fraction=FRACTIONS)
def test_t_at_inverts_log_snr(name, fraction):
    schedule = MADE[name]
    t = between(schedule, fraction)
    assert float(schedule.t_at(schedule.log_snr(t))) == pytest.approx(t, abs=1e-11)
    ends = schedule.log_snr(torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64))
    wanted = ends[1] + fraction * (ends[0] - ends[1])
    assert float(schedule.log_snr(schedule.t_at(wanted))) == pytest.approx(float(wanted), abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_noise_levels_stay_inside_the_bounds(name):
    schedule = MADE[name]
    outside = torch.tensor([schedule.t_min, schedule.t_max, 1e-300, -1.0, 1.0, 2.0], dtype=torch.float64)
    found = schedule.log_snr(outside)
    assert (found <= LOG_SNR_MAX + 1e-9).all() and (found >= LOG_SNR_MIN - 1e-9).all()
    assert 0.0 < schedule.t_min < schedule.t_max <= 1.0
    assert schedule.t_at(100.0) == schedule.t_min and schedule.t_at(-100.0) == schedule.t_max


@pytest.mark.parametrize("name", NAMES)
def test_t_zero_is_the_image_itself(name):
    x0 = noise_images(3)
    alpha, sigma = MADE[name].alpha_sigma(0.0)
    assert (float(alpha), float(sigma)) == (1.0, 0.0)
    assert torch.equal(corrupt(MADE[name], x0, noise_images(3, 1), 0.0).x_t, x0)


@pytest.mark.parametrize("name", NAMES)
def test_the_pair_is_the_log_snr(name):
    t = inner_times(MADE[name])
    alpha, sigma = MADE[name].alpha_sigma(t)
    assert alpha.dtype == sigma.dtype == torch.float64
    torch.testing.assert_close(2 * torch.log(alpha / sigma), MADE[name].log_snr(t), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_a_number_and_a_tensor_of_times_agree(name):
    times = inner_times(MADE[name], 5)
    alpha, sigma = MADE[name].alpha_sigma(times)
    for i, t in enumerate(times.tolist()):
        one = MADE[name].alpha_sigma(t)
        assert one[0].shape == () and (one[0], one[1]) == (alpha[i], sigma[i])


def test_vp_linear_is_the_integral_of_its_betas():
    schedule, low, high = VPLinear(), 0.1, 20.0
    t = inner_times(schedule)
    alpha, sigma = schedule.alpha_sigma(t)
    log_alpha = -(t**2) * (high - low) / 4 - t * low / 2
    torch.testing.assert_close(alpha, log_alpha.exp(), rtol=1e-12, atol=0)
    torch.testing.assert_close(sigma, (-torch.expm1(2 * log_alpha)).sqrt(), rtol=1e-12, atol=0)


def test_vp_cosine_is_the_squared_cosine():
    schedule = VPCosine()
    t = inner_times(schedule)
    alpha, sigma = schedule.alpha_sigma(t)
    level = torch.cos((t + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)
    torch.testing.assert_close(alpha, level, rtol=1e-10, atol=0)
    torch.testing.assert_close(sigma**2, 1 - level**2, rtol=1e-10, atol=1e-15)


def test_flow_is_the_straight_line():
    schedule = Flow()
    t = inner_times(schedule)
    alpha, sigma = schedule.alpha_sigma(t)
    torch.testing.assert_close(alpha, 1 - t, rtol=1e-12, atol=0)
    torch.testing.assert_close(sigma, t, rtol=1e-12, atol=0)


def test_edm_is_linear_in_log_sigma():
    schedule = EDM()
    t = inner_times(schedule)
    alpha, sigma = schedule.alpha_sigma(t)
    assert (alpha == 1.0).all()
    torch.testing.assert_close(sigma, 0.002 * (80 / 0.002) ** t, rtol=1e-12, atol=0)
    assert float(sigma[0]) == pytest.approx(0.002) and float(sigma[-1]) == pytest.approx(80.0)


@pytest.mark.parametrize("name", ["vp-linear", "vp-cosine", "ddpm"])
def test_variance_is_preserved(name):
    alpha, sigma = MADE[name].alpha_sigma(inner_times(MADE[name]))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=1e-14, atol=0)


def test_the_ddpm_table_is_that_of_diffusers_at_every_entry():
    """diffusers multiplies in float32: 1,000 roundings of 6e-8 each, so 1e-5 relative is their own error."""
    times = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, _ = Tabulated.ddpm().alpha_sigma(times)
    theirs = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear").alphas_cumprod
    torch.testing.assert_close(alpha**2, theirs.double(), rtol=1e-5, atol=0)
    exact = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    torch.testing.assert_close(alpha**2, exact, rtol=1e-12, atol=0)


def test_between_entries_the_table_is_linear_in_log_snr():
    schedule = Tabulated.ddpm()
    low, middle, high = schedule.log_snr(torch.tensor([0.3, 0.3005, 0.301], dtype=torch.float64))
    assert float(middle) == pytest.approx(float(low + high) / 2, abs=1e-12)


def test_spread_multiplies_image_by_image():
    like = torch.ones(2, 3, 4, 4)
    assert spread(torch.tensor([2.0, 3.0], dtype=torch.float64), like).shape == (2, 1, 1, 1)
    assert spread(torch.tensor(2.0), like).shape == ()
    assert spread(torch.tensor(2.0, dtype=torch.float64), like).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_corrupt_is_the_forward_formula(name):
    x0, eps = noise_images(4), noise_images(4, 1)
    t = torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=torch.float64)
    pair = corrupt(MADE[name], x0, eps, t)
    assert pair.x0 is x0 and pair.eps is eps and pair.condition == Condition()
    for i in range(4):
        alpha, sigma = MADE[name].alpha_sigma(float(t[i]))
        assert (pair.t[i], pair.alpha[i], pair.sigma[i]) == (t[i], alpha, sigma)
        assert torch.equal(pair.x_t[i], alpha * x0[i] + sigma * eps[i])


def test_corrupt_keeps_dtype_condition_and_one_time_for_all():
    told = Condition(class_index=torch.tensor([0, 1]))
    pair = corrupt(EDM(), noise_images(2).float(), noise_images(2, 1).float(), 0.5, told)
    assert pair.x_t.dtype == torch.float32 and pair.alpha.dtype == torch.float64
    assert pair.condition is told and pair.t.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", NAMES)
def test_the_chain_keeps_alpha_of_the_image_and_gathers_sigma_squared_of_noise(name):
    """Noise k is the k-th unit vector, so the value along it is what step k's noise has become."""
    schedule = MADE[name]
    times = inner_times(schedule, 41).tolist()
    steps = len(times)
    images = walk(schedule, torch.ones(1, steps, dtype=torch.float64), times, lambda k: torch.zeros(1, steps).double())
    units = torch.eye(steps, dtype=torch.float64)
    noises = walk(schedule, torch.zeros(1, steps, dtype=torch.float64), times, lambda k: units[k : k + 1])
    for t, image, noise in zip(times, images, noises, strict=True):
        alpha, sigma = schedule.alpha_sigma(t)
        torch.testing.assert_close(image, alpha.expand(1, steps), rtol=1e-12, atol=0)
        torch.testing.assert_close(noise.square().sum(), sigma**2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_the_chain_and_the_jump_agree_in_distribution(name):
    """4,096 chains of 8 steps from one image: mean and variance of each value within five standard errors."""
    schedule, count = MADE[name], 4096
    draw = torch.Generator().manual_seed(3)
    x0 = torch.linspace(-1, 1, 6, dtype=torch.float64)
    times = torch.linspace(0.1, 0.9, 8, dtype=torch.float64).tolist()
    chain = walk(
        schedule,
        x0.expand(count, 6),
        times,
        lambda k: torch.randn(count, 6, generator=draw, dtype=torch.float64),
    )
    for t, x in zip(times, chain, strict=True):
        alpha, sigma = schedule.alpha_sigma(t)
        assert ((x.mean(0) - alpha * x0).abs() < 5 * sigma / count**0.5).all()
        assert ((x.var(0) / sigma**2 - 1).abs() < 5 * (2 / (count - 1)) ** 0.5).all()


def test_a_chain_of_one_step_is_the_jump():
    x0, eps = noise_images(2), noise_images(2, 1)
    (jumped,) = walk(Flow(), x0, [0.6], lambda k: eps)
    torch.testing.assert_close(jumped, corrupt(Flow(), x0, eps, 0.6).x_t, rtol=1e-14, atol=1e-15)
