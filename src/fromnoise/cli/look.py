"""fromnoise look: figures and films of what happens between a picture and noise."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fromnoise.cli.sample import DeviceOption, GuidanceOption
from fromnoise.cli.show import echo, shown
from fromnoise.errors import UseError

if TYPE_CHECKING:
    from fromnoise.look import Figure, Film
    from fromnoise.model import Model
    from fromnoise.sample import Sampler

FILMS = (".webp", ".gif", ".mp4")
STRIP, FRAMES = 9, 49  # noise levels of a forward strip and of a forward film
TOGETHER = 4  # images in a reverse film

app = typer.Typer(help="See it happen: a picture going into noise, pictures coming out of it.", no_args_is_help=True)

FilmOption = Annotated[bool, typer.Option("--film", help="A film instead of a strip, as WebP unless --out says.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="FILE.png, or a film: FILE.webp, FILE.gif, FILE.mp4.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of all noise.")]


@app.command()
def forward(
    pictures: Annotated[str, typer.Argument(help="A folder, an .npz or .npy file, or menagerie.")],
    index: Annotated[int, typer.Option(min=0, help="Which picture, counted from 0.")] = 0,
    schedule: Annotated[
        Literal["vp-cosine", "vp-linear", "flow", "edm", "ddpm"],
        typer.Option(help="How fast noise comes in; models are trained under edm, vp-cosine spreads it best to see."),
    ] = "vp-cosine",
    steps: Annotated[int | None, typer.Option(min=2, help="Noise levels, 0 included: 9, in a film 49.")] = None,
    size: Annotated[str | None, typer.Option(help="64, or 48x64 (height x width).")] = None,
    fit: Annotated[Literal["crop", "pad", "stretch"], typer.Option(help="How a picture gets to --size.")] = "crop",
    seed: SeedOption = 0,
    film: FilmOption = False,
    out: OutOption = None,
) -> None:
    """One picture step by step into noise, with its noise levels and the histogram of its values.

    Examples:

        fromnoise look forward menagerie --index 3

        fromnoise look forward photos --size 32 --schedule edm --out edm.png

        fromnoise look forward menagerie --out forward.gif
    """
    _require_pictures(pictures)
    target = _target(out, film, Path("forward"))
    from fromnoise.chapters import forward as chapter
    from fromnoise.images import open_images, parse_size
    from fromnoise.look import forward_film, forward_strip
    from fromnoise.noise import SCHEDULES

    images = open_images(pictures, size=parse_size(size) if size else None, fit=fit)
    if index >= len(images):
        raise UseError(f"Looked for picture {index} of {pictures}, but it holds {len(images):,}, numbered from 0.")
    noising, count = SCHEDULES[schedule](), steps or (FRAMES if _moves(target) else STRIP)
    times = [noising.t_max * i / (count - 1) for i in range(count)]
    pairs = chapter(images, [index], noising, times, seed)
    origin = f"Picture {index} of {pictures} ({images.names[index]}), schedule {schedule}, noise of seed {seed}"
    draw = forward_film if _moves(target) else forward_strip
    resized = ["--size", size, "--fit", fit] if size else []
    command = ["forward", pictures, "--index", index, "--schedule", schedule, "--steps", count, *resized]
    _write(draw(pairs, noising, images.spec, origin), target, *command, "--seed", seed)
    echo(f"{shown(target)}: picture {index} of {pictures} on its way into noise, {count} noise levels.")


@app.command()
def reverse(
    run: Annotated[Path, typer.Argument(help="A run folder, such as runs/menagerie.")],
    number: Annotated[list[int] | None, typer.Option(min=0, help="Of an image of this seed; may be repeated.")] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="The first so many numbers: 1, in a film 4.")] = None,
    seed: SeedOption = 0,
    class_name: Annotated[str | None, typer.Option("--class", help="One class; each in turn by default.")] = None,
    guidance: GuidanceOption = None,
    sampler: Annotated[
        Literal["ddpm", "ddim", "heun", "dpm-2m"] | None, typer.Option(help="The run's own by default.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="From noise to image; the run's own by default.")] = None,
    device: DeviceOption = None,
    film: FilmOption = False,
    out: OutOption = None,
) -> None:
    """Images coming out of noise: x_t, what the model believes (x0_hat), and the noise it predicts, side by side.

    Shows the very images that `fromnoise sample` makes of the same seed and numbers. Goes to RUN/look by default.

    Examples:

        fromnoise look reverse runs/menagerie

        fromnoise look reverse runs/menagerie --number 7 --class panda

        fromnoise look reverse runs/menagerie -n 9 --out nine.gif
    """
    if number and n:
        raise UseError("-n and --number both say which images to show: leave one of them out.")
    target = _target(out, film, run / "look" / "reverse")
    from fromnoise.chapters import class_names
    from fromnoise.chapters import reverse as chapter
    from fromnoise.look import reverse_film, reverse_strip
    from fromnoise.machine import choose_device
    from fromnoise.run_folder import load

    model, moving = load(run, device=choose_device(device)), _moves(target)
    numbers, chosen = (
        number or list(range(n or (TOGETHER if moving else 1))),
        model.recipe.sampler.changed(sampler, steps),
    )
    guidance = model.guidance_of(guidance)
    trajectory = chapter(model, numbers, seed=seed, class_name=class_name, guidance=guidance, sampler=chosen)
    names = [_named(k, name) for k, name in zip(numbers, class_names(model, numbers, class_name), strict=True)]
    origin = _origin(model, run, f"seed {seed}, {_listed(names)}", chosen, guidance)
    spec, noising = model.spec, model.denoiser.schedule
    drawn = (
        reverse_film(trajectory, noising, spec, origin, calm=_draws_noise(chosen))
        if moving
        else reverse_strip(trajectory, noising, spec, names, origin)
    )
    told = [*(["--class", class_name] if class_name else []), "--guidance", guidance]
    told += ["--sampler", chosen.stepper, "--steps", chosen.steps, *(["--film"] if moving else []), *_on(device)]
    which = [part for k in numbers for part in ("--number", k)]
    _write(drawn, target, "reverse", run, *which, "--seed", seed, *told)
    who = "image" if len(numbers) == 1 else f"{len(numbers)} images"
    echo(f"{shown(target)}: {who} of seed {seed} coming out of noise in {chosen.steps} steps.")


@app.command()
def sheet(
    pictures: Annotated[str, typer.Argument(help="A folder, an .npz or .npy file, menagerie, or a run folder.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many at most.")] = 64,
    device: DeviceOption = None,
    out: Annotated[Path | None, typer.Option(help="FILE.png; sheet.png, or RUN/look/sheet.png, by default.")] = None,
) -> None:
    """Many pictures at once: of a set, evenly spread through it, or new ones from a run.

    Examples:

        fromnoise look sheet menagerie

        fromnoise look sheet runs/menagerie -n 16 --out sixteen.png
    """
    is_run = _is_run(pictures)
    target = _target(out, False, Path(pictures, "look", "sheet") if is_run else Path("sheet"))
    if _moves(target):
        raise UseError(f"A sheet is a .png, but --out says {target.name}.")
    if device and not is_run:
        raise UseError(f"--device says where a run makes pictures, but {pictures} is a set: leave it out.")
    figure = _sheet_of_run(Path(pictures), n, device) if is_run else _sheet_of_set(pictures, n)
    _write(figure, target, "sheet", pictures, "-n", n, *_on(device))
    echo(f"{shown(target)}: {figure.title[0].lower()}{figure.title[1:]}.")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A PNG that fromnoise made.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the settings as JSON.")] = False,
) -> None:
    """What a picture says about itself, and the command that makes it again.

    Examples:

        fromnoise look info runs/menagerie/samples/seed-0/000017.png
    """
    from fromnoise.look import info as read
    from fromnoise.look import settings

    echo(json.dumps(settings(file)) if as_json else read(file))


def _sheet_of_set(pictures: str, n: int) -> "Figure":
    import numpy as np

    from fromnoise.images import open_images
    from fromnoise.look import compose
    from fromnoise.look import sheet as draw

    images = open_images(pictures)
    indices = np.linspace(0, len(images) - 1, min(n, len(images))).round().astype(int)
    names = None if images.labels is None else [images.classes[label] for label in images.labels[indices]]
    height, width, channels = images.shape
    caption = f"Evenly spread through the set, as a model sees them: {height}x{width} (height x width)."
    title = f"{len(indices)} of the {len(images):,} pictures of {Path(pictures).name}"
    kind = {1: "grey", 3: "RGB", 4: "RGB with transparency"}[channels]
    return compose(
        draw(images.values[indices], names=names), title, caption, f"{kind}, {images.spec.bits} bits a value"
    )


def _sheet_of_run(run: Path, n: int, device: str | None) -> "Figure":
    from fromnoise.look import compose
    from fromnoise.look import sheet as draw
    from fromnoise.machine import choose_device
    from fromnoise.run_folder import load

    model = load(run, device=choose_device(device))
    samples = model.sample(n)
    names = None if samples.labels is None else [model.classes[label] for label in samples.labels]
    caption = "Each began as noise, and the model took the noise away step by step."
    origin = _origin(model, run, f"seed 0, numbers 0 to {n - 1}", model.recipe.sampler, model.guidance_of())
    return compose(draw(samples.images, names=names), f"{n} new pictures from {run.name}", caption, origin)


def _write(drawn: "Figure | Film", target: Path, *words: object) -> None:
    """Put it on disk, with the command that makes it again inside."""
    from fromnoise.durable import write_file
    from fromnoise.look import Figure

    command = shlex.join(["fromnoise", "look", *(str(word) for word in words)])
    write_file(target, drawn.png(command) if isinstance(drawn, Figure) else drawn.encode(target.suffix, command))


def _target(out: Path | None, film: bool, default: Path) -> Path:
    target = out or default.with_suffix(FILMS[0] if film else ".png")
    if target.suffix.lower() not in (".png", *FILMS):
        raise UseError(f"--out takes a file that ends in .png, {', '.join(FILMS)}; {target.name} does not.")
    if film and target.suffix.lower() == ".png":
        raise UseError(f"--film makes a film, but --out says {target.name}: leave one of them out.")
    return target


def _moves(target: Path) -> bool:
    return target.suffix.lower() in FILMS


def _require_pictures(pictures: str) -> None:
    if _is_run(pictures) and pictures != "menagerie":
        raise UseError(f"{pictures} is a run, and a picture was wanted: `fromnoise look reverse` shows what runs make.")


def _is_run(pictures: str) -> bool:
    return Path(pictures, "run.json").is_file()


def _on(device: str | None) -> list[str]:
    return ["--device", device] if device else []


def _draws_noise(sampler: "Sampler") -> bool:
    from fromnoise.sample import STEPPERS

    return STEPPERS[sampler.stepper].stochastic or sampler.eta > 0 or sampler.churn > 0


def _origin(model: "Model", run: Path, which: str, sampler: "Sampler", guidance: float) -> str:
    parts = [
        f"{run}, {model.weights} weights after {model.images_seen:,} images seen",
        which,
        f"{sampler.stepper}, {sampler.steps} steps, {sampler.grid} grid",
        *([f"guidance {guidance:g}"] if guidance != 1.0 else []),
    ]
    return " · ".join(parts)


def _named(number: int, class_name: str | None) -> str:
    return f"number {number}, class {class_name}" if class_name else f"number {number}"


def _listed(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
