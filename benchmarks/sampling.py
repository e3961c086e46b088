"""Sampling beside diffusers, and what a user waits for from a cold start.

The net is the one that three minutes of 28x28 grey pictures in ten classes get, sampled as its recipe says; beside it
diffusers' UNet2DModel of its course's widths in its own pipeline, DPM-Solver++ with 20 calls. Weights are not trained:
a rate does not depend on them. Both take turns in one process; the ratio is the median over rounds. Then each command
in a process of its own, the median of three. Run it alone on the machine; it takes two minutes.

    python benchmarks/sampling.py
    python benchmarks/sampling.py --recipe '{"net": {"width": 48}, "sampler": {"steps": 6}}'
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel

from fromnoise.images import open_images
from fromnoise.machine import keep_memory, probe
from fromnoise.model import Model
from fromnoise.recipe import Pictures, auto, training_flops
from fromnoise.run_folder import RunFolder
from fromnoise.trainer import Trainer

SIDE, CLASSES, MINUTES = 28, 10, 3.0
ROUNDS, IMAGES, CALLS = 3, 128, 20  # images a round: at once for diffusers, as in the race; ours as it does itself


def race_model(folder: Path, overrides: dict[str, Any]) -> Model:
    """The race's model, untrained, also saved as a run; overrides: fields of its recipe."""
    machine = probe()
    torch.set_num_threads(machine.threads)
    images = open_images(open_images("menagerie:64", size=(SIDE, SIDE)).values.mean(-1, keepdims=True).astype("uint8"))
    classes = tuple(map(str, range(CLASSES)))
    pictures = Pictures.of("drawings in grey", images).model_copy(update={"classes": classes})
    recipe = auto(pictures, machine, MINUTES, **overrides)
    trainer, run = Trainer(recipe, images, "cpu"), RunFolder(folder)
    trainer.earlier = deepcopy(trainer.average)  # as from a quarter of a run on
    with run.writing():
        run.create(recipe, images.spec)
        run.save(trainer.state(0.0))
    return trainer.model(trainer.average, "ema")


def rival() -> DDPMPipeline:
    """diffusers' own, as its course builds it."""
    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=SIDE,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    solver = DPMSolverMultistepScheduler.from_config(DDPMScheduler(1000).config, thresholding=True)
    pipeline = DDPMPipeline(net, solver)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def rate(call: Callable[[], object], images: int) -> float:
    """Images a second."""
    start = time.perf_counter()
    call()
    return images / (time.perf_counter() - start)


def cold(*words: str) -> float:
    """Seconds that a new interpreter takes, the median of three."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return median(taken)


def measured(folder: Path, overrides: dict[str, Any]) -> dict[str, object]:
    """All figures, by name."""
    model, pipeline, machine = race_model(folder, overrides), rival(), probe()
    steps = list(model.trajectory([0], labels=model.labels([0])))
    model.sample(64)
    pipeline(IMAGES, num_inference_steps=1, output_type="np")
    ours, theirs = [], []
    for seed in range(ROUNDS):
        ours.append(rate(lambda seed=seed: model.sample(IMAGES, seed=seed), IMAGES))  # type: ignore[misc]
        theirs.append(rate(lambda: pipeline(IMAGES, num_inference_steps=CALLS, output_type="np"), IMAGES))
    flops = training_flops(model.recipe.net, SIDE, SIDE) / 3 * steps[-1].nfe
    sample = ("-m", "fromnoise", "sample", str(folder), "-n", "16", "--quiet", "--out", str(folder / "out"))
    return {
        "net": model.recipe.net.model_dump(),
        "sampler": asdict(model.sampler),
        "guidance": model.guidance,
        "nfe": steps[-1].nfe,
        "images_per_second": median(ours),
        "diffusers_images_per_second": median(theirs),
        "ratio": median(a / b for a, b in zip(ours, theirs, strict=True)),
        "share_of_bf16_rate": median(ours) * flops / 1e9 / machine.matrix_gflops_bf16,
        "cold_sample_seconds": cold(*sample),
        "cold_help_seconds": cold("-m", "fromnoise", "--help"),
        "cold_import_seconds": cold("-c", "import fromnoise"),
        "machine": asdict(machine),
    }


def main() -> None:
    """Print the figures and append them to results/sampling.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", type=json.loads, default={}, help="fields of the recipe, as JSON")
    keep_memory()  # as the command does
    overrides = parser.parse_args().recipe
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder) / "run", overrides)
    for name, value in found.items():
        print(f"{name:30} {value:.4g}" if isinstance(value, float) else f"{name:30} {value}")
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    with (results / "sampling.jsonl").open("a") as file:
        file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
