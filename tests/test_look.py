"""Figures and films: every pixel drawn is the pixel it stands for, every file reads back, the same in every time."""

import io
import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fromnoise import __version__
from fromnoise.chapters import forward, predicted_noise, reverse
from fromnoise.cli import look as cli
from fromnoise.cli.look.common import FILM_STEPS
from fromnoise.errors import UseError
from fromnoise.images import ImageSet, ValueSpec, encode_png, enlarge, montage, open_images
from fromnoise.look import Figure, Film, film, forward_film, forward_strip, info, reverse_film, reverse_strip, sheet
from fromnoise.look.colour import around_grey, diverging, noise, pictures, unit_scale
from fromnoise.look.histogram import _BARS, histogram
from fromnoise.look.info import settings
from fromnoise.look.views import figures, levels, spaced
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.noise import SCHEDULES
from fromnoise.run_folder import Checkpoint, RunFolder
from fromnoise.sample import Sampler, Step
from tiny import awake, one_thread, recipe
from tiny import pictures as told_of

SCHEDULE = SCHEDULES["edm"]()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images("menagerie:12", size=(8, 10))


def tiny_model(channels: int = 3) -> Model:
    made = recipe(told_of(channels=channels))
    spec = ValueSpec(channels=channels, alpha=channels == 4)
    return Model(made, spec, build_denoiser(made, awake(build_net(made))), 0, "ema", "")


