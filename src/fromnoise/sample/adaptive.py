"""Steps whose length every image chooses for itself, from an estimate of the error it makes.

The probability flow is followed in the coordinates of the flow schedule, x = (1 - t) z and t = r / (1 + r), where it is
    dx/dt = eps - x0_hat = (x - x0_hat) / t                           (Lipman et al. 2023, arXiv 2210.02747, example II)
Values and t are of order one there at every noise level, so one tolerance serves all of them, and the path is straight
wherever x0_hat no longer changes: z against log r costs about twice the calls for the same error.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from fromnoise.denoise import Denoiser
from fromnoise.guide import evaluations
from fromnoise.noise import Condition, Flow, Schedule, spread
from fromnoise.sample.step import Step

FIRST, SHORTEST = 0.1, 1e-5  # in t of the flow schedule, [0, 1]; the shortest step is taken whatever its error
# Bogacki, Shampine, "A 3(2) pair of Runge-Kutta formulas", Applied Mathematics Letters 2, 1989. The last stage is the
# result itself and the first of the next step, so a step costs three calls; _ERROR is the result less the one of
# second order. Dormand and Prince's 5(4) pair costs six, and takes fewer in all below a tolerance of about 3e-4 only.
_STAGES = ((0.5, (0.5,)), (0.75, (0.0, 0.75)), (1.0, (2 / 9, 1 / 3, 4 / 9)))
_ERROR = (-5 / 72, 1 / 12, 1 / 9, -1 / 8)


def adaptive(
    denoiser: Denoiser,
    x_start: Float[Tensor, "b *shape"],
    times: Float64[Tensor, " n"],
    tolerance: float,
    *,
    condition: Condition | None = None,
) -> Iterator[Step]:
    """The probability flow from x_start at times[0] down to times[-1], yielding a Step at each of the times.

    In between every image takes steps of its own length, such that the estimated error of each, the root mean square
    over the values of the image, stays below ``tolerance``; the images lie in [-1, 1]. Those that have arrived are
    left out of the calls, and nfe counts the calls of the image that took most. At 0 the image is the answer at the
    time before, as with every stepper.
    """
    walk = _Walk(denoiser.under(Flow()), denoiser.schedule, condition or Condition(), tolerance)
    front, x_t = walk.start(x_start, times[0]), x_start
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        x0_hat = front.x0_hat
        front = walk.onward(front, s) if s > 0 else front
        x_s = walk.back(front, s) if s > 0 else x0_hat
        yield Step(i, float(t), float(s), x_t, x0_hat, x_s, int(front.calls.max()))
        x_t = x_s


@dataclass(frozen=True)
class _Front:
    """How far each image has come."""

    x: Float[Tensor, "b *shape"]  # in the coordinates of the flow schedule
    t: Float64[Tensor, " b"]  # of the flow schedule
    x0_hat: Float[Tensor, "b *shape"]  # at (x, t)
    length: Float64[Tensor, " b"]  # of the step to try next, in t
    calls: Int64[Tensor, " b"]

    def parts(self) -> tuple[Tensor, ...]:
        """The five, each with the images first."""
        return self.x, self.t, self.x0_hat, self.length, self.calls

    def at(self, rows: Int64[Tensor, " n"]) -> "_Front":
        """Some of the images."""
        return _Front(*(part[rows.to(part.device)] for part in self.parts()))

    def put(self, rows: Int64[Tensor, " n"], others: "_Front") -> "_Front":
        """With ``others`` in place of the images at ``rows``."""
        pairs = zip(self.parts(), others.parts(), strict=True)
        return _Front(*(mine.index_copy(0, rows.to(mine.device), theirs) for mine, theirs in pairs))

    def slope(self) -> Float[Tensor, "b *shape"]:
        """dx/dt."""
        return (self.x - self.x0_hat) / spread(self.t, self.x)


@dataclass(frozen=True)
class _Walk:
    """The walk of a batch: whom to ask, the schedule of its Steps, what all images are told, the error allowed."""

    denoiser: Denoiser  # under the flow schedule
    schedule: Schedule
    condition: Condition
    tolerance: float

    def start(self, x_t: Tensor, t: Tensor) -> _Front:
        """The images at t, asked about once."""
        n, place = len(x_t), self._place(t)
        x, nothing = spread(self._scale(t), x_t) * x_t, torch.zeros(n, dtype=torch.int64)
        front = _Front(x, place.expand(n), x, torch.full((n,), FIRST, dtype=torch.float64), nothing)
        return self._asked(front, torch.arange(n))

    def back(self, front: _Front, t: Tensor) -> Tensor:
        """x_t of images that have arrived at t."""
        return front.x / spread(self._scale(t), front.x)

    def onward(self, front: _Front, t: Tensor) -> _Front:
        """All images taken down to t; those that are there already are not asked about."""
        target = self._place(t)
        while len(rows := (front.t > target).nonzero()[:, 0]):
            front = front.put(rows, self._tried(front.at(rows), rows, target))
        return front

    def _tried(self, before: _Front, rows: Tensor, target: Tensor) -> _Front:
        """One try at a step: taken where its error allows it, and from the error follows the length of the next one.

        NaN is no reason to refuse: what a broken net answers passes through, as with every stepper.
        """
        length = torch.minimum(before.length, before.t - target)
        ends = torch.where(length < before.t - target, before.t - length, target)
        after, slopes = before, [before.slope()]
        for place, weights in _STAGES:
            x = before.x - spread(length, before.x) * _sum(weights, slopes)
            t = ends if place == 1.0 else before.t - place * length
            after = self._asked(replace(after, x=x, t=t), rows)
            slopes.append(after.slope())
        off = _sum(_ERROR, slopes).cpu().double().square().flatten(1).mean(1).sqrt()
        error = (length * off / self.tolerance).nan_to_num(0.0).clamp(min=1e-9)
        taken = (error <= 1.0) | (length <= SHORTEST)
        wanted = (length * (0.9 * error ** (-1 / 3)).clamp(0.2, 5.0)).clamp(min=SHORTEST)
        cut_short = taken & (length < before.length)
        after = replace(after, length=torch.where(cut_short, torch.maximum(wanted, before.length), wanted))
        refused = (~taken).nonzero()[:, 0]
        back = replace(before, length=after.length, calls=after.calls).at(refused)
        return after.put(refused, back)

    def _asked(self, front: _Front, rows: Tensor) -> _Front:
        """``front``, of the images ``rows`` alone, with the answer to where it stands."""
        with torch.no_grad():
            x0_hat = self.denoiser(front.x, front.t, self.condition.rows(rows))
        return replace(front, x0_hat=x0_hat, calls=front.calls + evaluations(self.denoiser, front.t))

    def _place(self, t: Tensor) -> Tensor:
        """The time at which the flow schedule has the log-SNR that this schedule has at t."""
        return Flow().t_at(self.schedule.log_snr(t))

    def _scale(self, t: Tensor) -> Tensor:
        """What x_t is multiplied with to become x of the flow schedule."""
        return Flow().alpha_sigma(self._place(t))[0] / self.schedule.alpha_sigma(t)[0]


def _sum(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        total = total + weight * slope
    return total
