"""The chapters of sampling, which need a trained model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from fromnoise import keyed
from fromnoise.errors import UseError
from fromnoise.model import Model, last
from fromnoise.noise import Schedule, spread
from fromnoise.predict import FROM_X0
from fromnoise.sample import STEPPERS, Sampler, Step


def reverse(
    model: Model,
    image_numbers: Sequence[int],
    *,
    seed: int = 0,
    class_name: str | None = None,
    numbers: Mapping[str, int | float] | None = None,
    guidance: float | None = None,
    sampler: Sampler | None = None,
) -> tuple[Step, ...]:
    """Every Step by which ``model.sample`` makes these images; the arguments by name are those of ``sample``.

    Raises UseError for an unknown class or number, or guidance with neither to act on.
    """
    labels = model.labels(image_numbers, class_name)
    return tuple(
        model.trajectory(image_numbers, seed=seed, labels=labels, numbers=numbers, guidance=guidance, sampler=sampler)
    )


def class_names(model: Model, image_numbers: Sequence[int], class_name: str | None = None) -> tuple[str | None, ...]:
    """The class that ``sample`` asks each of these image numbers to be, None for a model without classes.

    Raises UseError for an unknown class.
    """
    labels = model.labels(image_numbers, class_name)
    return tuple([None] * len(image_numbers) if labels is None else [model.classes[label] for label in labels])


def predicted_noise(step: Step, schedule: Schedule) -> Float[Tensor, "b *shape"]:
    """The eps that x0_hat leaves in x_t: (x_t - alpha x0_hat) / sigma."""
    alpha, sigma = schedule.alpha_sigma(step.t)
    return FROM_X0["eps"](step.x0_hat, step.x_t, spread(alpha, step.x_t), spread(sigma, step.x_t))


def by_seed(
    model: Model,
    number: int,
    seeds: Sequence[int],
    *,
    class_name: str | None = None,
    numbers: Mapping[str, int | float] | None = None,
    guidance: float | None = None,
    sampler: Sampler | None = None,
) -> dict[int, tuple[Step, ...]]:
    """Every Step by which ``sample`` makes the image of this number from each seed: other noise, all else the same.

    Raises as ``reverse`` does.
    """
    told: dict[str, Any] = {"class_name": class_name, "numbers": numbers, "guidance": guidance}
    return {seed: reverse(model, [number], seed=seed, sampler=sampler, **told) for seed in seeds}


def by_sampler(
    model: Model,
    number: int,
    calls: int,
    *,
    seed: int = 0,
    class_name: str | None = None,
    numbers: Mapping[str, int | float] | None = None,
    guidance: float | None = None,
) -> dict[Sampler, tuple[Step, ...]]:
    """Every Step from the same noise by each stepper, each calling the denoiser ``calls`` times.

    Their log-snr grids are nested: heun, which calls twice a step but for the last, takes every second time of the
    others. adaptive, which calls as often as it must, is not among them. Raises UseError for an even number of calls,
    and as ``reverse`` does.
    """
    if calls % 2 == 0:
        raise UseError(f"heun calls the model twice a step and once in the last: give an odd number, not {calls}.")
    samplers = [
        Sampler(name, (calls + stepper.calls - 1) // stepper.calls, "log-snr") for name, stepper in STEPPERS.items()
    ]
    told: dict[str, Any] = {"class_name": class_name, "numbers": numbers, "guidance": guidance}
    return {sampler: reverse(model, [number], seed=seed, sampler=sampler, **told) for sampler in samplers}


@dataclass(frozen=True, eq=False)
class Branching:
    """Where one trajectory is left, and the images that fresh noise leads to from there."""

    step: Step  # of the one trajectory, b = 1: its x_t is where all branches begin
    finished: Float[Tensor, "n c h w"]  # in [-1, 1]

    def deviation(self) -> Float[Tensor, "h w"]:
        """Standard deviation over the branches, root mean square over the channels, black to white being 1."""
        return self.finished.var(0).mean(0).sqrt() / 2.0


def branches(
    model: Model,
    number: int,
    noise_ratios: Sequence[float],
    n: int,
    *,
    steps: int = 32,
    seed: int = 0,
    class_name: str | None = None,
    numbers: Mapping[str, int | float] | None = None,
    guidance: float | None = None,
) -> tuple[Branching, ...]:
    """One ddpm trajectory, left at the steps nearest to ``noise_ratios``, each time n times with fresh noise.

    ddpm follows the reverse diffusion, so the branches are draws of x0 given x_t, as far as the model knows it: what
    they share was decided at t. Raises as ``reverse`` does.
    """
    sampler = Sampler("ddpm", steps)
    told: dict[str, Any] = {"numbers": numbers, "guidance": guidance, "sampler": sampler}
    trunk = reverse(model, [number], seed=seed, class_name=class_name, **told)
    times, schedule = sampler.times(model.denoiser.schedule), model.denoiser.schedule
    log_ratios = -0.5 * schedule.log_snr(times[:-1])
    label = model.labels([number], class_name)
    labels = None if label is None else label.repeat(n)
    grown = []
    for i in sorted({int((log_ratios - math.log(ratio)).abs().argmin()) for ratio in noise_ratios}):
        start, fresh = trunk[i].x_t.expand(n, -1, -1, -1), keyed.integer(seed, keyed.Purpose.BRANCH, number, i)
        onward = model.onward(start, times[i:], range(n), seed=fresh, labels=labels, **told)
        grown.append(Branching(trunk[i], last(onward).x_s))
    return tuple(grown)
