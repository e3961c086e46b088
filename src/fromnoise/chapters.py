"""The chapters of the story as records: an image going into noise, and images coming out of it. Draws nothing.

Notation as in noise.py: t = 0 is clean, t = 1 is noise, x_t = alpha x0 + sigma eps.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from fromnoise import keyed
from fromnoise.images import ImageSet
from fromnoise.model import Model
from fromnoise.noise import NoisyPair, Schedule, corrupt, spread
from fromnoise.predict import FROM_X0
from fromnoise.sample import Sampler, Step


def forward(
    images: ImageSet,
    indices: Sequence[int] | Int[np.ndarray, " b"],
    schedule: Schedule,
    times: Sequence[float],
    seed: int = 0,
) -> tuple[NoisyPair, ...]:
    """The images at ``indices`` at each of ``times``, all with the same eps, keyed by (seed, FORWARD, index)."""
    x0 = images.x0(indices)
    key = keyed.derive(seed, keyed.Purpose.FORWARD, np.asarray(indices, np.int64))
    eps = torch.from_numpy(keyed.normals(key, x0[0].numel())).view_as(x0)
    return tuple(corrupt(schedule, x0, eps, t) for t in times)


def reverse(
    model: Model,
    numbers: Sequence[int],
    *,
    seed: int = 0,
    class_name: str | None = None,
    guidance: float | None = None,
    sampler: Sampler | None = None,
) -> tuple[Step, ...]:
    """Every Step by which ``model.sample`` makes the images of these numbers; the arguments are those of ``sample``.

    Raises UseError for an unknown class, and for guidance of a model without classes.
    """
    labels = model.labels(numbers, class_name)
    return tuple(model.trajectory(numbers, seed=seed, labels=labels, guidance=guidance, sampler=sampler))


def class_names(model: Model, numbers: Sequence[int], class_name: str | None = None) -> tuple[str | None, ...]:
    """The class that ``sample`` asks each of these numbers to be, None for a model without classes.

    Raises UseError for an unknown class.
    """
    labels = model.labels(numbers, class_name)
    return tuple([None] * len(numbers) if labels is None else [model.classes[label] for label in labels])


def predicted_noise(step: Step, schedule: Schedule) -> Float[torch.Tensor, "b *shape"]:
    """The eps that x0_hat leaves in x_t: (x_t - alpha x0_hat) / sigma."""
    alpha, sigma = schedule.alpha_sigma(step.t)
    return FROM_X0["eps"](step.x0_hat, step.x_t, spread(alpha, step.x_t), spread(sigma, step.x_t))
