"""The chapters of training, from what a run left on disk: its pairs, its losses, its growth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from fromnoise.batches import training_indices, training_pair
from fromnoise.denoise import WEIGHTINGS, NetDenoiser, noise_ratio
from fromnoise.errors import UseError
from fromnoise.images import ImageSet
from fromnoise.noise import SCHEDULES, Condition, NoisyPair
from fromnoise.recipe import Pictures
from fromnoise.run_folder import RunFolder, Sheet, load
from fromnoise.training import Probe, probed_levels


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """One batch as the trainer sees it, from clean to noisy, and what the net makes of it before it learns from it."""

    images_seen: int  # before it
    preconditioning: str  # which row of the table says what F is asked for
    indices: Int64[np.ndarray, " b"]  # of the images in their set
    pair: NoisyPair
    told: tuple[Mapping[str, str | float | None], ...]  # its "class" and its numbers by name; None = hidden, unknown
    output: Float[Tensor, "b c h w"]  # the net's own, F
    target: Float[Tensor, "b c h w"]  # what F should have been: (x0 - c_skip z) / c_out
    x0_hat: Float[Tensor, "b c h w"]  # c_skip z + c_out F
    losses: Float[Tensor, " b"]  # their mean is the loss of the training step


@dataclass(frozen=True)
class Losses:
    """What a run logged of its loss; the loss is the weighted squared error of x0_hat, as in ``Recipe.weighting``."""

    images_seen: tuple[int, ...]
    training: tuple[float, ...]  # mean since the record before: the weights as they stood, fresh noise
    probes: tuple[tuple[int, Probe], ...]  # (images_seen, the average of the weights, noise that stays the same)
    noise_ratios: tuple[float, ...]  # sigma / alpha of each value of a probe


def pairs(folder: RunFolder, images: ImageSet, device: str = "cpu") -> TrainingBatch:
    """The batch that comes after the run's newest checkpoint, rebuilt from (seed, images_seen).

    ``images``: those of the run. The weights are the raw ones and compute in the type they are trained in, so on the
    device and with the threads of the training the mean of ``losses`` is the very loss of the next step.
    Raises NoCheckpoint where there is none.
    """
    model, recipe = load(folder.path, weights="raw", device=device), folder.recipe()
    assert isinstance(model.denoiser, NetDenoiser), "a run holds a net"
    denoiser = replace(model.denoiser, dtype=recipe.inner_dtype)
    indices = training_indices(recipe, images.train, model.images_seen)
    pair = training_pair(recipe, images, indices, model.images_seen, denoiser.schedule, device)
    weight = WEIGHTINGS[recipe.weighting](pair.log_snr, recipe.pictures.sigma_data)
    with torch.no_grad():
        output, target = denoiser.answer(pair)
        x0_hat = denoiser(pair.x_t, pair.t, pair.condition)
        losses = denoiser.loss(pair, weight)
    told = _told(recipe.pictures, pair.condition, len(indices))
    return TrainingBatch(model.images_seen, recipe.preconditioning, indices, pair, told, output, target, x0_hat, losses)


def _told(pictures: Pictures, condition: Condition, n: int) -> tuple[dict[str, str | float | None], ...]:
    """What n images are said to be, in the words and units of the pictures; {} of each where there is no condition."""
    told: list[dict[str, str | float | None]] = [{} for _ in range(n)]
    if condition.class_index is not None:
        for each, label in zip(told, condition.class_index.tolist(), strict=True):
            each["class"] = pictures.classes[label] if label >= 0 else None
    if condition.numbers is not None:
        for spec, column in zip(pictures.numbers, condition.numbers.T.tolist(), strict=True):
            digits = 5 - math.floor(math.log10(spec.std))  # that a float32 of the size of one holds
            for each, value in zip(told, column, strict=True):
                known = round(spec.mean + spec.std * value, digits) + 0.0  # which makes 0 of −0
                each[spec.name] = None if math.isnan(value) else known
    return tuple(told)


def losses(folder: RunFolder) -> Losses:
    """The losses of a run so far. Raises UseError before the first is logged."""
    recipe, events = folder.recipe(), folder.events()
    steps = [event for event in events if event["event"] == "step"]
    if not steps:
        raise UseError(f"Looked for losses in {folder}, but it has logged none yet: train it further.")
    ratios = noise_ratio(probed_levels(recipe, SCHEDULES[recipe.schedule]()))
    return Losses(
        tuple(step["images_seen"] for step in steps),
        tuple(step["loss"] for step in steps),
        _probes(events),
        tuple(ratios.tolist()),
    )


def growth(folder: RunFolder) -> tuple[tuple[Sheet, Probe], ...]:
    """Every sheet of the run, the same noise each time, with the loss measured at that moment.

    Raises UseError before the first sheet, and for one whose images were not kept.
    """
    folder.recipe()  # raises where there is no run
    probes = _probes(folder.events())
    if not probes:
        raise UseError(f"Looked for sheets in {folder}, but it has made none yet: train it further.")
    return tuple((folder.sheet(images_seen), probe) for images_seen, probe in probes)


def _probes(events: Sequence[dict[str, Any]]) -> tuple[tuple[int, Probe], ...]:
    sheets = [event for event in events if event["event"] == "sheet"]
    return tuple((each["images_seen"], Probe(tuple(each["train"]), tuple(each["heldout"]))) for each in sheets)
