"""The packed set: decoded once, kept in the user's cache, mapped into memory ever after.

A pack is a folder NAME-KEY with ``values`` (N, H, W, C, little-endian), ``names``, ``labels`` and ``heldout`` (int64),
``numbers`` (float32) and the manifest of ``durable``. KEY is a hash over all that the values depend on, so a
changed file, size or fit is another pack. A pack may be deleted at any time: it is made again.
"""

import functools
import hashlib
import importlib.metadata
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Shaped

from fromnoise import durable
from fromnoise.errors import FromnoiseError, UseError
from fromnoise.images.image_set import ImageSet
from fromnoise.images.kinds import Kind
from fromnoise.images.labels import Labels
from fromnoise.images.names import Names, names_file
from fromnoise.images.plan import range_sentences, split_sentence
from fromnoise.images.report import ScanReport
from fromnoise.images.resize import Size
from fromnoise.images.spec import ValueSpec
from fromnoise.images.split import fingerprint, heldout_indices

COUNTED_BYTES = 2**22  # of images that are counted together: as floats they take eight times as much
FORMAT = 6  # part of the key: a change of this room that changes what is packed takes the next number


@dataclass(frozen=True)
class Contents:
    """What a source says of its images once all are read."""

    names: tuple[str, ...]
    labels: Labels  # classes and numbers; its decisions are in the report
    report: ScanReport  # without the split, which is decided here


@dataclass(frozen=True)
class Reading:
    """A source about to be read: ``blocks`` first, to its end, then ``contents``."""

    kind: Kind
    size: Size
    at_most: int  # images
    blocks: Iterator[Shaped[np.ndarray, "n h w c"]]
    contents: Callable[[], Contents]
    packed: Callable[[], None] = lambda: None  # to be told once the pack is there


def pack_path(name: str, *parts: bytes) -> Path:
    """Where the pack of a source lies; ``parts`` are all that its values depend on."""
    plain = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII).strip("._")[:40] or "set"
    return cache_folder() / "sets" / f"{plain}-{_key(parts)}"


def scan_folder(*parts: bytes) -> Path:
    """Where the unfinished scan lies whose answers depend on ``parts``."""
    return cache_folder() / "scans" / _key(parts)


