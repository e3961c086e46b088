"""Flowers."""

from dataclasses import dataclass

import numpy as np

from fromnoise.menagerie.backdrop import BACKDROP
from fromnoise.menagerie.factors import Choice, Distribution, Factors, Uniform, alike, chosen
from fromnoise.menagerie.shapes import Canvas, Column, Frame, Patch, Plane, colours, cos_sin, hues, ink, mixed

_COUNTS = (5, 6, 8, 10, 12)

FLOWER: dict[str, Distribution] = {
    **BACKDROP,
    "x": Uniform(-0.15, 0.15, "middle of the flower, to the right (half image sides)"),
    "y": Uniform(-0.3, -0.1, "middle of the flower, downwards (half image sides)"),
    "size": Uniform(0.5, 0.64, "from the middle to the tip of a petal (half image sides)"),
    "spin": Uniform(-0.5, 0.5, "turn of the petals (petals)"),
    "squash": Uniform(0.82, 1.0, "height of the flower beside its width: looking up or straight at us"),
    "petals": alike(_COUNTS, "number of petals in a ring"),
    "petal_shape": alike(("round", "pointed", "notched"), "shape of a petal"),
    "petal_width": Uniform(0.85, 1.15, "width of a petal beside the room it has"),
    "rings": Choice((1, 2), (0.5, 0.5), "number of rings of petals"),
    "petal_colour": alike(
        ("red", "pink", "violet", "blue", "white", "yellow", "orange", "coral"), "colour of the petals"
    ),
    "petal_heart": Uniform(0.0, 1.0, "strength of the second colour near the middle"),
    "disc_size": Uniform(0.22, 0.34, "radius of the disc (flower units)"),
    "disc_colour": alike(("yellow", "brown", "green"), "colour of the disc"),
    "disc_seeds": Choice(("none", "dots"), (0.4, 0.6), "dots on the disc"),
    "stem_lean": Uniform(-0.18, 0.18, "lean of the stem (rad)"),
    "leaves": alike(("left", "right", "both"), "where the stem has a leaf"),
    "leaf_size": Uniform(0.24, 0.36, "half length of a leaf (half image sides)"),
    "green": alike(("grass", "olive", "sea"), "colour of stem and leaves"),
    "visitor": Choice(("none", "ladybird", "bee"), (0.5, 0.25, 0.25), "who sits on the flower or flies by it"),
}

_PETAL = hues("e8616b", "f59bb8", "a98adf", "7ba4ea", "fffdf8", "fbd14b", "f89f4f", "fb8f83")
_DEEP = hues("c23d55", "e06a95", "8061c4", "5680d0", "dcd6ea", "eeaa2a", "e4762f", "e5656a")
_HEART = hues("8f2444", "fff0f4", "fff2b8", "fff7df", "f6d98b", "e0762a", "c9472f", "ffe3b8")
_DISC = hues("ffd75e", "8a5a3a", "b8cf63")
_RIM = hues("e8a233", "5f3a28", "86a63f")
_GREEN = hues("7fbf5a", "a0b456", "62b08a")
_SHADE = hues("4f9142", "72883a", "3d8468")

_START = 0.1  # where petals begin, in flower units
_PETALS = np.array(_COUNTS, np.float32)
_ROOM = np.divide(*cos_sin(np.float32(np.pi) / _PETALS)[::-1])  # half width of a wedge, one unit out
_SEEDS = ((0.0, 0.0), (0.45, 0.0), (-0.45, 0.0), (0.23, 0.4), (-0.23, 0.4), (0.23, -0.4), (-0.23, -0.4))


def draw_flower(canvas: Canvas, f: Factors) -> None:
    """Paints one flower on each image."""
    flower = Frame.upright(f["x"], f["y"], f["size"])
    _draw_stem(canvas, f)
    canvas.fill(canvas.glow(flower.at(0.0, 0.14), 1.15, 1.1 * f["squash"], 0.35), ink("3a3050", len(f["x"])))
    _draw_petals(canvas, f, flower)
    _draw_disc(canvas, f, flower)
    _draw_ladybird(canvas, f, flower)
    _draw_bee(canvas, f, flower)


