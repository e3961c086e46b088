"""What the figures' commands share: where a figure goes, the command it carries, what it says it was made from."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fromnoise.cli.opening import WHAT, Opening
from fromnoise.errors import UseError

if TYPE_CHECKING:
    from fromnoise.images import ImageSet
    from fromnoise.look import Figure, Film
    from fromnoise.model import Model
    from fromnoise.sample import Sampler

FILMS = (".webp", ".gif", ".mp4")
STRIP_STEPS, FILM_STEPS = 16, 48  # from noise to an image, where they are what is to be seen

FilmOption = Annotated[bool, typer.Option("--film", help="A film instead of a strip, as WebP unless --out says.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="FILE.png, or a film: FILE.webp, FILE.gif, FILE.mp4.")]
StillOption = Annotated[Path | None, typer.Option("--out", help="FILE.png.")]
PicturesArgument = Annotated[str, typer.Argument(help=f"{WHAT}.")]
IndexOption = Annotated[int, typer.Option(min=0, help="Which picture, counted from 0.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder, such as runs/menagerie.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of all noise.")]


def write(drawn: "Figure | Film", target: Path, *words: object) -> None:
    """Put it on disk, with the command that makes it again inside."""
    from fromnoise.durable import write_file
    from fromnoise.look import Figure

    command = shlex.join(["fromnoise", "look", *(str(word) for word in words)])
    write_file(target, drawn.png(command) if isinstance(drawn, Figure) else drawn.encode(target.suffix, command))


def target_of(out: Path | None, film: bool, default: Path) -> Path:
    """Where the figure goes. Raises UseError for an ending that is no picture, or a still one for a film."""
    target = out or default.with_suffix(FILMS[0] if film else ".png")
    if target.suffix.lower() not in (".png", *FILMS):
        raise UseError(f"--out takes a file that ends in .png, {', '.join(FILMS)}; {target.name} does not.")
    if film and target.suffix.lower() == ".png":
        raise UseError(f"--film makes a film, but --out says {target.name}: leave one of them out.")
    return target


def moves(target: Path) -> bool:
    """Whether a file of this name is a film."""
    return target.suffix.lower() in FILMS


def require_pictures(pictures: str) -> None:
    """Raises UseError for a run where a picture is wanted."""
    if is_run(pictures) and pictures != "menagerie":
        raise UseError(f"{pictures} is a run, and a picture was wanted: `fromnoise look reverse` shows what runs make.")


def open_set(pictures: str, opening: Opening, *indices: int) -> "ImageSet":
    """The pictures as they were asked for. Raises UseError for a run, and for an index that they have no picture of."""
    require_pictures(pictures)
    from fromnoise.images import open_images

    images = open_images(pictures, **opening.options())
    for index in indices:
        if index >= len(images):
            raise UseError(f"Looked for picture {index} of {pictures}, but it holds {len(images):,}, numbered from 0.")
    return images


def picture_named(images: "ImageSet", index: int, pictures: str) -> str:
    """What a picture of a set is called; a letter that no screen can show becomes one that says so."""
    said = f"Picture {index} of {pictures} ({images.names[index]})"
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in said)


def is_run(pictures: str) -> bool:
    """Whether this is a run folder."""
    return Path(pictures, "run.json").is_file()


def still(out: Path | None, default: Path) -> Path:
    """Where a figure that cannot move goes. Raises UseError for an ending other than .png."""
    target = out or default
    if target.suffix.lower() != ".png":
        raise UseError(f"This figure is a .png, but --out says {target.name}.")
    return target


def on(device: str | None) -> list[str]:
    """The words of a command that name the device, if one was asked for."""
    return ["--device", device] if device else []


def origin_of(
    model: "Model",
    run: Path,
    which: str,
    sampler: "Sampler | None" = None,
    guidance: float = 1.0,
    numbers: Mapping[str, float] | None = None,
) -> str:
    """What a figure of a run was computed from, in a line; sampler None = the figure itself names several."""
    parts = [
        f"{run}, {model.weights} weights after {model.images_seen:,} images seen",
        which,
        *([", ".join(f"{name} {value:g}" for name, value in numbers.items())] if numbers else []),
        *([f"{sampler.stepper}, {sampler.steps} steps, {sampler.grid} grid"] if sampler else []),
        *([f"guidance {guidance:g}"] if guidance != 1.0 else []),
        *([model.spec.shown_as()] if model.spec.shown_as() else []),
    ]
    return " · ".join(parts)


def named(number: int, class_name: str | None) -> str:
    """What an image of a run is called."""
    return f"number {number}, class {class_name}" if class_name else f"number {number}"


def listed(names: list[str], most: int = 4) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more