def _key(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in (str(FORMAT).encode(), *_decoders(), *parts):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


@functools.cache
def _decoders() -> tuple[bytes, ...]:
    """Which libraries read pictures here: one that is installed later must not find the verdicts of its absence."""
    found = []
    for name in ("pillow", "imagecodecs", "tifffile"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}".encode())
    return tuple(found)


def cache_folder() -> Path:
    """``FROMNOISE_CACHE``, else fromnoise's folder in the place the system keeps caches."""
    if chosen := os.environ.get("FROMNOISE_CACHE"):
        return Path(chosen).absolute()
    if sys.platform == "win32":
        root = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    else:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "fromnoise"


def write_pack(path: Path, reading: Reading) -> None:
    """Read the source to its end into a pack at ``path``. Raises ``CouldNotSave``, and what the source raises."""
    height, width = reading.size
    tally = _Tally(reading.kind, reading.size)
    facts: dict[str, object] = {}
    with durable.new_folder(path, facts) as folder:
        durable.require_space(path.parent, reading.at_most * height * width * tally.bytes_per_pixel)
        with folder.stream("values") as stream:
            for block in reading.blocks:
                values = _without_hidden_colours(block, reading.kind)
                stream.write(values.view(np.uint8).data)
                tally.add(values)
        contents = reading.contents()
        heldout = heldout_indices(tally.fingerprints)
        folder.write("names", names_file(contents.names))
        folder.write("heldout", heldout.astype("<i8").tobytes())
        labels, numbers = contents.labels.labels, contents.labels.numbers
        if labels is not None:
            folder.write("labels", labels.astype("<i8").tobytes())
        if numbers is not None:
            folder.write("numbers", numbers.astype("<f4").tobytes())
        facts |= tally.facts(contents.labels)
        facts |= {
            "classes": list(contents.labels.classes),
            "number_names": list(contents.labels.number_names),
            "report": _completed(contents.report, facts, tally.fingerprints, len(heldout)).to_json(),
        }


def open_pack(path: Path) -> ImageSet | None:
    """The set packed at ``path``; None if there is none, or it is damaged. Values are mapped, not read."""
    with suppress(FromnoiseError, OSError, KeyError, TypeError, ValueError):
        return _open_pack(path)
    return None


def _open_pack(path: Path) -> ImageSet:
    manifest = durable.read_manifest(path)
    facts: Mapping[str, Any] = manifest.facts
    small = {}
    for file in manifest.files:
        if file.name == "values":
            if (path / "values").stat().st_size != file.size:
                raise durable.Damaged(f"{path} is damaged: its values have another length.")
        else:
            small[file.name] = _read_checked(path / file.name, file.sha256)
    spec, shape = ValueSpec.from_json(facts["spec"]), tuple(facts["shape"])
    heldout = np.frombuffer(small["heldout"], "<i8").astype(np.int64)
    is_trained_on = np.ones(shape[0], bool)
    is_trained_on[heldout] = False
    numbers = np.frombuffer(small["numbers"], "<f4").astype(np.float32) if "numbers" in small else None
    return ImageSet(
        values=np.memmap(path / "values", spec.dtype.newbyteorder("<"), mode="r", shape=shape),
        labels=np.frombuffer(small["labels"], "<i8").astype(np.int64) if "labels" in small else None,
        classes=tuple(facts["classes"]),
        numbers=None if numbers is None else numbers.reshape(shape[0], -1),
        number_names=tuple(facts["number_names"]),
        names=Names(small["names"]),
        spec=spec,
        train=np.flatnonzero(is_trained_on),
        heldout=heldout,
        identity=str(facts["identity"]),
        report=ScanReport.from_json(facts["report"]),
        sigma_data=float(facts["sigma_data"]),
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
    )


def _read_checked(path: Path, sha256: str) -> bytes:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise durable.Damaged(f"{path} is damaged: its content is not what was saved.")
    return data


class _Tally:
    """What is counted while the values pass: identity, fingerprints, range, mean and deviation of encoded values.

    Where the range is that of the set, it is known only at the end; until then the values are counted in units of
    the first image's largest, less those of its first pixel: neither kelvins nor 1e300 are lost to their own size.
    """

    def __init__(self, kind: Kind, size: Size) -> None:
        self.fingerprints: list[bytes] = []
        self.bytes_per_pixel = kind.channels * kind.dtype.itemsize
        self._kind, self._size = kind, size
        self._fixed = _fixed_spec(kind)
        self._identity = hashlib.sha256(durable.to_json(list(size)))
        self._origin: Float64[np.ndarray, " c"] | None = None
        self._unit = 1.0
        self._sum, self._squares = np.zeros(kind.channels), np.zeros(kind.channels)
        self._low, self._high = np.full(kind.channels, np.inf), np.full(kind.channels, -np.inf)

    def add(self, values: Shaped[np.ndarray, "n h w c"]) -> None:
        self._identity.update(values.view(np.uint8).data)
        self.fingerprints += [fingerprint(image.view(np.uint8).data) for image in values]
        together = max(1, COUNTED_BYTES // values[0].nbytes)
        for start in range(0, len(values), together):
            with np.errstate(over="ignore", invalid="ignore"):  # facts refuses what cannot be counted
                counted = self._counted(values[start : start + together])
                rows = counted.reshape(len(counted), -1)
                self._sum += self._by_channel(rows)
                self._squares += self._by_channel(np.square(rows))

    def _counted(self, values: Shaped[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n h w c"]:
        if self._fixed:
            return self._fixed.encode(values)
        self._low = np.minimum(self._low, values.min(axis=(0, 1, 2)))
        self._high = np.maximum(self._high, values.max(axis=(0, 1, 2)))
        if self._origin is None:
            self._unit = float(np.abs(values[0].astype(np.float64)).max()) or 1.0
            self._origin = values[0, 0, 0].astype(np.float64) / self._unit
        return values.astype(np.float64) / self._unit - self._origin

    def _by_channel(self, rows: Float[np.ndarray, "n d"]) -> Float64[np.ndarray, " c"]:
        # Over the images first: NumPy adds long rows 30 times as fast as rows of three numbers.
        return rows.sum(axis=0, dtype=np.float64).reshape(-1, self._kind.channels).sum(axis=0)

    def facts(self, labels: Labels) -> dict[str, object]:
        n = len(self.fingerprints)
        spec = self._fixed or _measured_spec(self._kind, self._low, self._high)
        for part in (spec.to_json(), list(labels.classes), list(labels.number_names)):
            self._identity.update(durable.to_json(part))
        for column in (labels.labels, labels.numbers):
            self._identity.update(b"" if column is None else column.astype(column.dtype.newbyteorder("<")).tobytes())
        with np.errstate(all="ignore"):
            mean, std = self._encoded_moments(spec, n * self._size[0] * self._size[1])
        if not np.isfinite(std).all():
            raise UseError(
                f"The values lie from {min(spec.low):g} to {max(spec.high):g}, too far apart to be counted: "
                "give them in another unit, or as their logarithm."
            )
        return {
            "shape": [n, *self._size, spec.channels],
            "spec": spec.to_json(),
            "identity": self._identity.hexdigest(),
            "mean": mean.tolist(),
            "std": std.tolist(),
            "sigma_data": float(np.sqrt(np.mean(std**2) + np.var(mean))),
        }

    def _encoded_moments(
        self, spec: ValueSpec, count: int
    ) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
        mean = self._sum / count
        std = np.sqrt(np.maximum(self._squares / count - mean**2, 0))
        if self._origin is None:
            return mean, std
        half = spec.half / self._unit
        return (mean + self._origin - spec.middle / self._unit) / half, std / half


def _fixed_spec(kind: Kind) -> ValueSpec | None:
    """Of 8 bits, and with opacity, the whole range of the type; None where the range is that of the set."""
    if kind.values != "uint" or not (kind.bits == 8 or kind.alpha):
        return None
    return ValueSpec(bits=kind.bits, high=(float(kind.white),), channels=kind.channels, alpha=kind.alpha)


def _measured_spec(kind: Kind, low: Float64[np.ndarray, " c"], high: Float64[np.ndarray, " c"]) -> ValueSpec:
    """One range for grey and for colours, one for each channel of measurements."""
    if kind.values == "uint" and kind.channels in (1, 3):
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    return ValueSpec(
        kind=kind.values,
        bits=kind.bits,
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        channels=kind.channels,
        alpha=kind.alpha,
    )


def _without_hidden_colours(block: Shaped[np.ndarray, "n h w c"], kind: Kind) -> Shaped[np.ndarray, "n h w c"]:
    """Colour 0 under alpha 0: nobody sees it, and two images that look alike must be alike. Little-endian."""
    if kind.alpha:
        block = np.where(block[..., -1:] == 0, np.zeros((), block.dtype), block)
    return np.ascontiguousarray(block, dtype=kind.dtype.newbyteorder("<"))


def _completed(report: ScanReport, facts: Mapping[str, Any], fingerprints: list[bytes], heldout: int) -> ScanReport:
    """With what only the packed values tell: their range, the split, exact copies."""
    n = len(fingerprints)
    measured = range_sentences(ValueSpec.from_json(facts["spec"]), facts["sigma_data"])
    split = split_sentence(n, heldout, n - len(Counter(fingerprints)))
    return replace(report, decisions=(*report.decisions, *measured, *split), n_train=n - heldout, n_heldout=heldout)
