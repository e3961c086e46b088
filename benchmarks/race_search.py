"""The rate and batch of ``diffusers-tuned``, found on training images of clothes alone.

    python benchmarks/race_search.py --images 25600

trains the candidates that have no line yet on so many images each, about what ten minutes of two cores see, on the best
device there is. Their loss on a thousand training images that they did not see, with fixed noise, goes to the work
folder of the race; the lines so far are printed, best first.
"""

import argparse

import numpy as np
import torch

from fromnoise import keyed
from fromnoise.durable import append_line, read_lines
from fromnoise.machine import choose_device
from race_rivals import Rival, Settings
from race_tracks import TRACKS, WORK, Part, read

LINES = WORK / "search.jsonl"
CANDIDATES = [(batch, rate) for batch in (16, 32, 64, 128) for rate in (5e-4, 1e-3, 2e-3, 4e-3)]
KEPT = 1000


def main() -> None:
    """Try what was not tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=25_600)
    images = parser.parse_args().images
    TRACKS["clothes"].prepare()
    train, kept = kept_back(read(TRACKS["clothes"].train))
    done = {(line["batch"], line["rate"]) for line in read_lines(LINES) if line["images"] == images}
    for batch, rate in CANDIDATES:
        if (batch, rate) not in done:
            loss = tried(Settings(batch, rate, True), train, kept, images)
            append_line(LINES, {"images": images, "batch": batch, "rate": rate, "loss": loss})
            print(batch, rate, loss, flush=True)
    for line in sorted(read_lines(LINES), key=lambda line: line["loss"]):
        print(line)


def kept_back(part: Part) -> tuple[Part, Part]:
    """(training images to train on, training images to choose by)."""
    chosen = np.zeros(len(part.images), bool)
    chosen[keyed.permute(1, 0, np.arange(KEPT), len(chosen))] = True
    return part.at(~chosen), part.at(chosen)


def tried(settings: Settings, train: Part, kept: Part, images: int) -> float:
    """DDPM's loss of the averaged weights after so many images."""
    device = choose_device(None)
    rival, judge = Rival(settings, train, device=device), Rival(settings, kept, device=device)
    while rival.images_seen < images:
        rival.step()
    judge.net.load_state_dict(rival.weights())
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        losses = [judge.loss(rows, generator) for rows in torch.arange(KEPT).split(125)]
    return float(torch.stack(losses).mean())


if __name__ == "__main__":
    main()
