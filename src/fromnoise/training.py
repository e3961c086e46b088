"""Training: ONE loop. ``fit`` yields a TrainStep per update; to resume is to call it again on the same folder.

Every number of a step is a pure function of (recipe, plan, images_seen) and the state: batch k shows the images that a
keyed permutation puts there, at keyed noise levels, with keyed noise. So a killed run goes on bit for bit. The clock
is read at the checks of the plan alone, and what it says is committed as a numbered revision before it takes effect.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fromnoise import keyed
from fromnoise.batches import noise_levels
from fromnoise.denoise import WEIGHTINGS, NetDenoiser
from fromnoise.images import ImageSet, beside, encode_png, evenly, montage
from fromnoise.model import build_denoiser
from fromnoise.noise import Condition, Schedule, corrupt
from fromnoise.plan import Clock, Plan, passed
from fromnoise.recipe import STRATA, Recipe
from fromnoise.run_folder import RunFolder, Sheet
from fromnoise.trainer import Outcome, Trainer

SHEET_IMAGES = 16
PROBED = 256  # held-out, and as many training, images whose loss is measured with fixed noise at every sheet


@dataclass(frozen=True)
class Probe:
    """The EMA's mean weighted loss with fixed noise, by noise level: STRATA of equal probability, clean to noisy."""

    train: tuple[float, ...]  # on training images
    heldout: tuple[float, ...]  # on images never trained on; () where none are held out


@dataclass(frozen=True)
class TrainStep:
    """One update, in detached values."""

    images_seen: int  # after it
    images_total: int  # of the plan in force
    loss: float
    loss_by_noise: tuple[float, ...]  # from clean to noisy, in strata of equal probability
    learning_rate: float  # of Adam; Muon takes the same share of its own rate
    seconds: float  # used by the run so far
    sheet: Path | None = None  # made after this step
    probe: Probe | None = None
    saved: Path | None = None
    revised: bool = False  # the plan changed after this step


def fit(
    recipe: Recipe,
    images: ImageSet,
    folder: RunFolder,
    *,
    device: str = "cpu",
    stop: threading.Event | None = None,
    elapsed: Callable[[], float] = time.monotonic,
) -> Iterator[TrainStep]:
    """Train to the end of the plan, or until ``stop`` is set and the state saved; yields every step.

    The folder must be open for writing and hold this recipe. Begins at its newest good checkpoint, or at the start.
    elapsed: seconds the command has run so far; it is read to report, and at the checks of a plan made from minutes.
    A consumer that stops listening loses at most one save interval. Raises NonFinite, CouldNotSave.
    """
    with closing(Trainer(recipe, images, device)) as trainer:
        clock = Clock(elapsed, _resume(trainer, folder), trainer.images_seen)
        yield from _steps(trainer, folder, Plan(recipe, folder, trainer.images_seen), clock, stop or threading.Event())


def _steps(trainer: Trainer, folder: RunFolder, plan: Plan, clock: Clock, stop: threading.Event) -> Iterator[TrainStep]:
    """A step is yielded when the next one is under way, or at once where there is a sheet, a save or an end to it."""
    log = _Log(folder, trainer.recipe.batch)
    owed: Callable[[], TrainStep] | None = None
    while (before := trainer.images_seen) < plan.positions.end:
        rate = trainer.recipe.learning_rate * trainer.recipe.rate_share_at(before, plan.positions.end)
        outcome = trainer.update(plan.positions.end)
        if owed is not None:
            yield log(owed())
        seen = trainer.images_seen
        sheet, revised, stopping = plan.sheet_due(seen), plan.revise(clock, before, seen), stop.is_set()
        save = passed(plan.positions.saves, before, seen) or seen >= plan.positions.end or stopping
        owed = partial(_reported, trainer, outcome, clock, seen, plan.positions.end, rate, revised)
        if not (sheet or save):
            continue
        step, owed = owed(), None
        if sheet:
            probe, made = probe_loss(trainer), make_sheet(trainer, folder)
            step = replace(step, probe=probe, sheet=made, seconds=clock.seconds())
        log(step)
        if save:
            saved = folder.save(trainer.state(clock.seconds()))
            folder.log("save", images_seen=seen, folder=saved.name)
            step = replace(step, saved=saved)
        yield step
        if stopping:
            return


def _reported(
    trainer: Trainer, outcome: Outcome, clock: Clock, seen: int, total: int, rate: float, revised: bool
) -> TrainStep:
    """The step in detached values; waits until the device is done with it. Raises NonFinite."""
    losses = trainer.settled(outcome)
    return TrainStep(
        images_seen=seen,
        images_total=total,
        loss=float(losses.mean()),
        loss_by_noise=tuple(losses.view(STRATA, -1).mean(1).tolist()),
        learning_rate=rate,
        seconds=clock.seconds(),
        revised=revised,
    )


