"""What a run leaves on disk, written through durable/; loading never executes code.

run.json                the recipe and the meaning of values: never changes
plan/0000.json ...      numbered revisions of images_total, replayed on resume
checkpoints/seen-N/     weights, ema, earlier and optimizer as safetensors, state.json, manifest.json with SHA-256
sheets/N.png, N.npz     fixed noise, raw and EMA: to look at, and the very values
events.jsonl            what happened, one record a line
samples/                what ``sample`` made
evaluations/            scores, one JSON each
lock                    one writer at a time
"""

import io
import json
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from jaxtyping import Shaped
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from fromnoise import __version__, durable
from fromnoise.denoise import NetDenoiser
from fromnoise.errors import NoCheckpoint, UseError
from fromnoise.images import ValueSpec
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.recipe import Recipe

FORMAT = 3
KEPT = 3  # newest checkpoints
PARTS = ("weights", "ema", "optimizer", "earlier")


class Revision(BaseModel):
    """One plan of the run: images_total holds from ``images_seen`` on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images_seen: int
    images_total: int
    minutes: float | None
    seconds: float  # used so far, shown only


@dataclass(frozen=True)
class Checkpoint:
    """All the state of training: with the recipe and the plan it fixes every later step."""

    images_seen: int
    seconds: float  # used so far, shown and planned with, never computed with
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]  # "momentum/NAME", or "exp_avg/NAME", "exp_avg_sq/NAME", "step/NAME"
    earlier: dict[str, Tensor] | None = None  # the average as it was set aside, None until then


@dataclass(frozen=True, eq=False)
class Sheet:
    """Images made of the same noise as those of every other sheet of the run, in the meaning of the training files."""

    images_seen: int
    raw: Shaped[np.ndarray, "n h w c"]  # made by the weights as they stood
    ema: Shaped[np.ndarray, "n h w c"]  # by their average


class RunFolder:
    """A run on disk. Reading needs no lock; writing happens under ``writing()``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "run.json").is_file()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """The only writer: raises Locked while another process writes. Leftovers of a killed one are cleared."""
        with durable.writer_lock(self.path):
            for parent in (".", "checkpoints", "sheets", "plan"):
                durable.remove_leftovers(self.path / parent)
            yield

    def create(self, recipe: Recipe, spec: ValueSpec) -> None:
        """Begin a run: run.json and the first plan."""
        record = {
            "format": FORMAT,
            "id": uuid.uuid4().hex,
            "version": __version__,
            "spec": spec.to_json(),
            "recipe": recipe.model_dump(mode="json"),
        }
        first = Revision(images_seen=0, images_total=recipe.images_total, minutes=recipe.minutes, seconds=0.0)
        self.revise(0, first)
        durable.write_file(self.path / "run.json", _json(record))

    def _record(self) -> dict[str, Any]:
        if not self.exists:
            raise UseError(
                f"{self.path} was to be a run folder, but holds no run.json: `fromnoise runs` lists the runs."
            )
        record = _read(self.path / "run.json")
        if record.get("format") != FORMAT:
            raise NoCheckpoint(
                f"{self.path} has run format {record.get('format')}, this version ({__version__}) reads {FORMAT}: "
                "use the version that wrote it."
            )
        return record

    def recipe(self) -> Recipe:
        """The stored recipe. Raises UseError where there is none, NoCheckpoint where it cannot be read."""
        stored = self._record()["recipe"]
        try:
            return Recipe.model_validate(stored)
        except (ValidationError, UseError) as error:
            why = first_error(error) if isinstance(error, ValidationError) else str(error)
            raise NoCheckpoint(f"{self.path / 'run.json'} holds no valid recipe: {why}") from error

    def spec(self) -> ValueSpec:
        """What the numbers in the files mean."""
        return ValueSpec.from_json(self._record()["spec"])

    def run_id(self) -> str:
        """A name no other run has."""
        return str(self._record()["id"])

    def revise(self, number: int, revision: Revision) -> None:
        """Commit a plan before it takes effect."""
        durable.write_file(self.path / "plan" / f"{number:04d}.json", _json(revision.model_dump()))

    def revisions(self) -> list[Revision]:
        """All plans, in order."""
        files = sorted((self.path / "plan").glob("[0-9]*.json"))
        return [Revision.model_validate(_read(file)) for file in files]

    def save(self, state: Checkpoint) -> Path:
        """Commit a checkpoint, read it back, then let the oldest beyond the newest three go."""
        path = self.path / "checkpoints" / f"seen-{state.images_seen:012d}"
        facts = {"images_seen": state.images_seen, "version": __version__}
        with durable.new_folder(path, facts) as folder:
            for part in PARTS:
                if (tensors := getattr(state, part)) is not None:
                    folder.write(f"{part}.safetensors", safetensors.torch.save(_plain(tensors)))
            folder.write("state.json", _json(facts | {"seconds": state.seconds}))
        durable.verify_folder(path)
        for old in self.checkpoints()[KEPT:]:
            durable.discard_folder(old)
        return path

    def checkpoints(self) -> list[Path]:
        """Folders of checkpoints, newest first, unverified."""
        return sorted((self.path / "checkpoints").glob("seen-" + "[0-9]" * 12), reverse=True)

    def newest(self, damaged: list[str] | None = None) -> Path:
        """The newest checkpoint that verifies; sentences about damaged newer ones are appended to ``damaged``."""
        for path in self.checkpoints():
            try:
                durable.verify_folder(path)
            except durable.Damaged as error:
                if damaged is not None:
                    damaged.append(str(error))
                continue
            return path
        found = len(self.checkpoints())
        why = f"all {found} are damaged" if found else "none was saved yet"
        raise NoCheckpoint(f"{self.path} holds no usable checkpoint: {why}. Train it, or use another run.")

    def load(self, path: Path) -> Checkpoint:
        """A verified checkpoint."""
        state = _read(path / "state.json")
        parts = {part: file for part in PARTS if (file := path / f"{part}.safetensors").is_file()}
        tensors = {part: safetensors.torch.load(file.read_bytes()) for part, file in parts.items()}
        return Checkpoint(state["images_seen"], state["seconds"], **tensors)

    def keep_sheet(self, sheet: Sheet, png: bytes) -> Path:
        """Keep the values of a sheet and its picture; gives the path of the picture."""
        path = self.path / "sheets" / f"{sheet.images_seen:012d}.png"
        buffer = io.BytesIO()
        np.savez_compressed(buffer, raw=sheet.raw, ema=sheet.ema)
        durable.write_file(path.with_suffix(".npz"), buffer.getvalue())
        durable.write_file(path, png)
        return path

    def sheet(self, images_seen: int) -> Sheet:
        """The values of a sheet. Raises UseError where they were not kept."""
        path = self.path / "sheets" / f"{images_seen:012d}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Sheet(images_seen, arrays["raw"], arrays["ema"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UseError(
                f"Looked for the images of the sheet at {images_seen:,} images seen in {path}, but there are none "
                "that can be read: train the run again to have them."
            ) from error

    def log(self, event: str, **fields: object) -> None:
        """Append one event."""
        durable.append_line(self.path / "events.jsonl", {"event": event, **fields})

    def events(self) -> list[dict[str, Any]]:
        """What happened, in order, without the steps that a resume did again."""
        kept: list[dict[str, Any]] = []
        records: list[dict[str, Any]] = durable.read_lines(self.path / "events.jsonl")
        for record in records:
            if record["event"] in ("begin", "resume"):
                kept = [before for before in kept if before.get("images_seen", 0) <= record["images_seen"]]
            kept.append(record)
        return kept


