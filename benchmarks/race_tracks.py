"""The tracks of the race: what every entrant trains on, and what nobody sees before it is scored on.

Both parts of a track are written once as .npz (x, y, classes) into its work folder.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from fromnoise.durable import write_file
from fromnoise.errors import UseError
from fromnoise.images import ValueSpec, encode_npz, open_images
from fromnoise.menagerie import KINDS, Menagerie

WORK = Path(__file__).resolve().parent / "results" / "race"
DATA = Path(os.environ.get("FROMNOISE_DATA", Path(__file__).parents[2] / "shared" / "data"))
N = 1024  # samples of each entrant
SHARE = 0.2  # of a set without a test part of its own
KEY = b"fromnoise race 1"  # another key would be another split, and its lines incomparable
FRESH_SEED, FRESH = 1_000_003, 5_000  # of the menagerie's scoring part
CLOTHES = "T-shirt trouser pullover dress coat sandal shirt sneaker bag boot"


@dataclass(frozen=True, eq=False)
class Part:
    """Images of one size, each of a class."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]

    @property
    def spec(self) -> ValueSpec:
        """Bytes; four channels are colours with opacity."""
        channels = self.images.shape[3]
        return ValueSpec(channels=channels, alpha=channels == 4)

    def at(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " k"] | slice) -> "Part":
        """Some of them."""
        return Part(self.images[chosen], self.labels[chosen], self.classes)


@dataclass(frozen=True)
class Track:
    """Where the images are from, and the minutes at which entrants are compared."""

    name: str
    parts: Callable[[], tuple[Part, Part]]  # (for training, for scoring)
    longest: float  # minutes of a rival's training
    budgets: tuple[float, ...] = (1, 3, 10, 30)
    classified: bool = False  # scored on the features of a classifier as well

    @property
    def of_rivals(self) -> list[float]:
        """The minutes at which a rival is scored, rising."""
        return sorted({*self.budgets, self.longest})

    @property
    def work(self) -> Path:
        """Where its files go."""
        return WORK / self.name

    @property
    def train(self) -> Path:
        """What entrants train on."""
        return self.work / "train.npz"

    @property
    def test(self) -> Path:
        """What nobody trains on."""
        return self.work / "test.npz"

    def prepare(self) -> None:
        """Write both parts, unless they are there."""
        if not (self.train.is_file() and self.test.is_file()):
            for path, part in zip((self.train, self.test), self.parts(), strict=True):
                arrays = {"x": part.images, "y": part.labels, "classes": np.array(part.classes)}
                write_file(path, encode_npz(arrays, "{}"))


def read(path: Path) -> Part:
    """A part as it was written."""
    with np.load(path, allow_pickle=False) as stored:
        return Part(stored["x"], stored["y"], tuple(stored["classes"].tolist()))


def set_aside(images: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, " n"]:
    """Which images are for scoring: a fifth, decided by each one's pixels alone, so copies stay on one side."""
    hashes = [hashlib.blake2b(image.tobytes(), key=KEY, digest_size=8).digest() for image in images]
    return np.array([int.from_bytes(each) < SHARE * 2**64 for each in hashes])


def divided(part: Part) -> tuple[Part, Part]:
    """(for training, for scoring)."""
    aside = set_aside(part.images)
    return part.at(~aside), part.at(aside)


def _data(name: str) -> Path:
    """A file of the data folder. Raises UseError where it is absent."""
    path = DATA / name
    if not path.is_file():
        raise UseError(f"Looked for {name} in {DATA}, but it is not there: FROMNOISE_DATA names another folder.")
    return path


def _clothes() -> tuple[Part, Part]:
    with np.load(_data("fashion_mnist.npz"), allow_pickle=False) as stored:
        train, test = (
            Part(stored[f"x_{name}"][..., None], stored[f"y_{name}"].astype(np.int64), tuple(CLOTHES.split()))
            for name in ("train", "test")
        )
    return train, test


def _menagerie() -> tuple[Part, Part]:
    own, fresh = Menagerie(), Menagerie(FRESH, FRESH_SEED)
    train, test = (Part(drawn.render(np.arange(len(drawn)), 32, 32), drawn.labels(), KINDS) for drawn in (own, fresh))
    return train, test


def _tiles() -> tuple[Part, Part]:
    with np.load(_data("dcss_tiles32.npz"), allow_pickle=False) as stored:
        return divided(Part(stored["x"], stored["y"].astype(np.int64), tuple(stored["classes"].tolist())))


def _flowers() -> tuple[Part, Part]:
    images = open_images(_data("flowers64.zip"))
    assert images.labels is not None, "it has class folders"
    return divided(Part(np.asarray(images.values), np.asarray(images.labels), images.classes))


TRACKS = {
    track.name: track
    for track in (
        Track("clothes", _clothes, 60, classified=True),
        Track("menagerie", _menagerie, 30),
        Track("flowers64", _flowers, 30),
        Track("tiles", _tiles, 30),
    )
}
