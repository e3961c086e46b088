"""Figures of a run: what is drawn is what was computed, for every kind of image, and each carries its command."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw
from typer.testing import CliRunner

from fromnoise.chapters import Losses, TrainingBatch, branches, by_sampler, by_seed, growth, nearest
from fromnoise.cli import look as cli
from fromnoise.cli.look.asking import Asking
from fromnoise.errors import FromnoiseError, UseError
from fromnoise.images import ImageSet, ValueSpec, enlarge, montage, open_images
from fromnoise.look import (
    Figure,
    branches_strip,
    growth_film,
    growth_strip,
    loss_curves,
    nearest_sheet,
    pairs_table,
    samplers_strip,
    seeds_strip,
)
from fromnoise.look.colour import noise, pictures, sequential, signed_bar
from fromnoise.look.info import settings
from fromnoise.look.nearest import limit
from fromnoise.look.page import SMALL, SOFT, font
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.noise import SCHEDULES, Condition, corrupt
from fromnoise.run_folder import RunFolder, Sheet
from fromnoise.training import Probe
from test_look import lightness, places
from tiny import awake, begin, one_thread, recipe, steps
from tiny import pictures as told_of

SCHEDULE = SCHEDULES["edm"]()
KINDS = {
    "grey": ValueSpec(channels=1, alpha=False),
    "grey of 16 bits": ValueSpec(bits=16, low=(100.0,), high=(4095.0,), channels=1, alpha=False),
    "two channels": ValueSpec(channels=2, alpha=False),
    "RGB": ValueSpec(channels=3, alpha=False),
    "RGBA": ValueSpec(channels=4, alpha=True),
    "twelve channels": ValueSpec(
        kind="float", bits=32, low=(-3.0,) * 12, high=tuple(float(k) for k in range(1, 13)), channels=12, alpha=False
    ),
}


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 20 steps on 84 images of 8x8x3."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        steps(begin(path, patch, "menagerie:84"))
    return path


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 20 steps on 84 images of 8x8x3 with a labels.csv of two numbers."""
    drawn, folder = open_images("menagerie:84", size=(8, 8)), tmp_path_factory.mktemp("drawn")
    rows = ["file,class,angle,time of day"]
    for k, values in enumerate(drawn.values):
        Image.fromarray(values).save(folder / f"{k}.png")
        rows.append(f"{k}.png,{drawn.classes[drawn.labels[k]]},{values.mean():.1f},{k % 5 - 2.5 if k % 7 else ''}")
    (folder / "labels.csv").write_text("\n".join(rows))
    path = tmp_path_factory.mktemp("runs") / "numbered"
    with pytest.MonkeyPatch.context() as patch:
        steps(begin(path, patch, str(folder), overrides={"warmup_images": 0}))
    return path


def model_of(spec: ValueSpec) -> Model:
    made = recipe(told_of(channels=spec.channels))
    return Model(made, spec, build_denoiser(made, awake(build_net(made))), 0, "ema", "")


def batch_of(spec: ValueSpec) -> TrainingBatch:
    """Eight examples, one of each class of noise level."""
    draw = torch.Generator().manual_seed(0)
    x0, eps, output, x0_hat = (torch.randn(8, spec.channels, 8, 8, generator=draw).clamp(-1, 1) for _ in range(4))
    pair = corrupt(SCHEDULE, x0, eps, torch.linspace(0.2, 0.8, 8, dtype=torch.float64), Condition())
    return TrainingBatch(64, "edm", np.arange(8), pair, ({},) * 8, output, -eps, x0_hat, torch.linspace(0.1, 0.8, 8))


def grown_of(spec: ValueSpec, heldout: bool = True) -> tuple[tuple[Sheet, Probe], ...]:
    draw = np.random.default_rng(0)

    def images() -> np.ndarray:
        return spec.decode(draw.uniform(-1, 1, (4, 8, 8, spec.channels)).astype(np.float32))[0]

    probe = Probe((0.5,) * 8, (0.6,) * 8 if heldout else ())
    return tuple((Sheet(seen, images(), images()), probe) for seen in (16, 64, 320))