def load(run: str | Path, *, weights: str = "ema", device: str = "cpu") -> Model:
    """The model of a run folder from its newest good checkpoint.

    weights: "ema" (the average, what one wants) or "raw". Raises UseError for no run, NoCheckpoint for no usable one.
    """
    if weights not in ("ema", "raw"):
        raise UseError(f"weights takes ema or raw, not {weights!r}.")
    folder = RunFolder(Path(run))
    recipe = folder.recipe()
    path = folder.newest()
    manifest = durable.read_manifest(path)
    name = "ema.safetensors" if weights == "ema" else "weights.safetensors"
    sha256 = next(file.sha256 for file in manifest.files if file.name == name)
    aside, seen = path / "earlier.safetensors", _read(path / "state.json")["images_seen"]
    earlier = _denoiser(recipe, aside, device) if aside.is_file() else None
    return Model(recipe, folder.spec(), _denoiser(recipe, path / name, device), seen, weights, sha256, device, earlier)


def _denoiser(recipe: Recipe, weights: Path, device: str) -> NetDenoiser:
    net = build_net(recipe)
    net.load_state_dict(safetensors.torch.load(weights.read_bytes()))
    return build_denoiser(recipe, net.eval().requires_grad_(False).to(device))


def first_error(error: ValidationError) -> str:
    """The first complaint of a validation, as one clause."""
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else str(detail["msg"])


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _read(file: Path) -> dict[str, Any]:
    record = durable.from_json(file.read_bytes(), str(file))
    assert isinstance(record, dict), f"{file} holds an object"
    return record


def _json(record: Mapping[str, object]) -> bytes:
    return (json.dumps(record, indent=1) + "\n").encode()
