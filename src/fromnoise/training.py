"""Training: ONE loop. ``fit`` yields a TrainStep per update; to resume is to call it again on the same folder.

Every number of a step is a pure function of (recipe, plan, images_seen) and the state: batch k shows the images that a
keyed permutation puts there, at keyed noise levels, with keyed noise. So a killed run goes on bit for bit. The clock
is read at the checks of the plan alone, and what it says is committed as a numbered revision before it takes effect.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fromnoise import ema, keyed
from fromnoise.batches import noise_levels, training_indices, training_pair
from fromnoise.denoise import WEIGHTINGS, NetDenoiser
from fromnoise.errors import NonFinite
from fromnoise.images import ImageSet, beside, encode_png, evenly, montage
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.muon import Muon
from fromnoise.noise import SCHEDULES, Condition, Schedule, corrupt
from fromnoise.plan import Clock, Plan, passed
from fromnoise.recipe import STRATA, Recipe
from fromnoise.run_folder import Checkpoint, RunFolder, Sheet

ADVICE = "the last checkpoint is intact. A lower muon_rate or learning_rate, or dtype float32, may help."
OUTER = ("enter.", "leave.")  # the first and the last layer, whose rows or columns are pixels
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


class Trainer:
    """The state of training in memory and one update of it; ``fit`` owns the loop."""

    def __init__(self, recipe: Recipe, images: ImageSet, device: str) -> None:
        self.recipe, self.images, self.device = recipe, images, device
        self.schedule = SCHEDULES[recipe.schedule]()
        self.net, self.average = build_net(recipe).to(device), build_net(recipe).to(device).requires_grad_(False)
        self.denoiser = build_denoiser(recipe, self.net, recipe.inner_dtype)
        self.weights, self.ema = dict(self.net.named_parameters()), dict(self.average.named_parameters())
        inner = {name: w for name, w in self.weights.items() if w.ndim == 4 and not name.startswith(OUTER)}
        others = [weight for name, weight in self.weights.items() if name not in inner]
        self.muon = Muon(inner.values(), recipe.muon_rate, recipe.momentum, recipe.weight_decay)
        self.adam = torch.optim.Adam(others, recipe.learning_rate, recipe.betas, fused=True)
        self.optimizer_of = {name: self.muon if name in inner else self.adam for name in self.weights}
        self.gamma = ema.gamma_of(recipe.ema_relative_std)
        self.images_seen = 0

    def update(self, images_total: int) -> tuple[Tensor, Tensor]:
        """One optimizer step; gives the losses (B,) and their log_snr (B,). Raises NonFinite, the state then spent."""
        recipe, batch = self.recipe, self.recipe.batch
        indices = training_indices(recipe, self.images.train, self.images_seen)
        pair = training_pair(recipe, self.images, indices, self.images_seen, self.schedule, self.device)
        log_snr = 2.0 * torch.log(pair.alpha / pair.sigma)
        weight = WEIGHTINGS[recipe.weighting](log_snr, recipe.pictures.sigma_data)
        losses = self.denoiser.loss(pair, weight)
        self.require_finite("loss", losses.detach(), log_snr, indices)
        losses.mean().backward()
        gradients = [weight.grad for weight in self.weights.values() if weight.grad is not None]
        norms = torch.stack(torch._foreach_norm(gradients))
        self.require_finite("gradient", norms, log_snr, indices, losses.detach())
        share = recipe.rate_share_at(self.images_seen, images_total)
        for optimizer, rate in ((self.muon, recipe.muon_rate), (self.adam, recipe.learning_rate)):
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()
        self.images_seen += batch
        ema.update(self.ema, self.weights, self.gamma, self.images_seen, batch)
        return losses.detach(), log_snr

    def require_finite(
        self, what: str, values: Tensor, log_snr: Tensor, indices: np.ndarray, losses: Tensor | None = None
    ) -> None:
        """Raises NonFinite with noise levels and files: of the bad values or, where given, of the worst losses."""
        if bool(torch.isfinite(values).all()):
            return
        rows = torch.nonzero(~torch.isfinite(values)).flatten() if losses is None else losses.topk(3).indices
        levels = ", ".join(f"{math.exp(-0.5 * float(log_snr[row])):.3g}" for row in rows[:3])
        names = ", ".join(self.images.names[indices[row]] for row in rows[:3].tolist())
        raise NonFinite(
            f"The {what} became NaN or infinite after {self.images_seen:,} images seen, at noise ratio {levels}, "
            f"with {names}; {ADVICE}"
        )

    def state(self, seconds: float) -> Checkpoint:
        """All of it; tensors are shared with training, so use it before the next update.

        Raises NonFinite rather than let a NaN or infinity be saved.
        """
        moments = {
            f"{key}/{name}": value
            for name, weight in self.weights.items()
            for key, value in self.optimizer_of[name].state[weight].items()
        }
        for what, tensors in (("weight", self.weights), ("average", self.ema), ("moment", moments)):
            for name, value in tensors.items():
                if not bool(torch.isfinite(value).all()):
                    raise NonFinite(
                        f"The {what} {name} became NaN or infinite within {self.images_seen:,} images seen; {ADVICE}"
                    )
        return Checkpoint(self.images_seen, seconds, dict(self.weights), dict(self.ema), moments)

    def restore(self, state: Checkpoint) -> None:
        """Go on exactly from a checkpoint."""
        self.images_seen = state.images_seen
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state.weights[name])
                self.ema[name].copy_(state.ema[name])
                optimizer = self.optimizer_of[name]
                for key in ("momentum",) if optimizer is self.muon else ("step", "exp_avg", "exp_avg_sq"):
                    place = torch.empty((), device=self.device) if key == "step" else torch.empty_like(weight)
                    optimizer.state[weight][key] = place.copy_(state.optimizer[f"{key}/{name}"])

    def model(self, net: torch.nn.Module, weights: str) -> Model:
        """A model of the present weights, to look at."""
        denoiser = build_denoiser(self.recipe, net)
        return Model(self.recipe, self.images.spec, denoiser, self.images_seen, weights, "", self.device)


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
    trainer = Trainer(recipe, images, device)
    clock = Clock(elapsed, _resume(trainer, folder), trainer.images_seen)
    plan, log = Plan(recipe, folder, trainer.images_seen), _Log(folder)
    while trainer.images_seen < plan.positions.end:
        before = trainer.images_seen
        rate = recipe.learning_rate * recipe.rate_share_at(before, plan.positions.end)
        losses, _ = trainer.update(plan.positions.end)
        seen = trainer.images_seen
        sheet = plan.sheet_due(seen)
        revised = plan.revise(clock, before, seen)
        stopping = stop is not None and stop.is_set()
        save = passed(plan.positions.saves, before, seen) or seen >= plan.positions.end or stopping
        step = TrainStep(
            images_seen=seen,
            images_total=plan.positions.end,
            loss=float(losses.mean()),
            loss_by_noise=tuple(losses.view(STRATA, -1).mean(1).tolist()),
            learning_rate=rate,
            probe=probe_loss(trainer) if sheet else None,
            sheet=make_sheet(trainer, folder) if sheet else None,
            revised=revised,
            seconds=clock.seconds(),
        )
        log(step, before)
        if save:
            saved = folder.save(trainer.state(clock.seconds()))
            folder.log("save", images_seen=seen, folder=saved.name)
            step = replace(step, saved=saved)
        yield step
        if stopping:
            return


class _Log:
    """Writes a step to events.jsonl every 500th of the plan, with the mean loss since the one before."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.losses = folder, list[float]()

    def __call__(self, step: TrainStep, before: int) -> None:
        self.losses.append(step.loss)
        every = max(step.images_total // 500, 1)
        if step.images_seen // every > before // every:
            fields = {"images_seen": step.images_seen, "images_total": step.images_total, "loss": mean(self.losses)}
            rest = {"loss_by_noise": step.loss_by_noise, "learning_rate": step.learning_rate, "seconds": step.seconds}
            self.folder.log("step", **fields, **rest)
            self.losses.clear()
        if step.sheet and step.probe:
            self.folder.log("sheet", images_seen=step.images_seen, file=step.sheet.name, **asdict(step.probe))


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
        trainer.require_finite("average's loss", losses, log_snr, indices[mine])
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
