"""From what a user says to a run: begin, go on, go on longer, or refuse with the difference."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fromnoise import session as room
from fromnoise.cli import main
from fromnoise.errors import Locked, PicturesRefused, UseError
from fromnoise.images import default_run, open_images
from fromnoise.run_folder import RunFolder
from fromnoise.session import MINUTES, images_of, open_session, train
from tiny import FIELDS, MACHINE, begin, newest, one_thread, require_equal, steps

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


def record_of(run: Path) -> dict[str, Any]:
    record = json.loads((run / "run.json").read_text())
    assert isinstance(record, dict)
    return record


def planned(monkeypatch: Patch, run: Path, minutes: float | None, **fields: Any) -> room.Session:
    """A session of so many minutes, its first plan being the recipe's own guess."""
    monkeypatch.setattr(room, "probe", lambda device, threads: MACHINE)
    overrides = {name: value for name, value in FIELDS.items() if name != "images_total"} | fields
    return open_session("menagerie:40", run=run, size=(8, 8), minutes=minutes, overrides=overrides)


# --- where a run is kept ---


@pytest.mark.parametrize("source", ["menagerie", "menagerie:40", "menagerie@7", "menagerie:40@7"])
def test_every_menagerie_has_one_run(source: str) -> None:
    assert default_run(source) == Path("runs/menagerie")


def test_a_run_has_the_name_of_its_pictures(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "cats.of.rome").mkdir()
    monkeypatch.chdir(tmp_path)
    assert default_run("cats.of.rome/") == default_run(tmp_path / "cats.of.rome") == Path("runs/cats.of.rome")
    assert default_run("elsewhere/sprites.npz") == Path("runs/sprites")
    (tmp_path / "cats.of.rome" / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "cats.of.rome")
    assert default_run(".") == Path("runs/cats.of.rome")


# --- beginning ---


def test_pictures_that_are_open_are_not_opened_again(tmp_path: Path, monkeypatch: Patch) -> None:
    images = open_images("menagerie:40", size=(8, 8))
    monkeypatch.delattr(room, "open_images")
    assert begin(tmp_path, monkeypatch, images=images).images is images


@pytest.mark.parametrize("field", ["pictures", "minutes"])
def test_a_recipe_file_is_refused_before_pictures_are_looked_for(
    tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps({field: 1}))
    monkeypatch.setattr(sys, "argv", ["fromnoise", "train", "nowhere", "--recipe", str(tmp_path / "recipe.json")])
    with pytest.raises(SystemExit):
        main()
    assert f"The recipe field {field} cannot be set" in capsys.readouterr().err


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_import_that_fails_is_told_once(
    tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "fromnoise.session", None)
    monkeypatch.setattr(sys, "argv", ["fromnoise", "train", "menagerie:40"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.count("Traceback") == 1


def test_a_new_run_keeps_its_recipe_and_the_pictures_it_was_derived_from(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = begin(tmp_path / "run", monkeypatch, overrides={"seed": 5})
    assert (begun.resumed, begun.finished, begun.images_seen, begun.images_total) == (False, False, 0, 320)
    assert RunFolder(tmp_path / "run").recipe() == begun.recipe
    assert (begun.recipe.seed, begun.recipe.batch, begun.recipe.net.width) == (5, 16, 16)
    shown = begun.recipe.pictures
    assert (shown.height, shown.width, shown.channels, len(shown.classes)) == (8, 8, 3, 4)
    assert shown.identity == begun.images.identity and shown.train_count == len(begun.images.train)


def test_the_budget_is_the_one_given_or_ten_minutes(tmp_path: Path, monkeypatch: Patch) -> None:
    assert planned(monkeypatch, tmp_path / "given", 2.0).minutes == 2.0
    assert planned(monkeypatch, tmp_path / "left", None).minutes == MINUTES == 10
    assert begin(tmp_path / "images", monkeypatch).minutes is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"colour": 1}, "colour"),
        ({"batch": 20}, "batch"),
        ({"net": {"classes": 9}}, r"net\.classes.*pictures\.classes"),
        ({"net": 5}, "net"),
        ({"pictures": {}}, "pictures"),
        ({"minutes": 5}, "--minutes"),
    ],
)
def test_a_recipe_that_does_not_hold_together_leaves_no_run(
    tmp_path: Path, monkeypatch: Patch, fields: Mapping[str, Any], says: str
) -> None:
    with pytest.raises(UseError, match=says):
        begin(tmp_path / "run", monkeypatch, overrides=fields)
    assert not (tmp_path / "run").exists()


