"""fromnoise train."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.opening import WHAT, Opening, opens_pictures
from fromnoise.cli.sample import DeviceOption
from fromnoise.cli.show import Display, echo
from fromnoise.errors import UseError

if TYPE_CHECKING:
    from fromnoise.session import Session


@opens_pictures
def train(
    pictures: Annotated[str, typer.Argument(help=f"{WHAT}.")],
    minutes: Annotated[
        float | None,
        typer.Option(min=0.05, help="The whole budget, start and last sheet included; 10 for a new run."),
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME-OF-THE-PICTURES by default.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything drawn at random; 0 by default.")] = None,
    images_seen: Annotated[
        int | None, typer.Option(min=8, help="Train on exactly so many images seen instead of minutes.")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A JSON file with fields of the recipe to set.")] = None,
    device: DeviceOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the processor; all by default.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only what went wrong.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON record a line instead of progress.")] = False,
    *,
    opening: Opening,
) -> None:
    """Train a generator on pictures; the same command again goes on where it stopped.

    The recipe is derived from the pictures, this machine and the minutes, and stored in the run folder. Ctrl-C saves.

    Examples:

        fromnoise train menagerie --minutes 3

        fromnoise train photos/ --minutes 20 --size 48x64

        fromnoise train sprites.npz --run runs/sprites-a --seed 7
    """
    from concurrent.futures import ThreadPoolExecutor

    started = time.monotonic() - _seconds_since_start()
    overrides = _overrides(recipe, seed, images_seen)
    display = Display("json" if as_json else "quiet" if quiet else "lines")
    # It takes about as long as many pictures take to open for the first time, and they are opened without it.
    importing = ThreadPoolExecutor(1).submit(import_module, "torch")
    from fromnoise.images import default_run, open_images

    display.say(f"Run folder: {run or default_run(pictures)}")
    images = open_images(pictures, **opening.options(), progress=display.packing)
    importing.result()  # or what went wrong with it
    from fromnoise.session import open_session

    session = open_session(
        pictures, minutes=minutes, run=run, images=images, device=device, threads=threads, overrides=overrides
    )
    train_session(session, display, started)


def train_session(session: "Session", display: Display, started: float) -> None:
    """Train with progress shown; leaves with 3 when stopped by a signal."""
    from fromnoise.machine import keep_memory

    display.session(session)
    if session.finished:
        again = f"--minutes {2 * session.minutes:g}" if session.minutes else "a larger --images-seen in a new run"
        display.say(f"This run is finished, {session.images_seen:,} images seen. To go on: the same with {again}.")
        return
    keep_memory()
    stop = threading.Event()
    last = None
    with _stopping_on_signals(stop), display.training(session) as show:
        for last in session.fit(stop, started):
            show(last)
    assert last is not None, "an unfinished run takes at least one step"
    if last.images_seen < last.images_total:
        display.say(
            f"Saved at {last.images_seen:,} of {last.images_total:,} images. The same command goes on from here."
        )
        raise typer.Exit(3)
    display.finished(session, last)


def _seconds_since_start() -> float:
    """How long this process has run: the minutes include the imports the user waited for."""
    return time.process_time() if sys.platform == "win32" else time.time() - _process_start()


def _process_start() -> float:
    try:
        ticks = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return time.time()
    return time.time() - (uptime - ticks / os.sysconf("SC_CLK_TCK"))


def _overrides(recipe: Path | None, seed: int | None, images_seen: int | None) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if recipe is not None:
        if not recipe.is_file():
            raise UseError(
                f"--recipe {recipe} was to be a JSON file with fields of a recipe, but there is no such file."
            )
        try:
            fields = json.loads(recipe.read_text())
        except ValueError as error:
            raise UseError(f"--recipe {recipe} was to hold JSON, but {error}.") from error
        if not isinstance(fields, dict):
            raise UseError(f'--recipe {recipe} was to hold an object of recipe fields, such as {{"batch": 32}}.')
        from fromnoise.session import require_settable

        require_settable(fields)  # before any picture is read
    given = {"seed": seed, "images_total": images_seen}
    return fields | {name: value for name, value in given.items() if value is not None}


@contextmanager
def _stopping_on_signals(stop: threading.Event) -> Iterator[None]:
    """Inside, SIGINT and SIGTERM ask for a save; a second SIGINT leaves at once."""

    def handle(number: int, frame: object) -> None:
        if stop.is_set() and number == signal.SIGINT:
            echo("Stopped without saving; the last checkpoint is valid.", err=True)
            os._exit(4)
        stop.set()
        echo("Stopping after this step and saving; Ctrl-C again leaves at once without.", err=True)

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
