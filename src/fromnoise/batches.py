"""What a training step is shown: which images, at which noise levels, with which noise, told what.

All of it is a pure function of (recipe, images_seen): the batch that begins at a position is the same after a resume,
whoever asks for it and whenever. So draws that many steps share the cost of are kept, and a GPU's batches are made
ahead of it, without changing a number.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from fromnoise import keyed
from fromnoise.denoise import log_normal_levels, logit_normal_levels, stratified, uniform_levels
from fromnoise.images import ImageSet
from fromnoise.noise import Condition, NoisyPair, Schedule, corrupt
from fromnoise.recipe import Recipe

TOGETHER = 64  # batches whose draws are made at once: for one alone NumPy takes longer to begin than to compute
PLACES = 4096  # of an epoch's order, likewise
AHEAD = 3  # batches made before a GPU asks for them

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batch:
    """What one training step is shown; ``pair`` is on the device that trains, but its float64 tensors only on CUDA."""

    images_seen: int  # before it
    indices: Int64[np.ndarray, " b"]  # of the images in their set
    log_snr: Float64[Tensor, " b"]  # on the CPU
    pair: NoisyPair


def feed(
    recipe: Recipe, images: ImageSet, schedule: Schedule, device: str, images_seen: int
) -> Generator[Batch, None, None]:
    """The batches from ``images_seen`` on, without end; close it when no more are wanted.

    On a GPU a thread makes them ahead and copies them while the GPU computes. On a CPU they are made when asked for:
    a third busy thread on two cores would stall the two that compute.
    """

    def at(position: int) -> Batch:
        return batch_at(recipe, images, schedule, device, position)

    positions = count(images_seen, recipe.batch)
    yield from _beside_the_gpu(at, positions, device) if device.startswith("cuda") else map(at, positions)


def batch_at(recipe: Recipe, images: ImageSet, schedule: Schedule, device: str, images_seen: int) -> Batch:
    """The batch that begins at ``images_seen``."""
    indices = training_indices(recipe, images.train, images_seen)
    pair = training_pair(recipe, images, indices, images_seen, schedule, device)
    log_snr = pair.log_snr
    if device.startswith("cuda"):  # where a recorded step reads them; MPS has no float64
        t, alpha, sigma = (_sent(each, device) for each in (pair.t, pair.alpha, pair.sigma))
        pair = replace(pair, t=t, alpha=alpha, sigma=sigma)
    return Batch(images_seen, indices, log_snr, pair)


def ahead(make: Callable[[int], T], positions: Iterator[int], most: int) -> Generator[T, None, None]:
    """``make(position)`` of each, in order, made by a thread of its own, ``most`` of them before they are asked for.

    What ``make`` raises is raised at its turn. The thread ends when the iterator is closed or fails.
    """
    with ThreadPoolExecutor(1, "batches") as pool:
        waiting = deque(pool.submit(make, next(positions)) for _ in range(most))
        try:
            while True:
                made = waiting.popleft().result()
                waiting.append(pool.submit(make, next(positions)))
                yield made
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _beside_the_gpu(at: Callable[[int], Batch], positions: Iterator[int], device: str) -> Iterator[Batch]:
    """Made and copied on a stream of their own; whoever takes a batch has its own stream wait for the copies."""
    side = torch.cuda.Stream(device)

    def make(position: int) -> tuple[Batch, torch.cuda.Event]:
        with torch.cuda.stream(side):
            return at(position), side.record_event()

    with closing(ahead(make, positions, AHEAD)) as made:
        for batch, copied in made:
            current = torch.cuda.current_stream(device)
            current.wait_event(copied)
            for tensor in (*vars(batch.pair).values(), *vars(batch.pair.condition).values()):
                if isinstance(tensor, Tensor):
                    tensor.record_stream(current)  # or its memory might be given away while the step still reads it
            yield batch


def _sent(tensor: Tensor, device: str) -> Tensor:
    """On the device; a GPU fetches it from pinned memory while this thread goes on."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.startswith("cuda") else tensor.to(device)


def training_indices(recipe: Recipe, train: np.ndarray, images_seen: int) -> np.ndarray:
    """Which images the batch that begins at ``images_seen`` shows: every image once an epoch, in keyed order."""
    epochs, places = np.divmod(np.arange(images_seen, images_seen + recipe.batch, dtype=np.int64), len(train))
    blocks, offsets = np.divmod(places, PLACES)
    out = np.empty_like(places)
    for epoch, block in sorted({*zip(epochs.tolist(), blocks.tolist(), strict=True)}):
        here = (epochs == epoch) & (blocks == block)
        out[here] = _order(recipe.seed, epoch, block, len(train))[offsets[here]]
    return train[out]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, block: int, size: int) -> Int64[np.ndarray, " n"]:
    """Where PLACES places in a row of an epoch land."""
    return keyed.permute(seed, epoch, np.arange(block * PLACES, min(size, (block + 1) * PLACES)), size)


def training_pair(
    recipe: Recipe, images: ImageSet, indices: np.ndarray, images_seen: int, schedule: Schedule, device: str
) -> NoisyPair:
    """The noisy pair of the batch that begins at ``images_seen``: a pure function of (seed, position)."""
    number = images_seen // recipe.batch
    x0 = _sent(images.x0(indices), device)
    source = torch.Generator(device).manual_seed(keyed.integer(recipe.seed, keyed.Purpose.NOISE, number))
    b, c, h, w = x0.shape
    eps = torch.randn((b, h, w, c), generator=source, device=device).permute(0, 3, 1, 2)  # laid out as x0 is
    u = torch.from_numpy(_uniforms(recipe.seed, keyed.Purpose.LEVELS, number, recipe.batch))
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
    u = _uniforms(recipe.seed, keyed.Purpose.DROPOUT, number, recipe.batch)
    hidden, labels, numbers = u < recipe.label_dropout, None, None
    if recipe.pictures.classes and images.labels is not None:
        labels = _sent(torch.from_numpy(np.where(hidden, -1, images.labels[indices])), device)
    if recipe.pictures.numbers and images.numbers is not None:
        each = np.arange(len(recipe.pictures.numbers))
        v = keyed.uniforms(keyed.derive(recipe.seed, keyed.Purpose.DROPOUT, number, each), recipe.batch)
        unknown = hidden | (v < recipe.label_dropout)  # (K, B)
        values = recipe.pictures.normalised(images.numbers[indices])
        numbers = _sent(torch.from_numpy(np.where(unknown.T, np.float32(np.nan), values)), device)
    return Condition(labels, numbers)


def _uniforms(seed: int, purpose: keyed.Purpose, number: int, batch: int) -> Float64[np.ndarray, " b"]:
    """The draws of batch ``number`` for one purpose, in (0, 1)."""
    block, row = divmod(number, TOGETHER)
    return _uniforms_together(seed, purpose, block, batch)[row]


@lru_cache(maxsize=4)
def _uniforms_together(seed: int, purpose: keyed.Purpose, block: int, batch: int) -> Float64[np.ndarray, "n b"]:
    """Those of TOGETHER batches in a row."""
    numbers = np.arange(block * TOGETHER, (block + 1) * TOGETHER)
    return keyed.uniforms(keyed.derive(seed, purpose, numbers), batch)
