"""Cats."""

import numpy as np

from fromnoise.menagerie import face
from fromnoise.menagerie.backdrop import BACKDROP
from fromnoise.menagerie.factors import Choice, Distribution, Factors, Uniform, alike, chosen
from fromnoise.menagerie.shapes import Canvas, Colour, Frame, Patch, colours, hues, ink, mixed

CAT: dict[str, Distribution] = {
    **BACKDROP,
    **face.POSE,
    **face.EXPRESSION,
    "coat": Choice(
        ("ginger", "grey", "cream", "brown", "black", "white"),
        (0.25, 0.2, 0.15, 0.15, 0.12, 0.13),
        "colour of the fur",
    ),
    "pattern": Choice(("plain", "tabby", "calico", "tuxedo"), (0.2, 0.4, 0.2, 0.2), "pattern of the fur"),
    "pattern_size": Uniform(0.75, 1.25, "thickness of stripes, size of patches and of the blaze (1 = usual)"),
    "face_width": Uniform(0.96, 1.12, "half width of the face (head units)"),
    "ear_length": Uniform(0.52, 0.74, "half length of an ear (head units)"),
    "ear_width": Uniform(0.3, 0.4, "half width of an ear (head units)"),
    "ear_lean": Uniform(0.25, 0.55, "how far the ears lean outwards (rad)"),
    "eye_gap": Uniform(0.38, 0.48, "distance of an eye from the middle (head units)"),
    "eye_colour": alike(("green", "amber", "blue", "hazel"), "colour of the eyes"),
    "pupil": Uniform(0.35, 1.0, "width of the pupil: a slit or round"),
    "whisker_length": Uniform(0.25, 0.45, "half length of a whisker (head units)"),
    "whisker_droop": Uniform(-0.2, 0.3, "how far the whiskers hang (rad)"),
    "collar": face.COLLAR,
}

_COAT = hues("f2a65a", "9fa6b2", "f6deb5", "a9805f", "4b4650", "fbf7f2")
_DEEP = hues("d9803c", "7c8494", "e2bd88", "83603f", "35313b", "dcd3d6")
_MARK = hues("c8662a", "5f6675", "d2a266", "5e4230", "2a2730", "cbbfc0")
_BELLY = hues("fff0dc", "eceff3", "fffaf0", "f1dfc9", "77707c", "ffffff")
_EYES = hues("8fc25c", "eeb13f", "6fb2e0", "c09a52")
_WHISKER = hues("fffaf2", "ffffff", "c9a77c", "fff4e4", "d8d4dc", "a99fa5")


def draw_cat(canvas: Canvas, f: Factors) -> None:
    """Paints one cat on each image."""
    coat, deep, mark, belly = (colours(palette, f["coat"]) for palette in (_COAT, _DEEP, _MARK, _BELLY))
    head, body = face.head_of(f), face.body_of(f)
    front = face.face_of(f, head)
    _draw_body(canvas, f, body, head, (coat, deep, belly))
    _draw_ears(canvas, f, head, coat, deep)
    skull = _draw_head(canvas, f, head, coat, deep)
    face.draw_shine(canvas, head, skull, coat)
    _draw_pattern(canvas, f, head, skull, mark)
    _draw_muzzle(canvas, f, front, skull, belly)
    face.draw_blush(canvas, f, front, 0.66, 0.3)
    iris = colours(_EYES, f["eye_colour"])
    black = chosen(f, "coat", 4)
    lid = mixed(ink(face.LINE, len(black)), ink("efe6ea", len(black)), black)
    face.draw_eyes(canvas, f, face.sides(front, f["eye_gap"], -0.04), iris, f["pupil"], lid)
    face.draw_mouth(canvas, f, front.at(0.0, 0.38), 0.13)
    face.draw_nose(canvas, front.at(0.0, 0.31), 0.105, 0.07, ink("e58a90", len(black)))
    _draw_whiskers(canvas, f, front)


def _draw_body(canvas: Canvas, f: Factors, body: Frame, head: Frame, fur: tuple[Colour, Colour, Colour]) -> None:
    trunk = face.draw_trunk(canvas, body, 0.68, fur)
    face.draw_neck_shadow(canvas, head, trunk, 0.45)
    face.draw_collar(canvas, f, body, trunk, 0.12)


