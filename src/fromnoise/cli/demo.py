"""fromnoise demo."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fromnoise.cli.look.common import FILM_STEPS, STRIP_STEPS
from fromnoise.cli.sample import DeviceOption, write_samples
from fromnoise.cli.show import Display, echo, shown
from fromnoise.cli.train import train_session

if TYPE_CHECKING:
    from fromnoise.images import ImageSet
    from fromnoise.model import Model

MINUTES = 3.2


def demo(
    out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(min=0.05, help="Of training; the demo takes half a minute more.")] = MINUTES,
    device: DeviceOption = None,
) -> None:
    """Train on the embedded menagerie of pandas, cats, dogs and flowers, and show every step.

    Examples:

        fromnoise demo

        fromnoise demo --minutes 1 --out pandas
    """
    started = time.monotonic()
    display = Display("lines")
    display.say("Drawing the menagerie: pandas, cats, dogs and flowers.")
    from fromnoise.run_folder import load
    from fromnoise.session import open_session

    session = open_session("menagerie", minutes=minutes, run=out / "run", device=device, progress=display.packing)
    train_session(session, display, started)
    echo("")
    for path, sentence in _pictures(load(session.folder.path, device=session.machine.device), session.images, out):
        echo(f"{shown(path)}: {sentence}")
    echo(f"Done in {time.monotonic() - started:.0f} s. Your own pictures: fromnoise train FOLDER --minutes 10")


def _pictures(model: "Model", images: "ImageSet", out: Path) -> Iterator[tuple[Path, str]]:
    """Make the demo's pictures one by one, each with the sentence that says what it shows."""
    from fromnoise import durable
    from fromnoise.chapters import forward, reverse
    from fromnoise.images import encode_png
    from fromnoise.look import forward_strip, reverse_film, reverse_strip, sheet
    from fromnoise.noise import SCHEDULES
    from fromnoise.run_folder import RunFolder

    command = f"fromnoise demo --out {out}"
    seen = f"{model.images_seen:,} images seen, seed 0, guidance {model.guidance_of():g}"
    durable.write_file(out / "1-data.png", encode_png(sheet(images.spec.shown(images.values[images.train[:64]]))))
    yield out / "1-data.png", f"64 of the {len(images):,} pictures it learned from, drawn by a program."

    cosine = SCHEDULES["vp-cosine"]()
    pairs = forward(images, images.train[:1], cosine, [cosine.t_max * i / 8 for i in range(9)])
    durable.write_file(
        out / "2-into-noise.png", forward_strip(pairs, cosine, images.spec, "The menagerie").png(command)
    )
    yield out / "2-into-noise.png", "one of them step by step into noise, which is all that training ever sees."

    samples = model.sample(64)
    write_samples(model, samples, out / "run", RunFolder(out / "run").run_id(), out / "3-samples.png")
    yield out / "3-samples.png", "64 new ones out of pure noise, each class in turn."

    schedule = model.denoiser.schedule
    steps = reverse(model, [0], sampler=model.sampler.changed(steps=STRIP_STEPS))
    strip = reverse_strip(steps, schedule, model.spec, ["image 0"], f"{seen}, {STRIP_STEPS} steps")
    durable.write_file(out / "4-out-of-noise.png", strip.png(command))
    yield (
        out / "4-out-of-noise.png",
        f"how one appears, in {STRIP_STEPS} steps: the noisy picture, what the model believes, the noise it sees.",
    )

    steps = reverse(model, range(len(model.classes)), sampler=model.sampler.changed(steps=FILM_STEPS))
    film = reverse_film(steps, schedule, model.spec, f"{seen}, {FILM_STEPS} steps")
    durable.write_file(out / "5-out-of-noise.gif", film.encode(".gif", command))
    yield out / "5-out-of-noise.gif", "the same as a film, in more steps, one image of each class."
