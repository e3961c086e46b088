"""One file at a time: written whole or not at all, and lines appended whole or not at all."""

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from fromnoise.durable.canonical import Damaged, from_json, to_json
from fromnoise.errors import CouldNotSave

SPARE_BYTES = 64 * 2**20  # left free beside what is saved, so that a save never takes the last of a disk
_BINARY: int = getattr(os, "O_BINARY", 0)  # Windows would otherwise rewrite line ends
_TRACE = re.compile(r"(?P<name>.+)\.(?P<kind>tmp|old|discarded)-[0-9a-f]{16}")

Kind = Literal["tmp", "old", "discarded"]


def write_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, replacing what was there in one instant; folders above are made.

    Raises ``CouldNotSave``; the file that was there before is then intact and no temporary file is left.
    """
    with saving(path):
        make_folders(path.parent)
    require_space(path.parent, len(data))
    temporary = beside(path, "tmp")
    try:
        with saving(path):
            descriptor = create(temporary)
            try:
                write_all(descriptor, data)
                sync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, path)
            sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def append_line(path: Path, record: Mapping[str, object]) -> None:
    """Add one JSON line: complete or absent. A line torn by an earlier crash is cut off first.

    Written by one call to the system, so it survives the death of the process at once; not synced, so a
    power cut may take the last lines. One writer at a time (``writer_lock``). Raises ``CouldNotSave``.
    """
    line = to_json(dict(record)) + b"\n"
    with saving(path):
        make_folders(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o666)
        try:
            end = _end_of_last_line(descriptor)
            os.ftruncate(descriptor, end)
            try:
                write_all(descriptor, line)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)


def read_lines(path: Path) -> list[dict[str, object]]:
    """Every complete line of a file of JSON lines; none if the file is not there. Raises ``Damaged``.

    A last line without its line end was torn by a crash and is left out. Any other bad line is damage.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_line(line, f"{path} line {number}") for number, line in enumerate(lines, start=1)]


def require_space(folder: Path, size: int) -> None:
    """Raise ``CouldNotSave`` unless 1.1 x ``size`` bytes and 64 MiB more are free where ``folder`` is."""
    with saving(folder):
        free = shutil.disk_usage(folder).free
    needed = size * 11 // 10 + SPARE_BYTES
    if free < needed:
        raise CouldNotSave(
            f"Saving in {folder} needs {needed / 2**20:,.0f} MiB free, but {free / 2**20:,.0f} MiB are: "
            "free some space or choose another folder; what was saved before is intact."
        )


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Turn a failed system call into ``CouldNotSave``. Not for a caller's code, whose errors are its own."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise CouldNotSave(
            f"Could not save {path}: {reason}; what was saved before is intact, "
            "look at the disk and its permissions, then try again or choose another folder."
        ) from error


def make_folders(folder: Path) -> None:
    """Make ``folder`` and those above it, each entry synced, so that a synced file inside can be found."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def beside(path: Path, kind: Kind) -> Path:
    """A fresh name in the same folder, which ``trace_of`` recognises after a crash."""
    return path.with_name(f"{path.name}.{kind}-{secrets.token_hex(8)}")


def trace_of(path: Path) -> tuple[str, str] | None:
    """(name, kind) of a path made by ``beside``; None for any other, which is not ours to remove."""
    match = _TRACE.fullmatch(path.name)
    return (match["name"], match["kind"]) if match else None


def create(path: Path) -> int:
    """The descriptor of a new file; FileExistsError if there is one."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte: the system may take only a part at a time (at most 2 GiB on Linux)."""
    rest = memoryview(data).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync(descriptor: int) -> None:
    """Return when the file's bytes are on the disk. After an error the file is given up, never synced again:
    the system may have dropped the bytes and would then report success.
    """
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # fsync stops at the drive's own cache there
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the names in the folder are on the disk. Windows has no such call."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _end_of_last_line(descriptor: int) -> int:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    end = size
    while end > 0:
        start = max(0, end - 2**16)
        os.lseek(descriptor, start, os.SEEK_SET)
        found = os.read(descriptor, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _line(line: bytes, name: str) -> dict[str, object]:
    value = from_json(line, name)
    if not isinstance(value, dict):
        raise Damaged(f"{name} is damaged: it should hold a JSON object.")
    return value