def shown_in(figure: Figure | np.ndarray, values: np.ndarray, factor: int) -> bool:
    """Whether the image (h, w, c) stands in the figure, pixel for pixel."""
    page = figure.values if isinstance(figure, Figure) else figure
    return len(places(page, montage(values[None], factor=factor))) > 0


# --- what is drawn is what was computed ---


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_table_holds_each_part_of_each_example(kind: str) -> None:
    spec = KINDS[kind]
    batch = batch_of(spec)
    figure = pairs_table(batch, spec, "")
    size = torch.sqrt(batch.pair.alpha**2 + batch.pair.sigma**2).float().view(-1, 1, 1, 1)
    error = 3.0 * (batch.output - batch.target)  # on a scale from -1 to 1, a third of that of noise
    for part in (
        pictures(batch.pair.x0, spec)[0],
        pictures(batch.pair.x_t / size, spec)[0],
        pictures(batch.x0_hat, spec)[0],
        noise(batch.pair.eps),
        noise(batch.target),
        noise(batch.output),
        noise(error),
    ):
        assert shown_in(figure, part[0], 12) and shown_in(figure, part[7], 12)
    assert len(places(figure.values, signed_bar(spec.channels, 90, 8))) == 4
    assert "mean of all 8 losses, 0.45" in figure.caption


def written(figure: Figure, words: str) -> int:
    """How often the words stand in the figure, in the letters of labels."""
    page = Image.new("RGB", (400, 20), "white")
    ImageDraw.Draw(page).text((0, 0), words, SOFT, font(SMALL))
    left, top, right, bottom = ImageChops.invert(page).getbbox() or ()
    return len(places(figure.values, np.asarray(page)[top:bottom, left:right]))


def test_the_training_table_says_what_the_net_is_told_of_each_example() -> None:
    batch, spec = batch_of(KINDS["RGB"]), KINDS["RGB"]
    long = "a class that has a name as long as a sentence"
    told: tuple[dict[str, str | float | None], ...] = (
        *({"class": "panda", "angle": 30.0, "time of day": -1.25},) * 3,
        *({"class": None, "angle": None, "time of day": 2.0},) * 2,
        *({"class": long, "angle": 7.0, **{f"number {k}": 0.5 for k in range(4)}},) * 3,
    )
    figure = pairs_table(replace(batch, told=told), spec, "")
    lines = {"class panda": 3, "angle 30": 3, "time of day −1.25": 3, "class not told": 2, "angle not told": 2}
    lines |= {"time of day 2": 2, "number 0 0.5": 3, "number 1 0.5": 0, "and 3 more": 3, f"class {long}": 0}
    assert {line: written(figure, line) for line in lines} == lines
    assert "what stands beneath t" in figure.caption and "given x_t and t," in pairs_table(batch, spec, "").caption


@pytest.mark.parametrize("kind", KINDS)
def test_growth_shows_the_average_of_every_sheet_and_none_of_the_raw_ones(kind: str) -> None:
    spec = KINDS[kind]
    grown = grown_of(spec)
    figure = growth_strip(grown, [0, 3], spec, ["zero", "three"], "")
    moving = growth_film(grown, [0, 1, 2, 3], spec, "")
    assert len(moving.frames) == len(grown) and len({frame.shape for frame in moving.frames}) == 1
    for (sheet, _), frame in zip(grown, moving.frames, strict=True):
        shown = spec.shown(sheet.ema)
        assert shown_in(figure, shown[0], 16) and shown_in(figure, shown[3], 16)
        assert not shown_in(figure, shown[1], 16) and not shown_in(figure, spec.shown(sheet.raw)[0], 16)
        assert len(places(frame, montage(shown, 2, gap=2, factor=16))) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_branches_are_drawn_beside_the_map_of_their_deviation(kind: str) -> None:
    model = model_of(KINDS[kind])
    grown = branches(model, 0, (80.0, 1.0), 3, steps=4)
    figure = branches_strip(grown, SCHEDULE, model.spec, "")
    top = max(float(each.deviation().max()) for each in grown)
    for each in grown:
        assert all(shown_in(figure, picture, 12) for picture in pictures(each.finished, model.spec)[0])
        assert shown_in(figure, sequential(each.deviation().numpy(), top), 12)