def _draw_stem(canvas: Canvas, f: Factors) -> None:
    """The stem from the flower out of the picture, with its leaves."""
    light, dark = colours(_GREEN, f["green"]), colours(_SHADE, f["green"])
    stem = Frame.upright(f["x"], f["y"], np.ones_like(f["x"])).turned(f["stem_lean"])
    canvas.lit(stem, canvas.capsule(stem.at(0.0, 4.0), 4.0, 0.055), dark, light, 1.2)
    half = f["leaf_size"]
    for side, absent, v in ((-1.0, 1, 0.9), (1.0, 0, 1.02)):
        there = 1 - chosen(f, "leaves", absent)
        leaf = stem.at(0.0, v, side * 0.95).at(0.0, -half)
        canvas.lit(leaf, canvas.leaf(leaf, half, 0.42 * half, there), light, dark, half)
        canvas.fill(canvas.capsule(leaf.at(0.0, 0.15 * half), 0.75 * half, 0.012, 0.6 * there), dark)


def _draw_petals(canvas: Canvas, f: Factors, flower: Frame) -> None:
    light, deep, heart = (colours(palette, f["petal_colour"]) for palette in (_PETAL, _DEEP, _HEART))
    polar = Polar.around(canvas, f, flower)
    second = chosen(f, "rings", 1)
    outer, depth = polar.ring(canvas, f, np.ones_like(second), np.float32(0.5))
    canvas.shade(outer.times(second), mixed(light, deep, 0.45), deep, depth)
    inner, depth = polar.ring(canvas, f, 1 - 0.22 * second, np.float32(0))
    canvas.shade(inner, light, deep, depth)
    glow = canvas.glow(flower, 0.85, 0.85 * f["squash"], f["petal_heart"])
    canvas.fill(glow.within(inner), heart)


@dataclass(frozen=True)
class Polar:
    """Distance from the middle (flower units) and angle (counted in petals) of each pixel of a window."""

    frame: Frame
    window: tuple[slice, slice]
    radius: Plane
    petals: Plane

    @staticmethod
    def around(canvas: Canvas, f: Factors, flower: Frame) -> "Polar":
        window = canvas.window(flower, 1.1, 1.1 * f["squash"])
        across, down = canvas.local(flower, window, 1.0, f["squash"])
        petals = turns(across, down)
        petals *= _PETALS[f["petals"]]
        petals += f["spin"]
        across *= across
        down *= down
        across += down
        return Polar(flower, window, np.sqrt(across, out=across), petals)

    def ring(self, canvas: Canvas, f: Factors, length: Column, offset: np.float32) -> tuple[Patch, Plane]:
        """A ring of petals of that length, and its depth: darker inside and where petals meet.

        One petal is drawn: the angle is folded into the room that one has.
        """
        count = _PETALS[f["petals"]]
        along, beside = self._fold(count, offset)
        half, middle = 0.5 * (length - _START), 0.5 * (length + _START)
        notch = np.float32(0.4) * chosen(f, "petal_shape", 2)
        width = f["petal_width"] * middle * _ROOM[f["petals"]]
        along -= middle
        along /= half
        beside /= width
        depth = beside * beside
        depth *= np.float32(0.7)
        depth -= np.float32(0.3) * along
        tip = np.maximum(along, 0)
        tip *= chosen(f, "petal_shape", 1) * np.float32(1.6)
        tip += 1 / (1 - notch)
        beside -= notch
        beside *= tip
        cover = canvas.oval(self.frame, along, beside, half, width * (1 - notch), 1.0)
        return Patch(*self.window, cover), np.clip(depth, 0, 1, out=depth)

    def _fold(self, count: Column, offset: np.float32) -> tuple[Plane, Plane]:
        """Coordinates along and (absolute) beside the axis of the nearest petal."""
        angle = self.petals + offset
        angle -= np.rint(angle)
        np.abs(angle, out=angle)
        angle *= np.float32(2 * np.pi) / count
        square = angle * angle
        cos = square * np.float32(1 / 24)
        cos -= np.float32(0.5)
        cos *= square
        cos += np.float32(1)
        square *= np.float32(-1 / 6) + square * np.float32(1 / 120)
        square += np.float32(1)
        square *= angle
        square *= self.radius
        cos *= self.radius
        return cos, square


