"""What the three animals share: how they hold themselves, eyes, mouth, blush, collar."""

import numpy as np

from fromnoise.menagerie.factors import Choice, Distribution, Factors, Uniform, chosen
from fromnoise.menagerie.shapes import Amount, Canvas, Colour, Column, Frame, Patch, colours, hues, ink, mixed

# One head unit is about half the width of the face; the head frame's origin is the middle of the face.
POSE: dict[str, Distribution] = {
    "x": Uniform(-0.12, 0.12, "middle of the face, to the right (half image sides)"),
    "y": Uniform(-0.06, 0.08, "middle of the face, downwards (half image sides)"),
    "size": Uniform(0.57, 0.7, "half the width of the face (half image sides)"),
    "tilt": Uniform(-0.22, 0.22, "head leaning clockwise (rad)"),
    "turn": Uniform(-0.13, 0.13, "face looking to the right (head units)"),
    "nod": Uniform(-0.06, 0.08, "face looking down (head units)"),
}

EXPRESSION: dict[str, Distribution] = {
    "eyes": Choice(("open", "happy", "asleep", "wink"), (0.61, 0.15, 0.12, 0.12), "what the eyes do"),
    "mouth": Choice(("shut", "smile", "open"), (0.4, 0.3, 0.3), "what the mouth does"),
    "eye_size": Uniform(0.15, 0.2, "radius of an open eye (head units)"),
    "blush": Uniform(0.0, 0.75, "strength of the pink on the cheeks"),
}

COLLARS = ("none", "red", "blue", "green", "yellow")
COLLAR: Distribution = Choice(COLLARS, (0.4, 0.15, 0.15, 0.15, 0.15), "colour of the collar, if it wears one")

LINE = "4a3638"
_BAND = hues("000000", "d9544d", "4f83c2", "5aa876", "efb73e")


def head_of(factors: Factors) -> Frame:
    """The head's frame."""
    return Frame.upright(factors["x"], factors["y"], factors["size"]).turned(factors["tilt"])


def body_of(factors: Factors) -> Frame:
    """Upright, at the middle of the shoulders, a little less moved to the side than the head is."""
    return Frame.upright(factors["x"] * np.float32(0.7), factors["y"], factors["size"]).at(0.0, 1.55)


def draw_trunk(canvas: Canvas, body: Frame, width: float, fur: tuple[Colour, Colour, Colour]) -> Patch:
    """Shoulders and a chest of colours (lit, shaded, chest) that reach below the edge of even a tall picture."""
    coat, deep, chest = fur
    trunk = canvas.capsule(body.at(0.0, 5.28 + width), 6.0, width + 0.08)
    canvas.lit(body, trunk, coat, deep, 0.8)
    canvas.fill(canvas.capsule(body.at(0.0, 5.55 + 0.5 * width), 6.0, 0.5 * width).within(trunk), chest)
    return trunk


def face_of(factors: Factors, head: Frame) -> Frame:
    """The front of the head: what lies on it moves as the head turns and nods."""
    return head.at(factors["turn"], factors["nod"])


def sides(frame: Frame, u: Amount, v: Amount, angle: Amount = 0.0) -> tuple[Frame, Frame]:
    """The same place on the left and on the right, mirrored."""
    return frame.at(-u, v, -angle), frame.at(u, v, angle)


def draw_eyes(
    canvas: Canvas, factors: Factors, eyes: tuple[Frame, Frame], iris: Colour, pupil: Amount, lid: Colour
) -> None:
    """Round eyes of colour ``iris`` with a pupil ``pupil`` wide (1 = all of it), or arcs of colour ``lid``."""
    size = factors["eye_size"]
    shut = chosen(factors, "eyes", 1, 2), chosen(factors, "eyes", 1, 2, 3)
    asleep = chosen(factors, "eyes", 2)
    for eye, closed in zip(eyes, shut, strict=True):
        _open_eye(canvas, eye, size, iris, pupil, 1 - closed)
        arc = eye.turned(asleep * np.float32(np.pi)).at(0.0, 0.45 * size)
        canvas.fill(canvas.arc(arc, 1.05 * size, 1.15, 0.034, closed), lid)


