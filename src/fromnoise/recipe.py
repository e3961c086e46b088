"""What a run is: one frozen, validated record, derived from the pictures, the machine and the minutes.

Progress is counted in images_seen. A time budget becomes a plan, the total of images_seen, before the first step;
``plan_positions`` then says where sheets, saves and checks of the rate fall. Nothing here reads a clock.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    model_validator,
)
from torch import Tensor, nn

from fromnoise.errors import UseError
from fromnoise.images import Asked, ImageSet
from fromnoise.machine import Machine
from fromnoise.nets import HEAD, ImageSpec, Layer, TransformerSpec, UNetSpec, build
from fromnoise.noise import Condition
from fromnoise.sample import Sampler

LEVELS_MEAN = -1.2  # found on pictures whose sigma_data is 0.3 to 0.9
NARROW = 0.3  # sigma_data below which pictures are centred and the levels lowered: what counts is how they vary
BATCH = 64  # images a step of a long run on a processor
STRATA = 8  # noise levels are reported in this many classes of equal probability


class NumberSpec(BaseModel):
    """A number that images are known by, as it lies over the training images that have it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    low: float
    high: float
    mean: float
    std: PositiveFloat

    @classmethod
    def of(cls, name: str, values: Float32[np.ndarray, " n"]) -> "NumberSpec":
        """``values``: of the training images, NaN where unknown. Raises UseError where all of them are."""
        known = values[~np.isnan(values)].astype(np.float64)
        if not len(known):
            raise UseError(f"The number {name} is known of no picture to train on: fill in more cells of its column.")
        low, high, mean = float(known.min()), float(known.max()), float(known.mean())
        return cls(
            name=name, low=low, high=high, mean=mean, std=float(known.std()) or 1.0
        )  # 1: all alike, all become 0


