"""The doctor: planted copies and odd ones are found and no others, files are accounted for, no name does harm."""

import io
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fromnoise import durable, machine
from fromnoise.cli import main
from fromnoise.cli.doctor import forecast, pictures, words
from fromnoise.cli.doctor.machine import file_system, remark
from fromnoise.images import open_images
from fromnoise.images.alike import DISTANCE, difference_hash, find_alike, look_alike, reduced
from fromnoise.images.checkup import Checkup, check_up, class_warnings, tinted
from fromnoise.images.odd_sizes import odd_sizes
from fromnoise.menagerie import Menagerie
from fromnoise.run_folder import RunFolder
from tiny import MACHINE, begin, one_thread, recipe, steps
from tiny import pictures as tiny_pictures


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "probe", lambda device=None, threads=None: MACHINE)
    with one_thread():
        yield


def drawn(n: int, side: int = 64) -> list[Image.Image]:
    """Pictures that have nothing to do with each other."""
    return [Image.fromarray(each) for each in Menagerie(n, 5).render(np.arange(n), side, side)]


def folder_of(folder: Path, files: dict[str, Image.Image]) -> Path:
    for name, image in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return folder


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """(exit code, standard output) of the command."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.setattr(sys, "argv", ["fromnoise", "doctor", *map(str, arguments)])
        main()
    return int(left.value.code or 0), capsys.readouterr().out


def groups(checkup: Checkup) -> set[frozenset[str]]:
    return {frozenset(each.names) for each in checkup.near}


# Copies


def test_planted_copies_are_found_and_no_others(tmp_path: Path) -> None:
    images = drawn(60)
    files = {f"{i:02}.png": image for i, image in enumerate(images)}
    files["exact.bmp"] = images[0]
    files["again.jpg"] = images[1]
    files["small.png"] = images[2].resize((48, 48), Image.Resampling.LANCZOS)
    files["bright.png"] = ImageEnhance.Brightness(images[3]).enhance(1.06)
    found = check_up(open_images(folder_of(tmp_path / "set", files), size=(64, 64), fit="stretch"))
    assert [each.names for each in found.exact] == [("00.png", "exact.bmp")]
    assert groups(found) == {
        frozenset({"01.png", "again.jpg"}),
        frozenset({"02.png", "small.png"}),
        frozenset({"03.png", "bright.png"}),
    }
    assert found.near_complete


def test_jpegs_of_any_usual_quality_are_near_copies_of_their_picture() -> None:
    for image in drawn(12):
        for quality in (95, 85, 75, 60):
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=quality)
            both = np.stack([np.asarray(each, np.float32) for each in (image, Image.open(stream))])
            bits = difference_hash(both)
            assert np.bitwise_count(bits[0] ^ bits[1]) <= DISTANCE
            assert look_alike(both[:1], both[1:])[0]


def test_pictures_that_only_share_a_hash_are_not_alike() -> None:
    grey = np.asarray(drawn(1)[0].convert("L"), np.float32)[None, ..., None] / 2 + 40
    left, right = grey + np.array([40, -20, -20]), grey + np.array([-20, 40, -20])
    left[:, :32], right[:, :32] = left[:, :32, :, ::-1], right[:, :32, :, ::-1]
    one, other = left.astype(np.float32), right.astype(np.float32)
    assert difference_hash(one) == difference_hash(other)
    assert not look_alike(one, other)[0] and look_alike(one, one + np.float32(20))[0]
    assert not look_alike(one, one + np.float32(60))[0]  # so much lighter is another picture
    assert not look_alike(np.full_like(one, 7), np.full_like(one, 7))[0]  # one colour is a copy of nothing


def test_near_copies_across_the_held_out_border_are_named() -> None:
    images = np.stack([np.asarray(each) for each in drawn(80, 32)])
    near = np.clip(images.astype(int) + 6, 0, 255).astype(np.uint8)
    images = open_images(np.concatenate([images, near]))
    found = check_up(images)
    heldout = {images.names[i] for i in images.heldout}
    assert len(found.near) == 80
    for group in found.near:
        assert group.straddles == (0 < len(heldout & set(group.names)) < len(group.names))
        assert group.sides == tuple("held-out" if name in heldout else "training" for name in group.names)
    assert any(group.straddles for group in found.near)
    order = [group.straddles for group in found.near]
    assert order == sorted(order, reverse=True)  # what matters most comes first


def test_copies_in_two_classes_are_said(tmp_path: Path) -> None:
    one, *others = drawn(6, 16)
    files = {f"cat/{i}.png": image for i, image in enumerate(others)} | {"cat/x.png": one, "dog/x.png": one}
    found = check_up(open_images(folder_of(tmp_path / "set", files)))
    assert [each.classes for each in found.exact] == [("cat", "dog")]


def test_the_hash_is_what_its_words_say() -> None:
    falling = np.tile(np.arange(9, 0, -1, dtype=np.float32) * 20, (8, 1))[None, ..., None]
    assert difference_hash(falling)[0] == np.uint64(2**64 - 1)
    assert difference_hash(falling[:, :, ::-1])[0] == 0
    assert np.bitwise_count(difference_hash(falling[:, :, :].repeat(3, 1).repeat(5, 2)))[0] == 64
    half = falling.copy()
    half[:, 4:] = 7.0
    assert np.bitwise_count(difference_hash(half))[0] == 32


def test_reducing_keeps_the_mean_of_every_area() -> None:
    values = np.random.default_rng(0).random((2, 12, 30, 3), np.float32)
    blocks = values.reshape(2, 4, 3, 5, 6, 3).mean((2, 4))
    np.testing.assert_allclose(reduced(values, 4, 5), blocks, rtol=1e-5)
    np.testing.assert_allclose(reduced(values, 7, 9).mean((1, 2)), values.mean((1, 2)), rtol=1e-5)


def test_twenty_thousand_images_are_compared_within_little_memory() -> None:
    values = np.random.default_rng(0).integers(0, 256, (20_000, 32, 32, 3), np.uint8)
    values[10] = values[15_000]
    images = open_images(values)
    tracemalloc.start()
    found = find_alike(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.exact, found.near, found.complete) == (((10, 15_000),), (), True)
    assert peak < 100 * 2**20  # 60 MB of images, 1.6 GB of pairs


# Odd ones


def test_planted_odd_ones_are_found_and_no_others(tmp_path: Path) -> None:
    pale = [ImageEnhance.Color(image).enhance(0.3) for image in drawn(40)]
    files = {f"{i:02}.png": image for i, image in enumerate(pale)}
    files["tiny.png"] = drawn(1, 48)[0].resize((6, 6))
    files["long.png"] = pale[0].resize((300, 40))
    files["constant.png"] = Image.new("RGB", (64, 64), (90, 90, 90))
    red = np.asarray(drawn(41)[40]) * np.array([1.0, 0.05, 0.05])
    files["tinted.png"] = Image.fromarray(red.astype(np.uint8))
    found = check_up(open_images(folder_of(tmp_path / "set", files)))
    why = {(each.name, each.why) for each in found.odd}
    assert why == {
        ("tiny.png", "tiny"),
        ("long.png", "shape"),
        ("constant.png", "constant"),
        ("tinted.png", "tinted"),
    }


def test_odd_sizes_are_told_by_the_set_they_are_in() -> None:
    wide = [(100, 800)] * 9
    assert odd_sizes([f"{i}" for i in range(9)], wide) == ()  # all are long: none is odd
    found = odd_sizes([f"{i}" for i in range(10)], [*wide, (100, 100)])
    assert [(each.name, each.why) for each in found] == [("9", "shape")]
    assert [each.why for each in odd_sizes(["a", "b", "c"], [(400, 400), (400, 400), (90, 90)])] == ["tiny"]
    assert odd_sizes([], []) == ()


def test_tints_are_told_by_colour_not_by_brightness() -> None:
    grey = np.linspace(0, 255, 40)[:, None].repeat(3, 1)
    names = [f"{i}" for i in range(40)]
    assert tinted(names, grey) == ()
    grey[7] = (200.0, 90.0, 90.0)
    assert [(each.name, each.detail) for each in tinted(names, grey)] == [("7", "mean colour #c85a5a")]
    assert tinted(names, grey[:, :1]) == ()


def test_uneven_and_small_classes_are_said() -> None:
    assert class_warnings([("a", 100), ("b", 30)]) == ()
    uneven, small = class_warnings([("a", 300), ("b", 19)])
    assert "a has 16 times as many images as b" in uneven and "1 class has fewer than 20" in small
    assert class_warnings([]) == ()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.arange(4 * 64, dtype=np.uint16).reshape(4, 8, 8) * 16, "16 bits, 12 of them used: 0 to 4,080"),
        (np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8), "8 bits: 0 to 255"),
        (np.arange(4 * 64, dtype=np.int16).reshape(4, 8, 8) - 9, "16 bits signed: -9 to 246"),
        (np.linspace(250, 310, 4 * 64, dtype=np.float32).reshape(4, 8, 8), "32-bit floats: 250 to 310"),
    ],
)
def test_the_values_in_use_are_said(values: np.ndarray, said: str) -> None:
    assert check_up(open_images(values)).values == said


def test_colour_that_is_all_grey_and_opacity_that_is_never_used_are_said() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    opaque = np.concatenate([grey, grey, grey, np.full_like(grey, 255)], -1)
    assert ["grey" in each for each in check_up(open_images(grey.repeat(3, -1))).kind_warnings] == [True]
    assert len(check_up(open_images(opaque)).kind_warnings) == 2
    opaque[0, 0, 0, 3], opaque[0, 0, 0, 0] = 254, 255 - opaque[0, 0, 0, 1]
    assert check_up(open_images(opaque)).kind_warnings == ()


# The command


def verdicts(record: dict[str, Any], usable: list[str]) -> list[str]:
    report = record.get("report", record)
    return [*usable, *(each["name"] for each in report["refused"]), *report["other"], *report["hidden"]]


def test_every_bad_file_is_accounted_for_once(
    data_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = data_folder / "bad_images"
    expected = json.loads((bad / "EXPECTED.json").read_text())
    page = tmp_path / "page.html"
    code, text = doctor(capsys, bad, "--json", "--html", page)
    record = json.loads(text)
    named = verdicts(record, [words.plain(name) for name in open_images(bad).names])
    assert code == 0
    assert len(named) == len(set(named)) == record["report"]["found"] == len(expected)
    assert set(named) == {words.plain(name) for name in expected}
    texts = Texts(page)
    for each in record["report"]["refused"]:
        assert each["name"] in texts.all and each["reason"].partition(": ")[2] in texts.all


class Texts(HTMLParser):
    """What a page says, its tags, and what it would fetch."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.feed(page.read_text())
        self.all = "\n".join(self.said)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.said.append(data)


