"""What strips and films have in common: a record as pictures, its noise level as words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from fromnoise.chapters import predicted_noise
from fromnoise.images import ValueSpec, montage
from fromnoise.look import colour
from fromnoise.look.page import Pixels
from fromnoise.noise import NoisyPair, Schedule
from fromnoise.sample import Step

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class View:
    """A Step as pictures, one of each kind for every image."""

    t: float
    x_t: UInt8[np.ndarray, "n h w c"]
    x0_hat: UInt8[np.ndarray, "n h w c"]
    noise: UInt8[np.ndarray, "n h w 3"]
    outside: float  # share of the values of x_t beyond black and white


def view(step: Step, schedule: Schedule, spec: ValueSpec) -> View:
    """The three pictures of a step before its update."""
    x_t, clipped = colour.pictures(colour.unit_scale(step.x_t, schedule, step.t), spec)
    x0_hat, _ = colour.pictures(step.x0_hat, spec)
    return View(step.t, x_t, x0_hat, colour.noise(predicted_noise(step, schedule)), clipped / x_t.size)


def scaled(pair: NoisyPair, schedule: Schedule) -> Float[np.ndarray, "n c h w"]:
    """x_t as it is shown, as numbers."""
    return colour.unit_scale(pair.x_t, schedule, float(pair.t[0])).numpy()


def noisy(pair: NoisyPair, schedule: Schedule, spec: ValueSpec) -> tuple[UInt8[np.ndarray, "n h w c"], float]:
    """x_t as pictures, and the share of its values beyond black and white."""
    values, clipped = colour.pictures(colour.unit_scale(pair.x_t, schedule, float(pair.t[0])), spec)
    return values, clipped / values.size


def cell(values: UInt8[np.ndarray, "h w c"], side: int) -> Pixels:
    """One picture, enlarged by a whole factor to at most ``side`` pixels."""
    return montage(values[None], factor=max(1, side // max(values.shape[:2])))


def spaced(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of them, the first and the last among them, evenly apart."""
    return [items[round(i)] for i in np.linspace(0, len(items) - 1, min(most, len(items)))]


def levels(t: float, schedule: Schedule) -> tuple[str, str, str]:
    """t, the noise ratio sigma / alpha and the SNR, in figures."""
    alpha, sigma = (float(value) for value in schedule.alpha_sigma(t))
    ratio = sigma / alpha
    return f"{t:.2f}" if t else "0", figures(ratio), figures(ratio**-2) if ratio else "∞"


def figures(value: float) -> str:
    """Two or three figures, in powers of ten where they would be long."""
    if value == 0 or 0.001 <= value < 100:
        return f"{value:.2g}" if value < 10 else f"{value:.0f}"
    if 100 <= value < 10_000:
        return f"{value:,.0f}"
    power = math.floor(math.log10(value))
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{value / 10**power:.1f}·10{raised}"


def drawn(outside: float) -> str:
    """How x_t became a picture, as the end of a sentence."""
    lost = f" (up to {outside:.0%} of its values beyond black and white)" if outside >= 0.005 else ""
    return f"x_t is drawn as x_t / √(α² + σ²){lost}"
