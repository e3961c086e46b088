"""The one loop, and samplers by name; the steppers, the grids and adaptive have files of their own."""

import itertools
import math
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from flows import NUMBERS, SHAPE, edm_times, last, noise_of_steps, one_thread  # noqa: F401
from fromnoise.errors import UseError
from fromnoise.noise import EDM, SCHEDULES, Flow, VPLinear
from fromnoise.sample import (
    SAMPLERS,
    STEPPERS,
    Sampler,
    adaptive,
    corrected,
    ddim,
    heun,
    start_noise,
    trajectory,
)
from toys import conv_denoiser, mixture

STEPS = {name: stepper.step for name, stepper in STEPPERS.items()} | {
    "churned": partial(heun, raise_by=0.2),
    "corrected": corrected(STEPPERS["heun"], 2).step,
}


@pytest.mark.parametrize("there", ["vp-linear", "vp-cosine", "flow", "ddpm"])
@pytest.mark.parametrize("name", [*STEPS, "adaptive"])
def test_another_schedule_gives_the_same_image(name, there):
    """With each time moved to the same log-SNR and the start to the same z."""
    here, other = EDM(), SCHEDULES[there]()
    times = torch.cat([edm_times(*torch.logspace(1.7, -1.5, 12).tolist()), torch.zeros(1, dtype=torch.float64)])
    moved = torch.cat([other.t_at(here.log_snr(times[:-1])), times[-1:]])
    x = start_noise(here, times[0], SHAPE, 3, NUMBERS).double()
    denoiser = mixture(here, math.prod(SHAPE))
    same = denoiser.under(other), other.alpha_sigma(moved[0])[0] * x, moved
    if name == "adaptive":
        *_, image = adaptive(denoiser, x, times, 1e-3)
        *_, found = adaptive(*same, 1e-3)
        torch.testing.assert_close(found.x_s, image.x_s, rtol=0, atol=1e-6)
        assert found.nfe == image.nfe
    else:
        torch.testing.assert_close(last(*same, STEPS[name]), last(denoiser, x, times, STEPS[name]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_steps_chain_from_noise_to_the_answer(name):
    sampler = Sampler(name, steps=7)
    denoiser = mixture(Flow(), math.prod(SHAPE))
    times = sampler.times(Flow())
    x = start_noise(Flow(), times[0], SHAPE, 3, NUMBERS).double()
    steps = list(sampler.trajectory(denoiser, x, times))
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


def test_nfe_of_corrections_are_the_declared_calls_too():
    sampler = Sampler("heun", steps=4, corrections=2)
    x, denoiser = torch.zeros(2, *SHAPE), conv_denoiser(EDM(), dtype=torch.float32)
    assert [step.nfe for step in sampler.trajectory(denoiser, x, sampler.times(EDM()))] == [4, 8, 12, 13]


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


@pytest.mark.parametrize(
    "sampler",
    [*(Sampler(name, 12) for name in SAMPLERS), Sampler("heun", 12, churn=3.0), Sampler("ddim", 12, corrections=1)],
    ids=lambda s: f"{s.stepper}{'-churned' * (s.churn > 0)}{'-corrected' * s.corrections}",
)
def test_an_image_is_the_same_alone_and_in_a_batch(sampler):
    """To 1e-5 of values in about [-2, 2]: a convolution may add up in another order at another batch size."""
    denoiser = conv_denoiser(VPLinear(), dtype=torch.float32)
    times = sampler.times(VPLinear())

    def sampled(numbers: list[int]) -> Tensor:
        x = start_noise(VPLinear(), times[0], SHAPE, 3, numbers)
        *_, end = sampler.trajectory(denoiser, x, times, seed=3, numbers=numbers)
        return end.x_s

    batch = sampled(list(range(32)))
    torch.testing.assert_close(sampled([17])[0], batch[17], rtol=0, atol=1e-5)
    assert torch.equal(sampled(list(range(32))), batch)


@pytest.mark.parametrize(
    ("sampler", "step"),
    [
        (Sampler("ddim"), ddim),
        (Sampler("ddim", eta=0.5), partial(ddim, eta=0.5)),
        (Sampler("heun", steps=8, churn=2.0), partial(heun, raise_by=0.25)),
        (Sampler("heun", steps=8, churn=80.0), partial(heun, raise_by=2**0.5 - 1)),
        (
            Sampler("ddim", eta=0.5, corrections=2),
            corrected(replace(STEPPERS["ddim"], step=partial(ddim, eta=0.5)), 2).step,
        ),
    ],
)
def test_a_sampler_binds_its_options(sampler, step):
    """Churn is shared out over the steps and capped where EDM caps it (Karras et al. 2022, algorithm 2)."""
    denoiser, times = mixture(EDM(), math.prod(SHAPE)), edm_times(10.0, 1.0, 0.1)
    x = start_noise(EDM(), times[0], SHAPE, 3, NUMBERS).double()
    assert torch.equal(last(denoiser, x, times, sampler.step()), last(denoiser, x, times, step))


def test_a_sampler_says_whether_it_draws_noise():
    drawing = [Sampler(name).stochastic for name in SAMPLERS]
    assert drawing == [name in ("ddpm", "dpm-2m-sde") for name in SAMPLERS]
    options = Sampler("ddim", eta=0.5), Sampler("heun", churn=1.0), Sampler("ddim", corrections=1)
    assert all(sampler.stochastic for sampler in options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stepper": "euler"}, "No sampler 'euler': there are ddpm, ddim"),
        ({"grid": "linear"}, "No grid 'linear': there are uniform"),
        ({"stepper": "heun", "eta": 0.5}, "eta belongs to the sampler ddim, not to heun"),
        ({"stepper": "ddim", "churn": 2.0}, "churn belongs to the sampler heun, not to ddim"),
        ({"tolerance": 0.1}, "tolerance belongs to the sampler adaptive, not to dpm-2m"),
        ({"stepper": "adaptive", "tolerance": 0.0}, "tolerance is the error allowed"),
        ({"stepper": "adaptive", "tolerance": math.nan}, "tolerance is the error allowed"),
        ({"stepper": "adaptive", "tolerance": 1e-9}, "1e-08 at least"),
        ({"stepper": "adaptive", "steps": 1}, "adaptive takes 2 steps at least"),
        ({"stepper": "unipc-2", "corrections": 1}, "without memory, ddpm, ddim, heun, and unipc-2 is none"),
        ({"stepper": "adaptive", "corrections": 1}, "without memory, ddpm, ddim, heun, and adaptive is none"),
    ],
)
def test_a_sampler_refuses_what_contradicts_itself(options, said):
    with pytest.raises(UseError, match=re.escape(said)):
        Sampler(**options)


def test_a_sampler_changes_what_is_given_and_leaves_options_of_another_stepper_behind() -> None:
    own = Sampler("ddim", 20, "karras", eta=0.5)
    assert own.changed() == own
    assert own.changed(steps=8, eta=0.0) == Sampler("ddim", 8, "karras")
    assert own.changed("ddim").eta == 0.5
    assert own.changed("heun", churn=4.0) == Sampler("heun", 20, "karras", churn=4.0)
    with pytest.raises(UseError, match=r"eta.*ddim"):
        own.changed("heun", eta=0.5)
    assert own.changed("ddim", corrections=1).corrections == 1
    with pytest.raises(UseError, match=r"corrections.*dpm-2m"):
        own.changed("dpm-2m", corrections=1)


def test_a_sampler_changed_to_adaptive_reports_the_fewest_times_and_changed_back_takes_its_own_steps() -> None:
    """The times that adaptive must land on cost it calls; the steps of the others are no measure for it."""
    assert Sampler("ddim", 100, "uniform").changed("adaptive") == Sampler("adaptive", 2, tolerance=0.01)
    assert Sampler().changed("adaptive", 7, tolerance=0.1) == Sampler("adaptive", 7, tolerance=0.1)
    assert Sampler("adaptive", 2, tolerance=0.1).changed("heun") == Sampler("heun", 16)
    assert Sampler("adaptive", 5, tolerance=0.1).changed(grid="cosine") == Sampler(
        "adaptive", 5, "cosine", tolerance=0.1
    )
