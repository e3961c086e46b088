"""Time grids, steppers and the one loop; diffusers is the outside oracle."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler
from diffusers.schedulers import scheduling_ddpm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fromnoise.denoise import Denoiser, noise_ratio
from fromnoise.errors import UseError
from fromnoise.noise import EDM, SCHEDULES, Flow, Schedule, Tabulated, VPLinear
from fromnoise.sample import GRIDS, STEPPERS, Sampler, ddim, dpm_2m, heun, start_noise, trajectory
from toys import conv_denoiser, gaussian, mixture

SHAPE = (3, 4, 4)
NUMBERS = [0, 1, 17, 5]
DENOISERS = {"mixture": lambda schedule: mixture(schedule, math.prod(SHAPE)), "net": conv_denoiser}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Convolutions of 4 x 4 pixels only wait for a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def last(denoiser: Denoiser, x: Tensor, times: Tensor, step=ddim, **options) -> Tensor:
    """The result of sampling."""
    *_, end = trajectory(denoiser, x, times, step, **options)
    return end.x_s


def noise_of_steps(x: Tensor, times: Tensor, **options) -> list[Tensor]:
    """What a stochastic stepper would be given, step by step."""
    drawn = []

    def listen(denoise, schedule, x_t, t, s, state, noise):
        denoise(x_t, t)
        drawn.append(noise(0))
        return x_t, state

    last(gaussian(EDM(), torch.zeros(math.prod(SHAPE)), 1.0), x, times, listen, **options)
    return drawn


def edm_times(*ratios: float) -> Tensor:
    """Times of the EDM schedule at these noise ratios."""
    return EDM().t_at(-2 * torch.tensor(ratios, dtype=torch.float64).log())


DIFFUSERS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "timestep_spacing": "trailing"}


def table_times(scheduler) -> Tensor:
    """Our times of their integer timesteps (Heun visits each but the first twice), then 0."""
    visited = scheduler.timesteps.double().unique().flip(0)
    return torch.cat([(visited + 1) / 1000, torch.zeros(1, dtype=torch.float64)])


@torch.no_grad()
def sample_of_diffusers(scheduler, denoiser: Denoiser, x: Tensor, options=lambda i: {}) -> Tensor:
    """Their loop, as their pipelines write it, with our denoiser telling them the noise it sees."""
    for i, timestep in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(x, timestep)
        t = (timestep.double() + 1) / 1000
        alpha, sigma = denoiser.schedule.alpha_sigma(t)
        eps = (seen - alpha * denoiser(seen, t)) / sigma
        x = scheduler.step(eps, timestep, x, **options(i)).prev_sample
    return x


def oracle_case(kind: str, steps: int, scheduler) -> tuple[Denoiser, Tensor, Tensor]:
    """(denoiser, starting noise, times): float64, so that only the rounding of their float32 table is left."""
    scheduler.set_timesteps(steps)
    denoiser, times = DENOISERS[kind](Tabulated.ddpm()), table_times(scheduler)
    return denoiser, start_noise(denoiser.schedule, times[0], SHAPE, 3, NUMBERS).double(), times


def assert_same_images(ours: Tensor, theirs: Tensor, atol: float = 1e-5) -> None:
    assert ours.std() > 0.1, "the images have something in them to compare"
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def assert_ddpm_agrees(monkeypatch, scheduler, kind: str, steps: int, atol: float) -> None:
    denoiser, x, times = oracle_case(kind, steps, scheduler)
    fresh = iter(noise_of_steps(x, times, seed=3, numbers=NUMBERS))
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: next(fresh))
    ours = last(denoiser, x, times, STEPPERS["ddpm"].step, seed=3, numbers=NUMBERS)
    assert_same_images(ours, sample_of_diffusers(scheduler, denoiser, x), atol)


@pytest.mark.parametrize("kind", DENOISERS)
def test_ddpm_gives_the_images_of_diffusers(monkeypatch, kind):
    scheduler = DDPMScheduler(**DIFFUSERS, clip_sample=False, variance_type="fixed_small")
    assert_ddpm_agrees(monkeypatch, scheduler, kind, 20, 1e-5)


def test_ddpm_agrees_to_nine_digits_on_a_finer_table(monkeypatch):
    """Their float32 table costs 2e-6, at 250 steps 3e-5; in float64 all but 3e-10 of the difference goes."""
    scheduler = DDPMScheduler(**DIFFUSERS, clip_sample=False, variance_type="fixed_small")
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    monkeypatch.setattr(scheduler, "alphas_cumprod", torch.cumprod(1 - betas, 0))
    assert_ddpm_agrees(monkeypatch, scheduler, "mixture", 100, 1e-9)


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_gives_the_images_of_diffusers(kind, eta):
    scheduler = DDIMScheduler(**DIFFUSERS, clip_sample=False)
    denoiser, x, times = oracle_case(kind, 20, scheduler)
    fresh = noise_of_steps(x, times, seed=3, numbers=NUMBERS)
    theirs = sample_of_diffusers(scheduler, denoiser, x, lambda i: {"eta": eta, "variance_noise": fresh[i]})
    assert_same_images(last(denoiser, x, times, partial(ddim, eta=eta), seed=3, numbers=NUMBERS), theirs)


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize("steps", [5, 20])
def test_heun_gives_the_images_of_diffusers(kind, steps):
    """Theirs lives in normalised coordinates and so starts at x / alpha."""
    scheduler = HeunDiscreteScheduler(**DIFFUSERS)
    denoiser, x, times = oracle_case(kind, steps, scheduler)
    alpha, _ = denoiser.schedule.alpha_sigma(times[0])
    assert_same_images(last(denoiser, x, times, heun), sample_of_diffusers(scheduler, denoiser, x / alpha))


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize("steps", [5, 20])
def test_dpm_2m_gives_the_images_of_diffusers(kind, steps):
    scheduler = DPMSolverMultistepScheduler(
        **DIFFUSERS, algorithm_type="dpmsolver++", solver_order=2, final_sigmas_type="zero"
    )
    denoiser, x, times = oracle_case(kind, steps, scheduler)
    assert_same_images(last(denoiser, x, times, dpm_2m), sample_of_diffusers(scheduler, denoiser, x))


def probability_flow(denoiser: Denoiser, z: Tensor, r: float, r_end: float, steps: int = 100) -> Tensor:
    """dz / d log r = z - x0_hat by the classical Runge-Kutta method of fourth order, in normalised coordinates."""
    denoiser = denoiser.under(EDM())
    h = math.log(r_end / r) / steps

    def slope(z: Tensor, i: float) -> Tensor:
        return z - denoiser(z, edm_times(r * math.exp(h * i))[0])

    for i in range(steps):
        one = slope(z, i)
        two = slope(z + h / 2 * one, i + 0.5)
        three = slope(z + h / 2 * two, i + 0.5)
        z = z + h / 6 * (one + 2 * two + 2 * three + slope(z + h * three, i + 1))
    return z


def test_the_probability_flow_of_a_gaussian_is_known():
    """Each z keeps its place in units of its deviation, sqrt(variance + r**2): the reference below is right."""
    mean, variance, z = (
        torch.tensor([0.5, -0.2]).double(),
        0.25,
        torch.tensor([[2.0, -1.0], [0.3, 4.0]]).double(),
    )
    expected = mean + (z - mean) * ((variance + 0.3**2) / (variance + 3.0**2)) ** 0.5
    found = probability_flow(gaussian(EDM(), mean, variance), z, 3.0, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


DATA = {
    "gaussian": gaussian(EDM(), torch.linspace(-1, 1, 6, dtype=torch.float64), 0.25),
    "mixture": mixture(EDM(), 6),
}


@cache
def start_and_truth(kind: str) -> tuple[Tensor, Tensor]:
    """Four z at noise ratio 3 and where the true flow takes them at 0.3."""
    z = 3.0 * torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return z, probability_flow(DATA[kind], z, 3.0, 0.3)


def flow_error(kind: str, name: str, schedule: Schedule, steps: int) -> float:
    """How far from the true flow a stepper ends, in so many steps of equal log-SNR."""
    z, truth = start_and_truth(kind)
    times = schedule.t_at(-2 * torch.linspace(math.log(3.0), math.log(0.3), steps + 1, dtype=torch.float64))
    (alpha, _), (alpha_end, _) = schedule.alpha_sigma(times[0]), schedule.alpha_sigma(times[-1])
    end = last(DATA[kind].under(schedule), alpha * z, times, STEPPERS[name].step)
    return float((end / alpha_end - truth).abs().max())


@pytest.mark.parametrize("schedule", [EDM(), VPLinear()], ids=lambda s: s.name)
@pytest.mark.parametrize("name", [name for name, stepper in STEPPERS.items() if not stepper.stochastic])
@pytest.mark.parametrize("kind", DATA)
def test_the_measured_order_is_the_declared_one(kind, name, schedule):
    """Twice the steps divide the error by 2**order in the limit: to 0.2 in the exponent from 50 steps on."""
    coarse, fine = flow_error(kind, name, schedule, 50), flow_error(kind, name, schedule, 100)
    assert math.log2(coarse / fine) == pytest.approx(STEPPERS[name].order, abs=0.2)
    assert fine < 0.02


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("t", "s"), [(0.9, 0.7), (0.5, 0.49), (0.4, 0.05), (0.3, 0.0)])
def test_ddpm_draws_from_the_posterior_given_the_answer(name, t, s):
    """q(x_s | x_t, x0) by Bayes' rule, product of the normals q(x_s | x0) and q(x_t | x_s), for any schedule."""
    schedule: Schedule = SCHEDULES[name]()
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    ratio = alpha_t / alpha_s
    between = sigma_t**2 - ratio**2 * sigma_s**2
    x0, x_t = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[-0.8]], dtype=torch.float64)
    variance = 1 / (1 / sigma_s**2 + ratio**2 / between)
    mean = variance * (alpha_s * x0 / sigma_s**2 + ratio * x_t / between) if s > 0 else x0

    def step(noise: float) -> Tensor:
        times = torch.tensor(t, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
        drawn = torch.full((1, 1), noise, dtype=torch.float64)
        return STEPPERS["ddpm"].step(lambda x, t: x0, schedule, x_t, *times, None, lambda k: drawn)[0]

    torch.testing.assert_close(step(0.0), mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((step(1.0) - step(0.0)).squeeze(), variance.sqrt(), rtol=1e-9, atol=1e-9)


def final_variance(sampler: Sampler, schedule: Schedule, variance: float) -> float:
    """Of the result on data normal (0, variance), exactly: every step without memory is then a x_t + b noise."""
    step, denoiser = sampler.step(), gaussian(schedule, torch.zeros(1, dtype=torch.float64), variance)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    times = sampler.times(schedule)
    alpha, sigma = schedule.alpha_sigma(times[0])
    total = float(alpha**2 * variance + sigma**2)
    for t, s in itertools.pairwise(times):
        a, _ = step(denoiser, schedule, one, t, s, None, lambda k: zero)
        b, _ = step(denoiser, schedule, zero, t, s, None, lambda k: one)
        total = float(a) ** 2 * total + float(b) ** 2
    return total


@pytest.mark.parametrize("schedule", [EDM(), VPLinear()], ids=lambda s: s.name)
@pytest.mark.parametrize("churn", [0.0, 10.0, 40.0])
def test_churn_keeps_the_variance_of_the_data(churn, schedule):
    """To what is left of Heun's error at 160 steps, 1 % and falling with the square of the steps."""
    found = final_variance(Sampler("heun", steps=160, churn=churn), schedule, 0.25)
    assert found == pytest.approx(0.25, rel=0.015)


@pytest.mark.parametrize(
    "sampler", [Sampler("ddpm", grid="log-snr"), Sampler("ddim", eta=0.5)], ids=lambda s: s.stepper
)
def test_fresh_noise_keeps_the_variance_of_the_data(sampler):
    """To first order, as declared: twice the steps, half the error."""
    coarse, fine = (final_variance(replace(sampler, steps=steps), VPLinear(), 0.25) for steps in (150, 300))
    assert fine == pytest.approx(0.25, rel=0.05)
    assert (coarse - 0.25) / (fine - 0.25) == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("name", SCHEDULES)
def test_churn_raises_the_noise_ratio_by_its_fraction(name):
    """And never above the schedule's most; the noise that is missing is added."""
    schedule, asked = SCHEDULES[name](), []
    one = torch.ones(1, 1, dtype=torch.float64)

    def listen(x, t):
        asked.append((x / schedule.alpha_sigma(t)[0], noise_ratio(schedule.log_snr(t))))
        return x

    for log_snr in (0.0, -100.0):
        t = schedule.t_at(log_snr)
        heun(listen, schedule, 0 * one, t, torch.zeros_like(t), None, lambda k: one, raise_by=0.25)
    (z, raised), (z_most, most) = asked
    assert float(raised) == pytest.approx(1.25) and float(z) == pytest.approx((1.25**2 - 1.0) ** 0.5)
    assert float(most) == pytest.approx(float(noise_ratio(schedule.log_snr(schedule.t_max)))) and z_most == 0.0


def test_churn_draws_noise_and_none_is_plain_heun():
    denoiser, times = mixture(EDM(), 48), Sampler("heun", 6).times(EDM())
    x = start_noise(EDM(), times[0], SHAPE, 3, NUMBERS).double()
    plain = last(denoiser, x, times, heun)
    assert torch.equal(last(denoiser, x, times, Sampler("heun", 6, churn=0.0).step(), seed=9), plain)
    churned = Sampler("heun", 6, churn=2.0).step()
    assert not torch.allclose(last(denoiser, x, times, churned), plain, atol=1e-3)
    assert not torch.allclose(last(denoiser, x, times, churned), last(denoiser, x, times, churned, seed=1), atol=1e-3)


@pytest.mark.parametrize("there", ["vp-linear", "vp-cosine", "flow", "ddpm"])
@pytest.mark.parametrize(
    "step", [ddim, heun, dpm_2m, partial(ddim, eta=1.0), partial(heun, raise_by=0.2)], ids=lambda s: repr(s)[:60]
)
def test_another_schedule_gives_the_same_image(step, there):
    """With each time moved to the same log-SNR and the start to the same z."""
    here, other = EDM(), SCHEDULES[there]()
    times = torch.cat([edm_times(*torch.logspace(1.7, -1.5, 12).tolist()), torch.zeros(1, dtype=torch.float64)])
    moved = torch.cat([other.t_at(here.log_snr(times[:-1])), times[-1:]])
    x = start_noise(here, times[0], SHAPE, 3, NUMBERS).double()
    denoiser = mixture(here, math.prod(SHAPE))
    image = last(denoiser, x, times, step)
    same = last(denoiser.under(other), other.alpha_sigma(moved[0])[0] * x, moved, step)
    torch.testing.assert_close(same, image, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", STEPPERS)
def test_steps_chain_from_noise_to_the_answer(name):
    sampler = Sampler(name, steps=7)
    denoiser = mixture(Flow(), math.prod(SHAPE))
    times = sampler.times(Flow())
    x = start_noise(Flow(), times[0], SHAPE, 3, NUMBERS).double()
    steps = list(trajectory(denoiser, x, times, sampler.step()))
    assert [step.i for step in steps] == list(range(7))
    assert [step.t for step in steps] == times[:-1].tolist() and [step.s for step in steps] == times[1:].tolist()
    assert steps[0].x_t is x and steps[-1].s == 0.0
    for step, following in itertools.pairwise(steps):
        assert step.x_s is following.x_t
    for step in steps:
        answer = denoiser(step.x_t, torch.tensor(step.t, dtype=torch.float64))
        torch.testing.assert_close(step.x0_hat, answer, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(steps[-1].x_s, steps[-1].x0_hat, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", STEPPERS)
def test_nfe_are_the_declared_calls_but_one_in_the_last_step(name):
    sampler = Sampler(name, steps=7)
    x = torch.zeros(2, *SHAPE)
    steps = list(trajectory(conv_denoiser(EDM(), dtype=torch.float32), x, sampler.times(EDM()), sampler.step()))
    calls = STEPPERS[name].calls
    assert [step.nfe for step in steps] == [calls * (i + 1) for i in range(6)] + [calls * 6 + 1]
    assert not steps[-1].x_s.requires_grad


def test_watching_and_stopping_changes_nothing():
    sampler, denoiser = Sampler(steps=6), mixture(EDM(), math.prod(SHAPE))
    times = sampler.times(EDM())
    x = start_noise(EDM(), times[0], SHAPE, 3, NUMBERS)
    watched = trajectory(denoiser, x, times, sampler.step())
    first = next(watched)
    again = list(trajectory(denoiser, x, times, sampler.step()))
    assert torch.equal(first.x_s, again[0].x_s) and torch.equal(list(watched)[-1].x_s, again[-1].x_s)


def test_an_image_starts_from_the_same_noise_alone_and_in_a_batch():
    t = torch.tensor(EDM().t_max, dtype=torch.float64)
    batch = start_noise(EDM(), t, SHAPE, 3, range(64))
    alone = start_noise(EDM(), t, SHAPE, 3, [17])
    assert batch.dtype == torch.float32 and torch.equal(alone[0], batch[17])
    assert float(batch.std()) == pytest.approx(80.0, rel=0.05)
    assert not torch.equal(alone, start_noise(EDM(), t, SHAPE, 4, [17]))


def test_a_step_draws_the_same_noise_alone_and_in_a_batch():
    times = edm_times(10.0, 1.0, 0.1)
    batch = noise_of_steps(torch.zeros(64, *SHAPE), times, seed=3, numbers=range(64))
    alone = noise_of_steps(torch.zeros(1, *SHAPE), times, seed=3, numbers=[17])
    assert [torch.equal(one[0], many[17]) for one, many in zip(alone, batch, strict=True)] == [True, True]
    assert len({float(noise[i, 0, 0, 0]) for noise in batch for i in range(64)}) == 128


@pytest.mark.parametrize("sampler", [Sampler("ddpm", 20, "log-snr"), Sampler(), Sampler("heun", 12, churn=3.0)])
def test_an_image_is_the_same_alone_and_in_a_batch(sampler):
    """To 1e-5 of values in about [-2, 2]: a convolution may add up in another order at another batch size."""
    denoiser = conv_denoiser(VPLinear(), dtype=torch.float32)
    times = sampler.times(VPLinear())

    def sampled(numbers: list[int]) -> Tensor:
        x = start_noise(VPLinear(), times[0], SHAPE, 3, numbers)
        return last(denoiser, x, times, sampler.step(), seed=3, numbers=numbers)

    batch = sampled(list(range(32)))
    torch.testing.assert_close(sampled([17])[0], batch[17], rtol=0, atol=1e-5)
    assert torch.equal(sampled(list(range(32))), batch)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", SCHEDULES)
@settings(deadline=None)
@given(steps=st.integers(1, 300))
def test_grids_fall_strictly_from_t_max_to_zero(grid, name, steps):
    schedule = SCHEDULES[name]()
    times = GRIDS[grid](schedule, steps)
    assert times.shape == (steps + 1,) and times.dtype == torch.float64
    assert (times.diff() < 0).all() and times[-1] == 0.0
    assert float(times[0]) == pytest.approx(schedule.t_max, abs=1e-14)


@pytest.mark.parametrize("name", SCHEDULES)
def test_grids_are_even_in_what_they_say(name):
    schedule = SCHEDULES[name]()
    times = {grid: make(schedule, 9) for grid, make in GRIDS.items()}
    even = {
        "uniform": times["uniform"],
        "log-snr": schedule.log_snr(times["log-snr"])[:-1],
        "karras": noise_ratio(schedule.log_snr(times["karras"]))[:-1] ** (1 / 7),
    }
    for values in even.values():
        steps = values.diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-9, atol=0)
    for grid in ("log-snr", "karras"):
        assert float(times[grid][-2]) == pytest.approx(schedule.t_min, abs=1e-14)


def test_the_uniform_grid_visits_every_entry_of_a_table():
    times = GRIDS["uniform"](Tabulated.ddpm(), 1000)
    torch.testing.assert_close(times, torch.arange(1000, -1, -1, dtype=torch.float64) / 1000, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("sampler", "step"),
    [
        (Sampler("ddim"), ddim),
        (Sampler("ddim", eta=0.5), partial(ddim, eta=0.5)),
        (Sampler("heun", steps=8, churn=2.0), partial(heun, raise_by=0.25)),
        (Sampler("heun", steps=8, churn=80.0), partial(heun, raise_by=2**0.5 - 1)),
    ],
)
def test_a_sampler_binds_its_options(sampler, step):
    """Churn is shared out over the steps and capped where EDM caps it (Karras et al. 2022, algorithm 2)."""
    denoiser, times = mixture(EDM(), math.prod(SHAPE)), edm_times(10.0, 1.0, 0.1)
    x = start_noise(EDM(), times[0], SHAPE, 3, NUMBERS).double()
    assert torch.equal(last(denoiser, x, times, sampler.step()), last(denoiser, x, times, step))


@pytest.mark.parametrize("schedule", [EDM(), VPLinear(), Flow()], ids=lambda s: s.name)
def test_the_default_sampler_beats_the_others_at_its_evaluations(schedule):
    """16 steps of the default, 16 of Euler, 8 of Heun on its grid: how far the deviation of a Gaussian is missed."""
    assert Sampler() == Sampler("dpm-2m", steps=16)
    denoiser = gaussian(schedule, torch.zeros(1, dtype=torch.float64), 0.25)

    def missed(sampler: Sampler) -> float:
        times = sampler.times(schedule)
        alpha, sigma = schedule.alpha_sigma(times[0])
        x = (alpha**2 * 0.25 + sigma**2).sqrt().reshape(1, 1)
        return abs(float(last(denoiser, x, times, sampler.step())) / 0.25**0.5 - 1)

    assert missed(Sampler()) < min(missed(Sampler("ddim", 16)), missed(Sampler("heun", 8)))


def test_a_sampler_changes_what_is_given_and_leaves_options_of_another_stepper_behind() -> None:
    own = Sampler("ddim", 20, "karras", eta=0.5)
    assert own.changed() == own
    assert own.changed(steps=8, eta=0.0) == Sampler("ddim", 8, "karras")
    assert own.changed("ddim").eta == 0.5
    assert own.changed("heun", churn=4.0) == Sampler("heun", 20, "karras", churn=4.0)
    with pytest.raises(UseError, match=r"eta.*ddim"):
        own.changed("heun", eta=0.5)
