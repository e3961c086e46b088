"""A folder of files that appears whole, with a manifest that proves every byte of it.

The steps of a save: write and sync each file in NAME.tmp-<random>, write and sync manifest.json, sync the
folder, rename it to NAME, sync the parent. A folder of that name that was there before is first renamed to
NAME.old-<random> and removed at the very end; ``remove_leftovers`` puts it back if a crash fell between the
two renames.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fromnoise.durable.canonical import Damaged, from_json, to_json
from fromnoise.durable.files import (
    beside,
    create,
    make_folders,
    require_space,
    saving,
    sync,
    sync_folder,
    trace_of,
    write_all,
)
from fromnoise.errors import NoCheckpoint

FORMAT = 1  # of manifest.json; a newer one is refused
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FileFact:
    """One listed file."""

    name: str  # a plain name within the folder
    size: int  # bytes
    sha256: str  # 64 hexadecimal digits


@dataclass(frozen=True)
class Manifest:
    """What a folder holds: its files, and what its writer said of them."""

    format: int
    files: tuple[FileFact, ...]
    facts: Mapping[str, object]


class Writer:
    """Takes the bytes of one file in turn and hashes them on the way; memory stays flat."""

    def __init__(self, descriptor: int, shown: Path) -> None:
        self._descriptor = descriptor
        self._shown = shown  # the final path, for messages
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> int:
        """Append ``data``; its length in bytes. Raises ``CouldNotSave``."""
        with saving(self._shown):
            write_all(self._descriptor, data)
        self._hash.update(data)
        size = memoryview(data).nbytes
        self._size += size
        return size

    def fact(self, name: str) -> FileFact:
        """Size and hash of what has been written so far."""
        return FileFact(name, self._size, self._hash.hexdigest())


class Folder:
    """A folder being written: nobody sees it before it is complete."""

    def __init__(self, temporary: Path, target: Path) -> None:
        self._temporary = temporary
        self._target = target
        self._files: dict[str, FileFact] = {}

    def write(self, name: str, data: bytes) -> None:
        """Add one file from memory. Raises ``CouldNotSave``, before writing if the disk lacks the space."""
        require_space(self._temporary, len(data))
        with self.stream(name) as writer:
            writer.write(data)

    @contextmanager
    def stream(self, name: str) -> Iterator[Writer]:
        """Add one file piece by piece: ``with folder.stream("x") as writer: writer.write(...)``."""
        if not _is_plain(name) or name in self._files:
            raise ValueError(f"{name!r} is no new plain file name")
        shown = self._target / name
        with saving(shown):
            descriptor = create(self._temporary / name)
        try:
            writer = Writer(descriptor, shown)
            yield writer
            with saving(shown):
                sync(descriptor)
        finally:
            os.close(descriptor)
        self._files[name] = writer.fact(name)

    def _write_manifest(self, facts: Mapping[str, object]) -> None:
        files = [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in self._files.values()]
        record = {"format": FORMAT, "files": files, "facts": dict(facts)}
        record["sha256"] = hashlib.sha256(to_json(record)).hexdigest()
        descriptor = create(self._temporary / MANIFEST)
        try:
            write_all(descriptor, to_json(record))
            sync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def new_folder(path: Path, facts: Mapping[str, object]) -> Iterator[Folder]:
    """Write a folder that is at ``path`` complete when the block ends, and not at all if it fails.

    ``facts``: what the manifest says besides the files, any JSON; it is read when the block ends, so it may
    still be filled inside. A folder already at ``path`` is replaced. Raises ``CouldNotSave``; errors of the
    block pass.
    """
    temporary = beside(path, "tmp")
    try:
        with saving(path):
            make_folders(path.parent)
            temporary.mkdir()
        folder = Folder(temporary, path)
        yield folder
        with saving(path):
            folder._write_manifest(facts)
            sync_folder(temporary)
            _put_in_place(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def verify_folder(path: Path) -> Manifest:
    """The manifest, after size and SHA-256 of every file agreed with it.

    Raises ``Damaged`` naming the file and the reason, ``NoCheckpoint`` for a format newer than is known here.
    """
    manifest = read_manifest(path)
    for fact in manifest.files:
        _verify_file(path / fact.name, fact)
    return manifest


def read_manifest(path: Path) -> Manifest:
    """The manifest alone, proved by the hash it carries of itself; the files are not looked at.

    Raises ``Damaged`` or ``NoCheckpoint`` as ``verify_folder`` does.
    """
    file = path / MANIFEST
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _damaged(file, f"it cannot be read ({error.strerror})") from error
    record = from_json(data, str(file))
    if not isinstance(record, dict):
        raise _damaged(file, "it should hold a JSON object")
    rest = {key: value for key, value in record.items() if key != "sha256"}
    if record.get("sha256") != hashlib.sha256(to_json(rest)).hexdigest() or to_json(record) != data:
        raise _damaged(file, "its content does not have the SHA-256 it states")
    return _manifest(record, file)


def remove_leftovers(parent: Path) -> None:
    """Clear what crashes left in ``parent``: half-written and discarded folders go, a replaced one whose
    successor never arrived comes back. Only the one writer of ``parent`` may call it (``writer_lock``).
    """
    if not parent.is_dir():
        return
    for path in sorted(parent.iterdir()):
        trace = trace_of(path)
        if trace is None:
            continue
        name, kind = trace
        if kind == "old" and not (parent / name).exists():
            with saving(parent / name):
                os.rename(path, parent / name)
                sync_folder(parent)
        else:
            _remove(path)


def discard_folder(path: Path) -> None:
    """Remove a folder so that no instant shows a part of it: renamed first, then taken apart."""
    discarded = beside(path, "discarded")
    with saving(path):
        os.rename(path, discarded)
        sync_folder(path.parent)
    _remove(discarded)


def _put_in_place(temporary: Path, path: Path) -> None:
    old = beside(path, "old")
    try:
        if path.exists():
            os.rename(path, old)
            sync_folder(path.parent)
        os.rename(temporary, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.rename(old, path)
        raise
    sync_folder(path.parent)
    _remove(old)


def _remove(path: Path) -> None:
    # What cannot be removed now is removed by the next start: no reason to fail a save that is done.
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _verify_file(file: Path, fact: FileFact) -> None:
    try:
        size = file.stat().st_size
        if size != fact.size:
            raise _damaged(file, f"it has {size:,} bytes where {fact.size:,} were saved")
        with open(file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise _damaged(file, "it is missing") from error
    except OSError as error:
        raise _damaged(file, f"it cannot be read ({error.strerror})") from error
    if digest != fact.sha256:
        raise _damaged(file, "its content is not what was saved (SHA-256 differs)")


def _manifest(record: dict[str, object], file: Path) -> Manifest:
    match record:
        case {"format": int(number)} if number > FORMAT:
            raise NoCheckpoint(
                f"{file} has format {number}, but this fromnoise reads up to {FORMAT}: update fromnoise."
            )
        case {"format": 1, "files": list(files), "facts": dict(facts)}:
            return Manifest(FORMAT, tuple(_file_fact(entry, file) for entry in files), facts)
    raise _damaged(file, "it lacks format, files or facts")


def _file_fact(entry: object, file: Path) -> FileFact:
    match entry:
        case {"name": str(name), "size": int(size), "sha256": str(sha256)} if _is_plain(name):
            return FileFact(name, size, sha256)
    raise _damaged(file, f"it lists {entry!r} as a file")


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..", MANIFEST) and not any(char in name for char in "/\\:\0")


def _damaged(file: Path, reason: str) -> Damaged:
    return Damaged(f"{file} is damaged: {reason}.")
