"""Dogs."""

import numpy as np

from fromnoise.menagerie import face
from fromnoise.menagerie.backdrop import BACKDROP
from fromnoise.menagerie.factors import Choice, Distribution, Factors, Uniform, alike, chosen
from fromnoise.menagerie.shapes import Canvas, Colour, Frame, Patch, colours, hues, ink, mixed

DOG: dict[str, Distribution] = {
    **BACKDROP,
    **face.POSE,
    **face.EXPRESSION,
    "coat": Choice(
        ("golden", "chocolate", "white", "black", "red", "grey"),
        (0.25, 0.2, 0.18, 0.12, 0.15, 0.1),
        "colour of the fur",
    ),
    "ear_coat": alike(("same", "darker", "brown"), "colour of the ears beside the coat's"),
    "marking": Choice(
        ("none", "blaze", "left patch", "right patch", "brows"),
        (0.25, 0.25, 0.15, 0.15, 0.2),
        "a white stripe, a dark patch round one eye, or tan dots above the eyes",
    ),
    "face_width": Uniform(0.82, 0.96, "half width of the face (head units)"),
    "ear_length": Uniform(0.5, 0.72, "half length of an ear (head units)"),
    "ear_width": Uniform(0.24, 0.33, "half width of an ear (head units)"),
    "ear_lift": Uniform(0.0, 0.6, "how far the ears stand off (rad)"),
    "muzzle_width": Uniform(0.42, 0.56, "half width of the muzzle (head units)"),
    "muzzle_height": Uniform(0.32, 0.4, "half height of the muzzle (head units)"),
    "nose_size": Uniform(0.17, 0.24, "half width of the nose (head units)"),
    "eye_gap": Uniform(0.33, 0.42, "distance of an eye from the middle (head units)"),
    "tongue": Choice(("in", "out"), (0.5, 0.5), "tongue"),
    "tongue_length": Uniform(0.08, 0.18, "half length of a tongue that is out (head units)"),
    "collar": face.COLLAR,
}

_COAT = hues("ecbd76", "93694b", "fbf5ec", "4d4850", "cf8350", "a7abb5")
_DEEP = hues("d39a50", "73503a", "ddd0c6", "37333c", "ad6336", "868b98")
_MUZZLE = hues("fbe5bf", "c79f7c", "ffffff", "d8a06c", "f7d9bb", "e6e8ec")
_BROWS = hues("fff1d4", "e0a878", "d3a372", "d8a06c", "fbe3c8", "eef0f4")
_BROWN = hues("a5713f", "5d4030", "b98a5c", "2c2930", "8a4c2a", "666a78")


def draw_dog(canvas: Canvas, f: Factors) -> None:
    """Paints one dog on each image."""
    coat, deep, light = (colours(palette, f["coat"]) for palette in (_COAT, _DEEP, _MUZZLE))
    head, body = face.head_of(f), face.body_of(f)
    front = face.face_of(f, head)
    _draw_body(canvas, f, body, head, (coat, deep, light))
    skull = _draw_head(canvas, f, head, coat, deep)
    face.draw_shine(canvas, head, skull, coat)
    _draw_marking(canvas, f, front, skull)
    _draw_ears(canvas, f, head, coat, deep)
    face.draw_blush(canvas, f, front, 0.6, 0.24)
    black = chosen(f, "coat", 3)
    lid = mixed(ink(face.LINE, len(black)), ink("efe6ea", len(black)), black)
    iris = ink("6b4630", len(black))
    face.draw_eyes(canvas, f, face.sides(front, f["eye_gap"], -0.16), iris, 1.0, lid)
    _draw_muzzle(canvas, f, front, light, deep)


def _draw_body(canvas: Canvas, f: Factors, body: Frame, head: Frame, fur: tuple[Colour, Colour, Colour]) -> None:
    trunk = face.draw_trunk(canvas, body, 0.76, fur)
    face.draw_neck_shadow(canvas, head, trunk, 0.45)
    face.draw_collar(canvas, f, body, trunk, 0.13)


def _draw_head(canvas: Canvas, f: Factors, head: Frame, coat: Colour, deep: Colour) -> Patch:
    jowls = head.at(0.0, 0.22)
    canvas.lit(head, canvas.ellipse(jowls, 0.96 * f["face_width"], 0.66), coat, deep, 1.0)
    skull = canvas.ellipse(head.at(0.0, -0.06), f["face_width"], 0.84)
    canvas.lit(head, skull, coat, deep, 1.0)
    return skull


def _draw_marking(canvas: Canvas, f: Factors, front: Frame, skull: Patch) -> None:
    n = len(f["marking"])
    blaze = canvas.leaf(front.at(0.0, -0.3), 0.75, 0.24, chosen(f, "marking", 1))
    canvas.fill(blaze.within(skull), ink("fffaf2", n))
    dark = colours(_BROWN, f["coat"])
    for spot, code in zip(face.sides(front, f["eye_gap"] + np.float32(0.05), -0.18, 0.25), (2, 3), strict=True):
        canvas.fill(canvas.ellipse(spot, 0.3, 0.38, chosen(f, "marking", code)).within(skull), dark)
    for brow in face.sides(front, f["eye_gap"] - np.float32(0.04), -0.47, 1.2):
        canvas.fill(canvas.ellipse(brow, 0.07, 0.12, chosen(f, "marking", 4)), colours(_BROWS, f["coat"]))


def _draw_ears(canvas: Canvas, f: Factors, head: Frame, coat: Colour, deep: Colour) -> None:
    """Long ears hung from the top of the head."""
    brown = colours(_BROWN, f["coat"])
    top = coat + (deep - coat) * (0.6 + 0.4 * chosen(f, "ear_coat", 1))
    top = mixed(top, brown, chosen(f, "ear_coat", 2))
    bottom = mixed(top, ink("2c2033", len(f["coat"])), 0.18)
    length = f["ear_length"]
    for root in face.sides(head, f["face_width"] * np.float32(0.8), -0.62, -f["ear_lift"] - np.float32(0.12)):
        ear = root.at(0.0, 0.72 * length)
        canvas.lit(ear, canvas.ellipse(ear, f["ear_width"], length), top, bottom, length)


def _draw_muzzle(canvas: Canvas, f: Factors, front: Frame, light: Colour, deep: Colour) -> None:
    width, height = f["muzzle_width"], f["muzzle_height"]
    muzzle = front.at(0.0, 0.42)
    canvas.lit(muzzle, canvas.ellipse(muzzle, width, height), light, mixed(light, deep, 0.35), height)
    _draw_tongue(canvas, f, front)
    face.draw_mouth(canvas, f, front.at(0.0, 0.4), 0.18)
    face.draw_nose(canvas, front.at(0.0, 0.27), f["nose_size"], 0.72 * f["nose_size"], ink("3a2f34", len(width)))


def _draw_tongue(canvas: Canvas, f: Factors, front: Frame) -> None:
    there, half = chosen(f, "tongue", 1), f["tongue_length"]
    n = len(half)
    tongue = front.at(0.0, 0.55 + half)
    canvas.lit(tongue, canvas.capsule(tongue, half, 0.13, there), ink("d9626f", n), ink("f59aa2", n), half)
    canvas.fill(canvas.capsule(tongue.at(0.0, -0.3 * half), 0.7 * half, 0.014, there), ink("c65365", n))