def _draw_ears(canvas: Canvas, f: Factors, head: Frame, coat: Colour, deep: Colour) -> None:
    length, width = f["ear_length"], f["ear_width"]
    pink = ink("f0a5a6", len(length))
    for ear in face.sides(head, 0.6, -0.58, f["ear_lean"]):
        canvas.lit(ear, canvas.leaf(ear, length, width), coat, deep, length)
        inner = ear.at(0.0, 0.05)
        canvas.lit(inner, canvas.leaf(inner, 0.72 * length, 0.6 * width), pink, mixed(pink, deep, 0.4), length)


def _draw_head(canvas: Canvas, f: Factors, head: Frame, coat: Colour, deep: Colour) -> Patch:
    """A wide oval with a tuft on each cheek."""
    for tuft in face.sides(head, 0.72 * f["face_width"], 0.36, 1.15):
        canvas.lit(head, canvas.leaf(tuft, 0.42, 0.2), coat, deep, 1.0)
    skull = canvas.ellipse(head, f["face_width"], 0.82)
    canvas.lit(head, skull, coat, deep, 1.0)
    return skull


def _draw_pattern(canvas: Canvas, f: Factors, head: Frame, skull: Patch, mark: Colour) -> None:
    _draw_tabby(canvas, f, head, skull, mark)
    _draw_calico(canvas, f, head, skull)
    blaze = chosen(f, "pattern", 3)
    white = ink("fffdf8", len(blaze))
    size = f["pattern_size"]
    patch = canvas.leaf(head.at(f["turn"], -0.22), 0.78, 0.27 * size, blaze).within(skull)
    canvas.fill(patch, white)


def _draw_tabby(canvas: Canvas, f: Factors, head: Frame, skull: Patch, mark: Colour) -> None:
    """Three stripes down the forehead, two on each cheek."""
    there, thick = chosen(f, "pattern", 1), f["pattern_size"]
    turn = f["turn"]
    for u, length in ((-0.22, 0.2), (0.0, 0.28), (0.22, 0.2)):
        stripe = head.at(u + turn * np.float32(0.6), -0.68, -0.5 * u)
        canvas.fill(canvas.leaf(stripe, length, 0.075 * thick, there).within(skull), mark)
    for v in (0.12, 0.36):
        for stripe in face.sides(head, f["face_width"] - np.float32(0.1), v, 1.35):
            canvas.fill(canvas.leaf(stripe, 0.24, 0.06 * thick, there).within(skull), mark)


def _draw_calico(canvas: Canvas, f: Factors, head: Frame, skull: Patch) -> None:
    """White round the mouth, a dark patch on one side and an orange one on the other."""
    there, size = chosen(f, "pattern", 2), f["pattern_size"]
    n = len(size)
    white = canvas.ellipse(head.at(0.0, 0.6), 0.95, 0.62, there).within(skull)
    canvas.fill(white, ink("fffaf2", n))
    canvas.fill(canvas.ellipse(head.at(-0.56, -0.36), 0.5 * size, 0.42 * size, there).within(skull), ink("5a4a48", n))
    canvas.fill(canvas.ellipse(head.at(0.58, -0.3), 0.46 * size, 0.46 * size, there).within(skull), ink("eea055", n))


def _draw_muzzle(canvas: Canvas, f: Factors, front: Frame, skull: Patch, belly: Colour) -> None:
    belly = mixed(belly, ink("ffffff", len(f["pattern"])), chosen(f, "pattern", 2, 3))
    for cheek in face.sides(front, 0.17, 0.46):
        canvas.fill(canvas.ellipse(cheek, 0.25, 0.21).within(skull), belly)


def _draw_whiskers(canvas: Canvas, f: Factors, front: Frame) -> None:
    colour = colours(_WHISKER, f["coat"])
    half = f["whisker_length"]
    for v, spread in ((0.36, -0.14), (0.46, 0.1)):
        angle = np.float32(np.pi / 2 + spread) + f["whisker_droop"]
        for root in face.sides(front, 0.36, v, angle):
            canvas.fill(canvas.capsule(root.at(0.0, -half), half, 0.017), colour)
