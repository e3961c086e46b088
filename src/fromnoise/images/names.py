"""The names of the images of a set, kept as the bytes of one file: a million of them are no million objects."""

from collections.abc import Iterable, Sequence
from typing import SupportsIndex, overload

import numpy as np

END = "\0"  # no name of a file holds it


def names_file(names: Iterable[str]) -> bytes:
    """What ``Names`` reads: each name in UTF-8, also one that is not valid Unicode, and END after it."""
    # A hostile archive may name a member so all the same; the name is for people, and so is its replacement.
    return "".join(name.replace(END, "\ufffd") + END for name in names).encode("utf-8", "surrogatepass")


class Names(Sequence[str]):
    """The names in the bytes of ``names_file``, decoded one by one as they are asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord(END))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self._name(i) for i in range(len(self))[index])
        return self._name(range(len(self))[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def _name(self, i: int) -> str:
        start = self._ends[i - 1] + 1 if i else 0
        return self._data[start : self._ends[i]].decode("utf-8", "surrogatepass")
