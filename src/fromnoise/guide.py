"""Denoiser -> Denoiser: the same question asked with and without its condition, and the difference exaggerated."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fromnoise.denoise import Denoiser, noise_ratio
from fromnoise.noise import Condition, Schedule


@dataclass(frozen=True)
class Guidance:
    """x0_hat(null) + guidance (x0_hat(told) - x0_hat(null)) (Ho, Salimans 2022, arXiv 2207.12598, eq. 6).

    Null hides the class and all numbers. guidance 1 is the plain conditional answer; larger values favour what is
    typical of the class and the numbers asked for. Outside of the noise ratios ``within``, ends included, the answer
    is the plain one and costs one evaluation (Kynkaanniemi et al. 2024, arXiv 2404.07724, section 3). None is no bound.
    """

    denoiser: Denoiser
    guidance: float
    within: tuple[float, float] | None = None

    @property
    def cost(self) -> int:
        """Two net evaluations per image, where it guides."""
        return 2 * self.denoiser.cost

    @property
    def schedule(self) -> Schedule:
        """The guided denoiser's own."""
        return self.denoiser.schedule

    def under(self, schedule: Schedule) -> "Guidance":
        """The same guidance under another schedule."""
        return replace(self, denoiser=self.denoiser.under(schedule))

    def guides(self, t: Float[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
        """Whether it asks twice at t."""
        ratio = noise_ratio(self.schedule.log_snr(t))
        if self.within is None:
            return torch.ones_like(ratio, dtype=torch.bool)
        return (self.within[0] <= ratio) & (ratio <= self.within[1])

    def __call__(
        self, x_t: Float[Tensor, "b *shape"], t: Float[Tensor, "*b"], condition: Condition | None = None
    ) -> Float[Tensor, "b *shape"]:
        """x0_hat for ``condition``, which must hold a class or numbers; its image stays in the second answer."""
        assert condition and (condition.class_index is not None or condition.numbers is not None), (
            "guidance needs a class or numbers"
        )
        n, times = len(x_t), t.expand(len(x_t))
        guided = self.guides(times).nonzero()[:, 0].cpu()
        if not len(guided):
            return self.denoiser(x_t, t, condition)
        rows = torch.cat([torch.arange(n), guided])
        asked = condition.rows(rows)
        for value, null in ((asked.class_index, -1), (asked.numbers, torch.nan)):
            if value is not None:
                value[n:] = null
        told, untold = self.denoiser(x_t[rows], times[rows], asked).split([n, len(guided)])
        at = guided.to(told.device)
        return told.index_add(0, at, (self.guidance - 1.0) * (told[at] - untold))


def evaluations(denoiser: Denoiser, t: Float[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
    """Net evaluations per image of a call at t."""
    if isinstance(denoiser, Guidance):
        return (1 + denoiser.guides(t).long()) * denoiser.denoiser.cost
    return torch.full_like(t, denoiser.cost, dtype=torch.int64)
