"""What the numbers in the files mean, and the one way into the [-1, 1] of the mathematics and back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, UInt8

from fromnoise.errors import NonFinite, UseError


@dataclass(frozen=True, kw_only=True)
class ValueSpec:
    """The numbers of a set: ``low`` becomes -1, ``high`` becomes 1; the last of 4 channels is alpha if ``alpha``.

    Transparent images are trained premultiplied (Porter and Duff 1984): the colour behind a transparent pixel
    means nothing, so it must not cost the net anything. Opacity 0 is then all -1, like black.
    """

    kind: Literal["uint"] = "uint"
    bits: int = 8
    low: float = 0.0
    high: float = 255.0
    channels: int
    alpha: bool

    def encode(self, values: UInt8[np.ndarray, "*batch h w c"]) -> Float32[np.ndarray, "*batch h w c"]:
        """Values as in the file, 0..255 with straight alpha -> [-1, 1], colours premultiplied by alpha."""
        half = np.float32((self.high - self.low) / 2)
        if not self.alpha:
            scaled = np.divide(values, half, dtype=np.float32)
            scaled -= np.float32(1)
            return scaled
        unit = np.divide(values, np.float32(self.high), dtype=np.float32)
        unit[..., :-1] *= unit[..., -1:]
        return unit * np.float32(2) - np.float32(1)

    def decode(self, x0: Float[np.ndarray, "*batch h w c"]) -> tuple[UInt8[np.ndarray, "*batch h w c"], int]:
        """[-1, 1] -> (values as in a file, how many of them had to be clipped to 0..255).

        Rounds to nearest. ``decode(encode(v)) == v`` wherever alpha is 1 or more of 255; where it is 0 the
        colour is 0. An error of e in x0 moves a value by at most 127.5 e + 1/2, and a colour under opacity a
        (0..1) by at most 255 e / (a - e/2) + 1/2: colours that hardly show are not held precisely.
        Raises ``NonFinite`` for NaN or infinity.
        """
        lost = int(x0.size - np.count_nonzero(np.isfinite(x0)))
        if lost:
            raise NonFinite(
                f"{lost:,} of the {x0.size:,} values of an image are not finite numbers, "
                "so it has no picture: look at the noise level and the net they came from."
            )
        unit = (x0 + 1) / 2
        return _rounded(_straight(unit) if self.alpha else unit, self.high)

    def to_json(self) -> dict[str, object]:
        """A plain dict for a run or a pack."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, object]) -> "ValueSpec":
        """The inverse of ``to_json``. Raises ``UseError`` for a kind of values this version does not know."""
        match record:
            case {"kind": "uint", "bits": 8, "channels": int(channels), "alpha": bool(alpha)}:
                return cls(channels=channels, alpha=alpha)
        raise UseError(
            f"Looked for images of 8 bits, found the values {dict(record)}: they were written by a newer "
            "fromnoise, update it."
        )


def _straight(unit: Float[np.ndarray, "*batch h w c"]) -> Float[np.ndarray, "*batch h w c"]:
    """Colours divided by alpha, and 0 where alpha rounds to 0 of 255."""
    alpha = unit[..., -1:]
    seen = alpha >= 0.5 / 255
    colours = np.divide(unit[..., :-1], alpha, out=np.zeros_like(unit[..., :-1]), where=seen)
    return np.concatenate([colours, alpha], axis=-1)


def _rounded(unit: Float[np.ndarray, "*batch h w c"], high: float) -> tuple[UInt8[np.ndarray, "*batch h w c"], int]:
    steps = np.rint(unit * high)
    clipped = np.count_nonzero((steps < 0) | (steps > high))
    return np.clip(steps, 0, high).astype(np.uint8), int(clipped)