class Pictures(BaseModel):
    """What the run is trained on, as far as the recipe needs to know it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str  # as the user named it
    asked: Asked = Asked()  # of the set when it was opened
    identity: str  # SHA-256 of the packed images, labels and meaning of values
    height: PositiveInt
    width: PositiveInt
    channels: PositiveInt
    classes: tuple[str, ...] = ()
    train_count: PositiveInt
    heldout_count: NonNegativeInt
    sigma_data: PositiveFloat  # standard deviation in [-1, 1]
    mean: float = 0.0  # likewise
    numbers: tuple[NumberSpec, ...] = ()

    @classmethod
    def of(cls, source: str, images: ImageSet) -> "Pictures":
        """What a set of images, opened from ``source``, is to a recipe. Raises UseError where all values are one."""
        if images.sigma_data == 0:
            raise UseError(f"All {len(images):,} pictures of {source} are of one flat colour: nothing can be learned.")
        height, width, channels = images.shape
        return cls(
            source=source,
            asked=images.asked,
            identity=images.identity,
            height=height,
            width=width,
            channels=channels,
            classes=images.classes,
            train_count=len(images.train),
            heldout_count=len(images.heldout),
            sigma_data=images.sigma_data,
            mean=float(np.mean(images.mean)),
            numbers=tuple(
                NumberSpec.of(name, images.numbers[images.train, k])
                for k, name in enumerate(images.number_names)
                if images.numbers is not None
            ),
        )

    def normalised(self, numbers: Float[np.ndarray, "b k"]) -> Float32[np.ndarray, "b k"]:
        """As a net is told them: (value - mean) / std over the training images; NaN, unknown, stays NaN."""
        mean, std = np.array([[each.mean, each.std] for each in self.numbers]).T
        return ((numbers - mean) / std).astype(np.float32)


class Recipe(BaseModel):
    """A whole run. Equal recipes on one machine give equal runs; contradictory ones fail here, with both names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pictures: Pictures
    net: ImageSpec
    seed: NonNegativeInt = 0
    preconditioning: Literal["edm", "eps", "x0", "v", "velocity"] = "edm"
    schedule: Literal["edm", "vp-linear", "vp-cosine", "flow", "ddpm"] = "edm"
    centre: float = Field(0.0, ge=-1, le=1)  # taken out of the pictures before the net
    weighting: Literal["edm", "min-snr", "flow"] = "edm"
    levels: Literal["log-normal", "logit-normal", "uniform"] = "log-normal"
    levels_mean: float = LEVELS_MEAN  # of log(sigma / alpha); not used by uniform
    levels_deviation: PositiveFloat = 1.3
    label_dropout: float = Field(
        0.1, ge=0, lt=1
    )  # share of training images shown without class and numbers; each number, too
    batch: PositiveInt = BATCH
    muon_rate: PositiveFloat = 0.01  # of Muon, which moves the matrices that a net names
    momentum: float = Field(0.95, ge=0, lt=1)  # of Muon
    weight_decay: float = Field(0.1, ge=0)  # of Muon
    learning_rate: PositiveFloat = 4e-3  # of Adam, which moves all the rest
    betas: tuple[float, float] = (0.9, 0.99)  # of Adam
    warmup_images: NonNegativeInt = 3_200  # both rates rise linearly over these
    anneal_from: float = Field(0.5, gt=0, lt=1)  # share of the run after which both rates fall linearly to zero
    ema_relative_std: float = Field(0.05, gt=0, lt=0.28)  # length of the average, as a share of the run
    dtype: Literal["bfloat16", "float32"] = "float32"  # of the products inside the net while training
    minutes: PositiveFloat | None = None  # the budget; None = images_total stands as it is
    images_total: PositiveInt  # the plan made before the first step
    sampler: Sampler = Sampler()
    guidance: float = 1.0  # of sampling; 1 = as learned
    guided_within: tuple[PositiveFloat, PositiveFloat] | None = None  # noise ratios at which it acts; None = all
    earlier_at: float | None = Field(None, gt=0, lt=1)  # share of the run after which the average is set aside for it
    earlier_told: bool = False  # class and numbers, as the average it guides is

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        pairs = (
            ("net.channels", self.net.channels, "pictures.channels", self.pictures.channels),
            ("net.classes", self.net.classes, "len(pictures.classes)", len(self.pictures.classes)),
            ("net.numbers", self.net.numbers, "len(pictures.numbers)", len(self.pictures.numbers)),
            ("batch % 8", self.batch % STRATA, "0", 0),
        )
        for left, found, right, wanted in pairs:
            if found != wanted:
                raise ValueError(f"{left} is {found} but {right} is {wanted}; they must agree")
        if self.guidance != 1.0 and not (self.pictures.classes or self.pictures.numbers or self.earlier_at):
            raise ValueError(
                f"guidance is {self.guidance:g} but pictures.classes and pictures.numbers are () and earlier_at is "
                "None; it needs one of them"
            )
        if self.guided_within and self.guided_within[0] > self.guided_within[1]:
            raise ValueError("guided_within begins at {:g} but ends at {:g}; it must rise".format(*self.guided_within))
        if self.sampler.steps < 1:
            raise ValueError(f"sampler.steps is {self.sampler.steps} but must be at least 1")
        return self

    @property
    def inner_dtype(self) -> torch.dtype:
        """Of the products inside the net while training."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32

    def rate_share_at(self, images_seen: int, images_total: int) -> float:
        """The share of its rates that the step beginning at ``images_seen`` takes: rises, stays at 1, falls to zero."""
        rise = min(1.0, (images_seen + self.batch) / max(self.warmup_images, 1))
        left = (images_total - images_seen) / (images_total * (1.0 - self.anneal_from))
        return rise * min(1.0, left)


@dataclass(frozen=True)
class Positions:
    """Where things happen, in images_seen; a step that reaches or passes a position does what falls there."""

    sheets: tuple[int, ...]
    saves: tuple[int, ...]
    checks: tuple[int, ...]  # of the rate: here the plan may be revised
    end: int


CHECKS = (0.03, *(k / 20 for k in range(2, 20)))


def plan_positions(images_total: int, minutes: float | None) -> Positions:
    """The positions for a total: the first sheet after 15 seconds of the budget, then at doublings and quarters.

    Saves fall every 30 seconds of a short run, every twentieth of a longer one, and at least every 5 minutes.
    """
    seconds = 60.0 * minutes if minutes else math.inf
    first = images_total * (min(15.0 / seconds, 0.125) if minutes else 0.125)
    doublings = [first * 2**k for k in range(24) if first * 2**k < images_total / 4]
    sheets = [int(position) for position in doublings] + [images_total * k // 4 for k in range(1, 5)]
    share = min(max(30.0 / seconds, 0.05), 300.0 / seconds, 0.5) if minutes else 0.1
    saves = {int(images_total * share * k) for k in range(1, int(1 / share) + 1)}
    checks = [int(images_total * check) for check in CHECKS]
    return Positions(
        sheets=tuple(sorted(set(sheets))),
        saves=tuple(sorted(p for p in saves if p < images_total)),
        checks=tuple(checks) if minutes else (),
        end=images_total,
    )


def training_seconds(minutes: float) -> float:
    """What a budget leaves for training, the last sheet included; the rest is kept for the end."""
    return 60.0 * minutes * (1.0 - KEPT_SHARE) - KEPT_SECONDS


def revised_total(minutes: float, images_seen: int, seconds_used: float, images_per_second: float, batch: int) -> int:
    """images_total anew: what the rest of the training's share of the budget holds at the measured rate."""
    seconds_left = training_seconds(minutes) - seconds_used
    return max(int(images_seen + seconds_left * images_per_second), images_seen + batch)


