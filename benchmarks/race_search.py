"""The rate and batch of ``diffusers-tuned``, found on training images of clothes alone: one candidate a call.

    python benchmarks/race_search.py --seconds 40

trains the next candidate for so long, measures its loss on a thousand training images that it did not see, with fixed
noise, keeps a line in the work folder of the race, and prints the lines so far.
"""

import argparse
import math
import time

import numpy as np
import torch

from fromnoise import keyed
from fromnoise.durable import append_line, read_lines
from race_rivals import Rival, Settings, build
from race_tracks import TRACKS, WORK, Part, read

LINES = WORK / "search.jsonl"
CANDIDATES = ((64, 1e-3), (64, 2e-3), (32, 1e-3), (128, 2e-3), (64, 5e-4), (32, 5e-4), (32, 2e-3), (128, 4e-3))
KEPT, BATCH = 1000, 125


def main() -> None:
    """Try the next one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0)
    seconds = parser.parse_args().seconds
    TRACKS["clothes"].prepare()
    done = {(line["batch"], line["rate"]) for line in read_lines(LINES) if line["asked"] == seconds}
    for batch, rate in CANDIDATES:
        if (batch, rate) not in done:
            append_line(LINES, {"asked": seconds, **tried(Settings(batch, rate, True), seconds)})
            break
    for line in sorted(read_lines(LINES), key=lambda line: line["loss"]):
        print(line)


def tried(settings: Settings, seconds: float) -> dict[str, float]:
    """Of one candidate."""
    train, kept = kept_back(read(TRACKS["clothes"].train))
    rival = Rival(settings, train)
    rival.train(seconds, math.inf, time.monotonic)
    found = {"batch": settings.batch, "rate": settings.rate, "seconds": rival.seconds, "images_seen": rival.images_seen}
    return found | {"loss": loss_of(rival, kept)}


def kept_back(part: Part) -> tuple[Part, Part]:
    """(training images to train on, training images to choose by)."""
    chosen = np.zeros(len(part.images), bool)
    chosen[keyed.permute(1, 0, np.arange(KEPT), len(chosen))] = True
    return part.at(~chosen), part.at(chosen)


@torch.inference_mode()
def loss_of(rival: Rival, kept: Part) -> float:
    """DDPM's loss of the weights it would sample with, each image at another noise level."""
    net = build(rival.settings, kept)
    net.load_state_dict(rival.weights())
    other = Rival(rival.settings, kept)
    generator = torch.Generator().manual_seed(0)
    losses = [other.loss(rows, generator) for rows in torch.arange(KEPT).split(BATCH)]
    return float(torch.stack(losses).mean())


if __name__ == "__main__":
    main()