class _Log:
    """Writes a step to events.jsonl every 500th of the plan, with the mean loss since the one before."""

    def __init__(self, folder: RunFolder, batch: int) -> None:
        self.folder, self.batch, self.losses = folder, batch, list[float]()

    def __call__(self, step: TrainStep) -> TrainStep:
        self.losses.append(step.loss)
        every = max(step.images_total // 500, 1)
        if step.images_seen // every > (step.images_seen - self.batch) // every:
            fields = {"images_seen": step.images_seen, "images_total": step.images_total, "loss": mean(self.losses)}
            rest = {"loss_by_noise": step.loss_by_noise, "learning_rate": step.learning_rate, "seconds": step.seconds}
            self.folder.log("step", **fields, **rest)
            self.losses.clear()
        if step.sheet and step.probe:
            self.folder.log("sheet", images_seen=step.images_seen, file=step.sheet.name, **asdict(step.probe))
        return step


def _resume(trainer: Trainer, folder: RunFolder) -> float:
    """Restore the newest good checkpoint, if any; gives the seconds used before."""
    if not folder.checkpoints():
        folder.log("begin", images_seen=0)
        return 0.0
    damaged: list[str] = []
    state = folder.load(folder.newest(damaged))
    trainer.restore(state)
    folder.log("resume", images_seen=state.images_seen, damaged=damaged)
    return state.seconds


def make_sheet(trainer: Trainer, folder: RunFolder) -> Path:
    """Samples from the same noise as every other sheet of the run: raw weights left, their average right."""
    nets = {"raw": trainer.net, "ema": trainer.average}
    samples = {
        weights: trainer.model(net, weights).sample(SHEET_IMAGES, seed=trainer.recipe.seed)
        for weights, net in nets.items()
    }
    grids = [
        (f"{weights} weights, {trainer.images_seen:,} images seen", montage(made.spec.shown(made.images)))
        for weights, made in samples.items()
    ]
    sheet = Sheet(trainer.images_seen, samples["raw"].images, samples["ema"].images)
    return folder.keep_sheet(sheet, encode_png(beside(grids)))


def probe_loss(trainer: Trainer) -> Probe:
    """The EMA's loss on fixed images with fixed noise, the same at every call. Raises NonFinite."""
    denoiser = build_denoiser(trainer.recipe, trainer.average, trainer.denoiser.dtype)
    sets = (evenly(trainer.images.train, PROBED), evenly(trainer.images.heldout, PROBED))
    train, heldout = (_loss_by_noise(trainer, denoiser, indices) for indices in sets)
    return Probe(train, heldout)


def probed_levels(recipe: Recipe, schedule: Schedule) -> Float[Tensor, " strata"]:
    """log_snr of each value of a Probe: the middle of its stratum, from clean to noisy."""
    middles = (torch.arange(STRATA, dtype=torch.float64) + 0.5) / STRATA
    return noise_levels(recipe, middles, schedule)


def _loss_by_noise(trainer: Trainer, denoiser: NetDenoiser, indices: np.ndarray) -> tuple[float, ...]:
    """Image i at the middle of stratum i % STRATA; () for less than one image a stratum."""
    if len(indices) < STRATA:
        return ()
    x0 = trainer.images.x0(indices)
    eps, out = probe_noise(trainer.recipe, x0), []
    for stratum in range(STRATA):
        mine = slice(stratum, None, STRATA)
        clean, noise_of = x0[mine].to(trainer.device), eps[mine].to(trainer.device)
        losses, log_snr = probe_losses(trainer.recipe, denoiser, stratum, clean, noise_of)
        trainer.require_finite("average's loss", losses, log_snr, indices[mine], trainer.images_seen)
        out.append(float(losses.mean()))
    return tuple(out)


def probe_noise(recipe: Recipe, x0: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The fixed noise of ``probe_loss``: keyed by the place of each image alone."""
    key = keyed.derive(recipe.seed, keyed.Purpose.HELDOUT, np.arange(len(x0)))
    return torch.from_numpy(keyed.normals(key, x0[0].numel())).view_as(x0)


def probe_losses(
    recipe: Recipe, denoiser: NetDenoiser, stratum: int, x0: Float[Tensor, "b c h w"], eps: Float[Tensor, "b c h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Losses of images with this noise at the middle of a stratum of the recipe's noise levels, and their log_snr."""
    log_snr = probed_levels(recipe, denoiser.schedule)[stratum]
    pair = corrupt(denoiser.schedule, x0, eps, denoiser.schedule.t_at(log_snr), Condition())
    weight = WEIGHTINGS[recipe.weighting](log_snr, recipe.pictures.sigma_data)
    with torch.no_grad():
        return denoiser.loss(pair, weight.expand(len(x0))), log_snr.expand(len(x0))