ODD_NAMES = (
    "new\nline.png",
    "bell\a and \x1b[31mred\x1b[0m.png",
    "[bold]marked :smile:.png",
    "<script>alert(1)</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "back\u202egnp.png",
    "--flag.png",
)


@pytest.mark.skipif(sys.platform != "linux", reason="such names exist on Linux only")
@pytest.mark.parametrize("usable", [True, False])
def test_no_name_harms_a_terminal_a_page_or_a_record(
    usable: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, page = tmp_path / "set", tmp_path / "page.html"
    folder.mkdir()
    image = io.BytesIO()
    drawn(1, 16)[0].save(image, "PNG")
    names = [*(name.replace("/", "∕").encode() for name in ODD_NAMES), b"not utf-8 \xff.png"]
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(image.getvalue() if usable else b"no")
    code, text = doctor(capsys, folder, "--html", page)
    assert code == (0 if usable else 2)
    assert all(character.isprintable() for line in text.split("\n") for character in line)
    texts = Texts(page)
    assert not texts.tags & {"script", "link", "iframe"} and all(link.startswith("data:") for link in texts.links)
    for said in ("new\\nline.png", "\\x1b[31mred", "[bold]marked :smile:", "not utf-8 \\xff.png", "<script>al"):
        assert said in texts.all
    _, text = doctor(capsys, folder, "--json")
    text.encode("ascii")
    record = json.loads(text)
    listed = record["exact"][0]["names"] if usable else [each["name"] for each in record["refused"]]
    assert sorted(listed) == sorted(words.plain(os.fsdecode(name)) for name in names)


def test_the_screen_says_what_the_record_says_and_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = drawn(50, 24)
    files = {f"{'cat' if i % 5 else 'a dog'}/{i:02}.png": image for i, image in enumerate(images)}
    files |= {f"cat/copy {i}.png": images[i + 1] for i in range(4)}
    folder = folder_of(tmp_path / "set", files)
    (folder / "cat" / "broken.png").write_bytes(b"")
    (folder / "notes.txt").write_text("of the author")
    code, text = doctor(capsys, folder)
    record = json.loads(doctor(capsys, folder, "--json")[1])
    report = record["report"]
    lines = text.splitlines()
    assert code == 0 and len(lines) < words.HEIGHT and max(map(len, lines)) <= words.WIDTH
    assert "56 found: 54 usable, 1 refused, 1 other, 0 hidden" in text
    assert (report["found"], report["usable"], len(report["refused"]), len(report["other"])) == (56, 54, 1, 1)
    assert re.search(r"cat +44 █{40}\b|cat +44 █{40}$", text, re.MULTILINE) and re.search(
        r"a dog +10 █{9}$", text, re.M
    )
    assert dict(report["class_counts"]) == {"a dog": 10, "cat": 44}
    assert f"4 exact copies in {len(record['exact'])} groups" in text
    assert f"about {record['training']['images_total']:,} images" in text
    one_line = " ".join(text.split())
    assert all(decision in one_line for decision in report["decisions"])
    assert one_line.endswith(f"fromnoise train {folder} --minutes 10")


def test_what_is_asked_of_the_pictures_is_asked_as_of_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folder_of(tmp_path / "set", {f"{i}.png": image for i, image in enumerate(drawn(4))})
    asked = ("--size", "16x24", "--fit", "pad", "--channels", "1")
    record = json.loads(doctor(capsys, folder, *asked, "--json")[1])
    assert record["shape"] == [4, 16, 24, 1]
    said = " ".join(doctor(capsys, folder, *asked)[1].split())
    assert said.endswith(f"fromnoise train {folder} --size 16x24 --fit pad --channels 1 --minutes 10")


def test_wrong_use_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert doctor(capsys, tmp_path / "empty")[0] == 2
    assert doctor(capsys, tmp_path / "nowhere")[0] == 2
    assert doctor(capsys, "--size", "8")[0] == 2
    assert doctor(capsys, "menagerie:8", "--html", tmp_path / "page.png")[0] == 2
    assert not (tmp_path / "page.png").exists()


def test_help_needs_neither_rich_nor_torch() -> None:
    code = "import sys, fromnoise.cli; sys.exit(any(name in sys.modules for name in ('rich', 'torch', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# What training takes


PEAK = """
import re, torch
from pathlib import Path
from fromnoise.images import open_images
from fromnoise.machine import Machine
from fromnoise.cli.doctor.forecast import forecast
from fromnoise.trainer import Trainer
torch.set_num_threads(1)
images = open_images("menagerie:80", size=(48, 48))
expected = forecast("menagerie:80", images, Machine(2, 2**33, "cpu", "", 1, False, 100.0, 100.0, ""))
torch.nn.functional.conv2d(torch.ones(1, 1, 8, 8, requires_grad=True), torch.ones(1, 1, 3, 3)).sum().backward()
used = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = used()
trainer = Trainer(expected.recipe, images, "cpu")
for _ in range(2):
    trainer.update(10_000)
print((used() - before) / expected.training_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_the_memory_foretold_is_the_memory_taken() -> None:
    """The peak is this process's own: the one that getrusage gives is inherited from whoever started it."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(1.0, abs=0.4)


def test_the_checkpoint_foretold_is_the_checkpoint_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path / "run", monkeypatch)
    steps(run)
    saved = sum(each.stat().st_size for each in RunFolder(tmp_path / "run").newest().glob("*.safetensors"))
    assert forecast.of_recipe(run.recipe).checkpoint_bytes == pytest.approx(saved, rel=0.25)  # names and shapes


