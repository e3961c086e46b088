"""The end of docs/speed.md, its curves and its sheets: made of the lines, the sheets of the samples beside them."""

import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from fromnoise.durable import write_file
from fromnoise.errors import UseError
from fromnoise.images import encode_png, montage
from race_files import lines, load
from race_tracks import TRACKS

Line = Mapping[str, Any]
COLOURS = {"fromnoise": "#D55E00", "diffusers": "#000000", "diffusers-tuned": "#0072B2", "local-patches": "#009E73"}
MEASURES = {
    "frechet_classifier": "Frechet distance, clothes classifier",
    "frechet": "Frechet distance, Lite0",
    "kid": "kernel distance (KID), Lite0",
}
MARK = "## The race"
SHEET, OF = 64, 3.0  # images on a sheet, and the minutes they are of


def report(docs: Path) -> None:
    """Write all three; of the page what follows MARK, and the sheets only where the samples are.

    Raises UseError for no lines.
    """
    found, text = lines(), docs / "speed.md"
    if not found:
        raise UseError("Nothing was raced yet: give --track and --entrant first.")
    write_file(text, (text.read_text().split(MARK)[0] + page(found)).encode())
    write_file(docs / "race.png", png(curves(found)))
    chosen = [line for track in TRACKS for line in ordered(found, track) if of_sheet(line)]
    shown = [(line, path) for line in chosen if (path := samples_file(line)).is_file()]
    if shown:
        write_file(docs / "race-sheets.png", encode_png(sheets(shown)))


def above(line: Line, measure: str) -> dict[str, float]:
    """How far samples are beyond what real images get, with its standard error."""
    own, floor = line[measure], line[f"{measure}_floor"]
    return {"value": own["value"] - floor["value"], "error": math.hypot(own["error"], floor["error"])}


def ordered(found: list[Line], track: str) -> list[Line]:
    """Those of a track, by minutes, then by entrant."""
    own = [line for line in found if line["track"] == track]
    return sorted(own, key=lambda line: (line["minutes"], list(COLOURS).index(line["entrant"])))


# --- the page ---


def page(found: list[Line]) -> str:
    """Markdown."""
    head = [
        MARK,
        "",
        "Same images, same minutes of wall clock, same machine, entrants in turn and alone on it; start-up, imports",
        "and packing are inside the clock. 1,024 samples each by the entrant's own sampler. Made of `race.jsonl` by",
        "`python benchmarks/race.py --report`; what the entrants are: `benchmarks/race_rivals.py`, `race_ours.py`.",
        "",
        "Every distance is given above its floor: less the distance of 1,024 training images to the same scoring part.",
        "± one standard error. Nearest: median distance to the nearest training image (root mean square difference,",
        "black to white being 1), beside that of the scoring part, which nobody trained on. In parts of diffusers':",
        "the first distance and KID over those of diffusers after the same minutes.",
        "",
        "![Scores against minutes](race.png)",
        "",
        "![Three minutes each](race-sheets.png)",
    ]
    tables = [row for track in TRACKS for row in table(ordered(found, track), track)]
    return "\n".join([*head, *tables]) + "\n"


def table(own: list[Line], track: str) -> Iterator[str]:
    """Of one track."""
    if not own:
        return
    taught = {line["minutes"]: line for line in own if line["entrant"] == "diffusers"}
    measures = [name for name in MEASURES if name in own[0]]
    floors = ", ".join(f"{MEASURES[name]} {number(own[0][f'{name}_floor'])}" for name in measures)
    titles = ["entrant", "minutes", "seconds", "images seen", *(MEASURES[name] for name in measures)]
    titles += ["in parts of diffusers'", "samples/s", "nearest", "commit"]
    yield from ("", f"### {track}", "", f"Floors: {floors}; scored on {own[0]['scored_on']:,} images.", "")
    yield f"| {' | '.join(titles)} |"
    yield "| --- |" + " --- |" * (len(titles) - 1)
    for line in own:
        yield f"| {' | '.join(cells(line, taught.get(line['minutes']), measures))} |"
    machine = own[-1]["machine"]
    yield from ("", f"{machine['cores']} cores, {machine['device']}, torch {own[-1]['torch']}; matrix rates measured")
    rates = [line["machine"]["matrix_gflops_float32"] for line in own]
    yield f"after each training: {min(rates):.0f} to {max(rates):.0f} GFLOP/s in float32."


def cells(line: Line, taught: Line | None, measures: list[str]) -> Iterator[str]:
    """Of one line; ``taught``: that of diffusers at the same minutes."""
    yield from (line["entrant"], f"{line['minutes']:g}", f"{line['seconds']:.0f}", f"{line['images_seen']:,}")
    for name in measures:
        yield number(above(line, name))
    parts = (
        [above(line, name)["value"] / above(taught, name)["value"] for name in (measures[0], "kid")] if taught else []
    )
    yield "; ".join(f"{part:.3f}" for part in parts)
    near = line["nearest"]
    yield f"{line['sampling_images_per_second']:.1f}"
    yield f"{number(near['samples']['median'])}; {number(near['heldout']['median'])}"
    yield line["commit"]


