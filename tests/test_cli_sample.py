"""fromnoise sample: numbers asked for by name, and files that keep the kind of values the pictures had."""

import json
import math
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from fromnoise import cli
from fromnoise.cli.sample import parse_numbers, said_numbers, write_samples
from fromnoise.cli.sampling import GridOption, SamplerOption
from fromnoise.errors import UseError
from fromnoise.images import ValueSpec, open_images, read_settings
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.recipe import Pictures
from fromnoise.run_folder import RunFolder
from fromnoise.sample import GRIDS, SAMPLERS
from fromnoise.training import fit
from tiny import awake, one_thread, pictures, recipe


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was told two numbers of each picture, for two steps."""
    drawn = open_images("menagerie:40", size=(8, 8))
    numbers = np.stack([np.arange(40) // 8 * 8, np.arange(40) // 8 - 2.25], 1).astype(np.float32)
    images = replace(drawn, numbers=numbers, number_names=("angle", "time of day"))
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "numbered")
    made = recipe(Pictures.of("drawn", images), images_total=32)
    folder.create(made, images.spec)
    with folder.writing():
        list(fit(made, images, folder))
    return folder.path


def invoke(*words: object) -> Result:
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    if isinstance(result.exception, UseError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def facts(path: Path) -> dict[str, object]:
    found = json.loads(read_settings(path) or "")
    assert isinstance(found, dict)
    return found


def pixels(path: Path) -> np.ndarray:
    return np.asarray(imagecodecs.png_decode(path.read_bytes())).astype(int)


# --- numbers ---


def test_numbers_are_asked_for_told_in_the_file_and_asked_for_again_by_its_command(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("--set", "time of day=-1.25", "--set", "angle=30")
    invoke("sample", numbered, "-n", 3, "--class", "cat", *asked, "--out", "some")
    told = facts(tmp_path / "some" / "000002.png")
    assert told["numbers"] == {"angle": 30, "time of day": -1.25} == facts(tmp_path / "some" / "sheet.png")["numbers"]
    said = invoke("look", "info", "some/000002.png").output
    assert "angle 30.0, time of day -1.25" in said and "--set 'angle=30,time of day=-1.25'" in said
    before = pixels(tmp_path / "some" / "000002.png")
    (tmp_path / "some" / "000002.png").unlink()
    invoke(*shlex.split(str(told["command"]))[1:])
    assert np.abs(pixels(tmp_path / "some" / "000002.png") - before).max() <= 1
    record = json.loads(invoke("sample", numbered, "-n", 1, "--json", "--out", "one.npz", "--set", "angle=3").stdout)
    assert record["numbers"] == {"angle": 3} == facts(tmp_path / "one.npz")["numbers"]
    assert "--set" not in str(facts_of_plain(numbered, tmp_path)["command"])


def facts_of_plain(run: Path, folder: Path) -> dict[str, object]:
    invoke("sample", run, "-n", 1, "--out", folder / "plain.png")
    found = facts(folder / "plain.png")
    assert found["numbers"] is None
    return found


def test_a_number_beyond_the_pictures_is_said_and_made_all_the_same(numbered: Path, tmp_path: Path) -> None:
    result = invoke("sample", numbered, "-n", 1, "--set", "angle=50", "--out", tmp_path / "x.png")
    assert "angle 50 lies outside the 0 to 32 of the pictures" in result.stderr and (tmp_path / "x.png").exists()
    assert not invoke("sample", numbered, "-n", 1, "--set", "angle=32", "--out", tmp_path / "x.png").stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "angle"), "angle=30,age=4, not 'angle'"),
        (("--set", "=3"), "not '=3'"),
        (("--set", "angle=much"), "not 'angle=much'"),
        (("--set", "angle=1,"), "not ''"),
        (("--set", "angle=1,angle=2"), "gives angle twice, 1 and 2"),
        (("--set", "angle=1", "--set", "angle=1"), "gives angle twice"),
        (("--set", "angle=nan"), "value of angle, but nan is none"),
        (("--set", "age=4"), r"'age'.* are angle \(0 to 32\), time of day \(-2\.25 to 1\.75\)"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_one_sentence(
    words: tuple[str, ...], says: str, numbered: Path, tmp_path: Path
) -> None:
    with pytest.raises(UseError, match=says) as caught:
        invoke("sample", numbered, *words, "--out", tmp_path / "x.png")
    assert "\n" not in str(caught.value) and not (tmp_path / "x.png").exists()


NAMES = st.text(st.characters(blacklist_characters=",", blacklist_categories=("Cs",)), min_size=1).map(str.strip)


@given(st.dictionaries(NAMES.filter(bool), st.floats(allow_nan=False, allow_infinity=False)))
def test_numbers_survive_being_said(numbers: dict[str, float]) -> None:
    found = parse_numbers([said_numbers(numbers)] if numbers else None)
    assert found == numbers and all(math.copysign(1, found[k]) == math.copysign(1, numbers[k]) for k in numbers)


# --- files ---


def model_of(spec: ValueSpec) -> Model:
    """A model with random weights, of pictures of this kind."""
    made = recipe(pictures(channels=spec.channels), sampler={"steps": 2})
    return Model(made, spec, build_denoiser(made, awake(build_net(made))), 0, "ema", "")


@pytest.mark.parametrize(
    ("spec", "suffix", "shown"),
    [
        (ValueSpec(channels=3, alpha=False), ".png", False),
        (ValueSpec(channels=2, alpha=True), ".png", False),
        (ValueSpec(bits=16, low=(0.0,), high=(4095.0,), channels=1, alpha=False), ".png", True),
        (ValueSpec(bits=16, low=(0.0,), high=(65535.0,), channels=4, alpha=True), ".png", True),
        (ValueSpec(kind="int", bits=16, low=(-900.0,), high=(3000.0,), channels=1, alpha=False), ".tif", True),
        (
            ValueSpec(kind="float", bits=32, low=(250.0,) * 12, high=(310.0,) * 12, channels=12, alpha=False),
            ".tif",
            True,
        ),
        (ValueSpec(kind="float", bits=64, low=(0.0,), high=(1e-9,), channels=2, alpha=False), ".tif", True),
    ],
    ids=lambda each: f"{each.kind}{each.bits} x {each.channels}" if isinstance(each, ValueSpec) else None,
)
def test_files_keep_the_kind_of_the_pictures_and_the_sheet_is_for_the_eye(
    spec: ValueSpec, suffix: str, shown: bool, tmp_path: Path
) -> None:
    model = model_of(spec)
    samples = model.sample(3, first=4)
    assert samples.images.dtype == spec.dtype and len(np.unique(samples.images)) > 3
    written = write_samples(model, samples, Path("runs/x"), "an id", tmp_path / "out")
    assert [path.name for path in written] == ["sheet.png", *(f"{number:06d}{suffix}" for number in (4, 5, 6))]
    decode = imagecodecs.png_decode if suffix == ".png" else imagecodecs.tiff_decode
    for path, values in zip(written[1:], samples.images, strict=True):
        found = decode(path.read_bytes())
        assert found.dtype == spec.dtype and np.array_equal(found.reshape(values.shape), values)
        assert facts(path)["number"] == int(path.stem)
    sheet = imagecodecs.png_decode(written[0].read_bytes())
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert facts(written[0])["shown_as"] == (spec.shown_as() if shown else None)
    (array,) = write_samples(model, samples, Path("runs/x"), "an id", tmp_path / "out.npz")
    with np.load(array, allow_pickle=False) as found:
        assert found["images"].dtype == spec.dtype and np.array_equal(found["images"], samples.images)
    assert facts(array)["n"] == 3


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--sampler", "adaptive", "--tolerance", 0.1), "--steps 2 --grid log-snr --tolerance 0.1"),
        (("--sampler", "heun", "--steps", 3, "--corrections", 1), "--churn 0.0 --corrections 1"),
        (("--sampler", "unipc-2", "--steps", 3), "--sampler unipc-2 --steps 3 --grid inner --out"),
    ],
)
def test_the_options_of_a_sampler_are_told_in_the_file_and_make_it_again(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[object, ...], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    invoke("sample", numbered, "-n", 2, *asked, "--out", "a.png")
    made, command = pixels(tmp_path / "a.png"), str(facts(tmp_path / "a.png")["command"])
    assert told in command
    (tmp_path / "a.png").unlink()
    invoke(*shlex.split(command)[1:])
    assert np.array_equal(pixels(tmp_path / "a.png"), made)


def test_the_help_names_every_sampler_and_every_grid() -> None:
    """Typed out there, because the command line starts without torch."""
    (sampler,), (grid,) = SamplerOption.__metadata__, GridOption.__metadata__
    assert set(re.findall(r"[\w-]+", sampler.help.split(".")[0])) - {"or", "with", "fresh", "noise"} == set(SAMPLERS)
    assert set(re.findall(r"[\w-]+", grid.help.split(": ")[1])) - {"or"} == set(GRIDS)
