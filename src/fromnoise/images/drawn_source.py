"""The embedded pictures as a source: drawn, not read."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from fromnoise import menagerie
from fromnoise.errors import UseError
from fromnoise.images.array_source import numbered
from fromnoise.images.asked import Asked
from fromnoise.images.kinds import Kind
from fromnoise.images.labels import Labels
from fromnoise.images.pack import Contents, Reading
from fromnoise.images.picture_source import Progress
from fromnoise.images.report import ScanReport
from fromnoise.images.resize import Size
from fromnoise.images.workers import COUNT as PROCESSES
from fromnoise.images.workers import start_python

DEFAULT_SIZE = (32, 32)
AT_ONCE = 1024


@dataclass(frozen=True)
class DrawnSource:
    """``menagerie``, ``menagerie:20000@7``: the canonical text is ``title``."""

    title: str
    pictures: menagerie.Menagerie

    def key_parts(self) -> Iterator[bytes]:
        """What is drawn, and the code that draws it."""
        yield f"{self.title} {len(self.pictures)}".encode()
        for file in sorted(Path(menagerie.__file__).parent.glob("*.py")):
            yield hashlib.sha256(file.read_bytes()).digest()

    def readings(self, asked: Asked, progress: Progress) -> Iterator[Reading]:
        """The one reading there is: drawn at any size, always RGB, so only the size can be asked for.

        Raises ``UseError`` for other wishes.
        """
        if asked.channels or asked.flatten:
            raise UseError(f"{self.title} is drawn in RGB without transparency: leave --channels and --flatten out.")
        chosen = asked.size or DEFAULT_SIZE
        yield Reading(
            kind=Kind("uint", 8, 3, False),
            size=chosen,
            at_most=len(self.pictures),
            blocks=self._blocks(chosen, progress),
            contents=lambda: self._contents(chosen),
        )

    def _blocks(self, size: Size, progress: Progress) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        n, done = len(self.pictures), 0
        for block in self._drawn(size, max(1, AT_ONCE * 32 * 32 // (size[0] * size[1]))):
            yield block
            progress(done := done + len(block), n)

    def _drawn(self, size: Size, at_once: int) -> Iterator[UInt8[np.ndarray, "n h w 3"]]:
        """By a few processes in turn, where there is enough to draw for their start to pay."""
        (height, width), blocks = size, _blocks_of(len(self.pictures), at_once)
        if len(blocks) < 2 * PROCESSES:
            yield from (self.pictures.render(some, height, width) for some in blocks)
            return
        # Threads do not pay: most arrays are small, and between them there is the interpreter's lock (LOG.md).
        code = "from fromnoise.images.drawn_source import write_blocks; write_blocks(*map(int, sys.argv[1:]))"
        words = (len(self.pictures), self.pictures.seed, height, width, at_once, PROCESSES)
        painters = [start_python(code, *map(str, (*words, first))) for first in range(PROCESSES)]
        try:
            for k, some in enumerate(blocks):
                stream = painters[k % PROCESSES].stdout
                data = stream.read(len(some) * height * width * 3) if stream else b""
                if len(data) < len(some) * height * width * 3:
                    raise UseError(f"{self.title} was not drawn: a process that draws it was ended. Try again.")
                yield np.frombuffer(data, np.uint8).reshape(len(some), height, width, 3)
        finally:
            for painter in painters:
                painter.kill()
                painter.communicate()

    def _contents(self, size: Size) -> Contents:
        n = len(self.pictures)
        labels = self.pictures.labels()
        counts = Counter(labels.tolist())
        classes = tuple(menagerie.KINDS)
        drawn = f"The embedded pictures are drawn at {size[0]}x{size[1]} (height x width); --size chooses another."
        report = ScanReport(
            source=self.title,
            found=n,
            usable=n,
            refused=(),
            other=(),
            hidden=(),
            sizes=((size, n),),
            kinds=(("RGB", n),),
            class_counts=tuple((name, counts[k]) for k, name in enumerate(classes)),
            odd_sizes=(),
            decisions=(drawn,),
            n_train=0,
            n_heldout=0,
        )
        return Contents(numbered("menagerie", n), Labels(labels, classes, None, (), ()), report)


def write_blocks(count: int, seed: int, height: int, width: int, at_once: int, every: int, first: int) -> None:
    """To stdout, what one of ``every`` processes draws: each ``every``-th block of ``at_once`` from ``first`` on."""
    pictures = menagerie.Menagerie(count, seed)
    for some in _blocks_of(count, at_once)[first::every]:
        sys.stdout.buffer.write(pictures.render(some, height, width).data)


def _blocks_of(count: int, at_once: int) -> list[Int64[np.ndarray, " n"]]:
    return np.split(np.arange(count), range(at_once, count, at_once))