def training_flops(spec: UNetSpec | TransformerSpec, height: int, width: int) -> int:
    """Operations to train on one image, three forward passes' worth: convolutions, linear layers, attention.

    They are a quadratic in the net's width, so they are counted on three narrow nets of the same shape and carried to
    the width by Lagrange's formula, exactly; a wide net need not be built to be planned with.
    """
    unit = HEAD if spec.kind == "transformer" else 16
    a, b, c = (_counted(spec.model_copy(update={"width": unit * k}), height, width) for k in (1, 2, 3))
    k = spec.width // unit
    return 3 * (a * (k - 2) * (k - 3) - 2 * b * (k - 1) * (k - 3) + c * (k - 1) * (k - 2)) // 2


@lru_cache
def _counted(spec: UNetSpec | TransformerSpec, height: int, width: int) -> int:
    """Operations of one forward pass."""
    total = 0
    with torch.random.fork_rng(devices=[]):  # counting must not move the generator of whoever asks
        net = build(spec)

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += 2 * layer.weight.numel() * math.prod(output.shape[2:])
        elif isinstance(layer, nn.Linear):
            total += 2 * layer.weight.numel() * math.prod(output.shape[1:-1])
        elif isinstance(layer, Layer):
            total += 4 * output.numel() * output.shape[1]

    for layer in net.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, spec.channels, height, width), torch.zeros(1), Condition())
    return total


def _changed(net: UNetSpec, fields: Mapping[str, Any]) -> UNetSpec | TransformerSpec:
    """The net with some of its fields replaced; where they name another kind, one with that kind's own defaults."""
    same = fields.get("kind", net.kind) == net.kind
    kept = net.model_dump(include=None if same else {"channels", "classes", "numbers"})
    return TypeAdapter[UNetSpec | TransformerSpec](ImageSpec).validate_python(kept | dict(fields))


def auto(pictures: Pictures, machine: Machine, minutes: float | None, **overrides: Any) -> Recipe:
    """The recipe for these pictures on this machine in this many minutes; ``overrides`` replace fields by name.

    The net grows with the budget: the largest of SIZES that still sees enough images to learn from is taken.
    A batch is halved where few images are to be seen, but not on a GPU.
    ``net`` and ``sampler`` may name some fields of theirs only. minutes None needs images_total and takes the smallest
    net.
    Raises pydantic.ValidationError for an unknown or contradictory field.
    """
    chosen = _affordable_net(pictures, machine, minutes) if minutes else net_of_size(*SIZES[0][:2], pictures)
    net = _changed(chosen, overrides.pop("net", {}))
    narrower = min(1.0, pictures.sigma_data / NARROW)
    fields: dict[str, Any] = {
        "pictures": pictures,
        "net": net,
        "minutes": minutes,
        "dtype": "bfloat16" if machine.bf16 else "float32",
        "guided_within": tuple(ratio * narrower for ratio in GUIDED_WITHIN),
        "earlier_at": EARLIER_AT,
        "centre": pictures.mean if pictures.sigma_data < NARROW else 0.0,
        "levels_mean": LEVELS_MEAN + math.log(narrower),
    }
    if machine.device != "cpu" and "batch" not in overrides:
        fields |= {"batch": GPU_BATCH, "muon_rate": GPU_MUON_RATE}
    if minutes:
        fields["images_total"] = _expected_images(net, pictures, machine, minutes)
    known = fields | overrides
    fields |= _guidance(pictures, known.get("images_total", 0), known["earlier_at"])
    fields["sampler"] = _sampler(pictures, (fields | overrides)["guidance"], overrides.pop("sampler", {}))
    made = Recipe.model_validate(fields | overrides)
    if "batch" in overrides or machine.device != "cpu":
        return made
    return made.model_copy(update={"batch": _batch(pictures, made.images_total)})