def _open_eye(canvas: Canvas, eye: Frame, size: Column, iris: Colour, pupil: Amount, there: Column) -> None:
    n = len(size)
    ball = canvas.ellipse(eye, size, 1.1 * size, there)
    canvas.lit(eye, ball, mixed(iris, ink("000000", n), 0.25), mixed(iris, ink("ffffff", n), 0.25), size)
    canvas.fill(canvas.ellipse(eye, 0.78 * size * pupil, 0.9 * size, there), ink("221a20", n))
    canvas.fill(canvas.ellipse(eye.at(-0.3 * size, -0.36 * size), 0.33 * size, 0.35 * size, there), ink("ffffff", n))
    canvas.fill(canvas.ellipse(eye.at(0.36 * size, 0.42 * size), 0.16 * size, 0.16 * size, there), ink("ffffff", n))


def draw_mouth(canvas: Canvas, factors: Factors, mouth: Frame, width: Amount) -> None:
    """Below a nose that ends at the frame's origin: two small arcs (shut, open) or one wide one (smile)."""
    n = len(factors["mouth"])
    smile, gape = chosen(factors, "mouth", 1), chosen(factors, "mouth", 2)
    line = ink(LINE, n)
    gap = mouth.at(0.0, 0.05 + 0.9 * width)
    inside = canvas.ellipse(gap, 0.98 * width, 0.9 * width, gape)
    canvas.fill(inside, ink("8c3b47", n))
    canvas.fill(canvas.ellipse(gap.at(0.0, 0.75 * width), 0.75 * width, 0.6 * width).within(inside), ink("ee8f95", n))
    canvas.fill(canvas.capsule(mouth.at(0.0, 0.03), 0.05, 0.026), line)
    for side in (-1.0, 1.0):
        arc = mouth.at(side * width, 0.07 - 0.1 * width, np.pi)
        canvas.fill(canvas.arc(arc, width, 1.25, 0.026, 1 - smile), line)
    bend = 1.1 * width + 0.08
    wide = mouth.at(0.0, 0.06 - 0.5 * bend, np.pi)
    canvas.fill(canvas.arc(wide, bend, 1.05, 0.028, smile), line)


def draw_blush(canvas: Canvas, factors: Factors, face: Frame, u: Amount, v: float) -> None:
    """Two soft red spots at (u, v) of the face and mirrored, as strong as the factor ``blush``."""
    for cheek in sides(face, u, v):
        canvas.fill(canvas.glow(cheek, 0.24, 0.17, factors["blush"]), ink("f2707f", len(factors["blush"])))


def draw_collar(canvas: Canvas, factors: Factors, body: Frame, trunk: Patch, charm: float) -> None:
    """A band round the neck with a round charm of that radius."""
    there = 1 - chosen(factors, "collar", 0)
    band = colours(_BAND, factors["collar"])
    n = len(there)
    neck = body.at(0.0, -1.2, np.pi)
    strip = canvas.arc(neck, 0.75, 0.95, 0.085, there).within(trunk)
    canvas.lit(body.at(0.0, -0.5), strip, mixed(band, ink("ffffff", n), 0.2), mixed(band, ink("000000", n), 0.15), 0.2)
    hang = body.at(0.0, -0.36)
    gold = canvas.ellipse(hang, charm, charm, there)
    canvas.lit(hang, gold, ink("ffe9a3", n), ink("d99c2b", n), charm)
    canvas.fill(canvas.ellipse(hang.at(0.0, 0.3 * charm), 0.22 * charm, 0.28 * charm, there), ink("8a5a1c", n))


def draw_nose(canvas: Canvas, nose: Frame, width: Amount, height: Amount, colour: Colour) -> Patch:
    """A soft triangle, point down, with a light on it."""
    white = ink("ffffff", colour.shape[1])
    patch = canvas.ellipse(nose, width, height)
    canvas.fill(canvas.ellipse(nose.at(0.0, 0.55 * height), 0.55 * width, 0.7 * height), colour)
    canvas.lit(nose, patch, mixed(colour, white, 0.14), colour, height)
    canvas.fill(canvas.ellipse(nose.at(-0.3 * width, -0.4 * height), 0.3 * width, 0.22 * height, 0.65), white)
    return patch


def draw_neck_shadow(canvas: Canvas, head: Frame, body: Patch, strength: float) -> None:
    """The head's soft shadow on the shoulders."""
    shadow = canvas.glow(head.at(0.0, 0.45), 1.25, 0.95, strength).within(body)
    canvas.fill(shadow, ink("2c2033", shadow.cover.shape[2]))


def draw_shine(canvas: Canvas, head: Frame, skull: Patch, coat: Colour) -> None:
    """Soft light on the forehead, from above and the left."""
    shine = canvas.glow(head.at(-0.28, -0.4, -0.4), 0.7, 0.5, 0.9).within(skull)
    canvas.fill(shine, mixed(coat, ink("ffffff", coat.shape[1]), 0.17))
