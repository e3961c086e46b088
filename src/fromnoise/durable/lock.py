"""One writer at a time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fromnoise.durable.files import make_folders, saving
from fromnoise.errors import Locked


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the folder ``path`` (made if missing) as its only writer; a second one gets ``Locked`` at once.

    The lock hangs on an open descriptor of ``path/lock``: the system drops it when the process ends, however
    it ends, so a lock file left behind locks nothing. The file stays: removing it would let two writers in.
    """
    with saving(path):
        make_folders(path)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with saving(path):
            if not _take(descriptor):
                raise Locked(f"{path} is being written by another process: wait until it ends, or stop it.")
        try:
            yield
        finally:
            _release(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _release(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(descriptor: int) -> None:
        # Closing alone would leave the lock with any forked child that still has the descriptor.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
