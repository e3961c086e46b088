"""Denoiser -> Denoiser: the same question asked with and without its condition, and the difference exaggerated."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fromnoise.denoise import Denoiser
from fromnoise.noise import Condition, Schedule


@dataclass(frozen=True)
class ClassGuidance:
    """x0_hat(null) + guidance (x0_hat(class) - x0_hat(null)) (Ho, Salimans 2022, arXiv 2207.12598, eq. 6).

    guidance 1 is the plain conditional answer; larger values favour what is typical of the class.
    """

    denoiser: Denoiser
    guidance: float

    @property
    def cost(self) -> int:
        """Two net evaluations per image."""
        return 2 * self.denoiser.cost

    @property
    def schedule(self) -> Schedule:
        """The guided denoiser's own."""
        return self.denoiser.schedule

    def under(self, schedule: Schedule) -> "ClassGuidance":
        """The same guidance under another schedule."""
        return replace(self, denoiser=self.denoiser.under(schedule))

    def __call__(
        self, x_t: Float[Tensor, "b *shape"], t: Float[Tensor, "*b"], condition: Condition | None = None
    ) -> Float[Tensor, "b *shape"]:
        """x0_hat for ``condition``, whose class_index is required; only the class is hidden in the second answer."""
        assert condition is not None and condition.class_index is not None, "guidance needs a class"
        classes = torch.cat([condition.class_index, torch.full_like(condition.class_index, -1)])
        both = Condition(classes, _twice(condition.numbers), _twice(condition.image))
        times = t.expand(len(x_t)).repeat(2)
        told, untold = self.denoiser(torch.cat([x_t, x_t]), times, both).chunk(2)
        return untold + self.guidance * (told - untold)


def _twice(value: Tensor | None) -> Tensor | None:
    return None if value is None else torch.cat([value, value])
