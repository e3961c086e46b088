"""What one training step costs, for nets of any shape: images a second, share of the matrix rate, where the time goes.

All nets take their steps in turn in one process, medians of the steps: trust the ratios, not the absolute numbers. Run
it alone on the machine. Operations count convolutions, linear layers and attention, three forward passes' worth.

    python benchmarks/step.py                                    the recipe's first three nets at three sizes
    python benchmarks/step.py --side 28 --channels 1 --nets '[{}, {"width": 32, "multipliers": [1], "blocks": [2]}]'
    python benchmarks/step.py --profile docs/step-profile.json --label after
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from fromnoise.batches import Batch
from fromnoise.images import ImageSet, open_images
from fromnoise.machine import Machine, keep_memory, probe
from fromnoise.recipe import SIZES as NETS
from fromnoise.recipe import Pictures, auto, net_of_size, training_flops
from fromnoise.trainer import Trainer

SIZES = ((28, 1), (32, 3), (64, 3))
SHAPES = [{"width": width, "blocks": blocks} for width, blocks, _ in NETS[:3]]
WARM_UP = 3  # steps
PROFILED = 6  # steps
ENDLESS = 10**9  # images_seen
INPUT = "input"
KINDS = (  # the first whose beginning a profiled operation's name has; one that is called by none of them is "other"
    (INPUT, (INPUT,)),
    ("optimizer", ("Optimizer.", "aten::_foreach", "aten::lerp_")),
    ("convolution backward", ("aten::convolution_backward", "ConvolutionBackward")),
    ("convolution forward", ("aten::mkldnn_convolution", "aten::conv2d", "aten::convolution")),
    ("other products", ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_linear")),
    ("norm", ("aten::native_group_norm", "aten::native_layer_norm", "aten::var_mean", "aten::sum", "aten::mean")),
    ("casts and copies", ("aten::copy_", "aten::_to_copy", "aten::to", "aten::cat", "aten::contiguous", "aten::clone")),
    ("elementwise", ("aten::silu", "aten::mul", "aten::add", "aten::addcmul", "aten::sub", "aten::div")),
)


@dataclass(frozen=True)
class Step:
    """What a step of one net costs."""

    size: str
    net: dict[str, Any]  # the fields in which it is not the recipe's own
    parameters: int
    batch: int
    images_per_second: float
    milliseconds: float
    gflops: float  # 1e9 multiplications and additions a second
    share_of_limit: float  # of the matrix rate of the recipe's dtype


def pictures_of(side: int, channels: int) -> ImageSet:
    """Drawings of this size, in grey for one channel."""
    images = open_images("menagerie:512", size=(side, side))
    return images if channels == 3 else open_images(images.values.mean(-1, keepdims=True).astype("uint8"))


def trainer_of(images: ImageSet, machine: Machine, batch: int, net: dict[str, Any]) -> Trainer:
    """``net``: fields that replace those of the recipe's; width and a number of blocks mean its net of that size."""
    pictures = Pictures.of("menagerie", images)
    fields = net_of_size(**net, pictures=pictures).model_dump() if isinstance(net.get("blocks"), int) else net
    recipe = auto(pictures, machine, None, images_total=ENDLESS, batch=batch, net=fields)
    return Trainer(recipe, images, machine.device)


def seconds_of(trainers: list[Trainer], repeats: int) -> list[float]:
    """Median of each one's step, all taking turns."""
    taken: list[list[float]] = [[] for _ in trainers]
    for turn in range(WARM_UP + repeats):
        for trainer, times in zip(trainers, taken, strict=True):
            start = time.perf_counter()
            trainer.settled(trainer.update(ENDLESS))
            if turn >= WARM_UP:
                times.append(time.perf_counter() - start)
    return [median(times) for times in taken]


def measured(
    side: int, channels: int, nets: list[dict[str, Any]], machine: Machine, batch: int, repeats: int
) -> list[Step]:
    """One Step for each of ``nets``."""
    images = pictures_of(side, channels)
    with ExitStack() as stack:
        trainers = [stack.enter_context(closing(trainer_of(images, machine, batch, net))) for net in nets]
        taken = seconds_of(trainers, repeats)
    steps = []
    for net, trainer, seconds in zip(nets, trainers, taken, strict=True):
        recipe = trainer.recipe
        gflops = batch * training_flops(recipe.net, side, side) / seconds / 1e9
        limit = machine.matrix_gflops_bf16 if recipe.dtype == "bfloat16" else machine.matrix_gflops_float32
        parameters = sum(weight.numel() for weight in trainer.net.parameters())
        size = f"{side}x{side}x{channels}"
        steps.append(Step(size, net, parameters, batch, batch / seconds, 1e3 * seconds, gflops, gflops / limit))
    return steps


