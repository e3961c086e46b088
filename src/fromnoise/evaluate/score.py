"""A run's score: samples beside held-out images, and training images beside the same held-out images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from fromnoise.denoise import NetDenoiser
from fromnoise.evaluate.copies import CopyTests, Spread, copy_tests, spread_of
from fromnoise.evaluate.distances import FEWEST_FRECHET, Estimate, frechet_distance, kernel_distance
from fromnoise.evaluate.features import Lite0, features
from fromnoise.evaluate.nearest import flattened, nearest
from fromnoise.images import ImageSet, evenly
from fromnoise.model import BATCH, Model, last
from fromnoise.recipe import STRATA
from fromnoise.training import PROBED, probe_losses, probe_noise

FEWEST, MOST = 100, 1000  # samples, unless asked for otherwise
REFERENCE = 2000  # held-out images used at most
FEWEST_HELDOUT = 3  # that a distance needs

Progress = Callable[[str, int, int], None]  # (what, done, of how many)


@dataclass(frozen=True)
class Beside:
    """A distance of the samples to held-out images, and that of as many training images to the same."""

    samples: Estimate
    real: Estimate


@dataclass(frozen=True)
class Loss:
    """The mean weighted loss with fixed noise, over all noise levels; the gap is held-out less training."""

    train: Estimate
    heldout: Estimate
    gap: Estimate


@dataclass(frozen=True)
class Score:
    """All that ``evaluate`` measures; None where there are too few pictures for it."""

    samples: int
    training: int  # images that stand in for samples in the real-against-real values
    heldout: int
    kernel: Beside | None
    frechet: Beside | None
    loss: Loss | None
    distance: Spread  # of samples to their nearest training image
    distance_heldout: Spread | None  # of held-out images
    copies: CopyTests | None


def samples_wanted(images: ImageSet) -> int:
    """As many samples as images are held out, from 100 to 1,000."""
    return min(max(len(images.heldout), FEWEST), MOST)


def evaluate(
    model: Model,
    images: ImageSet,
    net: Lite0,
    *,
    n: int,
    seed: int = 0,
    progress: Progress = lambda what, done, of: None,
) -> Score:
    """Score ``n`` samples of this seed, drawn by the recipe's sampler with classes in the proportions of training.

    ``images`` are those of the run, ``net`` the features to compare by.
    """
    heldout, train = evenly(images.heldout, REFERENCE), evenly(images.train, n)
    values = draw(model, images, n, seed, progress)
    kernel = frechet = loss = None
    if len(heldout) >= FEWEST_HELDOUT:
        parts = {"sampled": values, "training": images.values[train], "held-out": images.values[heldout]}
        seen = {
            name: features(images.spec.shown(part), net, _named(progress, f"features of {name} images"))
            for name, part in parts.items()
        }
        kernel = Beside(*(kernel_distance(seen[name], seen["held-out"]) for name in ("sampled", "training")))
        if min(len(part) for part in parts.values()) >= FEWEST_FRECHET:
            frechet = Beside(*(frechet_distance(seen[name], seen["held-out"]) for name in ("sampled", "training")))
        progress("loss with fixed noise", 0, 1)
        loss = fixed_noise_loss(model, images)
        progress("loss with fixed noise", 1, 1)
    progress("nearest images", 0, 1)
    own, beside, copies = distances_to_training(images, values, heldout)
    progress("nearest images", 1, 1)
    return Score(n, len(train), len(heldout), kernel, frechet, loss, own, beside, copies)


def draw(
    model: Model, images: ImageSet, n: int, seed: int, progress: Progress = lambda what, done, of: None
) -> Shaped[np.ndarray, "n h w c"]:
    """n samples as the run makes them by default, but each of the class of another training image, spread evenly."""
    labels = None
    if model.classes and images.labels is not None:
        labels = images.labels[images.train[np.arange(n) * len(images.train) // n]]
    out = np.empty((n, *model.shape[1:], model.shape[0]), model.spec.dtype)
    for start in range(0, n, model.together):
        part = slice(start, min(start + model.together, n))
        steps = model.trajectory(
            range(part.start, part.stop), seed=seed, labels=None if labels is None else labels[part]
        )
        out[part], _ = model.to_values(last(steps).x_s)
        progress("drawing samples", part.stop, n)
    return out


def fixed_noise_loss(model: Model, images: ImageSet) -> Loss:
    """The loss of as many training as held-out images at the middle of every stratum of noise levels.

    The k-th image of either part is shown with the same noise, so the error of the gap is that of the differences.
    """
    count = min(len(images.heldout), len(images.train), PROBED)
    train, heldout = (_mean_losses(model, images, evenly(part, count)) for part in (images.train, images.heldout))
    return Loss(_mean(train), _mean(heldout), _mean(heldout - train))


def distances_to_training(
    images: ImageSet, values: Shaped[np.ndarray, "n h w c"], heldout: Int64[np.ndarray, " e"]
) -> tuple[Spread, Spread | None, CopyTests | None]:
    """How near samples come to training images, how near held-out images do, and what follows about copies."""
    rows = images.spec.encode(values).transpose(0, 3, 1, 2).reshape(len(values), -1)
    own, place = nearest(rows, flattened(images, images.train))
    if not len(heldout):
        return spread_of(own / 2), None, None
    reference = np.concatenate(list(flattened(images, heldout)))
    beside, _ = nearest(reference, flattened(images, images.train))
    across, which = nearest(rows, [reference])
    first = np.where(across < own, len(images.train) + which, place)
    return spread_of(own / 2), spread_of(beside / 2), copy_tests(own / 2, beside / 2, first, len(images.train))


def _mean_losses(model: Model, images: ImageSet, indices: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    assert isinstance(model.denoiser, NetDenoiser), "what a run folder holds"
    x0 = images.x0(indices)
    eps, total = probe_noise(model.recipe, x0), np.zeros(len(indices))
    for clean, noise, part in _batches(x0, eps):
        for stratum in range(STRATA):
            losses, _ = probe_losses(
                model.recipe, model.denoiser, stratum, clean.to(model.device), noise.to(model.device)
            )
            total[part] += losses.double().cpu().numpy() / STRATA
    return total


def _batches(x0: Tensor, eps: Tensor) -> Iterator[tuple[Tensor, Tensor, slice]]:
    for start in range(0, len(x0), BATCH):
        part = slice(start, start + BATCH)
        yield x0[part], eps[part], part


def _mean(values: Float64[np.ndarray, " n"]) -> Estimate:
    return Estimate(float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5))


def _named(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, of: progress(what, done, of)
