"""Factors: what is drawn by lot for each picture, and how.

A draw is a pure function of (seed, image number, factor name): a 64-bit mix (Steele, Lea and Flood 2014, SplitMix)
of a key made from seed and name, plus the image number times the golden ratio. No draw has a state, so a picture
does not depend on the others drawn with it, and a new factor leaves the old ones as they were.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, Num, UInt64

GOLDEN = 0x9E3779B97F4A7C15

Factors = dict[str, Num[np.ndarray, "n"]]


@dataclass(frozen=True)
class Uniform:
    """Every number from low to high equally likely."""

    low: float
    high: float
    about: str = ""

    def draw(self, uniform: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        return self.low + (self.high - self.low) * uniform

    def value(self, drawn: float) -> float:
        return drawn


@dataclass(frozen=True)
class Choice:
    """One of a few values, each with its probability (they sum to 1). Drawn as its position."""

    values: tuple[str | int, ...]
    probabilities: tuple[float, ...]
    about: str = ""

    def draw(self, uniform: Float[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        return np.searchsorted(np.cumsum(self.probabilities[:-1]), uniform, side="right")

    def value(self, drawn: int) -> str | int:
        return self.values[drawn]


Distribution = Uniform | Choice


def alike(values: tuple[str | int, ...], about: str) -> Choice:
    """A choice whose values are equally likely."""
    return Choice(values, (1 / len(values),) * len(values), about)


def draw(distributions: Mapping[str, Distribution], seed: int, indices: Int[np.ndarray, "n"], room: str) -> Factors:
    """Draws every factor of the images with these numbers; ``room`` keeps equal names of two kinds apart."""
    return {name: d.draw(lots(seed, f"{room}.{name}", indices)) for name, d in distributions.items()}


def chosen(factors: Factors, name: str, *codes: int) -> Float32[np.ndarray, "n"]:
    """1 in the images whose choice is one of the codes, else 0."""
    return np.isin(factors[name], codes).astype(np.float32)


def lots(seed: int, name: str, indices: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """One number in [0, 1) for each image, of 53 random bits."""
    label = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    key = _mix(_mix(np.array([seed], np.uint64)) ^ np.uint64(label))
    bits = _mix(key + indices.astype(np.uint64) * np.uint64(GOLDEN))
    return (bits >> np.uint64(11)) * 2.0**-53


def _mix(bits: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """SplitMix64's finaliser: a bijection of 64 bits in which every input bit moves every output bit."""
    bits = bits + np.uint64(GOLDEN)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
