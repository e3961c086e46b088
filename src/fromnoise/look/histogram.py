"""A small histogram of pixel values, with the bell that pure noise would follow."""

import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

REACH = 3.0  # values from -REACH to REACH
BINS = 48
_FINER = 4  # drawn so much larger and averaged down, for smooth edges
_BARS, _BELL, _FOOT = (150, 180, 208), (213, 94, 0), (150, 150, 155)


def histogram(values: Float[np.ndarray, "..."], width: int, height: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Density of ``values`` between -3 and 3 as bars, and the standard normal density as a line.

    The vertical scale is the same for every picture: its top is twice the peak of the bell, and taller bars are cut.
    """
    large = Image.new("RGB", (width * _FINER, height * _FINER), "white")
    draw, (w, h) = ImageDraw.Draw(large), large.size
    top = 2.0 / math.sqrt(2.0 * math.pi)
    density, _ = np.histogram(values, BINS, (-REACH, REACH))
    share = density / (values.size * 2.0 * REACH / BINS) / top
    foot = h - _FINER
    for i, value in enumerate(np.minimum(share, 1.0)):
        if value > 0:
            draw.rectangle((i * w / BINS, foot * (1.0 - value), (i + 1) * w / BINS - 1, foot), fill=_BARS)
    x = np.linspace(-REACH, REACH, w)
    bell = foot * (1.0 - np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi) / top)
    draw.line(list(zip(range(w), bell.tolist(), strict=True)), fill=_BELL, width=_FINER + 1)
    draw.rectangle((0, foot, w, h), fill=_FOOT)
    return np.asarray(large.resize((width, height), Image.Resampling.BOX))