def test_minutes_and_a_number_of_images_exclude_each_other(tmp_path: Path, monkeypatch: Patch) -> None:
    with pytest.raises(UseError, match=r"--minutes 3.*--images-seen 320"):
        begin(tmp_path / "run", monkeypatch, minutes=3.0)
    assert not (tmp_path / "run").exists()


# --- going on ---


def test_the_same_call_goes_on_and_a_finished_run_says_so(tmp_path: Path, monkeypatch: Patch) -> None:
    first = begin(tmp_path / "run", monkeypatch)
    assert len(steps(first, 3)) == 3
    again = begin(tmp_path / "run", monkeypatch)
    assert again.resumed and not again.finished and again.images_seen == 32
    assert again.recipe == first.recipe
    assert steps(again)[-1].images_seen == 320
    done = begin(tmp_path / "run", monkeypatch)
    assert done.resumed and done.finished and done.images_seen == 320 and steps(done) == []


def test_a_stop_saves_and_ends_the_loop(tmp_path: Path, monkeypatch: Patch) -> None:
    stop, begun = threading.Event(), begin(tmp_path / "run", monkeypatch)
    seen = []
    for step in begun.fit(stop):
        seen.append(step.images_seen)
        stop.set()
    assert seen == [16, 32] and newest(tmp_path / "run").images_seen == 32


def test_train_gives_the_model_and_the_same_call_gives_it_again(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(room, "probe", lambda device, threads: MACHINE)
    options: dict[str, Any] = {"run": tmp_path / "run", "size": (8, 8), "overrides": FIELDS | {"images_total": 64}}
    first, again = (train("menagerie:40", **options) for _ in range(2))
    assert (first.images_seen, first.weights, first.shape) == (64, "ema", (3, 8, 8))
    assert first.checkpoint == again.checkpoint != ""
    assert np.array_equal(first.sample(2).images, again.sample(2).images)


def test_a_run_does_not_depend_on_its_folder_or_on_how_often_it_was_opened(tmp_path: Path, monkeypatch: Patch) -> None:
    steps(begin(tmp_path / "a", monkeypatch))
    for count in (5, 9, None):
        steps(begin(tmp_path / "b", monkeypatch), count)
    require_equal(newest(tmp_path / "a"), newest(tmp_path / "b"))


# --- refusing ---


def test_other_pictures_are_refused_with_both_described(tmp_path: Path, monkeypatch: Patch) -> None:
    begin(tmp_path / "run", monkeypatch)
    before = record_of(tmp_path / "run")
    with pytest.raises(PicturesRefused, match=r"40 images of 8x8x3.*24 of 8x8x3") as caught:
        begin(tmp_path / "run", monkeypatch, "menagerie:24")
    assert caught.value.exit_code == 5
    with pytest.raises(PicturesRefused, match=r"8x8x3.*8x12x3"):
        begin(tmp_path / "run", monkeypatch, size=(8, 12))
    with pytest.raises(PicturesRefused):
        begin(tmp_path / "run", monkeypatch, "menagerie:40@1")
    assert record_of(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"seed": 3}, r"seed is 0, asked for was 3"),
        ({"images_total": 640}, r"images_total is 320, asked for was 640"),
        ({"net": {"width": 32}}, r"net.*32"),
        ({"betas": [0.9, 0.5]}, r"betas.*0\.5"),
        ({"sampler": {"steps": 9}}, r"sampler.*9"),
    ],
)
def test_a_changed_recipe_is_refused_with_the_difference(
    tmp_path: Path, monkeypatch: Patch, fields: Mapping[str, Any], says: str
) -> None:
    begin(tmp_path / "run", monkeypatch)
    with pytest.raises(UseError, match=says) as caught:
        begin(tmp_path / "run", monkeypatch, overrides=fields)
    assert caught.value.exit_code == 2 and "--run" in str(caught.value)


