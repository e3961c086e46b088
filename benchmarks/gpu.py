"""What a GPU does in training and sampling: images a second, share of its matrix rate, memory; diffusers beside it.

Nets of 5, 40 and 400 M parameters at 32 and 64 pixels: ours as ``fromnoise train`` runs them, a graph a step, their
batches made and copied meanwhile, transformers compiled as well; diffusers' U-Net of as many parameters as its users
train it (gpu_rival.py). Rates are medians of windows after all is compiled and recorded; the seconds that took are
given beside them. Operations are three forward passes' worth of convolutions, linear layers and attention; their share
is of the fastest bfloat16 product of this machine in the same run. What does not fit into the minutes is named.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only unet-40
    python benchmarks/gpu.py --race ../shared/data/fashion_mnist.npz
    python benchmarks/gpu.py --device cpu --small
"""

import argparse
import gc
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

import gpu_race
import gpu_rival
from fromnoise.images import ImageSet, open_images
from fromnoise.machine import Machine, probe
from fromnoise.nets import build
from fromnoise.recipe import Pictures, Recipe, auto, training_flops
from fromnoise.trainer import Outcome, Trainer, compiles
from gpu_rival import wait

RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"
FOREVER, SHORT = 10**12, 10**3  # images of a plan: worth compiling for, and not
WINDOWS = 3


@dataclass(frozen=True)
class Entry:
    """A net to be measured."""

    who: str  # unet, transformer or diffusers
    millions: float  # of parameters, about
    side: int  # pixels
    batch: int
    compiled: bool  # that it is asked to be: transformers are, on CUDA


@dataclass(frozen=True)
class Scale:
    """How long to measure: in full on a GPU, small to try the script anywhere."""

    sizes: tuple[float, ...]
    sides: tuple[int, ...]
    seconds: float  # of one window
    sampled: int  # images
    least: float  # seconds that must be left to begin another row
    most: float  # seconds that a row may take


FULL = Scale((400, 40, 5), (32, 64), 1.0, 256, 15.0, 110.0)
SMALL = Scale((0.1,), (8,), 0.1, 4, 0.0, 60.0)
# Parameters in millions -> channels and depth of a transformer, channels and levels of a U-Net.
TRANSFORMERS = {400: (1280, 13), 40: (512, 8), 5: (256, 4), 0.1: (64, 2)}
UNETS = {40: (144, (1, 2, 4), (1, 2, 2)), 5: (64, (1, 2, 3), (2, 2, 2)), 0.1: (16, (1, 2), (1, 1))}


