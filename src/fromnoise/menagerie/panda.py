"""Pandas."""

import numpy as np

from fromnoise.menagerie import face
from fromnoise.menagerie.backdrop import BACKDROP
from fromnoise.menagerie.factors import Choice, Distribution, Factors, Uniform, alike, chosen
from fromnoise.menagerie.shapes import Canvas, Colour, Column, Frame, Patch, colours, hues, ink, mixed

PANDA: dict[str, Distribution] = {
    **BACKDROP,
    **face.POSE,
    **face.EXPRESSION,
    "black": alike(("charcoal", "ink", "cocoa"), "colour of the dark fur"),
    "white": alike(("snow", "cream", "pearl"), "colour of the light fur"),
    "face_width": Uniform(0.98, 1.14, "half width of the face (head units)"),
    "ear_size": Uniform(0.27, 0.4, "radius of an ear (head units)"),
    "ear_spread": Uniform(0.62, 0.8, "distance of an ear from the middle (head units)"),
    "patch_width": Uniform(0.25, 0.31, "half width of the patch round an eye (head units)"),
    "patch_height": Uniform(0.27, 0.36, "half height of the patch round an eye (head units)"),
    "patch_lean": Uniform(0.2, 0.9, "how far the patches lean outwards (rad)"),
    "eye_gap": Uniform(0.38, 0.47, "distance of an eye from the middle (head units)"),
    "bamboo": Choice(("none", "sprig", "stalk"), (0.4, 0.3, 0.3), "a sprig in the mouth or a stalk at its side"),
    "bamboo_length": Uniform(0.5, 0.8, "length of a leaf (head units)"),
    "bamboo_side": alike(("left", "right"), "where the bamboo is"),
}

_BLACK = hues("3d3941", "2f3647", "574138")
_WHITE = hues("ffffff", "fff6e6", "f2f3fa")
_DUSK = hues("dcdae8", "f0dfca", "d3d8ea")


def draw_panda(canvas: Canvas, f: Factors) -> None:
    """Paints one panda on each image."""
    black, white, dusk = (colours(p, f[k]) for p, k in ((_BLACK, "black"), (_WHITE, "white"), (_DUSK, "white")))
    head, body = face.head_of(f), face.body_of(f)
    front = face.face_of(f, head)
    _draw_stalk(canvas, f, body)
    _draw_body(canvas, body, head, black, white, dusk)
    _draw_ears(canvas, f, head, black)
    skull = _draw_head(canvas, f, head, white, dusk)
    _draw_patches(canvas, f, front, black, skull)
    face.draw_blush(canvas, f, front, 0.66, 0.36)
    _draw_sprig(canvas, f, front)
    iris = mixed(black, ink("9a6542", len(f["black"])), 0.75)
    eyes = face.sides(front, f["eye_gap"] - np.float32(0.02), -0.02)
    face.draw_eyes(canvas, f, eyes, iris, 1.0, mixed(white, black, 0.05))
    face.draw_mouth(canvas, f, front.at(0.0, 0.42), 0.14)
    face.draw_nose(canvas, front.at(0.0, 0.33), 0.15, 0.1, black)


def _draw_body(canvas: Canvas, body: Frame, head: Frame, black: Colour, white: Colour, dusk: Colour) -> None:
    light = mixed(black, white, 0.14)
    trunk = face.draw_trunk(canvas, body, 0.84, (light, black, mixed(white, dusk, 0.5)))
    face.draw_neck_shadow(canvas, head, trunk, 0.5)


def _draw_ears(canvas: Canvas, f: Factors, head: Frame, black: Colour) -> None:
    size = f["ear_size"]
    light = mixed(black, ink("ffffff", len(size)), 0.16)
    for ear in face.sides(head, f["ear_spread"], -0.66):
        canvas.lit(ear, canvas.ellipse(ear, size, size), light, black, size)
        canvas.fill(canvas.glow(ear.at(0.0, 0.1), 0.75 * size, 0.75 * size, 0.5), ink("b98a8f", len(size)))


def _draw_head(canvas: Canvas, f: Factors, head: Frame, white: Colour, dusk: Colour) -> Patch:
    """A wide oval, wider still at the cheeks."""
    cheeks = head.at(0.0, 0.17)
    canvas.lit(head, canvas.ellipse(cheeks, f["face_width"], 0.69), white, dusk, 1.1)
    skull = canvas.ellipse(head, 0.97 * f["face_width"], 0.86)
    canvas.lit(head, skull, white, dusk, 1.1)
    return skull


def _draw_patches(canvas: Canvas, f: Factors, front: Frame, black: Colour, skull: Patch) -> None:
    light = mixed(black, ink("ffffff", len(f["black"])), 0.1)
    for spot in face.sides(front, f["eye_gap"], 0.02, f["patch_lean"]):
        canvas.lit(spot, canvas.ellipse(spot, f["patch_width"], f["patch_height"]).within(skull), black, light, 0.3)


def _draw_stalk(canvas: Canvas, f: Factors, body: Frame) -> None:
    """A jointed stalk beside the body, with two leaves."""
    there = chosen(f, "bamboo", 2)
    side = 2 * chosen(f, "bamboo_side", 1) - 1
    n = len(there)
    green, pale = ink("6fa554", n), ink("a3cf7c", n)
    stalk = body.at(side * np.float32(1.12), -0.9, side * np.float32(0.06))
    canvas.lit(stalk, canvas.capsule(stalk.at(0.0, 4.3), 6.0, 0.085, there), pale, green, 2.0)
    for v in (-1.1, -0.35, 0.4, 1.15, 1.9):
        canvas.fill(canvas.capsule(stalk.at(0.0, v, np.pi / 2), 0.08, 0.022, there), ink("558a42", n))
    for v, angle in ((-1.1, 0.9), (-0.35, -0.8)):
        leaf = stalk.at(0.0, v, angle * -side).at(0.0, -0.5 * f["bamboo_length"])
        _leaf(canvas, leaf, f, there)


def _draw_sprig(canvas: Canvas, f: Factors, front: Frame) -> None:
    """A twig held in the mouth, with three leaves."""
    there = chosen(f, "bamboo", 1)
    side = 2 * chosen(f, "bamboo_side", 1) - 1
    twig = front.at(0.0, 0.5, side * np.float32(1.75))
    n = len(there)
    canvas.fill(canvas.capsule(twig.at(0.0, -0.3), 0.36, 0.035, there), ink("6fa554", n))
    for v, angle in ((-0.62, -0.15), (-0.5, 0.75), (-0.42, -0.85)):
        leaf = twig.at(0.0, v, angle).at(0.0, -0.42 * f["bamboo_length"])
        _leaf(canvas, leaf, f, there)


def _leaf(canvas: Canvas, leaf: Frame, f: Factors, there: Column) -> None:
    n = len(f["bamboo_length"])
    half = 0.5 * f["bamboo_length"]
    patch = canvas.leaf(leaf, half, 0.24 * half + np.float32(0.02), there)
    canvas.lit(leaf, patch, ink("9ed070", n), ink("5d9c4a", n), half)
