"""Signed-distance shapes, antialiased, painted on many images at once.

World coordinates: x to the right, y down, the centre of the image at (0, 0), the shorter side from -1 to 1.
Arrays put the image number LAST, (rows, columns, n): a factor of shape (n,) then broadcasts without a copy, and every
inner loop is contiguous however small the window of a shape is.
Only +, -, *, /, sqrt, min, max and rounding touch the pixels, each exact to the last bit by IEEE 754: a picture is
the same bits alone or in a batch. A shape is evaluated in the smallest window that holds it in all n images; outside
its window its cover would be exactly 0.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int

Column = Float32[np.ndarray, "n"]
Plane = Float32[np.ndarray, "h w n"]
Colour = Float32[np.ndarray, "3 n"]
Amount = Column | float

# A shape thinner than this (in pixels, half width) is drawn this thick and paler by the same ratio.
THINNEST = 0.5
# Every distance below is at least half the true one outside its shape, so cover ends within a pixel; half for luck.
MARGIN = 1.5


def cos_sin(angle: Column) -> tuple[Column, Column]:
    """Cosine and sine for |angle| <= 4 rad, to 1e-5: a library's sine may differ between machines, this can't."""
    part = angle * (1 / 8)
    square = part * part
    cos = 1 - square * (0.5 - square * (1 / 24 - square * (1 / 720)))
    sin = part * (1 - square * (1 / 6 - square * (1 / 120 - square * (1 / 5040))))
    for _ in range(3):
        cos, sin = cos * cos - sin * sin, 2 * sin * cos
    return cos, sin


@dataclass(frozen=True)
class Frame:
    """A place, size and turn in each image: local (u, v) is the world's (x, y) + size * rotation @ (u, v)."""

    x: Column
    y: Column
    size: Column
    cos: Column
    sin: Column

    @staticmethod
    def upright(x: Column, y: Column, size: Column) -> "Frame":
        return Frame(x, y, size, np.ones_like(x), np.zeros_like(x))

    def at(self, u: Amount = 0.0, v: Amount = 0.0, angle: Amount = 0.0, size: Amount = 1.0) -> "Frame":
        """A frame moved to local (u, v), turned by ``angle`` (rad, clockwise on screen), scaled by ``size``."""
        x = self.x + self.size * (u * self.cos - v * self.sin)
        y = self.y + self.size * (u * self.sin + v * self.cos)
        frame = Frame(x, y, self.size * size, self.cos, self.sin)
        return frame if isinstance(angle, float) and angle == 0.0 else frame.turned(angle)

    def turned(self, angle: Amount) -> "Frame":
        cos, sin = cos_sin(np.broadcast_to(np.asarray(angle, np.float32), self.x.shape))
        return replace(self, cos=self.cos * cos - self.sin * sin, sin=self.sin * cos + self.cos * sin)

    def reach(self, u: Amount, v: Amount) -> tuple[Column, Column]:
        """World half width and height of the local box |u|, |v|."""
        cos, sin = np.abs(self.cos), np.abs(self.sin)
        return self.size * (cos * u + sin * v), self.size * (sin * u + cos * v)


@dataclass(frozen=True)
class Patch:
    """How much of each pixel a shape covers, 0 to 1, in a window of the canvas."""

    rows: slice
    columns: slice
    cover: Plane

    def within(self, mask: "Patch") -> "Patch":
        """The part of this patch that lies in ``mask``."""
        rows, columns = _overlap(self.rows, mask.rows), _overlap(self.columns, mask.columns)
        mine = self.cover[_shift(rows, self.rows), _shift(columns, self.columns)]
        return Patch(rows, columns, mine * mask.cover[_shift(rows, mask.rows), _shift(columns, mask.columns)])

    def without(self, mask: "Patch") -> "Patch":
        """The part of this patch that lies outside ``mask``."""
        inner = self.within(mask)
        cover = self.cover.copy()
        cover[_shift(inner.rows, self.rows), _shift(inner.columns, self.columns)] -= inner.cover
        return Patch(self.rows, self.columns, cover)

    def times(self, strength: Amount) -> "Patch":
        return Patch(self.rows, self.columns, self.cover * strength)


def _overlap(a: slice, b: slice) -> slice:
    start = max(a.start, b.start)
    return slice(start, max(start, min(a.stop, b.stop)))


