"""Images per second and operations per second of training and sampling, beside the machine's own matrix rate.

Every figure comes from the same process, one after another, medians of repeats: trust the ratios, not the absolute
numbers. Run it alone on the machine. Operations count convolutions, linear layers and attention; three forward passes'
worth for a training step.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --device cuda --batch 256 --width 128
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

import torch

from fromnoise.images import open_images
from fromnoise.machine import Machine, probe
from fromnoise.recipe import WIDTHS, Pictures, auto, net_of_width, training_flops
from fromnoise.training import Trainer

SIZES = ((28, 1), (32, 3), (64, 3))
REPEATS = 12


def seconds(call: Callable[[], object], device: str) -> float:
    """Median of REPEATS after two warm-ups."""
    taken = []
    for _ in range(REPEATS + 2):
        start = time.perf_counter()
        call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken[2:])


def measured(machine: Machine, side: int, channels: int, width: int, batch: int) -> dict[str, object]:
    """One row: a training step and a sampling of ``batch`` images of side x side x channels."""
    images = open_images("menagerie:512", size=(side, side))
    values = images.values if channels == 3 else images.values.mean(-1, keepdims=True).astype("uint8")
    images = images if channels == 3 else open_images(values)
    pictures = Pictures.of("menagerie", images)
    recipe = auto(
        pictures, machine, None, images_total=10**9, batch=batch, net=net_of_width(width, pictures).model_dump()
    )
    trainer = Trainer(recipe, images, machine.device)
    step = seconds(lambda: trainer.update(10**9), machine.device)
    model = trainer.model(trainer.average, "ema")
    calls = recipe.sampler.steps
    sampling = seconds(lambda: model.sample(batch, guidance=1.0), machine.device)
    flops = training_flops(recipe.net, side, side)
    limit = machine.matrix_gflops_bf16 if recipe.dtype == "bfloat16" else machine.matrix_gflops_float32
    return {
        "size": f"{side}x{side}x{channels}",
        "width": width,
        "batch": batch,
        "dtype": recipe.dtype,
        "train_images_per_second": batch / step,
        "train_gflops": batch * flops / step / 1e9,
        "train_share_of_limit": batch * flops / step / 1e9 / limit,
        "sample_images_per_second": batch / sampling,
        "sample_gflops": batch * calls * flops / 3 / sampling / 1e9,
        "sample_share_of_float32_limit": batch * calls * flops / 3 / sampling / 1e9 / machine.matrix_gflops_float32,
    }


def main() -> None:
    """Print a table and append JSON lines to results/throughput.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=32, choices=WIDTHS)
    arguments = parser.parse_args()
    machine = probe(arguments.device, arguments.threads)
    torch.set_num_threads(machine.threads)
    limits = f"float32 {machine.matrix_gflops_float32:,.0f}, bfloat16 {machine.matrix_gflops_bf16:,.0f} GFLOP/s"
    print(f"{machine.device_name}, {machine.threads} threads; matrix rate: {limits}")
    columns = ("size", "train img/s", "GFLOP/s", "of limit", "sample img/s", "GFLOP/s", "of limit")
    print("".join(f"{column:>14}" for column in columns))
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for side, channels in SIZES:
        row = measured(machine, side, channels, arguments.width, arguments.batch)
        print("".join(f"{value:>14.3g}" if isinstance(value, float) else f"{value:>14}" for value in shown(row)))
        with (results / "throughput.jsonl").open("a") as file:
            file.write(json.dumps({"machine": asdict(machine), **row}) + "\n")


def shown(row: dict[str, object]) -> list[object]:
    """The size and the six figures of a row."""
    return [row["size"], *(value for name, value in row.items() if name.startswith(("train_", "sample_")))]


if __name__ == "__main__":
    main()
