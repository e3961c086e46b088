"""From what a user says to a run that can be trained: begin, go on, go on longer, or refuse with the difference."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from fromnoise.errors import PicturesRefused, UseError
from fromnoise.images import ImageSet, default_run, open_images
from fromnoise.images.resize import Fit
from fromnoise.machine import Machine, probe
from fromnoise.model import Model
from fromnoise.recipe import Pictures, Recipe, auto
from fromnoise.run_folder import Revision, RunFolder, first_error, load
from fromnoise.training import TrainStep, fit

MINUTES = 10.0


def images_of(folder: RunFolder) -> ImageSet:
    """The images that the run is trained on, opened as they were when it began.

    Raises UseError for no run, and where the pictures cannot be opened any more; PicturesRefused for others in their
    place.
    """
    recipe = folder.recipe()
    pictures = recipe.pictures
    try:
        images = open_images(pictures.source, **vars(pictures.asked))
    except UseError as error:
        raise UseError(f"{folder} needs the pictures it was begun on. {error}") from error
    _require_same(folder, recipe, images)
    return images


@dataclass(frozen=True)
class Session:
    """A run ready to be trained."""

    recipe: Recipe
    images: ImageSet
    folder: RunFolder
    machine: Machine
    resumed: bool  # a run that was already there
    images_seen: int  # so far
    images_total: int  # of the plan in force
    minutes: float | None  # of the plan in force

    @property
    def finished(self) -> bool:
        """Whether the plan's end was reached before."""
        return self.images_seen >= self.images_total

    def fit(self, stop: threading.Event | None = None, started: float | None = None) -> Iterator[TrainStep]:
        """Train, as training.fit does, with the run locked; started: time.monotonic() when the user began to wait."""
        since = time.monotonic() if started is None else started
        with self.folder.writing():
            self.folder.log("start", images_seen=self.images_seen, machine=asdict(self.machine))
            yield from fit(
                self.recipe,
                self.images,
                self.folder,
                device=self.machine.device,
                stop=stop,
                elapsed=lambda: time.monotonic() - since,
            )


