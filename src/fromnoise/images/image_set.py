"""The set that all other rooms see: packed images, their labels, and what is held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int, Int64, Shaped

from fromnoise.images.asked import NOTHING, Asked
from fromnoise.images.png import encode_png
from fromnoise.images.report import ScanReport
from fromnoise.images.show import montage
from fromnoise.images.spec import ValueSpec

if TYPE_CHECKING:
    import torch

SHOWN = 64


@dataclass(frozen=True, eq=False)
class ImageSet:
    """N images of one size and kind, mapped from disk: memory holds only what is used."""

    values: Shaped[np.ndarray, "N H W C"]  # of spec.dtype, straight alpha, colour 0 where alpha is 0; read-only
    labels: Int64[np.ndarray, " N"] | None  # index into classes
    classes: tuple[str, ...]
    numbers: Float32[np.ndarray, "N K"] | None  # as in labels.csv, NaN where a cell is empty
    number_names: tuple[str, ...]  # K
    names: Sequence[str]  # file relative to the source, or "x_train[17]"
    spec: ValueSpec
    train: Int64[np.ndarray, " T"]  # indices
    heldout: Int64[np.ndarray, " E"]  # indices
    identity: str  # SHA-256 over spec, size, values and labels, hexadecimal
    report: ScanReport
    sigma_data: float  # standard deviation of all encoded values, all channels together
    mean: tuple[float, ...]  # of the encoded values, by channel
    std: tuple[float, ...]
    asked: Asked = NOTHING  # what it was opened with

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        _, h, w, c = self.values.shape
        return h, w, c

    def x0(self, indices: Sequence[int] | Int[np.ndarray, " B"]) -> "torch.Tensor":
        """The images at ``indices`` as float32 (B, C, H, W) in [-1, 1], colours premultiplied by alpha.

        Laid out as they are stored, channels last, which is how convolutions read them.
        """
        import torch

        encoded = self.spec.encode(self.values[np.asarray(indices, np.int64)])
        return torch.from_numpy(encoded).permute(0, 3, 1, 2)

    def _repr_png_(self) -> bytes:
        """The first 64, for notebooks."""
        return encode_png(montage(self.spec.shown(self.values[:SHOWN])))