def test_the_parameters_are_those_of_the_net() -> None:
    known = recipe(tiny_pictures())
    expected = forecast.of_recipe(known)
    larger = forecast.of_recipe(known.model_copy(update={"batch": 2 * known.batch}))
    assert larger.kept_bytes == 2 * expected.kept_bytes and larger.state_bytes == expected.state_bytes
    assert 5 * expected.parameters <= expected.state_bytes / 4 <= 6 * expected.parameters
    alone = forecast.of_recipe(known.model_copy(update={"earlier_at": None}))
    assert expected.state_bytes - alone.state_bytes == 4 * expected.parameters


# A run


def spoil(file: Path) -> None:
    """One bit of it."""
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    durable.write_file(file, bytes(data))


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_from_its_begin_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    session = begin(run, monkeypatch)
    begun = json.loads(doctor(capsys, run, "--json")[1])
    assert (begun["verdict"], begun["images_seen"], begun["exit_code"]) == ("can begin", 0, 0)
    steps(session, 4)
    half = json.loads(doctor(capsys, run, "--json")[1])
    assert half["verdict"] == "can go on" and 0 < half["images_seen"] < half["images_total"] == 320
    assert half["next_command"].startswith(f"fromnoise train menagerie:40 --run {run} --size 8x8")
    steps(begin(run, monkeypatch))
    before = files_of(run)
    code, text = doctor(capsys, run)
    whole = json.loads(doctor(capsys, run, "--json")[1])
    assert files_of(run) == before
    assert (code, whole["verdict"], whole["images_seen"]) == (0, "finished", 320)
    words = "".join(text.split())  # a long path is wrapped
    assert "320 of 320 images seen (100%)" in text and f"fromnoisesample{run}" in words
    assert whole["pictures_missing"] == "" and whole["sheet"].endswith(".png")
    assert whole["loss"]["trend"] in ("falling", "level", "rising")
    assert f"training {whole['loss']['now']:.4f}, {whole['loss']['trend']}" in text


