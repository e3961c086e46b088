"""The state of training and one update of it: on CUDA a graph, replayed; on a processor run as written.

An update is asked for, not waited for: it gives an Outcome whose numbers are read when the next update is under way, so
that a GPU never stands still. Whether they are finite is known just as late; nothing is saved before it is.
"""

import copy
import importlib.util
import math
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from fromnoise import ema
from fromnoise.adam import Adam
from fromnoise.batches import Batch, feed
from fromnoise.denoise import WEIGHTINGS
from fromnoise.errors import NonFinite
from fromnoise.images import ImageSet
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.muon import Muon
from fromnoise.noise import SCHEDULES, NoisyPair
from fromnoise.recipe import Recipe, training_flops
from fromnoise.replay import Replayed
from fromnoise.run_folder import Checkpoint

ADVICE = "the last checkpoint is intact. A lower muon_rate or learning_rate, or dtype float32, may help."
COMPILED_FROM = 2e16  # operations of a run: some minutes of a fast GPU, which is what compiling is worth


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an update gave, on its way from the device."""

    batch: Batch
    told: Float[Tensor, " n"]  # B losses and the largest norm of a gradient; on the CPU, there after ``done``
    done: torch.cuda.Event | None  # None = already

    @property
    def losses(self) -> Float[Tensor, " b"]:
        """Of the images, from clean to noisy; waits for the device."""
        if self.done:
            self.done.synchronize()
        return self.told[:-1]


class Trainer:
    """The state of training in memory and one update of it; ``training.fit`` owns the loop."""

    def __init__(self, recipe: Recipe, images: ImageSet, device: str) -> None:
        self.recipe, self.images, self.device = recipe, images, device
        self.net, self.average = build_net(recipe).to(device), build_net(recipe).to(device).requires_grad_(False)
        trained: Any = self.net
        if compiles(recipe, device):
            trained = trained.compiled()
        self.denoiser = build_denoiser(recipe, trained, recipe.inner_dtype)
        self.weights, self.ema = dict(self.net.named_parameters()), dict(self.average.named_parameters())
        matrices = self.net.matrices
        inner = [weight for name, weight in self.weights.items() if name in matrices]
        others = [weight for name, weight in self.weights.items() if name not in matrices]
        graph = device.startswith("cuda")
        rates = [torch.zeros((), device=device) if graph else 0.0 for _ in range(3)]
        self.muon = Muon(inner, rates[0], recipe.momentum, recipe.weight_decay)
        self.adam = Adam(others, rates[1], recipe.betas)
        self.optimizer_of = {name: self.muon if name in matrices else self.adam for name in self.weights}
        self.gamma, self.ema_share = ema.gamma_of(recipe.ema_relative_std), rates[2]
        self.step: Callable[[NoisyPair], Tensor] = Replayed(self._step, device) if graph else self._step
        self.earlier: nn.Module | None = None  # the average as it was set aside
        self.images_seen = 0
        self.batches: Generator[Batch] | None = None

    def update(self, images_total: int) -> Outcome:
        """One optimizer step, begun; its numbers, and whether they are finite, are in ``settled`` of what it gives."""
        recipe = self.recipe
        if self.batches is None:
            self.batches = feed(recipe, self.images, SCHEDULES[recipe.schedule](), self.device, self.images_seen)
        batch = next(self.batches)
        share = recipe.rate_share_at(self.images_seen, images_total)
        self.images_seen += recipe.batch
        for optimizer, rate in ((self.muon, recipe.muon_rate), (self.adam, recipe.learning_rate)):
            optimizer.param_groups[0]["lr"] = _noted(optimizer.param_groups[0]["lr"], rate * share)
        self.ema_share = _noted(self.ema_share, ema.share(self.gamma, self.images_seen, recipe.batch))
        told = self.step(batch.pair)
        if self.earlier is None and recipe.earlier_at and self.images_seen >= recipe.earlier_at * images_total:
            self.earlier = copy.deepcopy(self.average)
        if not self.device.startswith("cuda"):
            return Outcome(batch, told.cpu(), None)
        return Outcome(batch, told.to("cpu", non_blocking=True), torch.cuda.current_stream(self.device).record_event())

    def _step(self, pair: NoisyPair) -> Float[Tensor, " n"]:
        """The losses and the largest norm of a gradient: NaN or infinite where any of them is."""
        weight = WEIGHTINGS[self.recipe.weighting](pair.log_snr, self.recipe.pictures.sigma_data)
        losses = self.denoiser.loss(pair, weight)
        losses.mean().backward()
        norms = torch._foreach_norm([weight.grad for weight in self.weights.values() if weight.grad is not None])
        for optimizer in (self.muon, self.adam):
            optimizer.step()
            optimizer.zero_grad()
        ema.update(self.ema, self.weights, self.ema_share)
        return torch.cat([losses.detach(), torch.stack(norms).max().view(1)])

    def settled(self, outcome: Outcome) -> Float[Tensor, " b"]:
        """The losses of an update, on the CPU. Raises NonFinite, the state then spent, where it went wrong."""
        losses, batch = outcome.losses, outcome.batch
        self.require_finite("loss", losses, batch.log_snr, batch.indices, batch.images_seen)
        self.require_finite("gradient", outcome.told[-1:], batch.log_snr, batch.indices, batch.images_seen, losses)
        return losses

    def require_finite(
        self,
        what: str,
        values: Float[Tensor, " n"],
        log_snr: Float64[Tensor, " b"],
        indices: Int64[np.ndarray, " b"],
        images_seen: int,
        losses: Float[Tensor, " b"] | None = None,
    ) -> None:
        """Raises NonFinite with noise levels and files: of the bad values or, where given, of the worst losses."""
        if bool(torch.isfinite(values).all()):
            return
        rows = torch.nonzero(~torch.isfinite(values)).flatten() if losses is None else losses.topk(3).indices
        levels = ", ".join(f"{math.exp(-0.5 * float(log_snr[row])):.3g}" for row in rows[:3])
        names = ", ".join(self.images.names[int(indices[row])] for row in rows[:3].tolist())
        raise NonFinite(
            f"The {what} became NaN or infinite after {images_seen:,} images seen, at noise ratio {levels}, "
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
        earlier = self.earlier.state_dict() if self.earlier else None
        return Checkpoint(self.images_seen, seconds, dict(self.weights), dict(self.ema), moments, earlier)

    def restore(self, state: Checkpoint) -> None:
        """Go on exactly from a checkpoint; before the first update."""
        self.images_seen = state.images_seen
        if state.earlier:
            self.earlier = copy.deepcopy(self.average)
            self.earlier.load_state_dict(state.earlier)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state.weights[name])
                self.ema[name].copy_(state.ema[name])
                optimizer = self.optimizer_of[name]
                for key in ("momentum",) if optimizer is self.muon else ("step", "exp_avg", "exp_avg_sq"):
                    place = torch.empty((), device=self.device) if key == "step" else torch.empty_like(weight)
                    optimizer.state[weight][key] = place.copy_(state.optimizer[f"{key}/{name}"])

    def close(self) -> None:
        """Make no more batches."""
        if self.batches is not None:
            self.batches.close()

    def model(self, net: nn.Module, weights: str) -> Model:
        """A model of the present weights, to look at."""
        denoiser = build_denoiser(self.recipe, net)
        earlier = build_denoiser(self.recipe, self.earlier) if self.earlier else None
        return Model(self.recipe, self.images.spec, denoiser, self.images_seen, weights, "", self.device, earlier)


def compiles(recipe: Recipe, device: str) -> bool:
    """Whether the net is compiled: a transformer on CUDA, in a run that is worth the minute, with a compiler there.

    A U-Net is not: no two of its blocks are alike, and compiling them takes longer than most runs can win back. The
    same on a resume, as it asks for the plan that the run began with.
    """
    if recipe.net.kind != "transformer" or not device.startswith("cuda") or not importlib.util.find_spec("triton"):
        return False
    work = recipe.images_total * training_flops(recipe.net, recipe.pictures.height, recipe.pictures.width)
    return work >= COMPILED_FROM and any(map(shutil.which, ("gcc", "clang")))


def _noted(place: float | Tensor, value: float) -> float | Tensor:
    """A number of this update: where a graph reads it, written to the tensor that it reads."""
    return place.fill_(value) if isinstance(place, Tensor) else value
