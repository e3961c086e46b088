"""Time grids: the times a sampler visits, falling from t_max to 0."""

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from fromnoise.denoise import noise_ratio
from fromnoise.noise import Schedule

INNER = (20.0, 0.03)  # noise ratios between which pictures take form

Grid = Callable[[Schedule, int], Float64[Tensor, " n"]]


def uniform_grid(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """t_max to 0 in equal steps of t, the last noise level being t_max / steps: (steps + 1,) falling times."""
    return schedule.t_max * torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)


def log_snr_grid(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """t_max to t_min in equal steps of log_snr, then 0: (steps + 1,) falling times."""
    ends = _ends(schedule)
    return _ending(schedule, ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps, dtype=torch.float64))


def karras_grid(schedule: Schedule, steps: int, rho: float = 7.0) -> Float64[Tensor, " n"]:
    """r**(1/rho) in equal steps, then 0 (Karras et al. 2022, arXiv 2206.00364, eq. 5): (steps + 1,) falling times."""
    ends = noise_ratio(_ends(schedule)) ** (1 / rho)
    r = (ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps, dtype=torch.float64)) ** rho
    return _ending(schedule, -2.0 * torch.log(r))


def cosine_grid(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """arctan r in equal steps, then 0: (steps + 1,) falling times.

    These are the noise levels of alpha = cos(pi u / 2), sigma = sin(pi u / 2) at equal steps of u, the cosine schedule
    (Nichol, Dhariwal 2021, arXiv 2102.09672, eq. 17; as here in Salimans, Ho 2022, arXiv 2202.00512, section 2).
    """
    ends = torch.arctan(noise_ratio(_ends(schedule)))
    r = torch.tan(ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps, dtype=torch.float64))
    return _ending(schedule, -2.0 * torch.log(r))


def inner_grid(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """t_max, then noise ratios from 20 to 0.03 in equal steps of log r, then 0: (steps + 1,) falling times.

    Above these nothing but the mean of the pictures is to be known, and one step passes over it. Below them noise is
    hardly seen, and a net that met little of it in training adds grain of its own (docs/samplers.md).
    """
    ends = torch.log(torch.tensor(INNER, dtype=torch.float64))
    inner = schedule.t_at(-2.0 * (ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps - 1, dtype=torch.float64)))
    return torch.cat([torch.tensor([schedule.t_max], dtype=torch.float64), inner, torch.zeros(1, dtype=torch.float64)])


def _ends(schedule: Schedule) -> Tensor:
    return schedule.log_snr(torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64))


def _ending(schedule: Schedule, log_snr: Tensor) -> Tensor:
    return torch.cat([schedule.t_at(log_snr), torch.zeros(1, dtype=torch.float64)])


GRIDS: dict[str, Grid] = {
    "uniform": uniform_grid,
    "log-snr": log_snr_grid,
    "karras": karras_grid,
    "cosine": cosine_grid,
    "inner": inner_grid,
}
