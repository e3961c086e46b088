"""Are class-conditional samples recognised as their class, and how far are they from real images?

A small classifier is trained on the labelled pictures of a run (its held-out ones left aside). It then names samples
of the run, and the Frechet distance between its 64 features of samples and of held-out or test images is given beside
the distance of real images to the same. The number compares runs on the same pictures, with the same n, and nothing
else: it rests on features of this classifier alone.

    python benchmarks/recognised.py runs/menagerie -n 1024
    python benchmarks/recognised.py runs/fashion_mnist -n 1024 --test ../shared/data/fashion_mnist.npz
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fromnoise import keyed
from fromnoise.images import open_images
from fromnoise.run_folder import load

SECONDS = 40.0
BATCH = 128


class Classifier(nn.Module):
    """Three strided convolutions, 64 features, one linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        widths = (channels, 32, 64, 128)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.features, self.name = nn.Linear(128, 64), nn.Linear(64, classes)

    def embed(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, 64)."""
        for convolution in self.convolutions:
            x = functional.silu(functional.group_norm(convolution(x), 8))
        return functional.silu(self.features(x.mean((2, 3))))


def trained(x: Tensor, labels: Tensor, classes: int) -> Classifier:
    """A classifier after SECONDS of AdamW on these images."""
    torch.manual_seed(0)
    net = Classifier(x.shape[1], classes)
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    start = time.perf_counter()
    while (share := (time.perf_counter() - start) / SECONDS) < 1.0:
        rows = torch.randint(len(x), (BATCH,))
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, 2.0 * (1.0 - share))
        optimizer.zero_grad()
        functional.cross_entropy(net.name(net.embed(x[rows])), labels[rows]).backward()
        optimizer.step()
    return net.eval()


@torch.no_grad()
def embedded(net: Classifier, x: Tensor) -> Tensor:
    """(N, 64) float64."""
    return torch.cat([net.embed(part) for part in x.split(512)]).double()


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to two sets of features (Heusel et al. 2017, eq. 6)."""
    (mean_a, mean_b), (cov_a, cov_b) = (a.mean(0), b.mean(0)), (torch.cov(a.T), torch.cov(b.T))
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * product)


def main() -> None:
    """Print one JSON line and append it to results/recognised.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="+")
    parser.add_argument("-n", type=int, default=1024)
    parser.add_argument("--guidance", type=float, help="the run's own by default")
    parser.add_argument("--test", help=".npz with x_test and y_test to compare with, instead of the held-out part")
    arguments = parser.parse_args()
    models = [load(run) for run in arguments.run]
    pictures = models[0].recipe.pictures
    images = open_images(pictures.source, size=(pictures.height, pictures.width))
    x, labels = images.x0(images.train), torch.from_numpy(images.labels[images.train])
    real, real_labels = images.x0(images.heldout), torch.from_numpy(images.labels[images.heldout])
    if arguments.test:
        test = np.load(arguments.test, allow_pickle=False)
        values = test["x_test"].reshape(len(test["x_test"]), *images.shape)
        real = torch.from_numpy(images.spec.encode(values)).permute(0, 3, 1, 2)
        real_labels = torch.from_numpy(test["y_test"].astype(np.int64))
    net = trained(x, labels, len(images.classes))
    features = embedded(net, real)
    some = torch.from_numpy(keyed.permute(0, 0, np.arange(arguments.n), len(x)))
    for run, model in zip(arguments.run, models, strict=True):
        samples = model.sample(arguments.n, seed=1, guidance=arguments.guidance)
        made = torch.from_numpy(images.spec.encode(samples.images)).permute(0, 3, 1, 2)
        sampled = embedded(net, made)
        record = {
            "run": run,
            "n": arguments.n,
            "images_seen": model.images_seen,
            "guidance": model.guidance_of(arguments.guidance),
            "recognised": float(
                (net.name(sampled.float()).argmax(1) == torch.from_numpy(samples.labels)).double().mean()
            ),
            "real_recognised": float((net.name(features.float()).argmax(1) == real_labels).double().mean()),
            "frechet": frechet(sampled, features),
            "frechet_of_training_images": frechet(embedded(net, x[some]), features),
        }
        print(json.dumps(record), flush=True)
        results = Path(__file__).parent / "results"
        results.mkdir(exist_ok=True)
        with (results / "recognised.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
