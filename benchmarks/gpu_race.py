"""The same minutes on the same GPU on clothes: ours against diffusers, scored on the test part like benchmarks/race.py.

Ours is what ``fromnoise train`` does, its start included; diffusers' is the net of its course, helped in good faith by
all that helps on a GPU: bfloat16, channels last, images on the device, classes told, a rate that falls to zero at the
end, an average of the weights. Neither clock holds the import of torch. 1,024 samples each by their own samplers.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DModel
from diffusers.training_utils import EMAModel

from fromnoise.evaluate import features as lite0
from fromnoise.evaluate.distances import frechet_distance, kernel_distance
from fromnoise.images import ImageSet, evenly, open_images
from fromnoise.machine import Machine
from fromnoise.run_folder import load
from fromnoise.session import open_session
from gpu_rival import Rival, wait

RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"
SAMPLES, REAL = 1024, 2048  # made, and of the test part to compare with
CALLS, TOGETHER = 20, 256  # of diffusers' net for each sample, and samples at once
BATCH, RATE = 256, 1e-3  # of diffusers
WIDTHS = (32, 64, 64)  # of its course
T = TypeVar("T")


def race(npz: str, machine: Machine, minutes: float, small: bool) -> None:
    """Train both, score both, print and keep the lines."""
    samples, calls = (600, 2) if small else (SAMPLES, CALLS)
    images, net = open_images(npz), lite0.load_lite0(machine.device)
    test = np.load(npz, allow_pickle=False)["x_test"].reshape(-1, *images.shape)
    test = test[evenly(np.arange(len(test)), REAL)]  # the file has one class after another
    real = lite0.features(images.spec.shown(test), net)
    floor = lite0.features(images.spec.shown(images.values[evenly(images.train, samples)]), net)
    RESULTS.parent.mkdir(exist_ok=True)
    entrants = {
        "real": lambda: ({}, None),
        "fromnoise": lambda: ours(npz, machine, minutes, samples),
        "diffusers": lambda: theirs(images, machine.device, minutes, samples, calls),
    }
    for name, entrant in entrants.items():
        told, made = entrant()
        start = time.perf_counter()
        found = floor if made is None else lite0.features(images.spec.shown(made), net)
        kid, frechet = kernel_distance(found, real), frechet_distance(found, real)
        line = {"entrant": name, "minutes": minutes, "n": samples, "kid": vars(kid), "frechet": vars(frechet), **told}
        print(json.dumps(line), f"scored in {time.perf_counter() - start:.0f} s", flush=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps({"machine": vars(machine), **line}) + "\n")


def ours(npz: str, machine: Machine, minutes: float, samples: int) -> tuple[dict[str, object], np.ndarray]:
    """What was seen and how fast, and samples in the meaning of the files."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        session = open_session(npz, minutes=minutes, run=Path(folder) / "run", device=machine.device)
        *_, last = session.fit(started=start)
        wait(machine.device)
        seconds, model = time.monotonic() - start, load(Path(folder) / "run", device=machine.device)
        made, taken = timed(lambda: model.sample(samples), machine.device)
    told = {"images_seen": last.images_seen, "seconds": seconds, "sample_images_per_second": samples / taken}
    return told | {"net": session.recipe.net.model_dump(), "calls": session.recipe.sampler.steps}, made.images


def theirs(
    images: ImageSet, device: str, minutes: float, samples: int, calls: int
) -> tuple[dict[str, object], np.ndarray]:
    """Likewise of diffusers."""
    start = time.monotonic()
    torch.manual_seed(0)
    x0, labels = images.x0(images.train).to(device), torch.from_numpy(images.labels[images.train]).to(device)
    rival, average = trained(x0, labels, device, minutes, start)
    wait(device)
    seconds = time.monotonic() - start
    average.copy_to(rival.net.parameters())
    parts = (torch.arange(samples, device=device) % 10).split(TOGETHER)  # each class in turn
    made, taken = timed(lambda: torch.cat([sampled(rival, x0.shape[1:], part, calls) for part in parts]), device)
    values, _ = images.spec.decode(made.permute(0, 2, 3, 1).cpu().numpy())
    told = {"images_seen": rival.seen, "seconds": seconds, "sample_images_per_second": samples / taken}
    return told | {"net": list(WIDTHS), "calls": calls}, values


def trained(
    x0: torch.Tensor, labels: torch.Tensor, device: str, minutes: float, start: float
) -> tuple[Rival, EMAModel]:
    """The net of the course after so many minutes since ``start``, and its average."""
    rival = Rival(course_net(x0.shape[-1], x0.shape[1]), RATE, device)
    average = EMAModel(rival.net.parameters(), decay=0.9999, use_ema_warmup=True, power=0.75)
    while (share := (time.monotonic() - start) / (60 * minutes)) < 1.0:
        rows = torch.randint(len(x0), (BATCH,), device=device)
        rival.optimizer.param_groups[0]["lr"] = RATE * min(1.0, 2.0 * (1.0 - share))
        loss = rival.update(x0[rows], class_labels=labels[rows])
        average.step(rival.net.parameters())
        if rival.seen % (50 * BATCH) == 0:
            loss.item()  # or the clock would be read long before the device is done
    return rival, average


def course_net(side: int, channels: int) -> UNet2DModel:
    """Unit 1 of the Hugging Face diffusion course, notebook 2, told the class as well."""
    return UNet2DModel(
        sample_size=side,
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=WIDTHS,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=10,
    )


def timed(make: Callable[[], T], device: str) -> tuple[T, float]:
    """What is made and its seconds, the second time: the first one sets up."""
    for _ in range(2):
        start = time.perf_counter()
        made = make()
        wait(device)
    return made, time.perf_counter() - start


@torch.no_grad()
def sampled(rival: Rival, shape: torch.Size, classes: torch.Tensor, calls: int) -> torch.Tensor:
    """DPM-Solver++ on the levels of its training, as in race_rivals.py, (B, C, H, W) in [-1, 1]."""
    solver = DPMSolverMultistepScheduler.from_config(rival.noising.config, thresholding=True)
    solver.set_timesteps(calls, device=rival.device)
    x = torch.randn(len(classes), *shape, device=rival.device)
    for level in solver.timesteps:
        with torch.autocast(rival.device, torch.bfloat16):
            answer = rival.net(x, level, class_labels=classes).sample
        x = solver.step(answer.float(), level, x).prev_sample
    return x.clamp(-1, 1)
