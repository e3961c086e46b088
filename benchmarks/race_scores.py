"""How near 1,024 samples come to images that no entrant saw, beside as many training images: the scores of a line.

KID and the Frechet distance on the features of EfficientNet-Lite0, as `fromnoise evaluate` has them; on clothes the
Frechet distance on the features of a small classifier as well; and how near samples are to training images.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional

from fromnoise import keyed
from fromnoise.evaluate import Estimate, load_lite0
from fromnoise.evaluate.copies import copy_tests, spread_of
from fromnoise.evaluate.distances import frechet_distance, kernel_distance
from fromnoise.evaluate.features import features
from fromnoise.evaluate.nearest import nearest
from race_files import facts_of, load, save
from race_tracks import N, Part, Track, read

BLOCK = 2048
STEPS, BATCH, RATE = 6000, 128, 2e-3  # of the classifier
WIDTH = 128


class Classifier(nn.Module):
    """Strided convolutions, ``WIDTH`` features, one linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.features, self.name = nn.Linear(widths[-1], WIDTH), nn.Linear(WIDTH, classes)

    def embed(self, x: Float32[Tensor, "b c h w"]) -> Float32[Tensor, "b 128"]:
        """[-1, 1] -> features."""
        for convolution in self.convolutions:
            x = functional.silu(functional.group_norm(convolution(x), 8))
        return functional.silu(self.features(x.mean((2, 3))))

    @torch.inference_mode()
    def seen(self, part: Part) -> Float32[np.ndarray, "n 128"]:
        """The features of images."""
        return torch.cat([self.embed(x) for x in encoded(part).split(512)]).numpy()


def encoded(part: Part) -> Float32[Tensor, "n c h w"]:
    """In [-1, 1], colours premultiplied by alpha."""
    return torch.from_numpy(np.ascontiguousarray(part.spec.encode(part.images).transpose(0, 3, 1, 2)))


def trained(part: Part) -> Classifier:
    """A classifier of these images, the same every time on one machine."""
    torch.manual_seed(0)
    net, x, labels = Classifier(part.images.shape[3], len(part.classes)), encoded(part), torch.from_numpy(part.labels)
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    for step in range(STEPS):
        rows = torch.randint(len(x), (BATCH,))
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, 2.0 * (1.0 - step / STEPS))
        optimizer.zero_grad()
        functional.cross_entropy(net.name(net.embed(x[rows])), labels[rows]).backward()
        optimizer.step()
    return net.eval()


def classifier(track: Track) -> tuple[Classifier, dict[str, Any]]:
    """The track's own, trained once, with its SHA-256 and how often it is right about the scoring part."""
    path = track.work / "classifier.safetensors"
    if not path.is_file():
        test = read(track.test)
        net = trained(read(track.train))
        with torch.inference_mode():
            right = net.name(torch.from_numpy(net.seen(test))).argmax(1).numpy() == test.labels
        save(path, net.state_dict(), {"right": float(right.mean())})
    state, facts = load(path)
    net = Classifier(read(track.test).images.shape[3], len(read(track.test).classes))
    net.load_state_dict(state)
    return net.eval(), {**facts, "sha256": digest(state)}


def digest(state: dict[str, Tensor]) -> str:
    """Of weights, the first 16 digits of their SHA-256."""
    return hashlib.sha256(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()[:16]


def floor(track: Track) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(features of the scoring part and its distances to training images, the distances of N training images to it).

    Computed once for each classifier.
    """
    path, by = track.work / "floor.safetensors", classifier(track)[1]["sha256"] if track.classified else ""
    if not path.is_file() or facts_of(path).get("classifier") != by:
        train, test = read(track.train), read(track.test)
        seen = all_features(track, test)
        real = all_features(track, train.at(keyed.permute(0, 0, np.arange(N), len(train.labels))))
        arrays = seen | {"distances": nearest(rows(test), blocks(train))[0] / 2}
        facts = {"classifier": by, "distances": distances(real, seen)}
        save(path, {name: torch.from_numpy(value) for name, value in arrays.items()}, facts)
    tensors, facts = load(path)
    return {name: value.numpy() for name, value in tensors.items()}, facts["distances"]


def distances(made: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Of features to those of the scoring part, each with its standard error."""
    found = {"kid": kernel_distance(made["lite0"], test["lite0"])}
    found["frechet"] = frechet_distance(made["lite0"], test["lite0"])
    if "classifier" in test:
        found["frechet_classifier"] = frechet_distance(made["classifier"], test["classifier"])
    return {name: asdict(estimate) for name, estimate in found.items()}


def all_features(track: Track, part: Part) -> dict[str, Float32[np.ndarray, "n d"]]:
    """By the name of what sees them; labels are not looked at."""
    found = {"lite0": features(part.images, load_lite0())}
    return found | ({"classifier": classifier(track)[0].seen(part)} if track.classified else {})


def scores(track: Track, images: UInt8[np.ndarray, "n h w c"]) -> dict[str, Any]:
    """Of samples: each distance beside its floor, and their nearest training images."""
    (test, real), train = floor(track), read(track.train)
    found = distances(all_features(track, Part(images, train.labels[: len(images)], train.classes)), test)
    found |= {f"{name}_floor": value for name, value in real.items()}
    if track.classified:
        found["classifier"] = classifier(track)[1]
    near = nearness(images, train, read(track.test), test["distances"])
    return {"n": len(images), "scored_on": len(test["lite0"]), **found, "nearest": near}


def nearness(
    images: UInt8[np.ndarray, "n h w c"], train: Part, test: Part, heldout: Float64[np.ndarray, " m"]
) -> dict[str, Any]:
    """Distances to the nearest training image, of samples and of the scoring part, and both tests for copies."""
    queries = train.spec.encode(images).reshape(len(images), -1)
    own, place = nearest(queries, blocks(train))
    across, which = nearest(queries, blocks(test))
    first: Int64[np.ndarray, " n"] = np.where(across < own, len(train.images) + which, place)
    own = own / 2
    return {
        "samples": asdict(spread_of(own)) | {"median": asdict(median(own))},
        "heldout": asdict(spread_of(heldout)) | {"median": asdict(median(heldout))},
        "copies": asdict(copy_tests(own, heldout, first, len(train.images))),
    }


def median(values: Float64[np.ndarray, " n"]) -> Estimate:
    """With half the distance of the order statistics a standard deviation of the binomial either side as its error.

    David and Nagaraja 2003, "Order Statistics", section 7.1.
    """
    ordered, n = np.sort(values), len(values)
    low, high = (int(np.clip(n / 2 + side * np.sqrt(n) / 2, 0, n - 1)) for side in (-1, 1))
    return Estimate(float(np.median(ordered)), float(ordered[high] - ordered[low]) / 2)


def rows(part: Part) -> Float32[np.ndarray, "n d"]:
    """Each image one row of values in [-1, 1]."""
    return part.spec.encode(part.images).reshape(len(part.images), -1)


def blocks(part: Part) -> Iterator[Float32[np.ndarray, "_ d"]]:
    """Its rows, some at a time."""
    for start in range(0, len(part.images), BLOCK):
        yield rows(part.at(slice(start, start + BLOCK)))
