"""Arrays of images as a source: a .npy or .npz file, or one in memory."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from fromnoise.images.arrays import ArrayFile, check_axes, open_array_file
from fromnoise.images.decode import CHANNELS, Kind
from fromnoise.images.folder_source import THREADS, Progress
from fromnoise.images.pack import Contents, Reading
from fromnoise.images.plan import choose_size, size_sentence
from fromnoise.images.report import ScanReport
from fromnoise.images.resize import Fit, Size, fit_image
from fromnoise.images.spec import ValueSpec

_KIND: dict[int, Kind] = {channels: kind for kind, channels in CHANNELS.items()}
AT_ONCE = 1024  # images that pass together; bounds the memory, not the result


@dataclass(frozen=True)
class ArraySource:
    """Images that all have one size and kind already."""

    title: str  # "digits.npz"
    prefix: str  # of the names: "x_train"
    shape: tuple[int, int, int, int]  # (N, H, W, C)
    images: Callable[[], Iterator[UInt8[np.ndarray, "n h w c"]]]
    labels: Int64[np.ndarray, " n"] | None
    classes: tuple[str, ...]
    decisions: tuple[str, ...]
    identified_by: tuple[bytes, ...]

    def key_parts(self) -> Iterator[bytes]:
        """All that the images are known by without reading them again."""
        yield from self.identified_by

    def readings(self, size: Size | None, fit: Fit, progress: Progress) -> Iterator[Reading]:
        """The one reading there is."""
        n, height, width, channels = self.shape
        chosen = choose_size([(height, width)], size)
        yield Reading(
            spec=ValueSpec(channels=channels, alpha=channels == 4),
            size=chosen,
            at_most=n,
            blocks=self._blocks(chosen, fit, progress),
            contents=lambda: self._contents(chosen, size, fit),
        )

    def _blocks(self, size: Size, fit: Fit, progress: Progress) -> Iterator[UInt8[np.ndarray, "n h w c"]]:
        done = 0
        with ThreadPoolExecutor(THREADS) as pool:
            for block in self.images():
                if size == self.shape[1:3]:
                    yield block
                else:
                    yield np.stack(list(pool.map(lambda image: _fitted(image, size, fit), block)))
                done += len(block)
                progress(done, self.shape[0])

    def _contents(self, chosen: Size, asked: Size | None, fit: Fit) -> Contents:
        n, height, width, channels = self.shape
        counts = Counter(() if self.labels is None else self.labels.tolist())
        report = ScanReport(
            source=self.title,
            found=n,
            usable=n,
            refused=(),
            other=(),
            hidden=(),
            sizes=(((height, width), n),),
            kinds=((_KIND[channels], n),),
            class_counts=tuple((name, counts[k]) for k, name in enumerate(self.classes)),
            decisions=(size_sentence([(height, width)], chosen, asked, fit), *self.decisions),
            n_train=0,
            n_heldout=0,
        )
        return Contents(numbered(self.prefix, n), self.labels, self.classes, report)


def numbered(prefix: str, n: int) -> tuple[str, ...]:
    """``x_train[0]``, ``x_train[1]``, ..."""
    return tuple(f"{prefix}[{i}]" for i in range(n))


def from_file(path: Path) -> ArraySource:
    """Raises ``UseError`` where ``open_array_file`` does."""
    file: ArrayFile = open_array_file(path)
    facts = path.stat()
    return ArraySource(
        title=str(path),
        prefix=file.key or path.stem,
        shape=_four(file.images.shape),
        images=file.blocks,
        labels=file.labels,
        classes=file.classes,
        decisions=file.decisions,
        identified_by=(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}".encode(errors="surrogateescape"),),
    )


def from_memory(array: np.ndarray) -> ArraySource:
    """Raises ``UseError`` unless the array is (N, H, W) or (N, H, W, C) of uint8."""
    check_axes(array.shape, array.dtype, "the array")
    whole = np.ascontiguousarray(array).reshape(_four(array.shape))
    return ArraySource(
        title="an array",
        prefix="images",
        shape=_four(array.shape),
        images=lambda: (whole[start : start + AT_ONCE] for start in range(0, len(whole), AT_ONCE)),
        labels=None,
        classes=(),
        decisions=(),
        identified_by=(repr(whole.shape).encode(), hashlib.sha256(whole.data).digest()),
    )


def _four(shape: Sequence[int]) -> tuple[int, int, int, int]:
    n, height, width, channels = (*shape, 1)[:4]
    return n, height, width, channels


def _fitted(image: UInt8[np.ndarray, "h w c"], size: Size, fit: Fit) -> UInt8[np.ndarray, "H W c"]:
    flat = image[..., 0] if image.shape[-1] == 1 else image
    return fit_image(Image.fromarray(np.ascontiguousarray(flat)), size, fit)
