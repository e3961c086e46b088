"""The menagerie: which picture is which, and drawing them by the thousand."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int64, UInt8

from fromnoise.errors import UseError
from fromnoise.menagerie.backdrop import draw_backdrop
from fromnoise.menagerie.cat import CAT, draw_cat
from fromnoise.menagerie.dog import DOG, draw_dog
from fromnoise.menagerie.factors import Distribution, Factors, alike, draw
from fromnoise.menagerie.flower import FLOWER, draw_flower
from fromnoise.menagerie.panda import PANDA, draw_panda
from fromnoise.menagerie.shapes import Canvas

KINDS: tuple[str, ...] = ("panda", "cat", "dog", "flower")
KIND = alike(KINDS, "what is drawn")
DISTRIBUTIONS: Mapping[str, Mapping[str, Distribution]] = {
    "panda": PANDA,
    "cat": CAT,
    "dog": DOG,
    "flower": FLOWER,
}
_PAINTERS: tuple[Callable[[Canvas, Factors], None], ...] = (draw_panda, draw_cat, draw_dog, draw_flower)

MOST_IMAGES = 10_000_000
MOST_SEED = 2**32 - 1
SMALLEST, LARGEST = 8, 512

# Images drawn together, and pixels of a band of them: one plane of 1 MiB stays in cache, calls stay few.
_TOGETHER = 256
_BAND = 2**18


@dataclass(frozen=True)
class Menagerie:
    """``count`` pictures of pandas, cats, dogs and flowers. Picture i of a seed is the same whatever the count."""

    count: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.count <= MOST_IMAGES and 0 <= self.seed <= MOST_SEED):
            raise UseError(
                f"A menagerie has 1 to {MOST_IMAGES:,} pictures and a seed from 0 to {MOST_SEED:,}, "
                f"but {self.count:,} pictures of seed {self.seed:,} were asked for; choose within those bounds."
            )

    @classmethod
    def parse(cls, text: str) -> "Menagerie":
        """``menagerie``, ``menagerie:COUNT``, ``menagerie@SEED`` or ``menagerie:COUNT@SEED``; else UseError."""
        match = re.fullmatch(r"menagerie(?::([0-9]{1,20}))?(?:@([0-9]{1,20}))?", text)
        if match is None:
            raise UseError(
                f"The embedded pictures were looked for under {text!r}, which is none of their names; "
                "write menagerie, menagerie:20000 (count), menagerie@7 (seed) or menagerie:20000@7."
            )
        count, seed = match.groups()
        return cls(int(count or cls.count), int(seed or cls.seed))

    def __len__(self) -> int:
        return self.count

    def labels(self, indices: Int[np.ndarray, "n"] | None = None) -> Int64[np.ndarray, "n"]:
        """The kind of each image, as its position in KINDS; of all images if none are named."""
        wanted = np.arange(self.count) if indices is None else self._checked(indices)
        return draw({"kind": KIND}, self.seed, wanted, "menagerie")["kind"].astype(np.int64)

    def factors(self, i: int) -> dict[str, float | int | str | tuple]:
        """The kind of image i and each factor it was drawn from; DISTRIBUTIONS says how they are spread."""
        index = self._checked(np.array([i]))
        kind = KINDS[int(self.labels(index)[0])]
        drawn = draw(DISTRIBUTIONS[kind], self.seed, index, kind)
        values = {name: d.value(drawn[name].item()) for name, d in DISTRIBUTIONS[kind].items()}
        return {"kind": kind, **values}

    def render(self, indices: Int[np.ndarray, "n"], height: int, width: int) -> UInt8[np.ndarray, "n height width 3"]:
        """RGB images of 8 to 512 px each side; the animal stands in the middle of the shorter one."""
        _check_size(height, width)
        wanted = self._checked(indices)
        labels = self.labels(wanted)
        images = np.empty((len(wanted), height, width, 3), np.uint8)
        for code, kind in enumerate(KINDS):
            members = np.flatnonzero(labels == code)
            images[members] = paint(kind, draw(DISTRIBUTIONS[kind], self.seed, wanted[members], kind), height, width)
        return images

    def _checked(self, indices: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        if len(indices) and not (indices.min() >= 0 and indices.max() < self.count):
            raise UseError(
                f"The menagerie has pictures 0 to {self.count - 1}, but {indices.min()} to {indices.max()} "
                "were asked for; name pictures it has, or make its count larger."
            )
        return indices


def _check_size(height: int, width: int) -> None:
    if not (min(height, width) >= SMALLEST and max(height, width) <= LARGEST):
        raise UseError(
            f"The menagerie is drawn at {SMALLEST} to {LARGEST} pixels a side, but {height}x{width} was asked for; "
            "choose a size within those bounds."
        )


def paint(kind: str, factors: Factors, height: int, width: int) -> UInt8[np.ndarray, "n height width 3"]:
    """Draws images of one kind from their factors (codes of choices, numbers of ranges; see DISTRIBUTIONS)."""
    # Runs of one backdrop are painted as one, and neighbours in x share small windows.
    order = np.lexsort((factors["x"], factors["backdrop"]))
    images = np.empty((len(order), height, width, 3), np.uint8)
    for start in range(0, len(order), _TOGETHER):
        some = order[start : start + _TOGETHER]
        _paint_some(kind, {name: _single(v[some]) for name, v in factors.items()}, images, some)
    return images


def _single(values: np.ndarray) -> np.ndarray:
    """Numbers in the float32 that painters work in; codes of choices as they are."""
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _paint_some(
    kind: str, factors: Factors, images: UInt8[np.ndarray, "m height width 3"], some: Int[np.ndarray, "n"]
) -> None:
    """Draws band after band of rows into images[some]."""
    _, height, width, _ = images.shape
    pixel = 2 / min(height, width)
    xs, ys = (((np.arange(k) + 0.5) * pixel - k * pixel / 2).astype(np.float32) for k in (width, height))
    rows = max(1, _BAND // (len(some) * width))
    for top in range(0, height, rows):
        band = ys[top : top + rows]
        canvas = Canvas(np.empty((3, len(band), width, len(some)), np.float32), xs, band, pixel)
        draw_backdrop(canvas, factors)
        _PAINTERS[KINDS.index(kind)](canvas, factors)
        images[some, top : top + rows] = _bytes(canvas).transpose(3, 1, 2, 0)


def _bytes(canvas: Canvas) -> UInt8[np.ndarray, "3 h w n"]:
    """The nearest of 256 levels."""
    levels = canvas.planes
    levels *= np.float32(255)
    levels += np.float32(0.5)
    return np.clip(levels, 0, 255.5, out=levels).astype(np.uint8)
