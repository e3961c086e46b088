"""What every reader of a format gives: a header before the pixels are read, and then the pixels, upright."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Shaped

from fromnoise.images.formats import MOST_UNPACKED, BadFile
from fromnoise.images.kinds import Kind

MOST_BYTES = 64 * 2**20  # of a file
MOST_SIDE = 16_384
MOST_PIXELS = 64_000_000

# EXIF 2.32, table 4, and TIFF 6.0, section "Orientation": (transposed, flipped up and down, flipped left and right)
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Header:
    """What is known of a picture before its pixels are."""

    height: int  # as seen upright
    width: int
    kind: Kind
    frames: int = 1
    notes: tuple[str, ...] = ()  # what was done to it: keys of ``plan.NOTES``

    def noting(self, *notes: str) -> "Header":
        """The same with more notes, in one order."""
        return replace(self, notes=tuple(sorted({*self.notes, *notes})))

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return {**vars(self), "kind": dict(vars(self.kind))}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Header":
        """The inverse. Raises KeyError, TypeError or ValueError for another record."""
        kind, notes = Kind(**record["kind"]), tuple(record["notes"])
        return cls(int(record["height"]), int(record["width"]), kind, int(record["frames"]), notes)


@dataclass(frozen=True, eq=False)
class Raster:
    """A picture upright, in the numbers of its file."""

    header: Header
    values: Shaped[np.ndarray, "h w c"]  # of header.kind.dtype


def require_small(height: int, width: int, bytes_per_pixel: int = 1) -> None:
    """Raise ``BadFile`` for a picture that would take too much memory, judged by what its header declares."""
    if max(height, width) > MOST_SIDE or height * width > MOST_PIXELS:
        raise BadFile(
            f"too-large: it declares {width:,} x {height:,} pixels, at most {MOST_SIDE:,} a side and "
            f"{MOST_PIXELS // 10**6} million in all are read"
        )
    if height * width * bytes_per_pixel > MOST_UNPACKED:
        raise BadFile(f"too-large: its values take more than {MOST_UNPACKED >> 20} MiB")


def require_finite(values: Shaped[np.ndarray, "h w c"]) -> None:
    """Raise ``BadFile`` with the count and the first place of values that are no numbers."""
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    places = np.argwhere(~np.isfinite(values))
    row, column = (int(place) for place in places[0][:2])
    raise BadFile(
        f"non-finite: {len(places):,} of its values are NaN or infinite, the first in row {row}, column {column}; "
        "fill them, for instance with numpy.nan_to_num, or leave the picture out"
    )


def upright(values: Shaped[np.ndarray, "h w c"], orientation: int) -> Shaped[np.ndarray, "H W c"]:
    """Turned as the orientation of EXIF or TIFF says; 1 and whatever is no orientation leave it as it is."""
    if orientation not in _UPRIGHT:
        return values
    transposed, up_down, left_right = _UPRIGHT[orientation]
    turned = values.swapaxes(0, 1) if transposed else values
    turned = turned[::-1] if up_down else turned
    return turned[:, ::-1] if left_right else turned


def turns_sides(orientation: int) -> bool:
    """Whether height and width change places."""
    return orientation in (5, 6, 7, 8)


def not_installed(what: str) -> BadFile:
    """The verdict on a file that only an optional package could read."""
    return BadFile(f'unsupported: {what} is read by packages that are not installed: pip install "fromnoise[formats]"')
