"""The door of the room: whatever holds pictures -> an ImageSet."""

import difflib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from fromnoise.errors import UseError
from fromnoise.images.array_source import ArraySource, from_file, from_memory
from fromnoise.images.asked import Asked
from fromnoise.images.drawn_source import DrawnSource
from fromnoise.images.image_set import ImageSet
from fromnoise.images.pack import open_pack, pack_path, write_pack
from fromnoise.images.picture_source import PictureSource, Progress, Replan
from fromnoise.images.place import Folder, Packed
from fromnoise.images.resize import Fit, Size
from fromnoise.menagerie import Menagerie

ARRAY_ENDINGS = (".npy", ".npz")
ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


# Each has key_parts(), all that its values depend on, and readings(), to be tried in turn until one ends.
Source = PictureSource | ArraySource | DrawnSource


def open_images(
    source: str | os.PathLike[str] | np.ndarray,
    *,
    size: Size | None = None,
    fit: Fit | None = None,
    channels: int | None = None,
    flatten: str | None = None,
    progress: Progress | None = None,
) -> ImageSet:
    """The images of a folder, an archive, a .npy or .npz file, an array, or the embedded set (``menagerie:20000@7``).

    They are decoded once into a packed copy in the user's cache and found there the next time; a scan that was stopped
    goes on. ``size`` is (height, width); left out, images of one size up to 64 stay as they are and others get at most
    64 a side. ``fit``: crop, pad, stretch, or pixels for pixel art, which is told by itself. ``channels``: 1, 2, 3, 4
    for grey, grey with opacity, RGB, RGBA; left out, those of most images. ``flatten``: a colour, as in HTML, that
    transparent images are laid on.
    ``progress(done, total)`` is called while packing, and not at all when the packed copy is there.
    Raises ``UseError`` if there is nothing usable, ``CouldNotSave`` if the cache cannot take the copy.
    """
    asked = Asked(size, fit, channels, flatten)
    name, opened = _source(source)
    path = pack_path(name, repr(asked).encode(), *opened.key_parts())
    found = open_pack(path)
    if found is None:
        _pack(path, opened, asked, progress or _silent)
        found = open_pack(path)
    if found is None:
        raise UseError(f"The packed copy in {path} vanished as it was made: run the command again.")
    return replace(found, asked=asked)


def name_of(source: str | os.PathLike[str]) -> str:
    """Of a folder its name, of a file its name without the ending, "menagerie" of any of its sets."""
    if str(source).startswith(("menagerie:", "menagerie@")):
        return "menagerie"
    path = Path(source).expanduser().resolve()
    return (path.name if path.is_dir() else path.stem) or "pictures"


def default_run(pictures: str | os.PathLike[str]) -> Path:
    """runs/NAME, the name that people have for the pictures: said first thing, before torch is imported."""
    return Path("runs", name_of(pictures))


def _pack(path: Path, source: Source, asked: Asked, progress: Progress) -> None:
    for reading in source.readings(asked, progress):
        try:
            write_pack(path, reading)
        except Replan:
            continue
        reading.packed()
        return


def _silent(done: int, total: int) -> None:
    pass


def _source(given: str | os.PathLike[str] | np.ndarray) -> tuple[str, Source]:
    """(a name for people, the source)."""
    if isinstance(given, np.ndarray):
        return "array", from_memory(given)
    if isinstance(given, str) and (given == "menagerie" or given.startswith(("menagerie:", "menagerie@"))):
        return "menagerie", DrawnSource(given, Menagerie.parse(given))
    path = Path(os.path.realpath(os.path.expanduser(given)))
    if os.path.isdir(path):
        return path.name, PictureSource(Folder(path))
    if os.path.isfile(path) and path.name.lower().endswith(ARCHIVE_ENDINGS):
        return path.name.split(".")[0], PictureSource(Packed(path))
    if os.path.isfile(path) and path.suffix.lower() in ARRAY_ENDINGS:
        return path.stem, from_file(path)
    raise UseError(_why_not(given, path))


def _why_not(given: str | os.PathLike[str], path: Path) -> str:
    looked = f"Looked for pictures at {given}"
    if os.path.isfile(path):
        return (
            f"{looked}, but that is a single {path.suffix or 'file'}: give the folder that holds the pictures, "
            "a .zip or .tar of it, or a .npy or .npz file."
        )
    if os.path.lexists(path):
        return f"{looked}, but that is neither a folder nor a file."
    parent = next(folder for folder in path.parents if os.path.isdir(folder))
    if parent != path.parent:
        return f"{looked}, but there is no {path.relative_to(parent).parts[0]} in {parent}: check the path."
    return f"{looked}, but there is no such folder or file: {_nearby(path)}"


def _nearby(path: Path) -> str:
    there = sorted(each.name for each in path.parent.iterdir() if not each.name.startswith("."))
    if near := difflib.get_close_matches(path.name, there, n=3):
        return f"did you mean {' or '.join(near)}?"
    if not there:
        return f"{path.parent} is empty."
    more = f" and {len(there) - 5} more" if len(there) > 5 else ""
    return f"{path.parent} holds {', '.join(there[:5])}{more}."