def test_damage_of_a_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    steps(begin(run, monkeypatch))
    newest, *older = RunFolder(run).checkpoints()
    spoil(newest / "ema.safetensors")
    code, text = doctor(capsys, run, "--json")
    state = json.loads(text)
    assert code == 0 and state["images_seen"] == int(older[0].name.removeprefix("seen-")) < 320
    assert len(state["damage"]) == 1 and str(newest / "ema.safetensors") in state["damage"][0]
    for each in older:
        (each / "weights.safetensors").unlink()
    code, text = doctor(capsys, run)
    assert code == 9 and text.splitlines()[0].endswith("damaged") and text.count("DAMAGED") == len(older) + 1
    (run / "run.json").unlink()
    assert doctor(capsys, run)[0] == 2


def test_a_run_in_use_and_pictures_that_are_gone_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "set", {f"{i}.png": image for i, image in enumerate(drawn(8, 8))})
    steps(begin(tmp_path / "run", monkeypatch, str(folder), size=None))
    (folder / "0.png").unlink()
    with durable.writer_lock(tmp_path / "run"):
        state = json.loads(doctor(capsys, tmp_path / "run", "--json")[1])
    assert state["locked"] and state["verdict"] == "being trained"
    assert "bring back the pictures" in state["pictures_missing"]


