"""The one loop, and the noise it starts from and draws on the way."""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fromnoise import keyed
from fromnoise.denoise import Denoiser
from fromnoise.guide import evaluations
from fromnoise.noise import Condition, Schedule
from fromnoise.sample.step import Step, Update


class _Asked:
    """The denoiser with its condition bound, counting its calls and keeping the first answer of a step."""

    def __init__(self, denoiser: Denoiser, condition: Condition | None) -> None:
        self.denoiser, self.condition, self.nfe = denoiser, condition, 0
        self.first: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        x0_hat = self.denoiser(x_t, t, self.condition)
        self.nfe += int(evaluations(self.denoiser, t))
        self.first = x0_hat if self.first is None else self.first
        return x0_hat


def start_noise(schedule: Schedule, t: Tensor, shape: tuple[int, ...], seed: int, numbers: Sequence[int]) -> Tensor:
    """x_t = sigma_t eps at the grid's first time, (B, *shape) float32: eps keyed by (seed, image number)."""
    return _normals(shape, keyed.derive(seed, keyed.Purpose.START, _array(numbers))) * float(schedule.alpha_sigma(t)[1])


def trajectory(
    denoiser: Denoiser,
    x_start: Float[Tensor, "b *shape"],
    times: Float64[Tensor, " n"],
    step: Update,
    *,
    condition: Condition | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> Iterator[Step]:
    """The one loop: from x_start at times[0] down to times[-1], yielding each Step.

    The schedule is the denoiser's own. ``numbers`` are the image numbers (B,) that, with ``seed``, key the fresh
    noise of stochastic steppers; by default 0 to B - 1.
    """
    schedule, x, state = denoiser.schedule, x_start, None
    asked = _Asked(denoiser, condition)
    keys = _array(range(len(x)) if numbers is None else numbers)
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        asked.first = None
        noise = partial(_step_noise, x, seed, keys, i)
        with torch.no_grad():
            x_s, state = step(asked, schedule, x, t, s, state, noise)
        assert asked.first is not None, "a stepper asks the denoiser at least once"
        yield Step(i, float(t), float(s), x, asked.first, x_s, asked.nfe)
        x = x_s


def _step_noise(like: Tensor, seed: int, numbers: np.ndarray, i: int, k: int) -> Tensor:
    drawn = _normals(tuple(like.shape[1:]), keyed.derive(seed, keyed.Purpose.STEP, numbers, i, k))
    return drawn.to(like.device, like.dtype)


def _array(numbers: Sequence[int]) -> np.ndarray:
    return np.asarray(list(numbers), np.int64)


def _normals(shape: tuple[int, ...], key: tuple[np.ndarray, np.ndarray]) -> Tensor:
    return torch.from_numpy(keyed.normals(key, math.prod(shape))).reshape(-1, *shape)
