"""What makes images: a denoiser, trained or exact, with all there is to know of the pictures it is of."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from fromnoise import keyed
from fromnoise.denoise import Denoiser, NetDenoiser
from fromnoise.errors import UseError
from fromnoise.exact import Empirical, LocalPatches
from fromnoise.guide import Guidance
from fromnoise.images import ImageSet, ValueSpec, encode_png, evenly, montage
from fromnoise.machine import has_bf16
from fromnoise.nets import ImageNet, build, ready
from fromnoise.noise import EDM, SCHEDULES, Condition
from fromnoise.recipe import Pictures, Recipe
from fromnoise.sample import Sampler, Step, start_noise

BATCH, GPU_BATCH = 64, 256  # images that pass through a denoiser together, at most
MOST_PIXELS = 2**20  # of all of these on a GPU: 256 of 64x64
MOST_VALUES = 2**28  # of a set that is a denoiser: 1 GiB as float32
MOST_COMPARED = 2**22  # pixels of a class that local patches are of: 64 images of 16 unguided steps take a minute


@dataclass(frozen=True)
class Samples:
    """Generated images and how each was made; shows itself as a sheet in a notebook."""

    images: Shaped[np.ndarray, "n h w c"]  # in the meaning of the training files
    spec: ValueSpec  # what that meaning is
    labels: Int64[np.ndarray, " n"] | None  # class of each, None where the model has no classes
    numbers: tuple[int, ...]  # image number of each: with the seed it fixes the noise
    settings: Mapping[str, object]  # what they share: seed, sampler, class, numbers asked for, guidance
    clipped: int  # values that fell outside the range of the files

    def _repr_png_(self) -> bytes:
        return encode_png(montage(self.spec.shown(self.images)))


class Maker:
    """A denoiser with what is to be known to make images of it. Immutable; sampling never changes it."""

    pictures: Pictures
    spec: ValueSpec
    denoiser: Denoiser
    sampler: Sampler  # unless another is asked for
    guidance: float  # likewise
    guided_within: tuple[float, float] | None  # noise ratios at which guidance acts, None = at all
    earlier: Denoiser | None  # what guidance leads away from, None = the denoiser itself, told nothing
    earlier_told: bool  # class and numbers
    device: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        return self.pictures.channels, self.pictures.height, self.pictures.width

    @property
    def quick(self) -> Denoiser:
        """The denoiser that sampling asks: nearly ``denoiser``, where that can be had faster."""
        return self.denoiser

    @property
    def quick_earlier(self) -> Denoiser | None:
        """``earlier``, likewise."""
        return self.earlier

    @property
    def together(self) -> int:
        """Images that pass through it at a time."""
        return BATCH

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, () for a model without."""
        return self.pictures.classes

    def sample(
        self,
        n: int = 64,
        *,
        seed: int = 0,
        first: int = 0,
        class_name: str | None = None,
        numbers: Mapping[str, int | float] | None = None,
        guidance: float | None = None,
        sampler: Sampler | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Samples:
        """n images, numbered from ``first``; image number k of a seed is the same alone or among others.

        class_name: one of ``classes``; None takes each class in turn. numbers: by name, as in the labels.csv of the
        pictures; those not named are left open. guidance: 1 = as learned, more = more typical.
        guidance and sampler are the recipe's own where they are None.
        progress(done, total) is called after each step, with the steps of single images done and all there are.
        Raises UseError for an unknown class or number, or guidance with nothing to act on.
        """
        chosen, image_numbers = sampler or self.sampler, range(first, first + n)
        guidance = self.guidance_of(guidance)
        labels, asked = self.labels(image_numbers, class_name), self.asked(numbers)
        values, clipped = np.empty((n, *self.shape[1:], self.shape[0]), self.spec.dtype), 0
        for start in range(0, n, self.together):
            part = slice(start, min(start + self.together, n))
            steps = self.trajectory(
                image_numbers[part],
                seed=seed,
                labels=_part(labels, part),
                numbers=asked,
                guidance=guidance,
                sampler=chosen,
            )
            for step in steps:
                progress(start * chosen.steps + (part.stop - start) * (step.i + 1), n * chosen.steps)
            values[part], over = self.to_values(step.x_s)
            clipped += over
        settings = {
            "seed": seed,
            "class": class_name,
            "numbers": asked or None,
            "guidance": guidance,
            "sampler": chosen.stepper,
            "steps": chosen.steps,
            "grid": chosen.grid,
            "eta": chosen.eta,
            "churn": chosen.churn,
            "tolerance": chosen.tolerance,
            "corrections": chosen.corrections,
        }
        return Samples(values, self.spec, labels, tuple(image_numbers), settings, clipped)

    def trajectory(
        self,
        image_numbers: Sequence[int],
        *,
        seed: int = 0,
        labels: Int64[np.ndarray, " n"] | None = None,
        numbers: Mapping[str, int | float] | None = None,
        guidance: float | None = None,
        sampler: Sampler | None = None,
    ) -> Iterator[Step]:
        """Every Step from noise to these images; labels as class indices, numbers by name and of all images alike.

        Where neither is given nothing is asked for, and then guidance acts only by an ``earlier``.
        """
        chosen = sampler or self.sampler
        times = chosen.times(self.denoiser.schedule)
        start = start_noise(self.denoiser.schedule, times[0], self.shape, seed, image_numbers)
        return self.onward(
            start, times, image_numbers, seed=seed, labels=labels, numbers=numbers, guidance=guidance, sampler=chosen
        )

    def onward(
        self,
        x_t: Float[Tensor, "b c h w"],
        times: Float64[Tensor, " n"],
        image_numbers: Sequence[int],
        *,
        seed: int = 0,
        labels: Int64[np.ndarray, " b"] | None = None,
        numbers: Mapping[str, int | float] | None = None,
        guidance: float | None = None,
        sampler: Sampler | None = None,
    ) -> Iterator[Step]:
        """Every Step from x_t at times[0] down to times[-1]; seed and image_numbers key the fresh noise."""
        guidance, chosen = self.guidance_of(guidance), sampler or self.sampler
        denoiser, asked = self.quick, self.asked(numbers)
        condition = self._condition(len(image_numbers), labels, asked)
        if guidance != 1.0 and (asked or labels is not None or self.earlier):
            denoiser = Guidance(denoiser, guidance, self.guided_within, self.quick_earlier, self.earlier_told)
        start = x_t.to(self.device)
        return chosen.trajectory(denoiser, start, times, condition=condition, seed=seed, numbers=image_numbers)

    def guidance_of(self, asked: float | None = None) -> float:
        """The guidance asked for, or the recipe's own. Raises UseError for one without anything to guide to."""
        if asked is None:
            return self.guidance
        if not math.isfinite(asked):
            raise UseError(f"Guidance is a number such as 1.5, not {asked}: leave it out for the model's own.")
        if asked != 1.0 and not self.guidable:
            raise UseError(
                f"Guidance {asked:g} has nothing to act on: these pictures came without class folders and without a "
                "labels.csv, and no earlier average of the weights is kept. Leave it out."
            )
        return asked

    @property
    def guidable(self) -> bool:
        """Whether guidance has anything to act on: a class, numbers or an ``earlier``."""
        return bool(self.classes or self.pictures.numbers or self.earlier)

    def to_values(self, x0: Tensor) -> tuple[Shaped[np.ndarray, "n h w c"], int]:
        """(N,C,H,W) in [-1, 1] -> (N,H,W,C) values as in the files, and how many were clipped."""
        return self.spec.decode(x0.detach().cpu().permute(0, 2, 3, 1).numpy())

    def labels(self, image_numbers: Sequence[int], class_name: str | None = None) -> Int64[np.ndarray, " n"] | None:
        """The class index asked of each image number: class_name's, or each class in turn; None without classes.

        Raises UseError for an unknown class.
        """
        if class_name is not None and class_name not in self.classes:
            known = ", ".join(self.classes) or "none: its pictures came without class folders"
            raise UseError(f"No class {class_name!r} in this model; its classes are {known}.")
        if not self.classes:
            return None
        if class_name is None:
            return np.asarray(image_numbers, np.int64) % len(self.classes)
        return np.full(len(image_numbers), self.classes.index(class_name), np.int64)

    def asked(self, numbers: Mapping[str, int | float] | None) -> dict[str, float]:
        """The numbers asked for, in the order of the recipe; {} where all are left open.

        Raises UseError for a name the model does not know, and a value that is not finite.
        """
        specs, given = self.pictures.numbers, dict(numbers or {})
        known = ", ".join(f"{spec.name} ({spec.low:g} to {spec.high:g})" for spec in specs)
        for name, value in given.items():
            if name not in (spec.name for spec in specs):
                known = known or "none: it was made without columns of numbers in a labels.csv"
                raise UseError(f"No number {name!r} in this model; its numbers are {known}.")
            if not math.isfinite(value):
                raise UseError(
                    f"Looked for a value of {name}, but {value} is none: leave {name} out to ask for nothing."
                )
        return {spec.name: float(given[spec.name]) for spec in specs if spec.name in given}

    def beyond(self, numbers: Mapping[str, int | float] | None) -> tuple[str, ...]:
        """A sentence for each number that lies outside what the training images had. Raises UseError as ``asked``."""
        asked, specs = self.asked(numbers), self.pictures.numbers
        return tuple(
            f"{spec.name} {asked[spec.name]:g} lies outside the {spec.low:g} to {spec.high:g} of the pictures: "
            "what comes out is a guess."
            for spec in specs
            if spec.name in asked and not spec.low <= asked[spec.name] <= spec.high
        )

    def _condition(self, n: int, labels: Int64[np.ndarray, " n"] | None, asked: Mapping[str, float]) -> Condition:
        """What n images are told; of no field where nothing is asked for."""
        index = None if labels is None else torch.from_numpy(labels).to(self.device)
        if not asked:
            return Condition(index)
        row = np.array([[asked.get(spec.name, np.nan) for spec in self.pictures.numbers]])
        told = torch.from_numpy(self.pictures.normalised(row)).to(self.device)
        return Condition(index, told.expand(n, -1))


@dataclass(frozen=True)
class Model(Maker):
    """A trained one: what ``load`` returns."""

    recipe: Recipe
    spec: ValueSpec
    denoiser: Denoiser
    images_seen: int
    weights: str  # "ema" or "raw"
    checkpoint: str  # SHA-256 that names the weights
    device: str = "cpu"
    earlier: Denoiser | None = None
    pictures: Pictures = field(init=False)
    sampler: Sampler = field(init=False)
    guidance: float = field(init=False)
    guided_within: tuple[float, float] | None = field(init=False)
    earlier_told: bool = field(init=False)

    def __post_init__(self) -> None:
        for name in ("pictures", "sampler", "guided_within", "earlier_told"):
            object.__setattr__(self, name, getattr(self.recipe, name))
        object.__setattr__(self, "guidance", self.recipe.guidance if self.guidable else 1.0)

    @cached_property
    def quick(self) -> Denoiser:
        """``denoiser`` with the weights it has when this is first asked for.

        In bfloat16 where it is trained so and the device has that.
        """
        return self._quick(self.denoiser)

    @cached_property
    def quick_earlier(self) -> Denoiser | None:
        """``earlier``, likewise."""
        return self.earlier and self._quick(self.earlier)

    def _quick(self, denoiser: Denoiser) -> Denoiser:
        if not isinstance(denoiser, NetDenoiser):
            return denoiser
        dtype = self.recipe.inner_dtype if has_bf16(self.device) else torch.float32
        return replace(denoiser, net=ready(denoiser.net, dtype, self.device))

    @property
    def together(self) -> int:
        """Images that pass through the net at a time: small ones on a GPU more, as a call costs it the same for few."""
        if not self.device.startswith("cuda"):
            return BATCH
        return max(1, min(GPU_BATCH, MOST_PIXELS // (self.pictures.height * self.pictures.width)))

    def under(self, schedule: str) -> "Model":
        """The same model sampled under another schedule, by name."""
        moved = SCHEDULES[schedule]()
        return replace(self, denoiser=self.denoiser.under(moved), earlier=self.earlier and self.earlier.under(moved))


@dataclass(frozen=True)
class ExactModel(Maker):
    """One that was never trained: the set of images is the denoiser."""

    pictures: Pictures
    spec: ValueSpec
    denoiser: Empirical | LocalPatches
    device: str = "cpu"
    sampler: Sampler = field(default_factory=Sampler)
    guidance: float = 1.0
    guided_within: tuple[float, float] | None = None
    earlier: None = None
    earlier_told: bool = False

    @classmethod
    def of(cls, source: str, images: ImageSet, *, local: bool = False, device: str = "cpu") -> "ExactModel":
        """The optimal denoiser of a set opened from ``source``, or with ``local`` the one that sees local patches.

        Of a large set so many images are used, evenly chosen over the classes, as memory allows, and with ``local``
        no more of any class than a batch of images can wait for: about a minute; guidance other than 1 also asks all
        of them. Numbers of the images are unknown to it. ``device``: see ``exact_device``. Raises UseError where all
        values are one.
        """
        pictures, device = Pictures.of(source, images).model_copy(update={"numbers": ()}), exact_device(device)
        of_class = MOST_COMPARED // (pictures.height * pictures.width) if local else len(images)
        used = _share(images, max(1, MOST_VALUES // images.values[0].size), max(1, of_class))
        classes = None if images.labels is None else torch.from_numpy(images.labels[used]).to(device)
        denoiser = LocalPatches if local else Empirical
        return cls(pictures, images.spec, denoiser(EDM(), images.x0(used).to(device), classes), device)

    @property
    def images_used(self) -> int:
        """How many images the denoiser is made of."""
        return len(self.denoiser.images)


def exact_device(device: str) -> str:
    """Where an exact denoiser works: on ``device``, but on the processor where that is mps, which has no float64."""
    return "cpu" if device == "mps" else device


def build_net(recipe: Recipe) -> ImageNet:
    """The net of a recipe, channels-last, on the CPU; its first weights depend on the recipe's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(keyed.integer(recipe.seed, keyed.Purpose.WEIGHTS))
        return build(recipe.net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def build_denoiser(recipe: Recipe, net: torch.nn.Module, dtype: torch.dtype = torch.float32) -> NetDenoiser:
    """The net behind the recipe's preconditioning and schedule; dtype is that of its inner products."""
    schedule = SCHEDULES[recipe.schedule]()
    return NetDenoiser(net, schedule, recipe.pictures.sigma_data, recipe.preconditioning, dtype, recipe.centre)


def last(steps: Iterator[Step]) -> Step:
    """The last Step, the others let go."""
    return deque(steps, maxlen=1)[0]


def _share(images: ImageSet, most: int, of_class: int) -> Int64[np.ndarray, " m"]:
    """``of_class`` images of each class at most, and of these about ``most``: of each class its share, one at least."""
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels
    classes = [evenly(np.flatnonzero(labels == label), of_class) for label in np.unique(labels)]
    there = sum(map(len, classes))
    return np.concatenate([evenly(each, -(-len(each) * most // there)) for each in classes])


def _part(labels: Int64[np.ndarray, " n"] | None, part: slice) -> Int64[np.ndarray, " m"] | None:
    return None if labels is None else labels[part]
