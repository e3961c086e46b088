"""Denoiser -> Denoiser: the same question asked with and without its condition, and the difference exaggerated."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from fromnoise.denoise import Denoiser, noise_ratio
from fromnoise.noise import Condition, Schedule


@dataclass(frozen=True)
class Guidance:
    """x0_hat + (guidance - 1) (x0_hat - other): away from what another denoiser answers; 1 is the plain answer.

    The other is the same denoiser with class and all numbers hidden (Ho, Salimans 2022, arXiv 2207.12598, eq. 6), which
    needs one of them; or ``earlier``, one that learned less of the same pictures, so that samples move away from its
    mistakes: ``earlier_told`` class and numbers as well (Karras et al. 2024, arXiv 2406.02507, eq. 3), or with them
    hidden. Outside of the noise ratios ``within``, ends included, the answer is the plain one and costs one evaluation
    (Kynkaanniemi et al. 2024, arXiv 2404.07724, section 3); None is no bound.
    """

    denoiser: Denoiser
    guidance: float
    within: tuple[float, float] | None = None
    earlier: Denoiser | None = None
    earlier_told: bool = False

    @property
    def cost(self) -> int:
        """Net evaluations per image, where it guides."""
        return self.denoiser.cost + (self.earlier or self.denoiser).cost

    @property
    def schedule(self) -> Schedule:
        """The guided denoiser's own."""
        return self.denoiser.schedule

    def under(self, schedule: Schedule) -> "Guidance":
        """The same guidance under another schedule."""
        earlier = self.earlier and self.earlier.under(schedule)
        return replace(self, denoiser=self.denoiser.under(schedule), earlier=earlier)

    def guides(self, t: Float[Tensor, "*b"]) -> Bool[Tensor, "*b"]:
        """Whether it asks twice at t."""
        ratio = noise_ratio(self.schedule.log_snr(t))
        if self.within is None:
            return torch.ones_like(ratio, dtype=torch.bool)
        return (self.within[0] <= ratio) & (ratio <= self.within[1])

    def __call__(
        self, x_t: Float[Tensor, "b *shape"], t: Float[Tensor, "*b"], condition: Condition | None = None
    ) -> Float[Tensor, "b *shape"]:
        """x0_hat for ``condition``, whose image stays in the second answer."""
        told_of = condition or Condition()
        assert self.earlier or told_of.class_index is not None or told_of.numbers is not None, (
            "guidance needs a class or numbers, or an earlier denoiser"
        )
        n, times = len(x_t), t.expand(len(x_t))
        guided = self.guides(times).nonzero()[:, 0].cpu()
        if not len(guided):
            return self.denoiser(x_t, t, condition)
        if self.earlier:
            plain, asked = self.denoiser(x_t, t, condition), told_of.rows(guided)
            other = self.earlier(x_t[guided], times[guided], asked if self.earlier_told else asked.hidden())
        else:
            rows = torch.cat([torch.arange(n), guided])
            answers = self.denoiser(x_t[rows], times[rows], told_of.rows(rows).hidden(n))
            plain, other = answers.split([n, len(guided)])
        at = guided.to(plain.device)
        return plain.index_add(0, at, (self.guidance - 1.0) * (plain[at] - other))


def evaluations(denoiser: Denoiser, t: Float[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
    """Net evaluations per image of a call at t."""
    if isinstance(denoiser, Guidance):
        once = denoiser.denoiser.cost
        return once + denoiser.guides(t).long() * (denoiser.cost - once)
    return torch.full_like(t, denoiser.cost, dtype=torch.int64)
