"""A sampler of your own in ten lines, measured against the exact answer: halving the step quarters the error."""

from dataclasses import dataclass, replace

import torch

from fromnoise import SCHEDULES, trajectory
from fromnoise.noise import spread


@dataclass(frozen=True)
class Gaussian:
    """E[x0 given x_t] for images whose every value is normal(0.3, 0.5): known in closed form."""

    schedule: object = SCHEDULES["edm"]()
    cost = 1

    def under(self, schedule):
        return replace(self, schedule=schedule)

    def __call__(self, x_t, t, condition=None):
        alpha, sigma = (spread(value, x_t) for value in self.schedule.alpha_sigma(t))
        return 0.3 + alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * (x_t - alpha * 0.3)


def midpoint(denoise, schedule, x_t, t, s, state, noise):
    """Half a step of Euler to the middle, the slope there for the whole step; for alpha = 1, so x is z."""
    middle = schedule.t_at((schedule.log_snr(t) + schedule.log_snr(s)) / 2)
    r, r_middle, r_s = (spread(schedule.alpha_sigma(time)[1], x_t) for time in (t, middle, s))
    x_middle = x_t + (r_middle - r) * (x_t - denoise(x_t, t)) / r
    return x_t + (r_s - r) * (x_middle - denoise(x_middle, middle)) / r_middle, None


denoiser, x_start = Gaussian(), torch.full((1, 1, 1, 1), 5.0, dtype=torch.float64)
first, end = (float(denoiser.schedule.t_at(-2 * torch.tensor(r).log())) for r in (4.0, 0.1))
exact = 0.3 + (5.0 - 0.3) * ((0.25 + 0.1**2) / (0.25 + 4.0**2)) ** 0.5
for steps in (8, 16, 32, 64):
    *_, last = trajectory(denoiser, x_start, torch.linspace(first, end, steps + 1).double(), midpoint)
    print(f"{steps:3} steps, {last.nfe:3} calls: error {abs(float(last.x_s) - exact):.2e}")