def milliseconds_by_kind(trainer: Trainer) -> dict[str, float]:
    """Of one step, the mean of PROFILED; what no operation took (Python, and the profiler's own work) is "other"."""
    for _ in range(WARM_UP):
        trainer.settled(trainer.update(ENDLESS))
    trainer.batches = _marked(trainer.batches)
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        for _ in range(PROFILED):
            trainer.settled(trainer.update(ENDLESS))
        seconds = time.perf_counter() - start
    out: dict[str, float] = defaultdict(float)
    for event in found.events():
        out[_kind(event)] += event.self_cpu_time_total / 1e3 / PROFILED
    out["other"] += 1e3 * seconds / PROFILED - sum(out.values())
    return dict(sorted(out.items(), key=lambda item: -item[1]))


def _marked(batches: Any) -> Generator[Batch]:
    with closing(batches):
        while True:
            with record_function(INPUT):
                batch = next(batches)
            yield batch


def _kind(event: Any) -> str:
    """By the outermost operation around the event that has a kind."""
    found = "other"
    while event is not None:
        found = next((kind for kind, names in KINDS if event.name.startswith(names)), found)
        event = event.cpu_parent
    return found


def show(steps: list[Step], machine: Machine) -> None:
    """A table, and a line each in results/step.jsonl."""
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for step in steps:
        name = json.dumps(step.net)
        figures = f"{step.images_per_second:>10.0f}{step.milliseconds:>10.1f}{step.gflops:>10.0f}"
        print(f"{step.size:>9}{step.parameters:>12,}{figures}{step.share_of_limit:>10.1%}  {name}", flush=True)
        with (results / "step.jsonl").open("a") as file:
            file.write(json.dumps({"machine": asdict(machine), **asdict(step)}) + "\n")


def keep_profile(file: Path, label: str, machine: Machine, batch: int, repeats: int) -> None:
    """Add to ``file``, under ``label``, where the time of the recipe's narrowest net goes at each of SIZES."""
    kept = json.loads(file.read_text()) if file.exists() else {}
    kept[label] = {"machine": asdict(machine), "batch": batch, "sizes": {}}
    for side, channels in SIZES:
        (step,) = measured(side, channels, [{}], machine, batch, repeats)
        with closing(trainer_of(pictures_of(side, channels), machine, batch, {})) as trainer:
            kinds = milliseconds_by_kind(trainer)
        net = trainer.recipe.net.model_dump()
        kept[label]["sizes"][step.size] = asdict(step) | {"net": net, "milliseconds_by_kind": kinds}
        print(f"{step.size}: {step.images_per_second:.0f} images/s, {step.share_of_limit:.1%} of the matrix rate")
        for kind, milliseconds in kinds.items():
            print(f"    {kind:22}{milliseconds:8.1f} ms")
    file.write_text(json.dumps(kept, indent=1) + "\n")


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=json.loads, default=SHAPES)
    parser.add_argument("--side", type=int, help="of the pictures; without it, all of three sizes")
    parser.add_argument("--channels", type=int, default=3, choices=(1, 3))
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--profile", type=Path, help="a JSON file to keep a profile in, instead of the table")
    parser.add_argument("--label", default="now")
    arguments = parser.parse_args()
    keep_memory()  # as the commands do
    machine = probe(arguments.device, arguments.threads)
    torch.set_num_threads(machine.threads)
    limits = f"float32 {machine.matrix_gflops_float32:,.0f}, bfloat16 {machine.matrix_gflops_bf16:,.0f} GFLOP/s"
    print(f"{machine.device_name}, {machine.threads} threads; matrix rate: {limits}")
    if arguments.profile:
        keep_profile(arguments.profile, arguments.label, machine, arguments.batch, arguments.repeats)
        return
    print(f"{'size':>9}{'parameters':>12}{'images/s':>10}{'ms':>10}{'GFLOP/s':>10}{'of limit':>10}  net")
    sizes = [(arguments.side, arguments.channels)] if arguments.side else SIZES
    for side, channels in sizes:
        show(measured(side, channels, arguments.nets, machine, arguments.batch, arguments.repeats), machine)


if __name__ == "__main__":
    main()
