"""One picture file: what its header says, and its pixels upright in one kind of channels."""

import io
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fromnoise.images import formats
from fromnoise.images.formats import BadFile
from fromnoise.images.listing import Entry
from fromnoise.images.resize import Fit, Size, fit_image

Kind = Literal["grey", "RGB", "RGBA"]
CHANNELS: dict[Kind, int] = {"grey": 1, "RGB": 3, "RGBA": 4}

MOST_BYTES = 64 * 2**20
MOST_SIDE = 16_384
MOST_PIXELS = 64_000_000
LARGE = 16_000_000  # pixels from which one picture is decoded at a time, so that memory stays flat

_MODES: dict[Kind, str] = {"grey": "L", "RGB": "RGB", "RGBA": "RGBA"}
_PLAIN: dict[str, Kind] = {"1": "grey", "L": "grey", "RGB": "RGB", "P": "RGB"}
_WITH_ALPHA = {"LA", "PA", "RGBA"}
_ORIENTATION = 0x0112  # EXIF 2.32, table 4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BIG_COMMENT = "too-large: a comment in it unpacks to more than 1 MiB"
_one_large = threading.Lock()


@dataclass(frozen=True)
class Header:
    """What is known of a picture before its pixels are."""

    height: int  # as seen upright
    width: int
    kind: Kind
    palette: bool
    grey_alpha: bool
    frames: int
    turned: bool  # EXIF says that it is not stored upright


@dataclass(frozen=True)
class Target:
    """What every picture of a set is turned into."""

    kind: Kind
    size: Size
    fit: Fit


class Misfit(BadFile):
    """A sound picture whose kind of channels is not the set's and cannot become it without loss."""


def read_header(entry: Entry) -> Header | None:
    """The header of a picture; None for a file that does not claim to be one. Raises ``BadFile``."""
    try:
        with open(entry.path, "rb") as stream:
            head = stream.read(formats.HEAD)
            found = _claim(head, entry)
            if found is None:
                return None
            stream.seek(0)
            with _opened(stream, head, found) as image:
                # A PNG may carry its EXIF after the pixels; asking for it here would decode them.
                return _header(image, "exif" in image.info or found != formats.PNG)
    except OSError as error:
        raise BadFile(f"unreadable: {error.strerror or error}") from error


