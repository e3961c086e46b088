"""The world of two pixels: every image a point of the plane, small enough to draw whole and to be learned in seconds.

Points are the values of one channel at two pixel positions, in the [-1, 1] of the mathematics, so x0, x_t and scores
have two numbers and the exact score of the set needs no more of the images than these points.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from fromnoise import keyed
from fromnoise.chapters.landscape import World, blocks
from fromnoise.chapters.sets import space
from fromnoise.denoise import NetDenoiser, edm_weight, log_normal_levels, stratified
from fromnoise.errors import UseError
from fromnoise.images import ImageSet
from fromnoise.landscape import Plane, Scalars
from fromnoise.nets import MLP, MLPSpec
from fromnoise.noise import Condition, Schedule, corrupt

STEPS, BATCH = 1000, 256  # of training
WIDTH, LAYERS = 64, 3  # of the net
RATE = 6e-3  # the highest learning rate
MEAN, DEVIATION = -1.2, 1.4  # of the log noise ratios trained at, in units of the points' own spread


@dataclass(frozen=True, eq=False)
class TwoPixels:
    """Two pixel positions, and every image's values there."""

    a: tuple[int, int]  # (y, x)
    b: tuple[int, int]
    channel: int
    indices: Int64[np.ndarray, " n"]  # of the images in their set
    points: Float32[Tensor, "n 2"]  # in [-1, 1]: x0 at a and at b


def two_pixels(images: ImageSet, among: Int64[np.ndarray, " n"], seed: int = 0) -> TwoPixels:
    """The images ``among`` at the two pixels far apart that ``space`` compares.

    Raises UseError for images of a single pixel.
    """
    found = space(images, 0, seed)
    a, b = found.distant.a, found.distant.b
    rows, columns = zip(a, b, strict=True)
    points = [x0[:, found.channel, rows, columns] for x0 in blocks(images, among)]
    return TwoPixels(a, b, found.channel, among, torch.cat(points))


def world_of(found: TwoPixels) -> World:
    """The points as a world of their own: the plane is the whole space. A little more than [-1, 1] is looked at.

    Raises UseError where all images have the same values there.
    """
    scalars = Scalars.of([found.points], Plane.pixels())
    centre = torch.zeros(2, dtype=torch.float64)
    scale = float(found.points.double().std(0, correction=0).mean())
    if scale == 0:
        raise UseError("Looked for pictures that differ at two pixels, but these have the same values everywhere.")
    return World("pixels", scalars, found.indices, centre, 1.05, scale, (), (found.a, found.b, found.channel))


def learn(points: Float32[Tensor, "n 2"], schedule: Schedule, seed: int = 0, steps: int = STEPS) -> NetDenoiser:
    """A small net trained on the points alone, in seconds; the same points and seed give the same net."""
    centre, spread = float(points.mean()), float(points.std().clamp(min=1e-3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed.integer(seed, keyed.Purpose.WEIGHTS))
        net = MLP(MLPSpec(dimensions=2, width=WIDTH, layers=LAYERS))
    denoiser = NetDenoiser(net, schedule, spread, centre=centre)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, betas=(0.9, 0.99), weight_decay=0.0)
    average = {name: weight.detach().clone() for name, weight in net.state_dict().items()}
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (k + 1) / 50) * 0.5 * (1 + math.cos(math.pi * k / steps))
        loss = _loss(denoiser, points, seed, k)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, weight in net.state_dict().items():
            average[name].lerp_(weight, 1 / min(k + 1, 100))
    net.load_state_dict(average)
    return denoiser


def _loss(denoiser: NetDenoiser, points: Tensor, seed: int, k: int) -> Tensor:
    """Of step k, all of whose draws are keyed by (seed, purpose, k)."""
    draw = torch.Generator().manual_seed(keyed.integer(seed, keyed.Purpose.ORDER, k))
    x0 = points[torch.randint(len(points), (BATCH,), generator=draw)]
    u = torch.rand(BATCH, generator=draw.manual_seed(keyed.integer(seed, keyed.Purpose.LEVELS, k)))
    eps = torch.randn(x0.shape, generator=draw.manual_seed(keyed.integer(seed, keyed.Purpose.NOISE, k)))
    mean = MEAN + math.log(2 * denoiser.sigma_data)
    log_snr = log_normal_levels(stratified(u), mean, DEVIATION)
    pair = corrupt(denoiser.schedule, x0, eps, denoiser.schedule.t_at(log_snr), Condition())
    weight = edm_weight(pair.log_snr, denoiser.sigma_data)
    return denoiser.loss(pair, weight).mean()