def number(found: Mapping[str, float]) -> str:
    """To two digits of its error."""
    digits = max(0, 1 - math.floor(math.log10(found["error"]))) if found["error"] > 0 else 4
    return f"{found['value']:.{digits}f} ± {found['error']:.{digits}f}"


# --- the curves ---


def curves(found: list[Line]) -> Figure:
    """A row for a track with a classifier; below, a row for each other measure, a column a track."""
    tracks = [track for track in TRACKS if ordered(found, track)]
    classified = [track for track in tracks if TRACKS[track].classified]
    others = [track for track in tracks if track not in classified]
    rows = [[(track, name) for name in MEASURES] for track in classified]
    rows += [[(track, name) for track in others] for name in ("frechet", "kid") if others]
    across = max(len(row) for row in rows)
    figure = Figure(figsize=(5 * across, 3.6 * len(rows)), dpi=100, layout="constrained")
    for k, row in enumerate(rows):
        for column, (track, measure) in enumerate(row):
            axes = figure.add_subplot(len(rows), across, k * across + column + 1)
            draw(axes, ordered(found, track), measure)
            axes.set(title=f"{track}: {MEASURES[measure]}", ylabel="above the floor", xlabel="minutes")
    figure.suptitle("1,024 samples beside unseen images, against minutes of training. A ring: not above the floor.")
    return figure


def draw(axes: Axes, own: list[Line], measure: str) -> None:
    """A curve for each entrant, its name at its end; what takes no minutes is a level."""
    for entrant, colour in COLOURS.items():
        theirs = [line for line in own if line["entrant"] == entrant]
        found = [above(line, measure) for line in theirs]
        x, y = [line["minutes"] for line in theirs], [max(each["value"], each["error"]) for each in found]
        words = {"textcoords": "offset points", "color": colour, "fontsize": 9}
        if x == [0]:
            axes.axhline(y[0], color=colour, lw=1.2, ls=":")
            axes.annotate(entrant, (1.0, y[0]), (2, 2), **words)
        elif x:
            faces = [colour if each["value"] > each["error"] else "white" for each in found]
            axes.plot(x, y, color=colour, lw=1.6)
            axes.scatter(x, y, s=22, edgecolors=colour, facecolors=faces, zorder=3)
            axes.annotate(entrant, (x[-1], y[-1]), (5, 0), va="center", **words)
    axes.set(xscale="log", yscale="log", xticks=(1, 3, 10, 30, 60), xticklabels=(1, 3, 10, 30, 60), xlim=(0.8, 250))
    axes.xaxis.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="0.92", lw=0.8)


def png(figure: Figure) -> bytes:
    """The figure as a file."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png")
    return memory.getvalue()


# --- the sheets ---


def of_sheet(line: Line) -> bool:
    """Whether it is of three minutes, or of none where an entrant takes none."""
    return line["minutes"] in (OF, 0.0)


def samples_file(line: Line) -> Path:
    """Where the first images of a line lie."""
    at = TRACKS[line["track"]].work / line["entrant"]
    ours = at / f"{line['minutes']:g}" / "sampled.safetensors"
    return ours if ours.is_file() else at / f"samples-{line['minutes']:g}" / "0000.safetensors"


def sheets(shown: list[tuple[Line, Path]]) -> UInt8[np.ndarray, "H W 3"]:
    """A row a track; above each sheet what it is."""
    font, small = ImageFont.load_default(17), ImageFont.load_default(13)
    side, margin, text = 8 * 66, 40, 104
    rows = [row for track in TRACKS if (row := [each for each in shown if each[0]["track"] == track])]
    across = max(len(row) for row in rows)
    width, height = across * (side + margin) + margin, len(rows) * (side + text + margin) + margin
    paper = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(paper)
    for i, j in ((i, j) for i, row in enumerate(rows) for j in range(len(row))):
        line, path = rows[i][j]
        left, top = margin + j * (side + margin), margin + i * (side + text + margin)
        tensors, _ = load(path)
        images = tensors.get("shown", tensors.get("images"))[:SHEET].numpy()
        sheet = montage(images, columns=8, factor=64 // max(images.shape[1:3]))
        paper.paste(Image.fromarray(sheet), (left, top + text))
        pen.text((left, top), f"{line['entrant']} on {line['track']}, {minutes_of(line)}", "black", font)
        for k, words in enumerate(label(line)):
            pen.text((left, top + 24 + 18 * k), words, (80, 80, 80), small)
    return np.asarray(paper)


def minutes_of(line: Line) -> str:
    """For people."""
    return f"minutes: {line['minutes']:g}" if line["minutes"] else "untrained"


def label(line: Line) -> Iterator[str]:
    """What stands above a sheet: how it came about, and how it scored."""
    yield f"{line['images_seen']:,} images seen in {line['seconds']:.0f} s; numbers 0 to {SHEET - 1}"
    yield line["sampler"]
    names = {"frechet_classifier": "Frechet (classifier)", "frechet": "Frechet (Lite0)", "kid": "KID (Lite0)"}
    scored = [f"{said} {number(above(line, name))}" for name, said in names.items() if name in line]
    yield f"above the floor: {', '.join(scored[:2])}"
    yield from scored[2:]
