"""Time grids: from t_max to 0, even in what they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromnoise.denoise import noise_ratio
from fromnoise.noise import EDM, SCHEDULES, Flow, Tabulated
from fromnoise.sample import GRIDS
from fromnoise.sample.grids import INNER


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", SCHEDULES)
@settings(deadline=None, max_examples=40)
@given(steps=st.integers(1, 300))
def test_grids_fall_strictly_from_t_max_to_zero(grid, name, steps):
    schedule = SCHEDULES[name]()
    times = GRIDS[grid](schedule, steps)
    assert times.shape == (steps + 1,) and times.dtype == torch.float64
    assert (times.diff() < 0).all() and times[-1] == 0.0
    rounding = 1e-12 if grid == "cosine" else 1e-14  # its tangent is steep at the noisy end
    assert float(times[0]) == pytest.approx(schedule.t_max, abs=rounding)


@pytest.mark.parametrize("name", SCHEDULES)
def test_grids_are_even_in_what_they_say(name):
    schedule = SCHEDULES[name]()
    times = {grid: make(schedule, 9) for grid, make in GRIDS.items()}
    even = {
        "uniform": times["uniform"],
        "log-snr": schedule.log_snr(times["log-snr"])[:-1],
        "karras": noise_ratio(schedule.log_snr(times["karras"]))[:-1] ** (1 / 7),
        "cosine": noise_ratio(schedule.log_snr(times["cosine"]))[:-1].arctan(),
        "inner": schedule.log_snr(times["inner"])[1:-1],
    }
    assert set(even) == set(GRIDS)
    for values in even.values():
        steps = values.diff()
        torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-9, atol=0)
    for grid in ("log-snr", "karras", "cosine"):
        assert float(times[grid][-2]) == pytest.approx(schedule.t_min, abs=1e-14)


@pytest.mark.parametrize("grid", ["log-snr", "karras", "cosine", "inner"])
def test_a_grid_named_after_noise_visits_the_same_noise_under_any_schedule(grid):
    """Flow and EDM begin at different noise, so the levels are compared where both begin at EDM's."""

    class Narrow(Flow):
        def __init__(self):
            super().__init__()
            self.t_max = float(self.t_at(EDM().log_snr(EDM().t_max)))

    here, there = (schedule.log_snr(GRIDS[grid](schedule, 12))[:-1] for schedule in (EDM(), Narrow()))
    torch.testing.assert_close(here, there, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_inner_grid_goes_from_pure_noise_to_its_own_ends_and_to_the_image(name):
    """Whatever the schedule begins and ends with."""
    schedule = SCHEDULES[name]()
    r = noise_ratio(schedule.log_snr(GRIDS["inner"](schedule, 6)))
    assert float(r[0]) == pytest.approx(float(noise_ratio(schedule.log_snr(schedule.t_max))))
    torch.testing.assert_close(r[[1, -2]], torch.tensor(INNER).double(), rtol=1e-6, atol=0)
    assert r[-1] == 0


def test_the_cosine_grid_is_the_uniform_one_of_the_cosine_schedule():
    """alpha = cos(pi u / 2) at equal steps of u, between the noise levels of the schedule asked."""
    log_snr = EDM().log_snr(GRIDS["cosine"](EDM(), 8))[:-1]
    u = 2 / torch.pi * torch.arccos(torch.sigmoid(log_snr).sqrt())
    torch.testing.assert_close(u.diff(), u.diff().mean().expand(7), rtol=1e-9, atol=0)
    assert float(u[0]) > 0.99 and float(u[-1]) < 0.002


def test_the_uniform_grid_visits_every_entry_of_a_table():
    times = GRIDS["uniform"](Tabulated.ddpm(), 1000)
    torch.testing.assert_close(times, torch.arange(1000, -1, -1, dtype=torch.float64) / 1000, rtol=1e-14, atol=0)
