"""The one room that writes to disk what must survive: whole files, whole folders, appended lines.

The contract: after any call returns, what it wrote is on the disk; if it raises, or the process or the power
dies inside it, what was there before is still there and complete. Every failed write raises ``CouldNotSave``.
Nothing else in the package opens a file for writing: libraries write into memory, this room writes the bytes.
Full promise on Linux with a local ext4, xfs or btrfs; Windows and network file systems are best effort.
"""

from fromnoise.durable.canonical import Damaged, from_json, to_json
from fromnoise.durable.files import append_line, read_lines, require_space, write_file
from fromnoise.durable.folders import (
    FileFact,
    Folder,
    Manifest,
    discard_folder,
    new_folder,
    read_manifest,
    remove_leftovers,
    verify_folder,
)
from fromnoise.durable.lock import writer_lock

__all__ = [
    "Damaged",
    "FileFact",
    "Folder",
    "Manifest",
    "append_line",
    "discard_folder",
    "from_json",
    "new_folder",
    "read_lines",
    "read_manifest",
    "remove_leftovers",
    "require_space",
    "to_json",
    "verify_folder",
    "write_file",
    "writer_lock",
]
