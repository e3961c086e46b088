"""What stands behind: six backgrounds in eight palettes."""

import numpy as np

from fromnoise.menagerie.factors import Choice, Distribution, Factors, Uniform, alike
from fromnoise.menagerie.shapes import Canvas, Colour, Column, Frame, Patch, Plane, colours, hues, ink, mixed

BACKDROPS = ("plain", "gradient", "stripes", "dots", "hills", "sun")

BACKDROP: dict[str, Distribution] = {
    "backdrop": Choice(BACKDROPS, (0.2, 0.2, 0.12, 0.16, 0.16, 0.16), "what stands behind"),
    "backdrop_colour": alike(("mint", "sky", "peach", "lilac", "butter", "rose", "sea", "sand"), "its palette"),
    "backdrop_tone": Uniform(0.0, 1.0, "from its deep colour (0) to its light one (1)"),
    "backdrop_scale": Uniform(0.3, 0.5, "period of stripes and dots, height of hills, radius of the sun"),
    "backdrop_shift": Uniform(-1.0, 1.0, "where the pattern, hill or sun stands; lean of gradients"),
}

DEEP = hues("8fcfb4", "8fbfe6", "f5b795", "b9a4e0", "f0cf74", "eda3b4", "74bfc9", "d2b48f")
LIGHT = hues("cdeedd", "cfe7f9", "fde0cb", "e2d8f5", "fbecb9", "fbd7de", "c2e8ea", "f0e0c8")
GROUND = hues("7cbf8e", "8ecb95", "a5c98a", "93c4a4", "a3c77a", "9ccb9b", "6fb79a", "b3bd7d")
SUN = "fff3c4"


def draw_backdrop(canvas: Canvas, factors: Factors) -> None:
    """Images with the same backdrop must stand together: each run of them is painted as one."""
    for code, painter in enumerate(_PAINTERS):
        where = np.flatnonzero(factors["backdrop"] == code)
        if len(where):
            run = slice(int(where[0]), int(where[-1]) + 1)
            painter(canvas.part(run), {name: values[run] for name, values in factors.items()})


def _pair(factors: Factors) -> tuple[Colour, Colour]:
    """The colour of the ground and the one of the pattern on it."""
    deep, light = colours(DEEP, factors["backdrop_colour"]), colours(LIGHT, factors["backdrop_colour"])
    tone = factors["backdrop_tone"]
    return mixed(deep, light, tone), mixed(light, deep, 0.15 + 0.5 * tone)


def _plain(canvas: Canvas, factors: Factors) -> None:
    ground, _ = _pair(factors)
    canvas.planes[...] = ground[:, None, None]
    shift = 0.3 * factors["backdrop_shift"]
    canvas.fill(canvas.glow(Frame.upright(shift, shift * 0, shift * 0 + 1), 1.2, 1.1, 0.35), ink("ffffff", len(shift)))


def _gradient(canvas: Canvas, factors: Factors) -> None:
    deep, light = colours(DEEP, factors["backdrop_colour"]), colours(LIGHT, factors["backdrop_colour"])
    light = mixed(light, deep, 0.4 - 0.4 * factors["backdrop_tone"])
    lean = factors["backdrop_shift"] * np.float32(0.35)
    depth = canvas.ys[:, None, None] * np.float32(0.45) + (canvas.xs[:, None] * lean + np.float32(0.5))
    canvas.planes[...] = depth * (deep - light)[:, None, None]
    canvas.planes[...] += light[:, None, None]


def _stripes(canvas: Canvas, factors: Factors) -> None:
    ground, pattern = _pair(factors)
    period = factors["backdrop_scale"]
    diagonal = canvas.xs[:, None] * np.float32(0.6) + factors["backdrop_shift"]
    phase = (canvas.ys[:, None] * np.float32(0.8) / period)[:, None] + diagonal / period
    phase -= np.rint(phase)
    distance = np.abs(phase, out=phase)
    distance -= np.float32(0.25)
    _pattern(canvas, ground, pattern, distance, period)


def _dots(canvas: Canvas, factors: Factors) -> None:
    ground, pattern = _pair(factors)
    period = factors["backdrop_scale"]
    across = (canvas.xs[:, None] + factors["backdrop_shift"]) / period
    down = canvas.ys[:, None] / period
    across -= np.rint(across)
    down -= np.rint(down)
    distance = np.sqrt((across * across)[None] + (down * down)[:, None])
    distance -= np.float32(0.27)
    _pattern(canvas, ground, pattern, distance, period)


def _pattern(canvas: Canvas, ground: Colour, pattern: Colour, distance: Plane, period: Column) -> None:
    """The pattern's colour where distance (in periods) is negative."""
    distance *= -period / np.float32(canvas.pixel)
    distance += np.float32(0.5)
    canvas.planes[...] = ground[:, None, None]
    whole = slice(0, len(canvas.ys)), slice(0, len(canvas.xs))
    canvas.fill(Patch(*whole, np.clip(distance, 0, 1, out=distance)), mixed(ground, pattern, 0.7))


def _sky(canvas: Canvas, factors: Factors) -> None:
    deep, light = colours(DEEP, factors["backdrop_colour"]), colours(LIGHT, factors["backdrop_colour"])
    deep = mixed(deep, light, 0.6 * factors["backdrop_tone"])
    depth = np.clip(canvas.ys * np.float32(0.6) + np.float32(0.6), 0, 1)[:, None, None]
    canvas.planes[...] = depth * (light - deep)[:, None, None] + deep[:, None, None]


def _hills(canvas: Canvas, factors: Factors) -> None:
    _sky(canvas, factors)
    shift, height = factors["backdrop_shift"], factors["backdrop_scale"]
    near = colours(GROUND, factors["backdrop_colour"])
    far = mixed(near, colours(LIGHT, factors["backdrop_colour"]), 0.45)
    one = np.ones_like(shift)
    back = Frame.upright(shift * np.float32(0.8) + np.float32(0.7), one * np.float32(1.5), one)
    front = Frame.upright(shift * np.float32(0.8) - np.float32(0.7), one * np.float32(1.9), one)
    canvas.lit(back, canvas.ellipse(back, 1.5, 0.9 + height), mixed(far, ink("ffffff", len(one)), 0.2), far)
    canvas.lit(front, canvas.ellipse(front, 1.9, 0.95 + height), mixed(near, ink("ffffff", len(one)), 0.2), near)


def _sun(canvas: Canvas, factors: Factors) -> None:
    _sky(canvas, factors)
    shift, radius = factors["backdrop_shift"], factors["backdrop_scale"]
    n, one = len(shift), np.ones_like(shift)
    sun = Frame.upright(shift * np.float32(0.75), one * np.float32(-0.6), radius)
    canvas.fill(canvas.glow(sun, 2.2, 2.2, 0.7), ink(SUN, n))
    canvas.fill(canvas.ellipse(sun, 0.62, 0.62), ink("fff8dc", n))
    cloud = Frame.upright(shift * np.float32(-0.7), one * np.float32(-0.45), one * np.float32(0.3))
    for u, v, size in ((-0.55, 0.1, 0.42), (0.0, -0.08, 0.6), (0.55, 0.12, 0.4)):
        canvas.fill(canvas.ellipse(cloud.at(u, v), size, size * 0.8, 0.75), ink("ffffff", n))


_PAINTERS = (_plain, _gradient, _stripes, _dots, _hills, _sun)
