"""fromnoise sample."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.opening import Opening, opens_pictures
from fromnoise.cli.sampling import Sampling, chooses_a_sampler
from fromnoise.cli.show import echo, shown, stages
from fromnoise.cli.terminal import show_pictures
from fromnoise.errors import UseError

if TYPE_CHECKING:
    import numpy as np

    from fromnoise.model import ExactModel, Maker, Model, Samples

SHOWN = 64  # in the terminal, at most

DeviceOption = Annotated[str | None, typer.Option(help="cuda, mps or cpu; the best there is by default.")]
GuidanceOption = Annotated[
    float | None,
    typer.Option(help="1 = as learned, more = more typical of what is asked for; by default the run's own."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Numbers of the labels.csv, as angle=30,age=4; others are left open.")
]


@dataclass(frozen=True)
class Origin:
    """Where images come from: what their files tell of it, and the words that make a command of it."""

    facts: Mapping[str, Any]
    words: list[str]
    said: str  # after "64 images from"

    @classmethod
    def of_run(cls, model: "Model", run: Path, run_id: str) -> "Origin":
        """A trained run."""
        facts = {"run": str(run), "run_id": run_id, "checkpoint": model.checkpoint}
        told = {"images_seen": model.images_seen, "weights": model.weights}
        return cls(facts | told, [str(run), "--weights", model.weights], f"{model.images_seen:,} images of training")

    @classmethod
    def of_pictures(cls, model: "ExactModel", pictures: str, local: bool, opening: Opening) -> "Origin":
        """Pictures that nothing was trained on."""
        facts = {"pictures": pictures, "identity": model.pictures.identity, "images_used": model.images_used}
        asked = {name: value for name, value in vars(opening).items() if value is not None}
        denoiser = {"denoiser": "local patches" if local else "the optimal one of the pictures"}
        words = [pictures, "--exact", *(["--local"] * local), *opening.words()]
        return cls(facts | denoiser | asked, words, f"{model.images_used:,} pictures, untrained")


@opens_pictures
@chooses_a_sampler
def sample(
    run: Annotated[str, typer.Argument(help="A run folder, or with --exact pictures as of `train`.")],
    exact: Annotated[bool, typer.Option("--exact", help="No training: the pictures themselves denoise.")] = False,
    local: Annotated[
        bool,
        typer.Option("--local", help="With --exact: only what lies around a pixel counts, so most are new."),
    ] = False,
    n: Annotated[int, typer.Option("-n", min=1, help="How many images.")] = 64,
    first: Annotated[int, typer.Option(min=0, help="Number of the first image; number and seed fix its noise.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of all noise.")] = 0,
    class_name: Annotated[str | None, typer.Option("--class", help="One class; each in turn by default.")] = None,
    numbers: SetOption = None,
    guidance: GuidanceOption = None,
    weights: Annotated[str | None, typer.Option(help="ema (the average, by default) or raw.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder, a .png sheet, or an .npz; by default RUN/samples/seed-N or samples/NAME-exact/seed-N."
        ),
    ] = None,
    device: DeviceOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor; all by default.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what went wrong.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    *,
    sampling: Sampling,
    opening: Opening,
) -> None:
    """Make images from noise, with a trained run or with --exact from pictures as they are.

    Images are PNG where it holds all their bits and channels, else TIFF. Each carries its settings: `fromnoise look
    info FILE` prints them and the command that makes it again.

    Examples:

        fromnoise sample runs/menagerie

        fromnoise sample runs/menagerie -n 16 --class panda --guidance 2 --out pandas.png

        fromnoise sample runs/faces -n 16 --set angle=30,age=4

        fromnoise sample photos/ --exact --local
    """
    _require_sense(run, exact, local, weights, numbers, opening)
    _settle(threads)
    silent = quiet or as_json
    make = partial(_of_pictures, local=local, opening=opening, silent=silent) if exact else _of_run
    model, origin, folder = make(run, weights=weights or "ema", device=device)
    asked, target = parse_numbers(numbers), out or folder / f"seed-{seed}"
    _forewarn(model, asked, target, its_own=not (exact or out))
    chosen = sampling.of(model.sampler)
    how: dict[str, Any] = {"class_name": class_name, "numbers": asked, "guidance": guidance, "sampler": chosen}
    with _stages(silent) as show:
        samples = model.sample(n, seed=seed, first=first, **how, progress=partial(show, "making images, step by step"))
    files = write_images(model, samples, origin, target)
    if as_json or not quiet:
        _report(model, samples, origin, files, as_json)


def _settle(threads: int | None) -> None:
    """What of the processor and of memory this process works with."""
    import torch

    from fromnoise.machine import keep_memory

    if threads:
        torch.set_num_threads(threads)
    keep_memory()


def _require_sense(
    run: str, exact: bool, local: bool, weights: str | None, numbers: list[str] | None, opening: Opening
) -> None:
    """Raises UseError for options that contradict each other or what ``run`` is."""
    is_run = Path(run, "run.json").is_file()
    if weights not in (None, "ema", "raw"):
        raise UseError(f"--weights takes ema or raw, not {weights!r}.")
    if not exact:
        if local:
            raise UseError("--local says how --exact looks at pictures: give both, or neither.")
        if not is_run:
            what = "holds no run.json" if Path(run).exists() else "does not exist"
            raise UseError(
                f"{run} was to be a run folder, but {what}: `fromnoise runs` lists the runs, and --exact makes images "
                "of pictures without one."
            )
        opening.require_none(run)
        return
    if is_run and run != "menagerie":
        from fromnoise.run_folder import RunFolder

        source = RunFolder(Path(run)).recipe().pictures.source
        raise UseError(f"{run} is a run, and --exact takes pictures as they are: its own are {source}.")
    for option, given in (("--weights", weights), ("--set", numbers)):
        if given:
            raise UseError(f"{option} asks something of a trained run, and --exact trains none: leave one of them out.")


def _of_run(run: str, *, weights: str, device: str | None) -> "tuple[Model, Origin, Path]":
    """The trained model of a run, and where its samples go."""
    from fromnoise.machine import choose_device
    from fromnoise.run_folder import RunFolder, load

    path = Path(run)
    model = load(path, weights=weights, device=choose_device(device))
    return model, Origin.of_run(model, path, RunFolder(path).run_id()), path / "samples"


def _of_pictures(
    pictures: str, *, local: bool, opening: Opening, silent: bool, weights: str, device: str | None
) -> "tuple[ExactModel, Origin, Path]":
    """The model that pictures are by themselves, and where its samples go; says what of them is not used."""
    from fromnoise.images import open_images
    from fromnoise.machine import choose_device
    from fromnoise.model import ExactModel
    from fromnoise.session import default_run

    with _stages(silent) as show:
        images = open_images(pictures, **opening.options(), progress=partial(show, "reading the pictures"))
    model = ExactModel.of(pictures, images, local=local, device=choose_device(device))
    if images.report.refused and not silent:
        refused = shlex.join(["fromnoise", "doctor", pictures])
        echo(f"Note: of the files {len(images.report.refused):,} cannot be used: `{refused}` says why.", err=True)
    if model.images_used < len(images) and not silent:
        echo(f"Note: {model.images_used:,} of the {len(images):,} pictures are used, evenly chosen.", err=True)
    folder = Path("samples", f"{default_run(pictures).name}-{'local' if local else 'exact'}")
    return model, Origin.of_pictures(model, pictures, local, opening), folder


def _report(model: "Maker", samples: "Samples", origin: Origin, files: list[Path], as_json: bool) -> None:
    """Say what was made, and of pictures how much of it they hold already."""
    from fromnoise.chapters.copies import remembered
    from fromnoise.model import ExactModel

    found = {}
    if isinstance(model, ExactModel):
        found = {"images_used": model.images_used, "copies": remembered(model, samples).same}
    if as_json:
        record = {"files": [str(path) for path in files], "clipped": samples.clipped, **samples.settings}
        echo(json.dumps(record | found))
        return
    show_pictures(samples.spec.shown(samples.images[:SHOWN]))
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    echo(f"{len(samples.images)} images from {origin.said}: {shown(files[0])}{more}")
    if found:
        remembers = found["copies"] and "--local" not in origin.words
        why = ": the exact denoiser remembers; --local looks for new ones" if remembers else ""
        echo(f"{found['copies']} of {len(samples.images)} are pictures of the set{why}.")


def _stages(silent: bool) -> Any:
    """Progress on a terminal, and nothing elsewhere."""
    return stages(silent or not sys.stderr.isatty())


def _require_room(source: str, target: Path) -> None:
    """Raises UseError for a place where samples would be taken for pictures, or take the place of something else."""
    from fromnoise.images.formats import PICTURE_ENDINGS

    pictures = Path(source).resolve()
    if pictures.exists() and pictures in (target.resolve(), *target.resolve().parents):
        raise UseError(
            f"{target} is among the pictures of {source}, which samples must not mix with: give --out a place outside."
        )
    if target.suffix.lower() in PICTURE_ENDINGS and target.suffix != ".png":
        raise UseError(f"--out takes a folder, a .png for a sheet, or an .npz, but {target.name} is none of these.")
    if target.suffix not in (".npz", ".png") and target.is_file():
        raise UseError(f"--out takes a folder to put images in, but {target} is a file: name another.")


def _forewarn(model: "Maker", asked: Mapping[str, float], target: Path, its_own: bool) -> None:
    """Say what is a guess, and raise UseError for what could not be written, before anything is made.

    ``its_own``: the target is the run's own folder of samples.
    """
    from fromnoise.images import suffix_of

    if not its_own:
        _require_room(model.pictures.source, target)
    if target.suffix not in (".npz", ".png"):
        suffix_of(model.spec)
    note_guesses(model, asked)


def note_guesses(model: "Maker", asked: Mapping[str, float]) -> None:
    """Say which numbers the pictures say nothing about. Raises UseError for one that the model does not know."""
    for sentence in model.beyond(asked):
        echo(f"Note: {sentence}", err=True)


def write_samples(model: "Model", samples: "Samples", run: Path, run_id: str, out: Path) -> list[Path]:
    """Write those of a run as ``write_images`` does."""
    return write_images(model, samples, Origin.of_run(model, run, run_id), out)


def write_images(model: "Maker", samples: "Samples", origin: Origin, out: Path) -> list[Path]:
    """Write them as .npz, as one .png sheet, or as a folder of images with their sheet first.

    The sheet is for the eye; an .npz and the images of a folder hold every value as it is. Raises UseError where the
    library that writes such images is not installed.
    """
    from fromnoise import durable
    from fromnoise.images import encode_image, encode_npz, encode_png, montage

    facts = {**origin.facts, **samples.settings, "n": len(samples.images), "first": samples.numbers[0]}
    if out.suffix == ".npz":
        durable.write_file(out, encode_npz(_arrays(samples), _settings(facts, origin.words, out)))
        return [out]
    sheet = out if out.suffix == ".png" else out / "sheet.png"
    text = _settings(facts | {"shown_as": samples.spec.shown_as() or None}, origin.words, sheet)
    durable.write_file(sheet, encode_png(montage(samples.spec.shown(samples.images)), {"fromnoise": text}))
    written = [sheet]
    if out.suffix != ".png":
        for image, number in zip(samples.images, samples.numbers, strict=True):
            one = {"n": 1, "first": number, "number": number, "class": _class_of(model, samples, number)}
            suffix, data = encode_image(image, samples.spec, _settings(facts | one, origin.words, out))
            written.append(out / f"{number:06d}{suffix}")
            durable.write_file(written[-1], data)
    return written


def _class_of(model: "Maker", samples: "Samples", number: int) -> str | None:
    if samples.labels is None:
        return None
    return model.classes[int(samples.labels[number - samples.numbers[0]])]


def _arrays(samples: "Samples") -> "dict[str, np.ndarray]":
    return {"images": samples.images} | ({} if samples.labels is None else {"labels": samples.labels})


def parse_numbers(given: list[str] | None) -> dict[str, float]:
    """``["angle=30,age=4", "size=2"]`` -> the number of each name; {} of None.

    Raises UseError for what is not of this form, and for two values of one name.
    """
    found: dict[str, float] = {}
    for part in ",".join(given or []).split(",") if given else []:
        name, equals, value = (word.strip() for word in part.rpartition("="))
        try:
            number = float(value)
        except ValueError:
            equals = ""
        if not equals or not name:
            raise UseError(f"--set takes numbers by name, such as angle=30,age=4, not {part!r}.")
        if name in found:
            raise UseError(f"--set gives {name} twice, {found[name]:g} and {number:g}: leave one of them out.")
        found[name] = number
    return found


def said_numbers(numbers: Mapping[str, float]) -> str:
    """``angle=30,age=4``: what ``parse_numbers`` reads, exactly."""
    return ",".join(f"{name}={repr(value).removesuffix('.0')}" for name, value in numbers.items())


def _settings(facts: Mapping[str, Any], origin: list[str], out: Path) -> str:
    from fromnoise import __version__

    command = ["fromnoise", "sample", *origin, "-n", str(facts["n"]), "--first", str(facts["first"])]
    for name in ("seed", "class", "guidance"):
        if facts[name] is not None:
            command += [f"--{name}", str(facts[name])]
    command += Sampling.words(facts)
    if facts["numbers"]:
        command += ["--set", said_numbers(facts["numbers"])]
    command += ["--out", out.name]
    return json.dumps({**facts, "version": __version__, "command": shlex.join(command)})
