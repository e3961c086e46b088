"""fromnoise in the race: a fresh `fromnoise train --minutes` for each budget, and `fromnoise sample` after it.

Each run begins as on a new machine: no packed set, no compiled code. ``local-patches`` is the denoiser of local
patches, which nothing trains.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fromnoise.durable import write_file
from fromnoise.errors import UseError
from fromnoise.evaluate.score import draw
from fromnoise.images import open_images
from fromnoise.model import ExactModel, Model, last
from fromnoise.run_folder import load as load_run
from race_files import ROOT, add_line, finished, load, save, where
from race_scores import scores
from race_tracks import N, Track


def race_ours(track: Track, entrant: str, budgets: Sequence[float], stages: Sequence[str], again: bool) -> None:
    """Budget by budget, what ``stages`` names and is not done; what has a line is trained anew only ``again``."""
    for minutes in [0.0] if entrant == "local-patches" else budgets:
        at = track.work / entrant / f"{minutes:g}"
        trained, sampled, scored = (at / name for name in ("trained.json", "sampled.safetensors", "scored.json"))
        known = trained.is_file() or finished(track.name, entrant, minutes)
        if "train" in stages and (again or not known):
            train(track, at, minutes)
        if "sample" in stages and trained.is_file() and not sampled.is_file():
            sample(track, at)
        if "score" in stages and sampled.is_file() and not scored.is_file():
            add_line(found := line(track, entrant, minutes, at))
            write_file(scored, json.dumps(found).encode())


def train(track: Track, at: Path, minutes: float) -> None:
    """The command, its seconds and what came of it; nothing to do where there are no minutes."""
    shutil.rmtree(at, ignore_errors=True)
    words = ["train", track.train, "--minutes", f"{minutes:g}", "--run", at / "run"]
    seconds = fromnoise(at, words) if minutes else 0.0
    facts = {"seconds": seconds, "command": said(words) if minutes else None, **learned(track, at), **where()}
    write_file(at / "trained.json", json.dumps(facts).encode())
    print(f"{at.name} minutes: {seconds:.0f} s, {facts['images_seen']:,} images seen", flush=True)


def learned(track: Track, at: Path) -> dict[str, int]:
    """From how many images, and how many numbers."""
    model = model_of(track, at)
    if isinstance(model, ExactModel):
        return {"images_seen": 0, "parameters": 0}
    return {
        "images_seen": model.images_seen,
        "parameters": sum(each.numel() for each in model.denoiser.net.parameters()),
    }


def sample(track: Track, at: Path) -> None:
    """The command, timed whole; and as many images with classes as often as in training, which are scored."""
    source = [at / "run"] if (at / "run").is_dir() else [track.train, "--exact", "--local"]
    words = ["sample", *source, "-n", str(N), "--out", at / "samples.npz"]
    seconds = fromnoise(at, words)
    model = model_of(track, at)
    drawn = draw(model, open_images(track.train), N, 0)
    with np.load(at / "samples.npz", allow_pickle=False) as stored:
        shown = stored["images"]
    steps = last(model.trajectory([0], labels=model.labels([0])))
    facts = {"seconds": seconds, "sampler": sampler_of(model), "nfe": steps.nfe, "command": said(words)}
    save(at / "sampled.safetensors", {"scored": torch.from_numpy(drawn), "shown": torch.from_numpy(shown)}, facts)
    print(f"{at.name} minutes: {N} samples in {seconds:.0f} s", flush=True)


def line(track: Track, entrant: str, minutes: float, at: Path) -> dict[str, Any]:
    """All that is known of this budget."""
    trained, (images, sampled) = json.loads((at / "trained.json").read_text()), load(at / "sampled.safetensors")
    facts = {"track": track.name, "entrant": entrant, "minutes": minutes}
    how = {"sampler": sampled["sampler"], "nfe": sampled["nfe"], "sampling_images_per_second": N / sampled["seconds"]}
    commands = [command for command in (trained.pop("command"), sampled["command"]) if command]
    return facts | trained | {"commands": commands} | how | scores(track, images["scored"].numpy())


def model_of(track: Track, at: Path) -> Model | ExactModel:
    """The run's, or that of local patches."""
    if (at / "run").is_dir():
        return load_run(at / "run")
    return ExactModel.of(str(track.train), open_images(track.train), local=True)


def sampler_of(model: Model | ExactModel) -> str:
    """Named as the command names it."""
    guided = f", guidance {model.guidance:g}" if model.guidance != 1 else ""
    if guided and model.guided_within:
        guided += " from {:g} to {:g}".format(*model.guided_within)
    if guided and model.earlier:
        guided += ", away from an earlier average"
    return f"{model.sampler.stepper}, {model.sampler.steps} steps, {model.sampler.grid} grid{guided}"


def fromnoise(at: Path, words: Sequence[object]) -> float:
    """Run the command as a user types it, with caches of its own; its seconds, start included."""
    at.mkdir(parents=True, exist_ok=True)
    caches = {"FROMNOISE_CACHE": str(at / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(at / "cache" / "compiled")}
    command = [sys.executable, "-m", "fromnoise", *map(str, words)]
    began = time.monotonic()
    with (at / f"{words[0]}.log").open("wb") as log:
        code = subprocess.run(command, env={**os.environ, **caches}, stdout=log, stderr=log).returncode
    if code:
        raise UseError(f"{said(words)} left with {code}: {log.name} tells why.")
    return time.monotonic() - began


def said(words: Sequence[object]) -> str:
    """The command, with paths from the root of the repository."""
    short = [word.relative_to(ROOT) if isinstance(word, Path) else word for word in words]
    return shlex.join(["fromnoise", *map(str, short)])