def entries(scale: Scale) -> Iterator[Entry]:
    """The most telling first, as the last may find no time."""
    for side in scale.sides:
        for millions in scale.sizes:
            batch = {400: 256, 40: 512, 5: 512}.get(millions, 8)
            plain = Entry("transformer", millions, side, batch, compiled=False)
            if side == scale.sides[0]:
                yield plain
            yield Entry("diffusers", millions, side, batch * 32 // max(32, side), compiled=False)
            if millions in UNETS:
                yield Entry("unet", millions, side, batch, compiled=False)
            yield replace(plain, compiled=True)


def fields(entry: Entry) -> dict[str, object]:
    """Of the spec: a transformer of 256 positions at every size, a U-Net whose finest level has 32 pixels a side."""
    if entry.who == "transformer":
        width, depth = TRANSFORMERS[entry.millions]
        return {"kind": "transformer", "width": width, "depth": depth, "patch": max(2, entry.side // 16)}
    width, multipliers, blocks = UNETS[entry.millions]
    patch = max(1, entry.side // 32)
    return {"width": width, "multipliers": multipliers, "blocks": blocks, "patch": patch}


def pictures_of(side: int) -> ImageSet:
    """Noise in three colours: what is measured does not depend on what they show."""
    values = np.random.default_rng(0).integers(0, 256, (2048, side, side, 3), dtype=np.uint8)
    return open_images(values)


def recipe_of(entry: Entry, images: ImageSet, machine: Machine) -> Recipe:
    """The recipe that ``--recipe`` would make of the entry's net and batch."""
    total = FOREVER if entry.compiled else SHORT
    chosen = {"net": fields(entry), "batch": entry.batch, "images_total": total, "dtype": "bfloat16"}
    return auto(Pictures.of("noise", images), machine, None, **chosen)


def matrix_flops(device: str, machine: Machine) -> float:
    """Multiplications and additions a second of the fastest bfloat16 product found here."""
    n = 8192 if device == "cuda" else 512
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
    once = rate(lambda: a @ b, device, 0.3)[0]
    return max(2.0 * n**3 * once, 1e9 * machine.matrix_gflops_bf16)


def rate(call: Callable[[], object], device: str, seconds: float) -> tuple[float, float]:
    """Calls a second, the median of WINDOWS of about so many seconds; and what the first ten took, in seconds."""
    start = time.perf_counter()
    for _ in range(10):
        call()
    wait(device)
    ready = time.perf_counter() - start
    call()
    wait(device)
    before = time.perf_counter()
    for _ in range(5):
        call()
    wait(device)
    calls = max(1, int(5 * seconds / (time.perf_counter() - before)))
    found = []
    for _ in range(WINDOWS):
        before = time.perf_counter()
        for _ in range(calls):
            call()
        wait(device)
        found.append(calls / (time.perf_counter() - before))
    return median(found), ready


class Loop:
    """Updates as ``fit`` makes them: the numbers of each are read when the next is under way."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.owed: Outcome | None = None

    def __call__(self) -> None:
        """One update."""
        begun = self.trainer.update(FOREVER)
        if self.owed is not None:
            self.trainer.settled(self.owed)
        self.owed = begun


def ours(entry: Entry, machine: Machine, scale: Scale, profile: Path | None) -> dict[str, object]:
    """A row of ours; where its kernels go is appended to ``profile``."""
    images = pictures_of(entry.side)
    recipe = recipe_of(entry, images, machine)
    with closing(Trainer(recipe, images, machine.device)) as trainer:
        loop = Loop(trainer)
        steps, ready = rate(loop, machine.device, scale.seconds)
        memory = peak(machine.device)
        if profile:
            profiled(loop, repr(entry), profile)
        model = trainer.model(trainer.average, "ema")
        model.sample(scale.sampled)
        before = time.perf_counter()
        model.sample(scale.sampled)
        sampling = scale.sampled / (time.perf_counter() - before)
    flops = training_flops(recipe.net, entry.side, entry.side) * entry.batch * steps
    own = {"parameters": gpu_rival.count(build(recipe.net)), "compiled": compiles(recipe, machine.device)}
    made = {"sample_images_per_second": sampling, "sample_calls": recipe.sampler.steps}
    return own | made | row(entry.batch * steps, flops, ready, memory)


def theirs(entry: Entry, machine: Machine, scale: Scale) -> dict[str, object]:
    """A row of diffusers."""
    net, forward = gpu_rival.unet(entry.side, entry.millions * 1e6)
    x0 = torch.rand(entry.batch, 3, entry.side, entry.side) * 2 - 1
    rival = gpu_rival.Rival(net, 1e-4, machine.device)
    steps, ready = rate(gpu_rival.on(x0, rival), machine.device, scale.seconds)
    flops = 3.0 * forward * entry.batch * steps
    own = {"parameters": gpu_rival.count(net), "compiled": False}
    return own | row(entry.batch * steps, flops, ready, peak(machine.device))


def row(images_per_second: float, flops: float, ready: float, memory: float) -> dict[str, object]:
    """What both have."""
    return {"images_per_second": images_per_second, "flops": flops, "ready_seconds": ready, "memory_gib": memory}


def peak(device: str) -> float:
    """GiB that were held at most since the last ``clear``; 0 on a processor."""
    return torch.cuda.max_memory_reserved() / 2**30 if device == "cuda" else 0.0


def clear(device: str) -> None:
    """Give back what the row before held."""
    gc.collect()
    torch.compiler.reset()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


class GaveUp(BaseException):
    """The time of a row is over. No Exception, so that nothing between here and there takes it for one of its own."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises GaveUp where what is done takes longer."""

    def give_up(number: int, frame: object) -> None:
        raise GaveUp

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def fitting(entry: Entry, machine: Machine, scale: Scale, profile: Path | None) -> dict[str, object]:
    """A row with the largest batch, halved from the entry's own, that memory holds."""
    while True:
        clear(machine.device)
        try:
            if entry.who == "diffusers":
                return asdict(entry) | theirs(entry, machine, scale)
            return asdict(entry) | ours(entry, machine, scale, profile)
        except torch.OutOfMemoryError:
            print(f"{entry.who} {entry.millions:g} M at {entry.side} px: no memory for batches of {entry.batch}")
        entry = replace(entry, batch=entry.batch // 2)


def profiled(call: Callable[[], object], what: str, file: Path) -> None:
    """Append the kernels that one call spends most of its time in."""
    with torch.profiler.profile() as found:
        call()
        torch.cuda.synchronize()
    table = found.key_averages().table(sort_by="self_device_time_total", row_limit=16, max_name_column_width=90)
    with file.open("a") as out:
        out.write(f"{what}\n{table}\n")


def shown(found: dict[str, object], matrix: float) -> str:
    """A line of the table."""
    name = f"{found['who']} {found['parameters'] / 1e6:.1f} M{', compiled' if found['compiled'] else ''}"
    sampled = found.get("sample_images_per_second")
    return (
        f"{name:<36}{found['side']:>4} px{found['batch']:>6}{found['images_per_second']:>12,.0f}"
        f"{found['flops'] / matrix:>9.1%}{found['ready_seconds']:>9.1f}{found['memory_gib']:>8.1f}"
        + (f"{sampled:>12,.0f}" if sampled else "")
    )


def table(machine: Machine, scale: Scale, minutes: float, only: str, profile: Path | None) -> None:
    """Print the rows as they come, and keep them."""
    start, matrix = time.perf_counter(), matrix_flops(machine.device, machine)
    print(f"{machine.device_name}, torch {machine.torch_version}; bfloat16 product: {matrix / 1e12:,.1f} TFLOP/s")
    print(f"{'net':<36}{'':>7}{'batch':>6}{'train img/s':>12}{'share':>9}{'ready s':>9}{'GiB':>8}{'sample img/s':>13}")
    RESULTS.parent.mkdir(exist_ok=True)
    for entry in entries(scale):
        name = f"{entry.who}-{entry.millions:g}-{entry.side}{'-compiled' if entry.compiled else ''}"
        left = 60 * minutes - (time.perf_counter() - start)
        if only not in name:
            continue
        if left < scale.least:
            print(f"{name}: no time left", flush=True)
            continue
        try:
            with at_most(min(left, scale.most)):
                found = fitting(entry, machine, scale, profile)
        except GaveUp:
            print(f"{name}: not done within {min(left, scale.most):.0f} s", flush=True)
            continue
        print(shown(found, matrix), flush=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps({"machine": asdict(machine), "matrix_flops": matrix, **found}) + "\n")


def main() -> None:
    """The table, or the race."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, help="in all, of the table; of each entrant, in the race")
    parser.add_argument("--only", default="", help="rows whose name holds this: transformer-400-32-compiled, unet-40")
    parser.add_argument("--profile", type=Path, help="a file for the kernels of a step of ours, on CUDA")
    parser.add_argument("--small", action="store_true", help="tiny nets for a moment: whether the script works")
    parser.add_argument("--race", metavar="NPZ", help="clothes with their test part: train on them, ours and diffusers")
    arguments = parser.parse_args()
    machine = probe(arguments.device)
    if arguments.race:
        gpu_race.race(arguments.race, machine, arguments.minutes or 3.5, arguments.small)
    else:
        table(machine, SMALL if arguments.small else FULL, arguments.minutes or 8.0, arguments.only, arguments.profile)


if __name__ == "__main__":
    main()