@pytest.mark.parametrize("kind", KINDS)
def test_several_ways_are_drawn_from_their_noise_to_the_end(kind: str) -> None:
    model = model_of(KINDS[kind])
    samplers, seeds = by_sampler(model, 0, 5), by_seed(model, 0, range(2))
    for figure, ways in (
        (samplers_strip(samplers, SCHEDULE, model.spec, ""), list(samplers.values())),
        (seeds_strip(seeds, SCHEDULE, model.spec, ""), list(seeds.values())),
    ):
        coarse = min(ways, key=len)
        for way in ways:
            assert shown_in(figure, pictures(way[-1].x_s, model.spec)[0][0], 12)
            for step in coarse:
                same = min(way, key=lambda other: abs(other.t - step.t))
                assert abs(same.t - step.t) < 1e-12
                assert shown_in(figure, pictures(same.x0_hat, model.spec)[0][0], 12)


def test_the_nearest_samples_come_first_above_their_neighbours(run: Path) -> None:
    images = open_images("menagerie:84", size=(8, 8))
    samples = replace_images(model_of(images.spec), images)
    found = nearest(samples, images)
    figure = nearest_sheet(found, images, "")
    order = np.argsort(found.training.distances)
    assert order[0] == 5 and found.training.distances[5] == 0.0
    columns = []
    for k in order[:8]:
        y, x = min(places(figure.values, enlarge(samples.images[k], 12)))
        beneath = enlarge(images.values[found.training.indices[k]], 12)
        assert any(below > y and left == x for below, left in places(figure.values, beneath))
        columns.append(x)
    assert columns == sorted(columns) and len(set(columns)) == 8
    near = int((found.training.distances < np.quantile(found.usual, 0.05)).sum())
    assert limit(found) == np.quantile(found.usual, 0.05) and f": {near} of 20 lie nearer" in figure.caption


def replace_images(model: Model, images: ImageSet) -> Any:
    """20 samples of random values, but for number 5, a training image."""
    samples = model.sample(20)
    values = np.random.default_rng(0).integers(0, 256, samples.images.shape, np.uint8)
    values[5] = images.values[images.train[3]]
    return replace(samples, images=values)


def test_heat_grows_lighter_from_nothing_to_its_top() -> None:
    values = np.linspace(0.0, 2.0, 201)
    shown = lightness(sequential(values, 2.0))
    assert (np.diff(shown) >= -0.5).all() and shown[-1] - shown[0] > 50
    assert np.array_equal(sequential(np.array([2.0]), 2.0), sequential(np.array([9.0]), 2.0))


@pytest.mark.parametrize("heldout", [True, False])
def test_losses_are_drawn_with_and_without_held_out_images(heldout: bool) -> None:
    probes = tuple((sheet.images_seen, probe) for sheet, probe in grown_of(KINDS["RGB"], heldout))
    falling, ratios = (tuple(np.geomspace(0.1, 2, n).tolist()) for n in (320, 8))
    found = Losses(tuple(range(1, 321)), falling, probes, ratios)
    figure = loss_curves(found, "")
    assert ("held-out" in figure.caption) is heldout
    before = loss_curves(replace(found, probes=()), "")
    assert before.values.shape[1] < figure.values.shape[1], "by noise level there is nothing to show yet"
    assert np.array_equal(loss_curves(found, "").values, figure.values)


# --- commands ---


def invoke(*words: object) -> str:
    result = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=True)
    if isinstance(result.exception, FromnoiseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


COMMANDS: tuple[tuple[object, ...], ...] = (
    ("pairs",),
    ("loss",),
    ("growth", "--number", 2, "--number", 15),
    ("seeds", "-n", 2, "--number", 1, "--class", "cat"),
    ("samplers", "--calls", 3, "--seed", 2, "--guidance", 1.5),
    ("branches", "-n", 2, "--steps", 3, "--device", "cpu"),
    ("nearest", "-n", 9),
)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: str(words[0]))
def test_every_figure_carries_the_command_that_makes_its_bytes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(words[0], run, *words[1:], "--out", "first.png").startswith("first.png: ")
    command = shlex.split(settings("first.png")["command"])
    assert command[:3] == ["fromnoise", "look", words[0]]
    invoke(*command[2:], "--out", "second.png")
    assert Path("first.png").read_bytes() == Path("second.png").read_bytes()
    assert settings("first.png")["caption"].endswith(".")