def turns(across: Plane, down: Plane) -> Plane:
    """The angle of each point in full turns, -1/2 to 1/2 (Abramowitz and Stegun 1964, 4.4.49: error under 2e-5)."""
    a, b = np.abs(across), np.abs(down)
    t = np.minimum(a, b)
    t /= np.maximum(a, b) + np.float32(1e-9)
    square = t * t
    angle = square * np.float32(0.0208351)
    for term in (-0.0851330, 0.1801410, -0.3302995):
        angle += np.float32(term)
        angle *= square
    angle += np.float32(0.9998660)
    angle *= t
    angle *= np.float32(0.5 / np.pi)
    np.subtract(np.float32(0.25), angle, out=angle, where=b > a)
    np.subtract(np.float32(0.5), angle, out=angle, where=across < 0)
    return np.copysign(angle, down, out=angle)


def _draw_disc(canvas: Canvas, f: Factors, flower: Frame) -> None:
    size, squash = f["disc_size"], f["squash"]
    colour, rim = colours(_DISC, f["disc_colour"]), colours(_RIM, f["disc_colour"])
    n = len(size)
    canvas.fill(canvas.glow(flower.at(0.0, 0.05), 1.6 * size, 1.6 * size * squash, 0.45), ink("3a2030", n))
    canvas.lit(flower, canvas.ellipse(flower, size, size * squash), mixed(colour, rim, 0.5), rim, size)
    middle = flower.at(0.0, -0.05 * size)
    canvas.lit(middle, canvas.ellipse(middle, 0.84 * size, 0.84 * size * squash), colour, mixed(colour, rim, 0.5), size)
    seeds = chosen(f, "disc_seeds", 1)
    dot = mixed(rim, ink("3a2420", n), 0.35)
    for u, v in _SEEDS:
        spot = flower.at(u * size, (v - 0.05) * size * squash)
        canvas.fill(canvas.ellipse(spot, 0.085 * size, 0.085 * size, 0.85 * seeds), dot)


def _draw_ladybird(canvas: Canvas, f: Factors, flower: Frame) -> None:
    """On a petal, to the right."""
    there = chosen(f, "visitor", 1)
    n = len(there)
    dark = ink("33272c", n)
    bug = flower.at(0.5, -0.3 * f["squash"], 0.7, 0.2)
    canvas.fill(canvas.glow(bug.at(0.0, 0.3), 1.2, 1.3, 0.5 * there), ink("3a2030", n))
    canvas.fill(canvas.ellipse(bug.at(0.0, -0.8), 0.5, 0.42, there), dark)
    canvas.lit(bug, canvas.ellipse(bug, 0.85, 0.95, there), ink("f0604f", n), ink("c4302f", n))
    canvas.fill(canvas.capsule(bug.at(0.0, 0.05), 0.8, 0.05, there), dark)
    for u, v in ((-0.42, -0.25), (0.42, -0.25), (-0.38, 0.4), (0.38, 0.4)):
        canvas.fill(canvas.ellipse(bug.at(u, v), 0.18, 0.18, there), dark)


def _draw_bee(canvas: Canvas, f: Factors, flower: Frame) -> None:
    """In the air, above and to the left."""
    there = chosen(f, "visitor", 2)
    n = len(there)
    dark, white = ink("4a3428", n), ink("ffffff", n)
    bee = Frame.upright(flower.x * np.float32(0.5) - 0.66, flower.y * 0 - 0.72, flower.size).turned(0.25)
    body = canvas.ellipse(bee, 0.27, 0.2, there)
    for u, angle in ((-0.08, -0.5), (0.06, 0.25)):
        canvas.fill(canvas.ellipse(bee.at(u, -0.2, angle), 0.1, 0.17, 0.85 * there), white)
    canvas.lit(bee, body, ink("ffdf6b", n), ink("efae34", n), 0.2)
    for u in (-0.12, 0.02):
        canvas.fill(canvas.capsule(bee.at(u), 0.2, 0.035).within(body), dark)
    canvas.fill(canvas.ellipse(bee.at(0.18, -0.05), 0.035, 0.04, there), dark)
    canvas.fill(canvas.ellipse(bee.at(0.185, 0.05), 0.04, 0.025, 0.7 * there), ink("f08a7a", n))
