"""Small denoisers whose answers the tests know: closed forms, and a random network."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fromnoise.denoise import NetDenoiser
from fromnoise.noise import Condition, Schedule, spread


@dataclass(frozen=True)
class Mixture:
    """E[x0 given x_t] where x0 is a mixture of round Gaussians, in x_t's dtype."""

    schedule: Schedule
    centres: Tensor  # (K, D), D = values per image
    variances: Tensor  # (K,)
    weights: Tensor  # (K,)
    cost: int = 1

    def under(self, schedule: Schedule) -> "Mixture":
        return replace(self, schedule=schedule)

    def __call__(self, x_t: Tensor, t: Tensor, condition: Condition | None = None) -> Tensor:
        alpha, sigma = self.schedule.alpha_sigma(t)
        z = (x_t / spread(alpha, x_t)).flatten(1)
        r = spread(sigma / alpha, z)
        total = self.variances.to(z) + r**2
        away = z[:, None] - self.centres.to(z)
        log_shares = self.weights.to(z).log() - 0.5 * z.shape[1] * total.log() - 0.5 * away.square().sum(-1) / total
        shares = log_shares.softmax(-1)[..., None]
        answers = self.centres.to(z) + (self.variances.to(z) / total)[..., None] * away
        return (shares * answers).sum(1).reshape(x_t.shape)


def gaussian(schedule: Schedule, mean: Tensor, variance: float) -> Mixture:
    """One round Gaussian around ``mean`` (D,)."""
    one = torch.ones(1, dtype=torch.float64)
    return Mixture(schedule, mean[None], variance * one, one)


def mixture(schedule: Schedule, values: int, parts: int = 5) -> Mixture:
    """A fixed mixture of ``parts`` Gaussians in ``values`` dimensions, its centres within reach of each other."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(parts, values, generator=draw, dtype=torch.float64) / values**0.5
    variances = torch.linspace(0.05, 0.3, parts, dtype=torch.float64)
    return Mixture(schedule, centres, variances, torch.full((parts,), 1.0 / parts, dtype=torch.float64))


class ConvNet(nn.Module):
    """Two convolutions with the noise level, and the class where there is one, added in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first = nn.Conv2d(channels, 16, 3, padding=1)
            self.level = nn.Linear(1, 16)
            self.last = nn.Conv2d(16, channels, 3, padding=1)

    def forward(self, z: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        level = self.level(c_noise[:, None])
        if condition.class_index is not None:
            level = level + condition.class_index[:, None].to(level)
        return self.last(nn.functional.silu(self.first(z) + level[..., None, None]))


def conv_denoiser(schedule: Schedule, preconditioning: str = "edm", dtype: torch.dtype = torch.float64) -> NetDenoiser:
    """A random network on images of three channels, its weights of ``dtype``."""
    return NetDenoiser(ConvNet(3).to(dtype), schedule, 0.5, preconditioning)