def test_fields_that_say_the_same_are_no_change(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = begin(tmp_path / "run", monkeypatch)
    made = begun.recipe
    same = {"betas": list(made.betas), "seed": 0, "net": {"multipliers": list(made.net.multipliers)}}
    assert begin(tmp_path / "run", monkeypatch, overrides=same).recipe == made


def test_a_second_writer_is_refused(tmp_path: Path, monkeypatch: Patch) -> None:
    held = begin(tmp_path / "run", monkeypatch)
    with held.folder.writing():
        with pytest.raises(Locked) as caught:
            steps(begin(tmp_path / "run", monkeypatch), 1)
        assert caught.value.exit_code == 10


# --- longer and shorter ---


def test_more_minutes_lengthen_the_plan_in_proportion(tmp_path: Path, monkeypatch: Patch) -> None:
    first = planned(monkeypatch, tmp_path / "run", 2.0)
    longer = planned(monkeypatch, tmp_path / "run", 3.0)
    assert longer.minutes == 3 and longer.images_total == int(first.images_total * 1.5)
    assert longer.recipe == first.recipe
    assert planned(monkeypatch, tmp_path / "run", 3.0).images_total == longer.images_total
    assert planned(monkeypatch, tmp_path / "run", None).images_total == longer.images_total
    assert len(longer.folder.revisions()) == 2


def test_a_finished_run_goes_on_with_more_minutes(tmp_path: Path, monkeypatch: Patch) -> None:
    run = tmp_path / "run"
    begun = planned(monkeypatch, run, 0.05)
    done = list(begun.fit(started=-(10.0**6)))[-1]
    assert done.images_seen >= done.images_total
    assert planned(monkeypatch, run, None).finished
    longer = planned(monkeypatch, run, 0.1)
    assert not longer.finished and longer.images_seen == done.images_seen
    assert longer.images_total > done.images_total
    step = steps(longer, 1)[0]
    assert step.images_seen == done.images_seen + 16 and step.learning_rate > 0


def test_fewer_minutes_are_refused_and_so_are_minutes_for_a_number_of_images(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    planned(monkeypatch, tmp_path / "run", 2.0)
    with pytest.raises(UseError, match=r"2 minutes.*1 minute"):
        planned(monkeypatch, tmp_path / "run", 1.0)
    begin(tmp_path / "images", monkeypatch)
    with pytest.raises(UseError, match=r"320 images"):
        begin(tmp_path / "images", monkeypatch, minutes=3.0)
    assert len(RunFolder(tmp_path / "run").revisions()) == 1


def test_a_run_that_is_being_trained_is_not_lengthened_behind_its_back(tmp_path: Path, monkeypatch: Patch) -> None:
    begun = planned(monkeypatch, tmp_path / "run", 2.0)
    with begun.folder.writing(), pytest.raises(Locked):
        planned(monkeypatch, tmp_path / "run", 3.0)
    assert len(begun.folder.revisions()) == 1


# --- the images of a run ---


@pytest.mark.parametrize("options", [{"size": (8, 12), "fit": "pad"}, {"size": (8, 12)}, {"size": None}])
def test_the_images_of_a_run_are_opened_as_they_were(
    tmp_path: Path, monkeypatch: Patch, options: dict[str, Any]
) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (40, 10, 10, 3), np.uint8)
    np.save(tmp_path / "drawn.npy", drawn)
    begun = begin(tmp_path / "run", monkeypatch, tmp_path / "drawn.npy", **options)
    again = images_of(RunFolder(tmp_path / "run"))
    assert again.identity == begun.images.identity and np.array_equal(again.values, begun.images.values)
    np.save(tmp_path / "drawn.npy", 255 - drawn)
    with pytest.raises(PicturesRefused, match=r"was begun on 40 images of .*; now there are 40"):
        images_of(RunFolder(tmp_path / "run"))
    (tmp_path / "drawn.npy").unlink()
    with pytest.raises(UseError, match=r"needs the pictures it was begun on.*drawn\.npy"):
        images_of(RunFolder(tmp_path / "run"))
