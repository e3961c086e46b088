"""What a run leaves on disk: every bit comes back, damage is named and the checkpoint before is used."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fromnoise.durable import to_json
from fromnoise.errors import Locked, NoCheckpoint, UseError
from fromnoise.images import open_images
from fromnoise.model import build_net
from fromnoise.run_folder import KEPT, PARTS, Checkpoint, Revision, RunFolder, Sheet, load
from tiny import awake, equal, one_thread, recipe

FILES = (*(f"{part}.safetensors" for part in PARTS), "state.json", "manifest.json")


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


def normals(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def checkpoint(images_seen: int) -> Checkpoint:
    """A small state of odd kinds: channels-last, bfloat16, one number, the extremes of float32."""
    weights = {
        "conv": normals(2, 3, 2, 2, seed=images_seen).to(memory_format=torch.channels_last),
        "half": normals(5, seed=1).bfloat16(),
        "edge": torch.tensor([0.0, -0.0, torch.finfo(torch.float32).max, 1e-45]),
    }
    ema = {name: -value for name, value in weights.items()}
    optimizer, earlier = (
        {"step/conv": torch.tensor(float(images_seen))},
        {name: 2 * value for name, value in ema.items()},
    )
    return Checkpoint(images_seen, 1.25 * images_seen, weights, ema, optimizer, earlier)


@pytest.fixture
def begun(tmp_path: Path) -> RunFolder:
    """A run with nothing saved yet, of 8x8x3 images in two classes."""
    folder = RunFolder(tmp_path / "run")
    drawn = open_images("menagerie:16", size=(8, 8))
    folder.create(recipe(), drawn.spec)
    return folder


def forge(manifest: Path, **fields: object) -> None:
    """Change a manifest so that it still proves itself."""
    record = {name: value for name, value in json.loads(manifest.read_text()).items() if name != "sha256"} | fields
    manifest.write_bytes(to_json(record | {"sha256": hashlib.sha256(to_json(record)).hexdigest()}))


# --- checkpoints ---


def test_a_checkpoint_comes_back_bit_for_bit(begun: RunFolder) -> None:
    saved = checkpoint(640)
    path = begun.save(saved)
    assert path == begun.newest() == begun.checkpoints()[0]
    found = begun.load(path)
    assert (found.images_seen, found.seconds) == (640, 800.0)
    for part in PARTS:
        before, after = getattr(saved, part), getattr(found, part)
        assert equal(before, after)
        assert all(torch.equal(before[name].signbit(), after[name].signbit()) for name in before), part


def test_the_newest_three_are_kept(begun: RunFolder) -> None:
    for k in range(1, 6):
        begun.save(checkpoint(64 * k))
        left = [int(path.name.removeprefix("seen-")) for path in begun.checkpoints()]
        assert left == [64 * j for j in range(k, max(0, k - KEPT), -1)]
    assert KEPT == 3 and len(list((begun.path / "checkpoints").iterdir())) == 3


def test_any_changed_byte_of_the_newest_is_named_and_the_one_before_is_used(begun: RunFolder) -> None:
    older, newer = begun.save(checkpoint(64)), begun.save(checkpoint(128))
    for name in FILES:
        file = newer / name
        good = file.read_bytes()
        for place in range(0, len(good), 1 + len(good) // 150):
            file.write_bytes(good[:place] + bytes([good[place] ^ (1 << place % 8)]) + good[place + 1 :])
            damaged: list[str] = []
            assert begun.newest(damaged) == older, (name, place)
            assert len(damaged) == 1 and name in damaged[0]
        file.write_bytes(good)
    assert begun.newest() == newer


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "empty", "cut", "longer"])
def test_a_file_missing_cut_or_lengthened_is_named_and_the_one_before_is_used(
    begun: RunFolder, name: str, how: str
) -> None:
    older, newer = begun.save(checkpoint(64)), begun.save(checkpoint(128))
    good = (newer / name).read_bytes()
    if how == "missing":
        (newer / name).unlink()
    else:
        (newer / name).write_bytes({"empty": b"", "cut": good[:-1], "longer": good + b"\0"}[how])
    damaged: list[str] = []
    assert begun.newest(damaged) == older
    assert len(damaged) == 1 and name in damaged[0]


def test_with_all_damaged_or_none_saved_there_is_no_checkpoint(begun: RunFolder) -> None:
    with pytest.raises(NoCheckpoint, match="none was saved"):
        begun.newest()
    (begun.save(checkpoint(64)) / "ema.safetensors").write_bytes(b"")
    with pytest.raises(NoCheckpoint, match="damaged") as caught:
        begun.newest()
    assert caught.value.exit_code == 9


def test_a_format_of_the_future_is_refused_plainly_and_not_taken_for_damage(begun: RunFolder) -> None:
    begun.save(checkpoint(64))
    forge(begun.save(checkpoint(128)) / "manifest.json", format=2)
    with pytest.raises(NoCheckpoint, match="format 2"):
        begun.newest()
    record = json.loads((begun.path / "run.json").read_text())
    (begun.path / "run.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(NoCheckpoint, match="format 99") as caught:
        begun.recipe()
    assert caught.value.exit_code == 9


# --- run.json and the plan ---


def test_recipe_meaning_of_values_and_name_come_back(begun: RunFolder) -> None:
    assert begun.recipe() == recipe()
    assert begun.spec() == open_images("menagerie:16", size=(8, 8)).spec
    assert begun.run_id() == begun.run_id() != ""
    assert begun.revisions() == [Revision(images_seen=0, images_total=recipe().images_total, minutes=None, seconds=0.0)]


def test_revisions_come_back_in_order(begun: RunFolder) -> None:
    later = [Revision(images_seen=k, images_total=1000 - k, minutes=2.0, seconds=k / 3) for k in range(1, 12)]
    for number, revision in enumerate(later, start=1):
        begun.revise(number, revision)
    assert begun.revisions()[1:] == later


def test_a_recipe_with_unknown_keys_or_broken_text_is_refused_with_the_reason(begun: RunFolder) -> None:
    file = begun.path / "run.json"
    record = json.loads(file.read_text())
    record["recipe"]["colour"] = 1
    file.write_text(json.dumps(record))
    with pytest.raises(NoCheckpoint, match="colour"):
        begun.recipe()
    file.write_text(file.read_text()[:-9])
    with pytest.raises(Exception, match=r"run\.json") as caught:
        begun.recipe()
    assert getattr(caught.value, "exit_code", None) == 9


def test_a_folder_without_a_run_is_wrong_use(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        assert not RunFolder(path).exists
        with pytest.raises(UseError, match=r"run\.json"):
            load(path)
    assert not (tmp_path / "nowhere").exists()


# --- writers and events ---


def test_there_is_one_writer_and_it_clears_what_a_killed_one_left(begun: RunFolder) -> None:
    path = begun.save(checkpoint(64))
    half = path.with_name("seen-000000000128.tmp-0123456789abcdef")
    half.mkdir()
    torn = begun.path / "run.json.tmp-0123456789abcdef"
    torn.write_text("{")
    with begun.writing():
        assert not half.exists() and not torn.exists() and begun.newest() == path
        with pytest.raises(Locked), RunFolder(begun.path).writing():
            pass
    with begun.writing():
        pass


def test_events_leave_out_what_a_resume_did_again(begun: RunFolder) -> None:
    for seen in (0, 16, 32, 48):
        begun.log("begin" if seen == 0 else "step", images_seen=seen)
    begun.log("resume", images_seen=16, damaged=[])
    begun.log("step", images_seen=32)
    assert [(event["event"], event["images_seen"]) for event in begun.events()] == [
        ("begin", 0),
        ("step", 16),
        ("resume", 16),
        ("step", 32),
    ]
    begun.log("begin", images_seen=0)
    assert [event["images_seen"] for event in begun.events()] == [0, 0]


# --- load ---


def test_load_gives_the_average_or_the_raw_weights_without_changing_the_run(begun: RunFolder) -> None:
    made = recipe()
    raw, average, aside = (dict(awake(build_net(made), seed).named_parameters()) for seed in (1, 2, 3))
    begun.save(Checkpoint(96, 1.0, raw, average, {}, aside))
    before = {file: file.read_bytes() for file in begun.path.rglob("*") if file.is_file()}
    for name, expected in (("raw", raw), ("ema", average)):
        model = load(begun.path, weights=name)
        held = dict(model.denoiser.net.named_parameters())  # type: ignore[attr-defined]
        assert equal(held, {key: value.detach() for key, value in expected.items()})
        assert (model.weights, model.images_seen, model.recipe) == (name, 96, made)
        earlier = dict(model.earlier.net.named_parameters())  # type: ignore[union-attr]
        assert equal(earlier, {key: value.detach() for key, value in aside.items()})
        assert not any(weight.requires_grad for weight in held.values())
    assert before == {file: file.read_bytes() for file in begun.path.rglob("*") if file.is_file()}
    with pytest.raises(UseError, match="average"):
        load(begun.path, weights="average")


def test_load_takes_the_checkpoint_before_a_damaged_one_and_names_its_weights(begun: RunFolder) -> None:
    net = awake(build_net(recipe()))
    good = Checkpoint(64, 1.0, dict(net.named_parameters()), dict(net.named_parameters()), {})
    older = begun.save(good)
    newer = begun.save(replace(good, images_seen=128))
    (newer / "ema.safetensors").write_bytes(b"")
    model = load(begun.path)
    assert model.images_seen == 64 and model.earlier is None
    assert model.checkpoint == hashlib.sha256((older / "ema.safetensors").read_bytes()).hexdigest()


# --- sheets ---


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_the_images_of_a_sheet_come_back_bit_for_bit_and_always_in_the_same_bytes(begun: RunFolder, dtype: str) -> None:
    draw = np.random.default_rng(0)
    raw, ema = (draw.integers(0, 127, (4, 3, 5, 12)).astype(dtype) for _ in range(2))
    picture = begun.keep_sheet(Sheet(320, raw, ema), b"a picture")
    first = picture.with_suffix(".npz").read_bytes()
    found = begun.sheet(320)
    assert picture.read_bytes() == b"a picture" and found.images_seen == 320
    for left, right in ((found.raw, raw), (found.ema, ema)):
        assert left.dtype == right.dtype and left.tobytes() == right.tobytes()
    begun.keep_sheet(Sheet(320, raw, ema), b"a picture")
    assert picture.with_suffix(".npz").read_bytes() == first
    with pytest.raises(UseError, match=r"sheet at 64 images seen"):
        begun.sheet(64)