MOST_POSITIONS = 12  # a side, of the coarsest level
LONGEST_UNFOLDED = 64  # pixels a side; larger pictures are folded by patches of 2
MOST_KEPT = 64  # channels of pixels and patches that a net is widened for
GPU_BATCH, GPU_MUON_RATE = 256, 0.02
SMALL_IMAGE, FEW_SEEN = 2_048, 100_000  # values of an image, and images seen in a run
KEPT_SECONDS, KEPT_SHARE = 1.0, 0.03  # of the budget, for the end
EARLIER_AT = 0.25  # as good as an eighth and better than a half (LOG.md)
GUIDANCE = 2.0  # away from an earlier average that is told the class as well
YOUNG, YOUNG_GUIDANCE = 120_000, 1.5  # images, below which a net makes too little of its class: the average is not told
GUIDED_WITHIN = (0.25, 5.0)  # above, samples come out further from the pictures; below, no nearer (LOG.md)
EVALUATIONS = 12  # of the net for an image: 200 make none better (LOG.md)
GUIDED_STEPS = 9  # that take so many, three of them being within on `inner`
# (width, blocks a level, images it must see to beat the one before it): measured up to the third, LOG.md of 2026-11-23
SIZES = (
    (32, 1, 0),
    (32, 2, 120_000),
    (64, 1, 300_000),
    (64, 2, 600_000),
    (128, 2, 2_000_000),
    (256, 2, 8_000_000),
)


def _affordable_net(pictures: Pictures, machine: Machine, minutes: float) -> UNetSpec:
    nets = [(net_of_size(width, blocks, pictures), fewest) for width, blocks, fewest in SIZES]
    return [net for net, fewest in nets if _expected_images(net, pictures, machine, minutes) >= fewest][-1]


def _batch(pictures: Pictures, images_total: int) -> int:
    """Half as many images a step where few are seen: a run of some hundred steps learns more from twice as many.

    Small images, whose gradients are noisier, do not (LOG.md).
    """
    small = pictures.height * pictures.width * pictures.channels <= SMALL_IMAGE
    return BATCH if small or images_total >= FEW_SEEN else BATCH // 2


def _guidance(pictures: Pictures, images_total: int, earlier_at: float | None) -> dict[str, Any]:
    """How much, and whether the earlier average is told what is asked for.

    None where numbers alone are known: what is left open came to vary too little (LOG.md).
    """
    if not pictures.classes and (pictures.numbers or not earlier_at):
        return {"guidance": 1.0}
    told = bool(earlier_at) and not (pictures.classes and images_total < YOUNG)
    return {"guidance": GUIDANCE if told else YOUNG_GUIDANCE, "earlier_told": told}


def _sampler(pictures: Pictures, guidance: float, fields: Mapping[str, Any]) -> dict[str, Any]:
    """EVALUATIONS of the net, two a step where guidance acts, at the noise levels of pictures that vary as most do.

    ``fields`` replace its own by name.
    """
    steps = EVALUATIONS if guidance == 1.0 else GUIDED_STEPS
    own = Sampler() if pictures.sigma_data < NARROW else Sampler(steps=steps, grid="inner")
    return asdict(own.changed(fields.get("stepper"))) | dict(fields)


def net_of_size(width: int, blocks: int, pictures: Pictures) -> UNetSpec:
    """The shape of net for pictures of this size: ``blocks`` at every level, each way.

    All levels are as wide as the finest but the coarsest, which is twice as wide; what a net has too little of is
    channels for each pixel, not for the whole (LOG.md). The coarsest has at most MOST_POSITIONS a side. Pictures with
    more channels than ``width`` widen the net, up to MOST_KEPT: beyond, neighbouring channels say nearly the same.
    """
    longer = max(pictures.height, pictures.width)
    patch = 1 if longer <= LONGEST_UNFOLDED else 2
    levels = 1 + max(0, math.ceil(math.log2(longer / patch / MOST_POSITIONS)))
    return UNetSpec(
        channels=pictures.channels,
        classes=len(pictures.classes),
        numbers=len(pictures.numbers),
        patch=patch,
        width=max(width, min(16 * math.ceil(pictures.channels * patch**2 / 16), MOST_KEPT)),
        multipliers=(*[1] * (levels - 1), 2),
        blocks=(blocks,) * levels,
    )


def _expected_images(net: UNetSpec | TransformerSpec, pictures: Pictures, machine: Machine, minutes: float) -> int:
    """A guess from the matrix rate, which the first check of the plan replaces."""
    rate = machine.matrix_gflops_bf16 if machine.bf16 else machine.matrix_gflops_float32
    share, launching = (0.4, 0.0)  # measured on one processor, and below on one H100: LOG.md
    if machine.device != "cpu":
        share, launching = (0.08, 45e-3 / GPU_BATCH)
    seconds_each = training_flops(net, pictures.height, pictures.width) / (share * rate * 1e9) + launching
    return max(int(max(60.0 * minutes - 6.0, 1.0) / seconds_each), 1_000)
