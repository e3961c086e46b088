"""What a training step is shown: which images, at which noise levels, with which noise, told what.

All of it is a pure function of (recipe, images_seen): the batch that begins at a position is the same after a resume,
whoever asks for it and whenever.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fromnoise import keyed
from fromnoise.denoise import log_normal_levels, logit_normal_levels, stratified, uniform_levels
from fromnoise.images import ImageSet
from fromnoise.noise import Condition, NoisyPair, Schedule, corrupt
from fromnoise.recipe import Recipe


def training_indices(recipe: Recipe, train: np.ndarray, images_seen: int) -> np.ndarray:
    """Which images the batch that begins at ``images_seen`` shows: every image once an epoch, in keyed order."""
    positions = np.arange(images_seen, images_seen + recipe.batch, dtype=np.int64)
    epochs, places = positions // len(train), positions % len(train)
    out = np.empty_like(places)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        out[here] = keyed.permute(recipe.seed, int(epoch), places[here], len(train))
    return train[out]


def training_pair(
    recipe: Recipe, images: ImageSet, indices: np.ndarray, images_seen: int, schedule: Schedule, device: str
) -> NoisyPair:
    """The noisy pair of the batch that begins at ``images_seen``: a pure function of (seed, position)."""
    number = images_seen // recipe.batch
    x0 = images.x0(indices).to(device)
    source = torch.Generator(device).manual_seed(keyed.integer(recipe.seed, keyed.Purpose.NOISE, number))
    eps = torch.randn(x0.shape, generator=source, device=device)
    u = torch.from_numpy(keyed.uniforms(keyed.derive(recipe.seed, keyed.Purpose.LEVELS, number), recipe.batch))
    t = schedule.t_at(noise_levels(recipe, stratified(u), schedule))
    return corrupt(schedule, x0, eps, t, _told(recipe, images, indices, number, device))


def noise_levels(recipe: Recipe, u: Float[Tensor, " b"], schedule: Schedule) -> Float[Tensor, " b"]:
    """log_snr at the quantiles u of the recipe's distribution of noise levels, from clean to noisy."""
    if recipe.levels == "uniform":
        return uniform_levels(u, schedule)
    law = log_normal_levels if recipe.levels == "log-normal" else logit_normal_levels
    return law(u, recipe.levels_mean, recipe.levels_deviation)


def _told(recipe: Recipe, images: ImageSet, indices: np.ndarray, number: int, device: str) -> Condition:
    """Each image's class and numbers, but for the share that is shown without any.

    Of the others each number hides from the same share on its own, so that some can be asked for without the rest.
    """
    u = keyed.uniforms(keyed.derive(recipe.seed, keyed.Purpose.DROPOUT, number), recipe.batch)
    hidden, labels, numbers = u < recipe.label_dropout, None, None
    if recipe.pictures.classes and images.labels is not None:
        labels = torch.from_numpy(np.where(hidden, -1, images.labels[indices])).to(device)
    if recipe.pictures.numbers and images.numbers is not None:
        each = np.arange(len(recipe.pictures.numbers))
        v = keyed.uniforms(keyed.derive(recipe.seed, keyed.Purpose.DROPOUT, number, each), recipe.batch)
        unknown = hidden | (v < recipe.label_dropout)  # (K, B)
        values = recipe.pictures.normalised(images.numbers[indices])
        numbers = torch.from_numpy(np.where(unknown.T, np.float32(np.nan), values)).to(device)
    return Condition(labels, numbers)