def read_pixels(entry: Entry, target: Target) -> tuple[Header, UInt8[np.ndarray, "h w c"]]:
    """The picture at the target's size and kind, 0..255, and its header as the decoded file has it.

    Raises ``BadFile``; ``Misfit`` if only the kind of channels is in the way.
    """
    try:
        with open(entry.path, "rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadFile(f"unreadable: {error.strerror or error}") from error
    found = _claim(data[: formats.HEAD], replace(entry, size=len(data)))
    if found is None:
        raise BadFile("corrupt: the file changed while it was read")
    formats.check_whole(data, found)
    with _opened(io.BytesIO(data), data[: formats.HEAD], found) as image, _room_for(image):
        return _decoded(image, target)


def _claim(head: bytes, entry: Entry) -> str | None:
    """PNG, JPEG or WEBP; None if the file does not claim to be a picture. Raises ``BadFile`` for a false claim."""
    named_picture = formats.ending(entry.name) in formats.PICTURE_ENDINGS
    found = formats.sniff(head, entry.name)
    if not head and named_picture:
        raise BadFile("empty: the file has 0 bytes")
    if b"\noid sha256:" in head:
        raise BadFile("mislabelled: a Git LFS pointer, the picture itself was not fetched (git lfs pull)")
    if found is None and named_picture:
        raise BadFile("mislabelled: the name says picture, the content is none")
    if found is None:
        return None
    if found == formats.ARRAY:
        raise BadFile("unsupported: an array in a folder is not read yet, give it as the source itself")
    if found not in formats.READABLE:
        raise BadFile(f"unsupported: {found} is not read yet, export it as PNG or JPEG")
    if entry.size > MOST_BYTES:
        raise BadFile(f"too-large: a file of {entry.size / 2**20:,.0f} MiB, at most {MOST_BYTES >> 20} are read")
    if formats.promised_bytes(head, found) > entry.size:
        raise BadFile("truncated: the data end before the picture does")
    if found == formats.PNG and formats.png_depth(head) == 16:
        raise BadFile("unsupported: 16 bits per channel are not read yet, save it with 8")
    return found


def _opened(stream: io.BufferedReader | io.BytesIO, head: bytes, found: str) -> Image.Image:
    try:
        image = Image.open(stream, formats=(found,))
    except Image.DecompressionBombError as error:
        raise BadFile(_too_many_pixels()) from error
    except Exception as error:  # decoders fail in every way there is on hostile bytes; none may end the scan
        raise BadFile(_open_failure(error, head, found)) from error
    if max(image.size) > MOST_SIDE or image.width * image.height > MOST_PIXELS:
        raise BadFile(_too_many_pixels(image.size))
    return image


def _open_failure(error: Exception, head: bytes, found: str) -> str:
    if "too large" in str(error):
        return _BIG_COMMENT
    if len(head) < formats.HEAD:
        return f"truncated: the {found} ends within its header"
    return f"corrupt: the {found} header cannot be read"


def _too_many_pixels(size: tuple[int, int] | None = None) -> str:
    declared = f"{size[0]:,} x {size[1]:,} pixels" if size else "too many pixels"
    return (
        f"too-large: it declares {declared}, "
        f"at most {MOST_SIDE:,} a side and {MOST_PIXELS // 10**6} million in all are read"
    )


def _header(image: Image.Image, with_exif: bool) -> Header:
    orientation = _orientation(image) if with_exif else 1
    height, width = (image.width, image.height) if orientation >= 5 else (image.height, image.width)
    if image.mode in _WITH_ALPHA or (image.mode in _PLAIN and "transparency" in image.info):
        kind: Kind = "RGBA"
    elif image.mode in _PLAIN:
        kind = _PLAIN[image.mode]
    else:
        raise BadFile(f"unsupported: {image.mode} pixels are not read yet, only grey, RGB and RGBA at 8 bits")
    return Header(
        height=height,
        width=width,
        kind=kind,
        palette=image.mode in ("P", "PA"),
        grey_alpha=image.mode == "LA",
        frames=getattr(image, "n_frames", 1),
        turned=orientation != 1,
    )


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF says nothing about the pixels: upright as stored
        return 1
    return found if found in _UPRIGHT else 1


def _decoded(image: Image.Image, target: Target) -> tuple[Header, UInt8[np.ndarray, "h w c"]]:
    stored = image.size
    # JPEG can be decoded at 1/2, 1/4 or 1/8 for a fraction of the time; twice the wanted size loses nothing.
    longest = max(target.size)
    image.draft(None, (2 * longest, 2 * longest))
    try:
        image.load()
    except Exception as error:  # as in _opened
        raise BadFile(_load_failure(error)) from error
    drafted = image.size
    orientation = _orientation(image)
    header = _header(image, with_exif=True)
    if drafted != stored:
        upright = stored if orientation < 5 else stored[::-1]
        header = replace(header, width=upright[0], height=upright[1])
    plain = image.convert(_MODES[header.kind])
    if orientation != 1:
        plain = plain.transpose(_UPRIGHT[orientation])
    values = fit_image(_narrowed(plain, header.kind, target.kind), target.size, target.fit)
    return header, _widened(values, target.kind)


def _load_failure(error: Exception) -> str:
    if "truncated" in str(error):
        return "truncated: the data end before the picture does"
    if "too large" in str(error):
        return _BIG_COMMENT
    return "corrupt: the pixels cannot be decoded"


def _narrowed(image: Image.Image, kind: Kind, wanted: Kind) -> Image.Image:
    """With no more channels than wanted. Raises ``Misfit`` where a channel that says something would go."""
    if CHANNELS[kind] <= CHANNELS[wanted]:
        return image
    if kind == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        raise Misfit(f"misfit: it is partly transparent, while most pictures here are {wanted}")
    colours = image.convert("RGB")
    if wanted == "RGB":
        return colours
    red, green, blue = (np.asarray(colours.getchannel(name)) for name in "RGB")
    if not (np.array_equal(red, green) and np.array_equal(green, blue)):
        raise Misfit("misfit: it is coloured, while most pictures here are grey")
    return colours.getchannel("R")


def _widened(values: UInt8[np.ndarray, "h w c"], wanted: Kind) -> UInt8[np.ndarray, "h w d"]:
    if values.shape[-1] == 1 and wanted != "grey":
        values = values.repeat(3, axis=-1)
    if values.shape[-1] == 3 and wanted == "RGBA":
        opaque = np.full((*values.shape[:2], 1), 255, np.uint8)
        values = np.concatenate([values, opaque], axis=-1)
    return values


def _room_for(image: Image.Image) -> AbstractContextManager[object]:
    return _one_large if image.width * image.height >= LARGE else nullcontext()
