"""What a rival does next: train to a budget, sample by units, be scored; each kept as soon as it is done."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from fromnoise.errors import UseError
from fromnoise.machine import choose_device
from race_files import add_line, facts_of, finished, load, save, where
from race_rivals import CALLS, SETTINGS, Rival, build, samples
from race_tracks import N, Track, read

COMMAND = "python benchmarks/race.py --track {} --entrant {}"
UNIT = 128  # samples made at once


def race_rival(
    track: Track, entrant: str, asked: Sequence[float], stages: Sequence[str], began: float, ends: float
) -> None:
    """Budget by budget, what ``stages`` names, until ``time.monotonic`` is at ``ends``.

    Training stops at every budget on its way to the longest of those asked for. Raises UseError for another budget.
    """
    if not set(asked) <= set(track.of_rivals):
        listed = ", ".join(f"{minutes:g}" for minutes in track.of_rivals)
        raise UseError(f"A rival is scored on {track.name} after {listed} minutes: choose --minutes among these.")
    at = track.work / entrant
    rival = Rival(SETTINGS[entrant], read(track.train), device=choose_device(None))
    resume(rival, at, time.monotonic() - began)
    for minutes in (each for each in track.of_rivals if each <= max(asked)):
        if "train" in stages and not train_to(rival, at, minutes, ends, time.monotonic):
            return
        if minutes not in asked or finished(track.name, entrant, minutes):
            continue
        if "sample" in stages and not sample(rival, at, minutes, ends):
            return
        if "score" in stages and all(path.is_file() for path in units(at, minutes)):
            add_line(line(track, entrant, minutes))


def resume(rival: Rival, at: Path, start_up: float) -> None:
    """Go on from the last state; the first time, the start counts as training. Raises UseError for other settings."""
    path = at / "state.safetensors"
    rival.seconds = start_up
    if path.is_file():
        state, facts = load(path)
        if facts["settings"] != asdict(rival.settings):
            raise UseError(f"{at} was trained with {facts['settings']}: move it away to train with others.")
        rival.restore(state, facts["steps"], facts["seconds"])


def train_to(rival: Rival, at: Path, minutes: float, ends: float, now: Callable[[], float]) -> bool:
    """Whether it has trained for so many minutes in all; keeps the state, and the weights where it has."""
    if weights_at(at, minutes).is_file():
        return True
    done = rival.train(60 * minutes, ends, now)
    facts = {"settings": asdict(rival.settings), "steps": rival.steps, "seconds": rival.seconds}
    save(at / "state.safetensors", rival.state(), facts)
    print(f"{at.name}: {rival.seconds:.0f} s of training, {rival.images_seen:,} images seen", flush=True)
    if done:
        seen = {"images_seen": rival.images_seen, "parameters": rival.parameters}
        save(weights_at(at, minutes), rival.weights(), {**facts, **seen, **where()})
    return done


def sample(rival: Rival, at: Path, minutes: float, ends: float) -> bool:
    """Whether all samples of a budget are there. Each unit's seconds are kept with it."""
    missing = [path for path in units(at, minutes) if not path.is_file()]
    if not missing or not weights_at(at, minutes).is_file():
        return not missing
    net = build(rival.settings, rival.part).to(rival.device)
    net.load_state_dict(load(weights_at(at, minutes))[0])
    net.eval()
    for path in missing:
        before = time.monotonic()
        if before >= ends:
            return False
        images = samples(net, rival.settings, rival.part, int(path.stem), UNIT)
        seconds = time.monotonic() - before
        save(path, {"images": torch.from_numpy(images)}, {"seconds": seconds})
        print(f"{at.name} at {minutes:g} minutes: samples from {path.stem} on, {seconds:.1f} s", flush=True)
    return True


def line(track: Track, entrant: str, minutes: float) -> dict[str, Any]:
    """All that is known of this budget."""
    from race_scores import scores  # not above: a rival's start-up is on its clock, and this is no part of it

    at = track.work / entrant
    seconds = sum(facts_of(path)["seconds"] for path in units(at, minutes))
    facts = {"track": track.name, "entrant": entrant, "minutes": minutes, **facts_of(weights_at(at, minutes))}
    sampler = f"DPM-Solver++ with thresholding, {CALLS} steps"
    how = {"sampler": sampler, "nfe": CALLS, "sampling_images_per_second": N / seconds}
    return facts | {"commands": [COMMAND.format(track.name, entrant)]} | how | scores(track, samples_of(at, minutes))


def weights_at(at: Path, minutes: float) -> Path:
    """The weights of a budget."""
    return at / f"weights-{minutes:g}.safetensors"


def units(at: Path, minutes: float) -> list[Path]:
    """The files of a budget's samples."""
    return [at / f"samples-{minutes:g}" / f"{first:04d}.safetensors" for first in range(0, N, UNIT)]


def samples_of(at: Path, minutes: float) -> UInt8[np.ndarray, "n h w c"]:
    """All of them."""
    return np.concatenate([load(path)[0]["images"].numpy() for path in units(at, minutes)])
