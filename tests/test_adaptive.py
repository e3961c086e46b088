"""Adaptive steps: the error allowed is kept, at no more calls than its order asks, and no image knows of another."""

import itertools
import math
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from flows import NUMBERS, SHAPE, edm_times, one_thread, probability_flow  # noqa: F401
from fromnoise.denoise import Denoiser
from fromnoise.guide import Guidance
from fromnoise.noise import EDM, Condition, Schedule, VPLinear
from fromnoise.sample import Step, adaptive, log_snr_grid, start_noise
from fromnoise.sample.adaptive import SHORTEST
from toys import conv_denoiser, gaussian, mixture

WORLD = mixture(EDM(), 6)
Z = 3.0 * torch.randn(16, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def end_of(denoiser: Denoiser, x: Tensor, times: Tensor, tolerance: float, **options) -> Step:
    *_, end = adaptive(denoiser, x, times, tolerance, **options)
    return end


def test_an_error_that_cannot_be_had_costs_no_more_than_the_shortest_steps():
    start, end = 0.75, 0.75 - 1e-4  # t of the flow schedule
    times = edm_times(start / (1 - start), end / (1 - end))
    steps = 1e-4 / SHORTEST + 10  # ten to come down from the first length
    assert end_of(WORLD, Z, times, 1e-20).nfe <= 3 * steps + 1


@dataclass(frozen=True)
class Listening:
    """A denoiser that keeps which images it was asked about, at which log-SNR."""

    inner: Denoiser
    asked: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def schedule(self) -> Schedule:
        return self.inner.schedule

    @property
    def cost(self) -> int:
        return self.inner.cost

    def under(self, schedule: Schedule) -> "Listening":
        return replace(self, inner=self.inner.under(schedule))

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        self.asked.append((x_t, self.schedule.log_snr(t)))
        return self.inner(x_t, t, condition)


def test_the_error_stays_within_a_few_tolerances_and_falls_with_it():
    """Root mean square of each image, of the worst of 16: each step's share is below the tolerance, and they add up."""
    truth = probability_flow(WORLD, Z, 3.0, 0.3)
    errors = {}
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        end = end_of(WORLD, Z, edm_times(3.0, 0.3), tolerance)
        errors[tolerance] = float((end.x_s - truth).square().mean(1).sqrt().max())
        assert errors[tolerance] < 3 * tolerance
    assert errors[1e-6] < 1e-3 * errors[1e-2]


@pytest.mark.parametrize("schedule", [EDM(), VPLinear()], ids=lambda s: s.name)
def test_calls_grow_as_third_order_asks(schedule):
    """A step's estimated error goes with the cube of its length: a hundredth of the tolerance, 100**(1/3) the calls."""
    (alpha, _), times = schedule.alpha_sigma(schedule.t_at(-2 * math.log(3.0))), edm_times(3.0, 0.3)
    times = schedule.t_at(EDM().log_snr(times))
    calls = [end_of(WORLD.under(schedule), alpha * Z, times, tolerance).nfe for tolerance in (1e-6, 1e-8)]
    assert calls[1] / calls[0] == pytest.approx(100 ** (1 / 3), rel=0.15)


def test_the_error_of_its_result_is_of_third_order_in_the_length_of_the_steps():
    """One step of the method on dx/dt = (x - x0_hat) / t, half the way, a sixteenth of the error."""
    gauss = gaussian(EDM(), torch.zeros(6).double(), 0.25)
    errors = []
    for share in (0.5, 0.25, 0.125):
        t = 0.5 - 0.09 * share
        r = t / (1 - t)
        end = end_of(gauss, Z / 3.0, edm_times(1.0, r), 1e9)
        assert end.nfe == 1 + 3
        errors.append(float((end.x_s - Z / 3.0 * ((0.25 + r**2) / (0.25 + 1.0)) ** 0.5).abs().max()))
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert orders == pytest.approx([4.0, 4.0], abs=0.2)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_an_image_takes_the_same_steps_alone_and_in_a_batch(tolerance):
    """Unlike where one step serves all: the errors and lengths of others play no part."""
    times = torch.cat([edm_times(60.0, 2.0, 0.01), torch.zeros(1, dtype=torch.float64)])
    together = list(adaptive(WORLD, 20 * Z, times, tolerance))
    alone = [list(adaptive(WORLD, 20 * z[None], times, tolerance)) for z in Z]
    for i, step in enumerate(together):
        assert step.nfe == max(steps[i].nfe for steps in alone)
        torch.testing.assert_close(step.x_s, torch.cat([steps[i].x_s for steps in alone]), rtol=0, atol=1e-12)
    assert len({steps[-1].nfe for steps in alone}) > 1


def test_images_that_have_arrived_are_not_asked_about_again():
    listening = Listening(WORLD)
    steps = list(adaptive(listening, 20 * Z, edm_times(60.0, 2.0, 0.01), 1e-3))
    sizes = [len(x_t) for x_t, _ in listening.asked]
    assert len(sizes) == steps[-1].nfe and sizes[0] == 16 and min(sizes) < 16
    assert sum(sizes) < 0.95 * 16 * steps[-1].nfe


def test_every_time_is_landed_on_and_the_answer_there_reported():
    times = torch.cat([edm_times(60.0, 5.0, 1.0, 0.2, 0.01), torch.zeros(1, dtype=torch.float64)])
    steps = list(adaptive(WORLD.under(EDM()), 20 * Z, times, 1e-2))
    assert [step.t for step in steps] == times[:-1].tolist()
    for step in steps:
        answer = WORLD(step.x_t, torch.tensor(step.t, dtype=torch.float64))
        torch.testing.assert_close(step.x0_hat, answer, rtol=0, atol=1e-9)
    assert [step.nfe for step in steps[-2:]] == [steps[-1].nfe] * 2, "the answer at the end is known already"


def test_a_longer_step_is_remembered_across_a_time_to_land_on():
    """Twice the times cost at most the three calls that each of them must."""
    few, many = edm_times(60.0, 0.01), edm_times(60.0, 5.0, 1.0, 0.2, 0.01)
    calls = [end_of(WORLD, 20 * Z, times, 1e-4).nfe for times in (few, many)]
    assert calls[0] <= calls[1] <= calls[0] + 3 * 3 + 3


def test_a_refused_step_costs_its_calls_and_leaves_the_image_where_it_was():
    """A denoiser that turns sharply in the middle: the first try across it is refused, and what comes is right."""
    sharp = gaussian(EDM(), torch.zeros(6).double(), 1e-4)
    listening = Listening(sharp)
    end = end_of(listening, Z / 30, edm_times(0.1, 0.004), 1e-5)
    levels = [float(log_snr[0]) for _, log_snr in listening.asked]
    assert any(after < before - 1e-9 for before, after in itertools.pairwise(levels)), "one was refused"
    expected = Z / 30 * ((1e-4 + 0.004**2) / (1e-4 + 0.1**2)) ** 0.5
    torch.testing.assert_close(end.x_s, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("within", [None, (0.25, 5.0)])
def test_each_image_keeps_its_own_condition(within):
    """As images arrive the batch shrinks, and the classes of those that are left with it."""
    denoiser = Guidance(conv_denoiser(EDM()), 2.0, within)
    times = log_snr_grid(EDM(), 3)
    x = start_noise(EDM(), times[0], SHAPE, 3, NUMBERS).double()
    classes = torch.tensor([0, 3, 1, 2])
    numbers = torch.tensor([[0.1], [torch.nan], [0.5], [0.2]])
    together = end_of(denoiser, x, times, 1e-3, condition=Condition(classes, numbers))
    for k in range(4):
        alone = end_of(denoiser, x[k : k + 1], times, 1e-3, condition=Condition(classes[k : k + 1], numbers[k : k + 1]))
        torch.testing.assert_close(alone.x_s[0], together.x_s[k], rtol=0, atol=1e-9)
    assert within or together.nfe % 2 == 0, "guidance counts its second evaluation"


def test_what_a_broken_net_answers_passes_through():
    class Broken:
        schedule, cost = EDM(), 1

        def under(self, schedule):
            return self

        def __call__(self, x_t, t, condition=None):
            return torch.full_like(x_t, math.nan)

    end = end_of(Broken(), Z, torch.cat([edm_times(3.0, 0.3), torch.zeros(1).double()]), 1e-3)
    assert end.x_s.isnan().all() and end.nfe < 40


def test_float32_in_gives_float32_out_near_the_float64_result():
    times = log_snr_grid(EDM(), 2)
    x = start_noise(EDM(), times[0], SHAPE, 3, NUMBERS)
    denoiser = mixture(EDM(), math.prod(SHAPE))
    single, double = end_of(denoiser, x, times, 1e-3), end_of(denoiser, x.double(), times, 1e-3)
    assert single.x_s.dtype == torch.float32
    torch.testing.assert_close(single.x_s.double(), double.x_s, rtol=0, atol=1e-4)
