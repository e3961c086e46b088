"""What commands show while they work: rich progress on a terminal, plain lines elsewhere, JSON on request."""

import json
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from fromnoise.cli.terminal import show_pictures

if TYPE_CHECKING:
    from fromnoise.session import Session
    from fromnoise.training import TrainStep

Style = Literal["lines", "json", "quiet"]
LINE_EVERY = 3.0  # seconds between plain lines: with a slow step or a sheet they stay within five
LINE_WIDTH = 110
RATED = 10.0  # seconds that a rate is taken over
SMOOTH = 0.95  # of the loss shown


def echo(text: str, err: bool = False) -> None:
    """One line to the user."""
    typer.echo(text, err=err)


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    here, full = Path.cwd(), path.resolve()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(full)


class Display:
    """Everything ``train`` and ``demo`` say."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self.packed_at = 0.0

    def say(self, text: str) -> None:
        """One line, unless quiet or JSON."""
        if self.style == "lines":
            echo(text)

    def record(self, event: str, **fields: Any) -> None:
        """One JSON line, if asked for."""
        if self.style == "json":
            echo(json.dumps({"event": event, **fields}, default=str))

    def packing(self, done: int, total: int) -> None:
        """Progress of reading the pictures, a line every few seconds."""
        if time.monotonic() - self.packed_at > 1.0:
            self.packed_at = time.monotonic()
            self.say(f"Reading the pictures: {done:,} of {total:,}")

    def session(self, session: "Session") -> None:
        """The pictures, the machine and the recipe."""
        images, machine = session.images, session.machine
        self.record("recipe", recipe=session.recipe.model_dump(mode="json"), machine=asdict(machine))
        height, width, channels = images.shape
        self.say(
            f"Pictures: {len(images):,} of {height}x{width}, {channels} channels; {len(images.train):,} to train on, "
            f"{len(images.heldout):,} held out" + (f"; classes: {', '.join(images.classes)}" if images.classes else "")
        )
        for decision in images.report.decisions:
            self.say(f"  {decision}")
        for refused in images.report.refused:
            self.say(f"  refused {refused.name}: {refused.reason}")
        self.say(
            f"Machine: {machine.device_name}, {machine.threads} threads, "
            f"{machine.matrix_gflops_float32:,.0f} GFLOP/s float32, {machine.matrix_gflops_bf16:,.0f} bfloat16"
        )
        recipe = f"Recipe: {_recipe_text(session.recipe)}"
        self.say(textwrap.fill(recipe, LINE_WIDTH, subsequent_indent="  ", break_on_hyphens=False))

    @contextmanager
    def training(self, session: "Session") -> "Iterator[Callable[[TrainStep], None]]":
        """Gives what shows each step."""
        if self.style == "lines" and _terminal():
            with _bar(session) as show:
                yield show
        else:
            yield self._line(session)

    def _line(self, session: "Session") -> "Callable[[TrainStep], None]":
        pace, said = _Pace(session), 0.0

        def show(step: "TrainStep") -> None:
            nonlocal said
            pace.take(step)
            now = time.monotonic()
            if now - said > LINE_EVERY or step.sheet or step.images_seen >= step.images_total:
                said = now
                self.say(pace.text(step))
                self.record("step", **asdict(step))

        return show

    def finished(self, session: "Session", step: "TrainStep") -> None:
        """The end of a run and what to do with it."""
        self.record("end", images_seen=step.images_seen, seconds=step.seconds)
        self.say(f"Finished: {step.images_seen:,} images seen in {clock(step.seconds)}.")
        if step.sheet:
            self.say(f"Last sheet: {shown(step.sheet)}")
        self.say(f"Next: fromnoise sample {shown(session.folder.path)}")


class _Pace:
    """The rate of the last RATED seconds, the time left and a smoothed loss, from the steps seen."""

    def __init__(self, session: "Session") -> None:
        self.minutes = session.minutes
        self.seen = deque([(time.monotonic(), session.images_seen)])
        self.loss, self.weight, self.sheet = 0.0, 0.0, ""

    def take(self, step: "TrainStep") -> None:
        self.seen.append((time.monotonic(), step.images_seen))
        while len(self.seen) > 2 and self.seen[-1][0] - self.seen[1][0] > RATED:
            self.seen.popleft()
        self.loss = SMOOTH * self.loss + (1 - SMOOTH) * step.loss
        self.weight = SMOOTH * self.weight + (1 - SMOOTH)
        self.sheet = shown(step.sheet) if step.sheet else self.sheet

    def rate(self) -> float:
        (then, before), (now, seen) = self.seen[0], self.seen[-1]
        return (seen - before) / max(now - then, 1e-9)

    def left(self, step: "TrainStep") -> float:
        """Seconds: of the budget where there is one, else at the present rate."""
        if self.minutes:
            from fromnoise.recipe import training_seconds

            return training_seconds(self.minutes) - step.seconds if step.images_seen < step.images_total else 0.0
        return (step.images_total - step.images_seen) / max(self.rate(), 1e-9)

    def text(self, step: "TrainStep") -> str:
        parts = [
            f"{step.images_seen:,} of {step.images_total:,} images",
            f"{self.rate():,.0f} images/s",
            f"{clock(self.left(step))} left",
            f"loss {self.loss / self.weight:.4f}",
        ]
        if step.probe and step.probe.heldout:
            parts.append(f"held-out {sum(step.probe.heldout) / len(step.probe.heldout):.4f}")
        if step.sheet:
            parts.append(shown(step.sheet))
        return "  ".join(parts)


@contextmanager
def _bar(session: "Session") -> "Iterator[Callable[[TrainStep], None]]":
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    pace = _Pace(session)
    # The clock runs on while a sheet is made, so that nobody takes the command for stuck.
    columns = (BarColumn(bar_width=20), TimeElapsedColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, refresh_per_second=4) as progress:
        task = progress.add_task("", total=session.images_total, completed=session.images_seen, text="starting")

        def show(step: "TrainStep") -> None:
            pace.take(step)
            progress.update(task, completed=step.images_seen, total=step.images_total, text=pace.text(step))
            if step.sheet:
                progress.console.print(f"[dim]{pace.text(step)}[/dim]", highlight=False)
                sheet = session.folder.sheet(step.images_seen)
                show_pictures(session.images.spec.shown(sheet.ema), progress.console)

        yield show


@contextmanager
def stages(quiet: bool) -> "Iterator[Callable[[str, int, int], None]]":
    """Gives what shows how far a long command is, on stderr: a bar a stage on a terminal, else a line a stage."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console, tasks = Console(stderr=True, quiet=quiet), dict[str, Any]()
    text, rate = TextColumn("{task.description:<28}"), TextColumn("{task.fields[rate]:>8}")
    columns = (text, BarColumn(28), MofNCompleteColumn(), rate, TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def show(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=of, rate="")
                if not console.is_terminal:
                    console.print(what.capitalize() + (f": {of:,}" if of > 1 else ""), highlight=False)
            speed = progress.tasks[tasks[what]].speed
            progress.update(tasks[what], completed=done, rate=f"{speed:,.0f}/s" if speed and of > 1 else "")

        yield show


def _terminal() -> bool:
    from rich.console import Console

    return Console().is_terminal


def clock(seconds: float) -> str:
    """90 -> 1:30."""
    whole = max(int(seconds), 0)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _recipe_text(recipe: Any) -> str:
    fields = recipe.model_dump(mode="json", exclude={"pictures"})
    return ", ".join(f"{name} {_flat(value)}" for name, value in fields.items())


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items()) + ")"
    return str(value)