def _shift(part: slice, whole: slice) -> slice:
    """``part`` counted from the start of ``whole``; empty where they don't meet."""
    length = part.stop - part.start
    start = part.start - whole.start if length else 0
    return slice(start, start + length)


@dataclass(frozen=True)
class Canvas:
    """A band of rows of n images: ``planes`` (3, h, w, n) in [0, 1], pixel centres xs (w,), ys (h,), pixel side."""

    planes: Float32[np.ndarray, "3 h w n"]
    xs: Float32[np.ndarray, "w"]
    ys: Float32[np.ndarray, "h"]
    pixel: float

    def part(self, some: slice) -> "Canvas":
        """The canvas of some of the images (a view)."""
        return replace(self, planes=self.planes[..., some])

    def window(self, frame: Frame, u: Amount, v: Amount) -> tuple[slice, slice]:
        """Rows and columns that hold the box |u|, |v| of the frame in every image."""
        across, down = frame.reach(u, v)
        margin = MARGIN * self.pixel
        rows = _inside(self.ys, frame.y - down, frame.y + down, margin)
        return rows, _inside(self.xs, frame.x - across, frame.x + across, margin)

    def local(self, frame: Frame, window: tuple[slice, slice], u: Amount = 1.0, v: Amount = 1.0) -> tuple[Plane, Plane]:
        """Local coordinates over a window, divided by (u, v): one sum per pixel, since the map is affine."""
        x = self.xs[window[1], None] - frame.x
        y = self.ys[window[0], None] - frame.y
        cos, sin = frame.cos / frame.size, frame.sin / frame.size
        across = (y * (sin / u))[:, None] + x * (cos / u)
        return across, (y * (cos / v))[:, None] - x * (sin / v)

    def thicken(self, frame: Frame, radius: Amount) -> tuple[Column, Column]:
        """The radius to draw with, and how pale that makes it."""
        least = THINNEST * self.pixel / frame.size
        drawn = np.maximum(radius, least)
        return drawn, radius / drawn

    def cover(self, frame: Frame, distance: Plane, radius: Amount, strength: Amount) -> Plane:
        """Cover of the set distance < radius (local units), in place: the box filter along the normal."""
        scale = frame.size / np.float32(self.pixel)
        distance *= -scale
        distance += scale * radius + np.float32(0.5)
        np.clip(distance, 0, 1, out=distance)
        distance *= strength
        return distance

    def ellipse(self, frame: Frame, u: Amount, v: Amount, strength: Amount = 1.0) -> Patch:
        """Half axes u, v (at most 1 : 4). Distance to first order, (q - 1) / |grad q|: Taubin 1991."""
        u, pale_u = self.thicken(frame, u)
        v, pale_v = self.thicken(frame, v)
        window = self.window(frame, u, v)
        return Patch(*window, self.oval(frame, *self.local(frame, window, u, v), u, v, strength * pale_u * pale_v))

    def oval(self, frame: Frame, across: Plane, down: Plane, u: Amount, v: Amount, strength: Amount) -> Plane:
        """Cover of the unit circle of (across, down), whose units are u and v of the frame. Overwrites both."""
        across *= across
        down *= down
        inside = 1 - across
        inside -= down
        scale = 2 * np.float32(self.pixel) / frame.size
        across *= (scale / u) ** 2
        down *= (scale / v) ** 2
        across += down
        across += np.float32(1e-12)
        np.sqrt(across, out=across)
        inside /= across
        inside += np.float32(0.5)
        np.clip(inside, 0, 1, out=inside)
        inside *= strength
        return inside

    def glow(self, frame: Frame, u: Amount, v: Amount, strength: Amount = 1.0) -> Patch:
        """A soft spot, (1 - q)^2 inside the ellipse with half axes u, v: shadows, blushes, lights."""
        window = self.window(frame, u, v)
        across, down = self.local(frame, window, u, v)
        across *= across
        down *= down
        across += down
        np.subtract(1, across, out=across)
        np.maximum(across, 0, out=across)
        across *= across
        across *= strength
        return Patch(*window, across)

    def leaf(self, frame: Frame, length: Amount, width: Amount, strength: Amount = 1.0) -> Patch:
        """Two arcs that meet in points at (0, -length) and (0, length), half width ``width``."""
        width, pale = self.thicken(frame, width)
        window = self.window(frame, width, length)
        across, down = self.local(frame, window)
        radius = (length * length + width * width) / (2 * width)
        np.abs(across, out=across)
        np.abs(down, out=down)
        across += radius - width
        across *= across
        beyond = down - (length - radius)
        down *= down
        across += down
        np.sqrt(across, out=across)
        np.maximum(across, beyond, out=across)
        return Patch(*window, self.cover(frame, across, radius, strength * pale))

    def capsule(self, frame: Frame, length: Amount, radius: Amount, strength: Amount = 1.0) -> Patch:
        """A thick line with round ends, from (0, -length) to (0, length)."""
        radius, pale = self.thicken(frame, radius)
        window = self.window(frame, radius, length + radius)
        across, down = self.local(frame, window)
        np.abs(down, out=down)
        down -= length
        np.maximum(down, 0, out=down)
        across *= across
        down *= down
        across += down
        np.sqrt(across, out=across)
        return Patch(*window, self.cover(frame, across, radius, strength * pale))

    def arc(self, frame: Frame, radius: Amount, half_angle: float, thick: Amount, strength: Amount = 1.0) -> Patch:
        """A thick arc of a circle about the frame's origin, its middle at (0, -radius); half angle <= pi / 2."""
        thick, pale = self.thicken(frame, thick)
        cos, sin = (part.item() for part in cos_sin(np.array([half_angle], np.float32)))
        middle = frame.at(0.0, -0.5 * (1 + cos) * radius)
        window = self.window(middle, radius * sin + thick, radius * (0.5 - 0.5 * cos) + thick)
        across, down = self.local(frame, window)
        np.abs(across, out=across)
        ring = np.abs(np.sqrt(across * across + down * down) - radius)
        past = across * cos + down * sin > 0
        across -= radius * sin
        down += radius * cos
        ends = np.sqrt(across * across + down * down)
        np.copyto(ring, ends, where=past)
        return Patch(*window, self.cover(frame, ring, thick, strength * pale))

    def fill(self, patch: Patch, colour: Colour) -> None:
        """One colour over the patch."""
        under = self.planes[:, patch.rows, patch.columns]
        over = colour[:, None, None] - under
        over *= patch.cover
        under += over

    def shade(self, patch: Patch, light: Colour, deep: Colour, depth: Plane) -> None:
        """From ``light`` where depth is 0 to ``deep`` where it is 1."""
        under = self.planes[:, patch.rows, patch.columns]
        over = depth * (deep - light)[:, None, None]
        over += light[:, None, None]
        over -= under
        over *= patch.cover
        under += over

    def slope(self, frame: Frame, patch: Patch, reach: Amount) -> Plane:
        """Depth that grows from 0 at local v = -reach to 1 at v = reach: light from above the shape."""
        y = self.ys[patch.rows, None] - frame.y
        x = self.xs[patch.columns, None] - frame.x
        scale = 0.5 / (frame.size * reach)
        depth = (y * (frame.cos * scale) + np.float32(0.5))[:, None] - x * (frame.sin * scale)
        return np.clip(depth, 0, 1, out=depth)

    def lit(self, frame: Frame, patch: Patch, light: Colour, deep: Colour, reach: Amount = 1.0) -> None:
        """Paint with a slope of light."""
        self.shade(patch, light, deep, self.slope(frame, patch, reach))


def _inside(centres: Float32[np.ndarray, "k"], low: Column, high: Column, margin: float) -> slice:
    """The pixel centres from the lowest low to the highest high, and a margin."""
    start, stop = np.searchsorted(centres, (low.min() - margin, high.max() + margin))
    return slice(int(start), int(stop))


def colours(palette: Float32[np.ndarray, "k 3"], codes: Int[np.ndarray, "n"]) -> Colour:
    """One colour of the palette for each image."""
    return np.ascontiguousarray(palette[codes].T)


def hues(*codes: str) -> Float32[np.ndarray, "k 3"]:
    """A palette from hexadecimal colours, in [0, 1]."""
    return np.array([tuple(bytes.fromhex(code)) for code in codes], np.float32) / np.float32(255)


def ink(code: str, n: int) -> Colour:
    """The same colour in every image."""
    return np.ascontiguousarray(np.broadcast_to(hues(code).T, (3, n)))


def mixed(a: Colour, b: Colour, part: Amount) -> Colour:
    """``part`` of b, the rest of a."""
    return a + (b - a) * np.float32(part) if isinstance(part, float) else a + (b - a) * part