ASKED = ("--set", "time of day=-1.5,angle=90.5")


@pytest.mark.parametrize(
    "words",
    [
        ("reverse", "--number", 3, "--class", "cat"),
        ("seeds", "-n", 2, "--guidance", 2),
        ("samplers", "--calls", 3),
        ("branches", "-n", 2, "--steps", 3),
        ("nearest", "-n", 9, "--seed", 4),
    ],
    ids=lambda words: str(words[0]),
)
def test_figures_of_numbers_asked_for_show_other_pictures_and_carry_them_in_their_command(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    invoke(words[0], numbered, *words[1:], "--out", "free.png")
    invoke(words[0], numbered, *words[1:], *ASKED, "--out", "first.png")
    assert "--set" not in settings("free.png")["command"]
    command = shlex.split(settings("first.png")["command"])
    assert command[command.index("--set") + 1] == "angle=90.5,time of day=-1.5"
    invoke(*command[2:], "--out", "second.png")
    assert Path("first.png").read_bytes() == Path("second.png").read_bytes()
    free, first = (np.asarray(Image.open(name)) for name in ("free.png", "first.png"))
    above = min(len(free), len(first)) // 2  # all words
    assert not np.array_equal(free[:above], first[:above])


def test_what_was_asked_for_is_said_beneath_and_a_guess_once_beside(numbered: Path, tmp_path: Path) -> None:
    asked = Asking(numbers=list(ASKED[1:]), seed=3).of(numbered)
    assert "seed 3, number 1, class" in (line := asked.origin(f"seed 3, {asked.name(1)}"))
    assert " · angle 90.5, time of day -1.5 · guidance 1.5" in line
    said = invoke("seeds", numbered, "-n", 3, "--set", "time of day=40", "--out", tmp_path / "x.png")
    assert said.count("Note: time of day 40 lies outside the -2.5 to 1.5 of the pictures") == 1
    assert said.count("Note") == 1


def test_pairs_of_a_run_with_numbers_say_them(numbered: Path, tmp_path: Path) -> None:
    invoke("pairs", numbered, "--out", tmp_path / "x.png")
    assert "what stands beneath t" in settings(tmp_path / "x.png")["caption"]


@pytest.mark.parametrize("name", ["reverse", "seeds", "samplers", "branches", "nearest"])
def test_a_number_that_the_model_does_not_know_is_wrong_use(
    run: Path, numbered: Path, tmp_path: Path, name: str
) -> None:
    for path, known in ((numbered, r"its numbers are angle \(.*, time of day"), (run, "without columns of numbers")):
        with pytest.raises(UseError, match=rf"^No number 'age' in this model; .*{known}") as caught:
            invoke(name, path, "--set", "age=4", "--out", tmp_path / "x.png")
        assert caught.value.exit_code == 2 and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_growth_moves_and_figures_go_to_the_run(run: Path) -> None:
    invoke("growth", run, "--film")
    invoke("growth", run)
    invoke("loss", run)
    assert {"growth.png", "growth.webp", "loss.png"} <= {path.name for path in (run / "look").iterdir()}
    with Image.open(run / "look" / "growth.webp") as read:
        assert read.n_frames == len(growth(RunFolder(run)))


@pytest.mark.parametrize("name", ["pairs", "loss", "growth", "seeds", "samplers", "branches", "nearest"])
def test_no_run_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(FromnoiseError, match=r"no run\.json"):
        invoke(name, tmp_path / "none")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("pairs", "--out", "x.gif"), r"is a \.png"),
        (("loss", "--out", "x.bmp"), r"is a \.png, but --out says x\.bmp"),
        (("growth", "--number", 16), "number 16 in the sheets of .* they hold 16"),
        (("samplers", "--calls", 8), "odd number, not 8"),
        (("seeds", "--class", "cow"), "its classes are panda"),
        (("branches", "--guidance", 2, "--class", "cow"), "its classes are panda"),
    ],
)
def test_wrong_use_is_refused_in_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[Any, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FromnoiseError, match=sentence):
        invoke(words[0], run, *words[1:])
    assert not list(tmp_path.iterdir())