def open_session(
    pictures: str | Path,
    *,
    minutes: float | None = None,
    run: str | Path | None = None,
    images: ImageSet | None = None,
    size: tuple[int, int] | None = None,
    fit: Fit | None = None,
    channels: int | None = None,
    flatten: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Session:
    """Open the pictures, look at the machine, and begin or find the run.

    minutes: the budget of the whole run, 10 for a new one; more than an old run had makes it go on longer.
    images: the pictures, where they are open already; else they are opened as size, fit, channels and flatten say, as
    of ``open_images``. run: its folder, by default runs/NAME-OF-THE-PICTURES. overrides: fields of the recipe by name.
    Raises UseError for wrong use, PicturesRefused where the run was begun on other pictures.
    """
    require_settable(overrides or {})
    if images is None:
        images = open_images(pictures, size=size, fit=fit, channels=channels, flatten=flatten, progress=progress)
    folder = RunFolder(Path(run) if run else default_run(pictures))
    resumed = folder.exists
    machine = probe(device, threads or _threads_before(folder))
    torch.set_num_threads(machine.threads)
    if resumed:
        recipe = _same_recipe(folder, images, overrides or {})
    else:
        recipe = _new_recipe(Pictures.of(str(pictures), images), machine, minutes, overrides or {})
        with folder.writing():
            folder.create(recipe, images.spec)
    plan = _lengthen(folder, minutes) if resumed and minutes else folder.revisions()[-1]
    return Session(recipe, images, folder, machine, resumed, _images_seen(folder), plan.images_total, plan.minutes)


def train(
    pictures: str | Path, *, minutes: float | None = None, run: str | Path | None = None, **options: Any
) -> Model:
    """Train on pictures to the end of the plan and give the model; the same call again goes on where it stopped.

    options: as of ``open_session``. Watch instead by iterating over ``open_session(...).fit()``.
    """
    session = open_session(pictures, minutes=minutes, run=run, **options)
    for _ in session.fit():
        pass
    return load(session.folder.path, device=session.machine.device)


def require_settable(overrides: Mapping[str, Any]) -> None:
    """Raises UseError for fields of the recipe that are not the user's to set."""
    for name, instead in (("pictures", "it is measured on the set"), ("minutes", "give --minutes instead")):
        if name in overrides:
            raise UseError(f"The recipe field {name} cannot be set: {instead}.")
    if not isinstance(overrides.get("net", {}), Mapping):
        raise UseError(f'The recipe field net takes fields, such as {{"width": 32}}, not {overrides["net"]!r}.')


def _new_recipe(pictures: Pictures, machine: Machine, minutes: float | None, overrides: Mapping[str, Any]) -> Recipe:
    if minutes is not None and "images_total" in overrides:
        raise UseError(
            f"--minutes {minutes:g} and --images-seen {overrides['images_total']} both say how long to train: "
            "leave one of them out."
        )
    budget = None if "images_total" in overrides and minutes is None else (minutes or MINUTES)
    try:
        return auto(pictures, machine, budget, **overrides)
    except ValidationError as error:
        raise UseError(f"The recipe does not hold together: {first_error(error)}.") from error


def _same_recipe(folder: RunFolder, images: ImageSet, overrides: Mapping[str, Any]) -> Recipe:
    recipe = folder.recipe()
    _require_same(folder, recipe, images)
    stored = recipe.model_dump(mode="json")
    changed = {name: value for name, value in overrides.items() if _differs(stored.get(name), value)}
    if changed:
        listed = ", ".join(f"{name} is {stored.get(name)}, asked for was {value}" for name, value in changed.items())
        raise UseError(f"{folder} has a fixed recipe: {listed}. Name another run with --run, or leave the option out.")
    return recipe


def _require_same(folder: RunFolder, recipe: Recipe, images: ImageSet) -> None:
    if recipe.pictures.identity != images.identity:
        raise PicturesRefused(
            f"{folder} was begun on {_described(recipe.pictures)}; now there are {_described_set(images)}. "
            "Name another run with --run, or bring back the pictures and options it was begun with."
        )


def _differs(stored: Any, asked: Any) -> bool:
    """Whether what is asked for says something else than what is stored; parts not named agree."""
    if isinstance(stored, dict) and isinstance(asked, Mapping):
        return any(_differs(stored.get(name), value) for name, value in asked.items())
    return bool(stored != (list(asked) if isinstance(asked, tuple) else asked))


def _described(pictures: Pictures) -> str:
    count = pictures.train_count + pictures.heldout_count
    return f"{count:,} images of {pictures.height}x{pictures.width}x{pictures.channels} ({pictures.identity[:8]})"


def _described_set(images: ImageSet) -> str:
    height, width, channels = images.shape
    return f"{len(images):,} of {height}x{width}x{channels} ({images.identity[:8]})"


def _threads_before(folder: RunFolder) -> int | None:
    """The thread count the run was last trained with: only the same one goes on bit for bit."""
    starts = [event for event in folder.events() if event["event"] == "start"]
    return int(starts[-1]["machine"]["threads"]) if starts else None


def _lengthen(folder: RunFolder, minutes: float) -> Revision:
    """A longer budget becomes a revision of the plan; a shorter one is refused."""
    with folder.writing():
        plan = folder.revisions()[-1]
        if plan.minutes is None or minutes < plan.minutes:
            had = f"{plan.minutes:g} minutes" if plan.minutes else f"{plan.images_total:,} images"
            raise UseError(
                f"{folder} was planned for {had}, not for {minutes:g} minutes: leave --minutes out to go on."
            )
        if minutes == plan.minutes:
            return plan
        longer = Revision(
            images_seen=max(plan.images_seen, _images_seen(folder)),
            images_total=int(plan.images_total * minutes / plan.minutes),
            minutes=minutes,
            seconds=plan.seconds,
        )
        folder.revise(len(folder.revisions()), longer)
        return longer


def _images_seen(folder: RunFolder) -> int:
    return folder.load(folder.newest()).images_seen if folder.checkpoints() else 0
