"""A folder of pictures as a source: scanned, decided on, decoded in a few threads."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from fromnoise.errors import UseError
from fromnoise.images import decode, formats
from fromnoise.images.decode import CHANNELS, Header, Kind, Misfit, Target
from fromnoise.images.formats import BadFile
from fromnoise.images.listing import Entry, list_folder
from fromnoise.images.pack import Contents, Reading
from fromnoise.images.plan import choose_size, classes_of, commonest_kind, kind_sentences, size_sentence
from fromnoise.images.report import Refused, ScanReport
from fromnoise.images.resize import Fit, Size
from fromnoise.images.spec import ValueSpec

Progress = Callable[[int, int], None]
T = TypeVar("T")

AT_ONCE = 128  # pictures decoded and held in memory together
THREADS = min(8, os.cpu_count() or 1)  # Pillow decodes and resizes without the interpreter's lock


class Replan(Exception):
    """Files that broke while decoding had swayed a decision: read again without them."""


class FolderSource:
    """Reads a folder. Headers decide what the set becomes; a picture that fails later no longer counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listing = list_folder(folder)
        self._headers: dict[Entry, Header] = {}  # of sound pictures
        self._refused: dict[str, str] = {each.name: each.reason for each in self.listing.refused}
        self._misfits: dict[str, str] = {}
        self._other: list[str] = []

    def key_parts(self) -> Iterator[bytes]:
        """All that the files are known by without opening them."""
        yield str(self.folder).encode(errors="surrogateescape")
        for file in self.listing.files:
            yield f"{file.name}\0{file.size}\0{file.mtime_ns}".encode(errors="surrogateescape")
        yield from (f"{name}\0not read".encode(errors="surrogateescape") for name in self._refused)

    def readings(self, size: Size | None, fit: Fit, progress: Progress) -> Iterator[Reading]:
        """Readings to be tried in turn: one whose ``blocks`` raise ``Replan`` is followed by a better one."""
        self._read_headers()
        while True:
            target = self._target(size, fit)
            packed: list[tuple[Entry, Header]] = []
            yield Reading(
                spec=ValueSpec(channels=CHANNELS[target.kind], alpha=target.kind == "RGBA"),
                size=target.size,
                at_most=len(self._headers),
                blocks=self._blocks(target, size, packed, progress),
                contents=lambda: self._contents(packed, target, size),  # noqa: B023  used before the next turn
            )

    def _read_headers(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            for entry, header in _in_order(pool, decode.read_header, self.listing.files):
                if isinstance(header, BadFile):
                    self._refused[entry.name] = str(header)
                elif header is None:
                    self._other.append(entry.name)
                else:
                    self._headers[entry] = header

    def _target(self, size: Size | None, fit: Fit) -> Target:
        if not self._headers:
            raise UseError(self._nothing_usable())
        fitting = (header for entry, header in self._headers.items() if entry.name not in self._misfits)
        sizes = [(header.height, header.width) for header in fitting]
        return Target(self._kind(), choose_size(sizes, size), fit)

    def _kind(self) -> Kind:
        return commonest_kind(header.kind for header in self._headers.values())

    def _confirm(self, target: Target, asked: Size | None) -> None:
        """Raise ``Replan`` unless the decisions stand now that all pixels are known."""
        if self._headers and self._kind() != target.kind:
            self._misfits.clear()  # they may well fit the other kind
            raise Replan
        if self._target(asked, target.fit) != target:
            raise Replan

    def _blocks(
        self, target: Target, asked: Size | None, packed: list[tuple[Entry, Header]], progress: Progress
    ) -> Iterator[UInt8[np.ndarray, "n h w c"]]:
        entries = tuple(self._headers)
        self._misfits.clear()
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, len(entries), AT_ONCE):
                some = entries[start : start + AT_ONCE]
                read = _in_order(pool, lambda entry: decode.read_pixels(entry, target), some)
                values = [self._sorted_in(entry, result, packed) for entry, result in read]
                sound = [each for each in values if each is not None]
                if sound:
                    yield np.stack(sound)
                progress(start + len(some), len(entries))
        self._confirm(target, asked)

    def _sorted_in(
        self,
        entry: Entry,
        result: tuple[Header, UInt8[np.ndarray, "h w c"]] | BadFile,
        packed: list[tuple[Entry, Header]],
    ) -> UInt8[np.ndarray, "h w c"] | None:
        if isinstance(result, Misfit):
            self._misfits[entry.name] = str(result)
            return None
        if isinstance(result, BadFile):
            self._refused[entry.name] = str(result)
            del self._headers[entry]
            return None
        self._headers[entry], values = result
        packed.append((entry, result[0]))
        return values

    def _contents(self, packed: Sequence[tuple[Entry, Header]], target: Target, asked: Size | None) -> Contents:
        names = tuple(entry.name for entry, _ in packed)
        headers = [header for _, header in packed]
        sizes = [(header.height, header.width) for header in headers]
        folders, how = classes_of(names)
        classes = tuple(sorted({each for each in folders if each is not None}))
        counts = Counter(folders)
        refused = sorted((self._refused | self._misfits).items())
        report = ScanReport(
            source=str(self.folder),
            found=len(self.listing.files) + len(self.listing.hidden) + len(self.listing.refused),
            usable=len(names),
            refused=tuple(Refused(name, reason) for name, reason in refused),
            other=tuple(self._other),
            hidden=self.listing.hidden,
            sizes=tuple(Counter(sizes).most_common()),
            kinds=tuple(Counter(str(header.kind) for header in headers).most_common()),
            class_counts=tuple((each, counts[each]) for each in classes),
            decisions=(
                size_sentence(sizes, target.size, asked, target.fit),
                *kind_sentences(headers, target.kind),
                how,
            ),
            n_train=0,
            n_heldout=0,
        )
        labels = np.array([classes.index(str(each)) for each in folders], np.int64) if classes else None
        return Contents(names, labels, classes, report)

    def _nothing_usable(self) -> str:
        looked = f"Looked for PNG, JPEG or WebP pictures in {self.folder}"
        if self._refused:
            name, reason = min(self._refused.items())
            return (
                f"{looked}, but none of the {len(self._refused):,} there can be used; the first is {name} ({reason})."
            )
        endings = Counter(formats.ending(name) or "without an ending" for name in self._other)
        found = ", ".join(f"{count:,} {ending}" for ending, count in endings.most_common(5))
        files = f"{len(self._other):,} files ({found})" if found else "no files"
        return f"{looked}, but found {files}: give the folder that holds the pictures."


def _in_order(
    pool: ThreadPoolExecutor, read: Callable[[Entry], T], entries: Sequence[Entry]
) -> Iterator[tuple[Entry, T | BadFile]]:
    def attempt(entry: Entry) -> tuple[Entry, T | BadFile]:
        try:
            return entry, read(entry)
        except BadFile as bad:
            return entry, bad

    for start in range(0, len(entries), AT_ONCE):
        with warnings.catch_warnings():  # broken EXIF and the like: what matters becomes a verdict
            warnings.simplefilter("ignore")
            results = list(pool.map(attempt, entries[start : start + AT_ONCE]))
        yield from results