# This machine


def test_the_machine_is_described(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fromnoise.cli.doctor import machine as of_machine

    monkeypatch.setattr(of_machine, "probe", lambda: MACHINE)
    monkeypatch.setitem(of_machine.EXTRAS, "film", ("films as MP4", {"av": "no_such_module"}))
    code, text = doctor(capsys)
    record = json.loads(doctor(capsys, "--json")[1])
    assert code == 0 and record["machine"]["cores"] == MACHINE.cores and "5 GFLOP/s in float32" in text
    assert [each["extra"] for each in record["missing"] if each["extra"] == "film"] == ["film"]
    assert 'pip install "fromnoise[film]"' in text and "cpu" in record["devices"]
    assert record["versions"]["numpy"] == np.__version__ and record["places"]["cache"]["free_bytes"] > 0


@pytest.mark.parametrize(
    ("kind", "system", "word"),
    [
        ("nfs4", "linux", "network"),
        ("tmpfs", "linux", "memory"),
        ("", "win32", "Windows"),
        ("", "darwin", "F_FULLFSYNC"),
    ],
)
def test_file_systems_that_promise_less_are_said(kind: str, system: str, word: str) -> None:
    assert word in remark(kind, system)
    assert remark("ext4", "linux") == "" == remark("", "linux")


@pytest.mark.skipif(sys.platform != "linux", reason="read from proc")
def test_the_file_system_of_a_folder_is_that_of_its_mount() -> None:
    assert file_system(Path("/proc")) == "proc"


@pytest.mark.parametrize(
    ("number", "text"), [(512, "512 bytes"), (1536, "1.5 KiB"), (20 * 2**20, "20 MiB"), (3 * 2**30, "3.0 GiB")]
)
def test_sizes_are_said_for_people(number: int, text: str) -> None:
    assert words.size(number) == text


def test_long_lists_say_how_much_is_left_out() -> None:
    lines = [words.Line(f"{i}") for i in range(14)]
    kept = words.cut(lines, 3, "groups")
    assert [each.text for each in kept] == ["0", "1", "and 12 more groups (--html or --json lists all)"]
    assert words.cut(lines, 14) == lines
    assert pictures.quoted("it's here") == "'it'\"'\"'s here'"