def trajectory(model: Model, n: int = 2, steps: int = 4) -> tuple[Step, ...]:
    with one_thread():
        return reverse(model, range(n), sampler=Sampler("ddim", steps))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint of random weights."""
    made, folder = recipe(), RunFolder(tmp_path_factory.mktemp("runs") / "tiny")
    weights = {name: value.contiguous() for name, value in awake(build_net(made)).state_dict().items()}
    with folder.writing():
        folder.create(made, ValueSpec(channels=3, alpha=False))
        folder.save(Checkpoint(images_seen=160, seconds=1.0, weights=weights, ema=weights, optimizer={}))
    return folder.path


def places(figure: np.ndarray, picture: np.ndarray) -> list[tuple[int, int]]:
    """Where (y, x) ``picture`` stands in ``figure``, pixel for pixel."""
    height, width = picture.shape[:2]
    room = figure[: len(figure) - height + 1, : figure.shape[1] - width + 1]
    y, x = np.nonzero((room == picture[0, 0]).all(-1))
    for i in np.random.default_rng(0).integers(0, height * width, 200):
        down, right = divmod(int(i), width)
        kept = (figure[y + down, x + right] == picture[down, right]).all(-1)
        y, x = y[kept], x[kept]
    corners = zip(y.tolist(), x.tolist(), strict=True)
    return [(y, x) for y, x in corners if np.array_equal(figure[y : y + height, x : x + width], picture)]


# --- pixels ---


def test_every_pixel_of_a_strip_is_a_square_block_of_its_own_colour(images: ImageSet) -> None:
    times = [0.0, 0.4, 0.6, SCHEDULE.t_max]
    pairs = forward(images, [5], SCHEDULE, times)
    figure = forward_strip(pairs, SCHEDULE, images.spec, "").values
    assert len(places(figure, enlarge(images.values[5], 12))) == 1  # 12 times 10 pixels is the most within 128
    for pair in pairs[1:]:
        alpha, sigma = float(pair.alpha[0]), float(pair.sigma[0])
        shown, _ = pictures(pair.x_t / math.sqrt(alpha**2 + sigma**2), images.spec)
        assert len(places(figure, enlarge(shown[0], 12))) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_reverse_strip_holds_x_t_x0_hat_noise_and_the_finished_images(channels: int) -> None:
    model = tiny_model(channels)
    steps = trajectory(model)
    figure = reverse_strip(steps, SCHEDULE, model.spec, ["one", "two"], "").values
    for step in steps:
        for shown in (
            pictures(unit_scale(step.x_t, SCHEDULE, step.t), model.spec)[0],
            pictures(step.x0_hat, model.spec)[0],
            noise(predicted_noise(step, SCHEDULE)),
        ):
            for each in shown:
                assert places(figure, np.broadcast_to(enlarge(each, 16), (128, 128, 3)))
    for finished in model.to_values(steps[-1].x_s)[0]:
        assert places(figure, np.broadcast_to(enlarge(finished, 16), (128, 128, 3)))


def test_blocks_of_a_film_never_straddle_the_halved_colours_of_an_mp4(images: ImageSet) -> None:
    model, halves = tiny_model(), []
    steps = trajectory(model, 4)
    beliefs = montage(pictures(steps[0].x0_hat, model.spec)[0], 2, gap=2, factor=16)
    halves += places(reverse_film(steps, SCHEDULE, model.spec, "origin").frames[0], beliefs)
    moving = forward_film(forward(images, [5], SCHEDULE, [0.0, 0.5]), SCHEDULE, images.spec, "origin")
    halves += places(moving.frames[0], enlarge(images.values[5], 26))
    assert len(halves) == 2 and not np.any(np.array(halves) % 2)


def test_strips_films_and_sheets_take_every_kind_of_image() -> None:
    for channels in (1, 3, 4):
        model = tiny_model(channels)
        steps = trajectory(model, 1, 2)
        assert reverse_strip(steps, SCHEDULE, model.spec, ["one"], "").values.shape[2] == 3
        assert len(reverse_film(steps, SCHEDULE, model.spec, "").frames) == 3
        values = model.to_values(steps[-1].x_s)[0]
        assert len(places(sheet(values, names=["it"]), sheet(values))) == 1


def test_a_name_too_long_for_its_picture_is_cut_not_spread() -> None:
    values = np.zeros((4, 8, 8, 3), np.uint8)
    short, long = sheet(values, names=["a"] * 4), sheet(values, names=["a name that is far too long for it" * 9] * 4)
    assert short.shape == long.shape and not np.array_equal(short, long)


# --- colours ---


def lightness(colours: np.ndarray) -> np.ndarray:
    """L* of CIE 1976 for sRGB bytes."""
    linear = np.where(colours <= 10, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    y = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_signed_colours_are_symmetric_and_monotone_around_white() -> None:
    values = np.linspace(0.0, 3.0, 301)
    above, below = diverging(values), diverging(-values)
    assert diverging(np.zeros(1)).tolist() == [[255, 255, 255]]
    assert (np.diff(lightness(above)) <= 1e-9).all() and (np.diff(lightness(below)) <= 1e-9).all()
    assert np.abs(lightness(above) - lightness(below)).max() < 2.0
    assert (above[1:, 0] >= above[1:, 2]).all() and (below[1:, 2] >= below[1:, 0]).all()  # orange, blue
    assert np.array_equal(diverging(np.array([3.0, -3.0])), diverging(np.array([50.0, -50.0])))


def test_colour_noise_is_symmetric_and_monotone_around_the_middle_grey() -> None:
    values = np.linspace(-4.0, 4.0, 801)
    shown = around_grey(values).astype(int)
    assert (np.diff(shown) >= 0).all() and shown[0] == 0 and shown[-1] == 255
    assert around_grey(np.zeros(1))[0] in (127, 128)
    assert np.abs(shown + shown[::-1] - 255).max() <= 1


def test_x_t_is_shown_at_unit_noise_under_every_schedule() -> None:
    x_t = torch.ones(1, 1, 2, 2)
    for name, make in SCHEDULES.items():
        schedule = make()
        alpha, sigma = (float(value) for value in schedule.alpha_sigma(0.8))
        assert float(unit_scale(x_t, schedule, 0.8)[0, 0, 0, 0]) == pytest.approx(1 / math.hypot(alpha, sigma)), name
        assert torch.equal(unit_scale(x_t, schedule, 0.0), x_t)


def test_a_histogram_has_its_bars_where_the_values_are() -> None:
    def bars(values: np.ndarray) -> np.ndarray:
        return (histogram(values, 120, 40) == _BARS).all(-1)

    assert bars(np.full(100, -1.5))[:, 60:].sum() == 0 < bars(np.full(100, -1.5)).sum()
    wide, narrow = bars(np.linspace(-3, 3, 1000)), bars(np.linspace(-0.5, 0.5, 1000))
    assert wide.any(0).sum() > 4 * narrow.any(0).sum() and wide.any(1).sum() < narrow.any(1).sum()
    assert not bars(np.full(100, 9.0)).any()


# --- words ---


def test_noise_levels_are_said_in_figures() -> None:
    assert levels(0.0, SCHEDULE) == ("0", "0", "∞")
    assert levels(1.0, SCHEDULE) == ("1.00", "80", "1.6·10⁻⁴")
    said = [figures(value) for value in (0.00123, 0.5, 12.4, 345.6, 9_999.0, 250_000.0)]
    assert said == ["0.0012", "0.5", "12", "346", "9,999", "2.5·10⁵"]


def test_steps_shown_are_spread_from_the_first_to_the_last() -> None:
    assert spaced(range(17), 8) == [0, 2, 5, 7, 9, 11, 14, 16]
    assert spaced("abc", 8) == ["a", "b", "c"]


# --- files ---


@pytest.fixture(scope="module")
def grey_frames() -> tuple[np.ndarray, ...]:
    draw = np.random.default_rng(0)
    blocks = draw.integers(0, 256, (5, 10, 13, 1), np.uint8).repeat(3, -1)
    return tuple(enlarge(blocks, 8))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_looping_films_read_back_pixel_for_pixel(grey_frames: tuple[np.ndarray, ...], suffix: str) -> None:
    encoded = film(grey_frames, suffix, 0.2, "a comment")
    assert encoded == film(grey_frames, suffix, 0.2, "a comment")
    with Image.open(io.BytesIO(encoded)) as read:
        assert read.n_frames == 5 and read.info["loop"] == 0 and b"a comment" in encoded
        for i, frame in enumerate(grey_frames):
            read.seek(i)
            assert np.array_equal(np.asarray(read.convert("RGB")), frame)
            read.load()
            assert read.info["duration"] == (500 if i == 0 else 1500 if i == 4 else 200)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_a_film_tells_how_it_was_made(grey_frames: tuple[np.ndarray, ...], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(
        Film(
            grey_frames,
            0.2,
            "A title",
            "A sentence; 花.",
        ).encode(suffix, "fromnoise look walk x")
    )
    told = {"title": "A title", "caption": "A sentence; 花.", "command": "fromnoise look walk x"}
    assert settings(path) == told | {"version": __version__}


def test_an_mp4_reads_back_within_its_losses(grey_frames: tuple[np.ndarray, ...]) -> None:
    encoded = film(grey_frames, ".mp4", 0.25, "a comment")
    with av.open(io.BytesIO(encoded)) as container:
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert container.metadata["comment"] == "a comment"
    assert len(read) == 12 + 3 * 6 + 36 and read[0].shape == (80, 112, 3)  # 24 a second; 104 became 7 x 16
    for i, frame in ((0, 0), (12, 1), (18, 2), (24, 3), (65, 4)):
        blocks = read[i][:, :104].reshape(10, 8, 13, 8, 3).mean((1, 3))
        error = ((blocks - grey_frames[frame][::8, ::8]) ** 2).mean()
        assert 10 * math.log10(255**2 / error) >= 35


def test_films_are_refused_in_one_sentence(
    grey_frames: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UseError, match=r"\.gif, \.webp, \.mp4.*\.avi"):
        film(grey_frames, ".avi")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UseError, match=r'pip install "fromnoise\[film\]"'):
        film(grey_frames, ".mp4")


def test_the_same_chapter_gives_the_same_bytes(images: ImageSet) -> None:
    def make() -> tuple[bytes, bytes]:
        pairs = forward(images, [1], SCHEDULE, [0.0, 0.5, 1.0])
        moving = forward_film(pairs, SCHEDULE, images.spec, "x")
        return forward_strip(pairs, SCHEDULE, images.spec, "x").png("c"), moving.encode(".webp", "c")

    assert make() == make()


def test_films_have_a_frame_a_step_and_one_for_the_end(images: ImageSet) -> None:
    model = tiny_model()
    moving = reverse_film(trajectory(model), SCHEDULE, model.spec, "x")
    assert len(moving.frames) == 5 and len({frame.shape for frame in moving.frames}) == 1
    assert all(not np.array_equal(a, b) for a, b in zip(moving.frames, moving.frames[1:], strict=False))
    assert reverse_film(trajectory(model), SCHEDULE, model.spec, "x", calm=True).seconds == pytest.approx(1 / 3)
    pairs = forward(images, [1], SCHEDULE, [0.0, 0.5, 1.0])
    assert len(forward_film(pairs, SCHEDULE, images.spec, "x").frames) == 3


def test_a_figure_tells_what_it_is(tmp_path: Path) -> None:
    figure, file = Figure(np.zeros((2, 2, 3), np.uint8), "A title", "A sentence."), tmp_path / "figure.png"
    file.write_bytes(figure.png("fromnoise look forward 'my cats'"))
    assert settings(file)["title"] == "A title"
    for said in ("A title", "A sentence.", "\n  fromnoise look forward 'my cats'"):
        assert said in info(file)


def test_a_sample_tells_what_it_is_without_steering_the_terminal(tmp_path: Path) -> None:
    record = {"run": "runs/x", "images_seen": 64, "class": None, "seed": 5, "version": "9", "command": "a\x1b[31m b"}
    file = tmp_path / "sample.png"
    file.write_bytes(encode_png(np.zeros((2, 2, 3), np.uint8), {"fromnoise": json.dumps(record)}))
    lines = info(file).splitlines()
    assert lines == ["run          runs/x", "images seen  64", "seed         5", *lines[-2:]]
    assert lines[-1] == "  a[31m b"


@pytest.mark.parametrize("text", [{}, {"fromnoise": "{"}, {"fromnoise": "[1]"}, {"fromnoise": '{"command": "x"}'}])
def test_a_picture_without_settings_is_refused(tmp_path: Path, text: dict[str, str]) -> None:
    file = tmp_path / "other.png"
    file.write_bytes(encode_png(np.zeros((2, 2, 3), np.uint8), text))
    with pytest.raises(UseError, match="carries none"):
        info(file)


# --- commands ---


def invoke(*words: object) -> str:
    with one_thread():
        result = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=True)
    if isinstance(result.exception, UseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(
    "words",
    [
        ("forward", "menagerie:12", "--index", 3, "--size", "8x10", "--steps", 3, "--seed", 4),
        ("forward", "menagerie:12", "--schedule", "flow", "--steps", 4),
        (
            "reverse",
            "RUN",
            "-n",
            2,
            "--class",
            "dog",
            "--guidance",
            2,
            "--device",
            "cpu",
            "--steps",
            3,
            "--sampler",
            "heun",
        ),
        ("sheet", "menagerie:12", "-n", 5),
        ("sheet", "RUN", "-n", 3),
    ],
)
def test_every_picture_carries_the_command_that_makes_its_bytes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = invoke(*(run if word == "RUN" else word for word in words), "--out", "first.png")
    assert said.startswith("first.png: ")
    command = shlex.split(settings("first.png")["command"])
    assert command[:2] == ["fromnoise", "look"]
    invoke(*command[2:], "--out", "second.png")
    assert Path("first.png").read_bytes() == Path("second.png").read_bytes()


def test_pictures_go_here_and_what_a_run_makes_goes_to_the_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    invoke("forward", "menagerie:12", "--steps", 2)
    invoke("sheet", "menagerie:12")
    invoke("reverse", run, "--number", 3, "--number", 1)
    invoke("reverse", run, "--film")
    invoke("sheet", run, "-n", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["forward.png", "sheet.png"]
    assert sorted(path.name for path in (run / "look").iterdir()) == ["reverse.png", "reverse.webp", "sheet.png"]
    with Image.open(run / "look" / "reverse.webp") as read:
        assert read.n_frames == FILM_STEPS + 1
    assert "--number 3 --number 1" in invoke("info", run / "look" / "reverse.png")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("forward", "menagerie:12", "--index", 12), "picture 12 of menagerie:12, but it holds 12"),
        (("forward", "RUN"), "is a run"),
        (("forward", "menagerie:12", "--out", "x.bmp"), r"\.png, \.webp, \.gif, \.mp4; x\.bmp"),
        (("forward", "menagerie:12", "--film", "--out", "x.png"), "leave one of them out"),
        (("forward", "no such folder"), "no such folder"),
        (("reverse", "no such run"), "no run.json"),
        (("reverse", "RUN", "-n", 2, "--number", 2), "leave one of them out"),
        (("reverse", "RUN", "--class", "cow"), "its classes are cat, dog"),
        (("sheet", "RUN", "--out", "x.gif"), "A sheet is a .png"),
        (("info", "no such.png"), "no such file"),
    ],
)
def test_wrong_use_is_refused_in_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[Any, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UseError, match=sentence):
        invoke(*(run if word == "RUN" else word for word in words))
    assert not list(tmp_path.iterdir())


def test_info_prints_the_settings_as_json(tmp_path: Path) -> None:
    figure, file = Figure(np.zeros((2, 2, 3), np.uint8), "A title", "A sentence."), tmp_path / "figure.png"
    file.write_bytes(figure.png("fromnoise look forward menagerie"))
    assert json.loads(invoke("info", file, "--json")) == settings(file)
    with pytest.raises(UseError, match="--device"):
        invoke("sheet", "menagerie:8", "--device", "cpu", "--out", tmp_path / "sheet.png")
