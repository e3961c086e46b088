"""The embedded pictures as a source: drawn, not read."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

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
from fromnoise.images.workers import COUNT as THREADS

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
        n = len(self.pictures)
        at_once = max(1, AT_ONCE * 32 * 32 // (size[0] * size[1]))
        starts = iter(range(0, n, at_once))

        def draw(start: int) -> UInt8[np.ndarray, "n h w 3"]:
            return self.pictures.render(np.arange(start, min(n, start + at_once)), *size)

        # Threads suffice: the drawing is NumPy on large arrays, which lets go of the interpreter's lock. One block more
        # than there are threads is under way, so that none stands still while another is packed.
        with ThreadPoolExecutor(THREADS) as pool:
            under_way, done = deque(pool.submit(draw, start) for start in islice(starts, THREADS + 1)), 0
            while under_way:
                block = under_way.popleft().result()
                under_way.extend(pool.submit(draw, start) for start in islice(starts, 1))
                yield block
                progress(done := done + len(block), n)

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
