"""The commands as a user meets them; among them the proof that a run killed at any moment goes on bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image

from fromnoise import __version__
from fromnoise.cli import main
from fromnoise.cli import train as train_command
from fromnoise.images import read_png_text
from fromnoise.run_folder import RunFolder
from tiny import newest, one_thread, require_equal

PICTURES = ("menagerie:40", "--size", "16")
RECIPE = {
    "net": {"width": 16, "multipliers": [1, 2], "blocks": [1, 1], "patch": 2},
    "batch": 16,
    "dtype": "float32",
    "sampler": {"steps": 2},
}
IMAGES = 1280  # 80 steps, a save every eighth
PATIENCE = 120.0  # seconds until a test gives a command up
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of this kind are not sent on Windows")


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


class Command:
    """``fromnoise ...`` as a process of its own."""

    def __init__(self, *arguments: str | Path, cwd: Path) -> None:
        words = [sys.executable, "-m", "fromnoise", *map(str, arguments)]
        self.output: IO[str] = open(cwd / f"output-{time.monotonic_ns()}", "w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            words, cwd=cwd, stdout=self.output, stderr=subprocess.STDOUT, text=True, env=os.environ
        )

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Poll until it holds; a command that ends before, or takes too long, fails the test."""
        end = time.monotonic() + PATIENCE
        while not what():
            assert self.process.poll() is None, f"the command ended too early:\n{self.text()}"
            assert time.monotonic() < end, f"the command takes too long:\n{self.text()}"
            time.sleep(0.001)

    def leave(self, sent: int | None = None) -> int:
        """Send a signal, if any, and give the exit code."""
        if sent is not None:
            self.process.send_signal(sent)
        code = self.process.wait(PATIENCE)
        return code

    def text(self) -> str:
        """All it has said so far."""
        return Path(self.output.name).read_text()


def train_words(folder: Path, run: str) -> list[str | Path]:
    """The one command that begins, goes on and ends a run."""
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    rest = ("--recipe", "recipe.json", "--images-seen", str(IMAGES), "--threads", "1", "--device", "cpu")
    return ["train", *PICTURES, "--run", run, *rest]


def progress(run: Path) -> int:
    """Images seen by the step last logged."""
    file = run / "events.jsonl"
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return max((json.loads(line).get("images_seen", 0) for line in lines), default=0)


def saved(run: Path) -> list[str]:
    """Names in the folder of checkpoints, unfinished ones included."""
    return sorted(path.name for path in (run / "checkpoints").glob("*"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    command = Command(*train_words(folder, "run"), cwd=folder)
    assert command.leave() == 0, command.text()
    return folder / "run"


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """A command within this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["fromnoise", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
        sys.exit(0)
    code = caught.value.code
    assert code is None or isinstance(code, int)
    return code or 0


# --- kill -9 ---


@POSIX
def test_a_run_killed_again_and_again_ends_bit_for_bit_as_if_it_never_was(uninterrupted: Path, tmp_path: Path) -> None:
    run, words = tmp_path / "run", train_words(tmp_path, "run")
    moments: Sequence[Callable[[], bool]] = (
        lambda: progress(run) >= 32,  # before anything was saved
        lambda: bool(RunFolder(run).checkpoints()),  # just after the first folder appears
        lambda: any(".tmp-" in name for name in saved(run)) or progress(run) > IMAGES // 2,  # within a save
        lambda: progress(run) >= 5 * IMAGES // 8 + 24,  # between two saves
    )
    for moment in moments:
        command = Command(*words, cwd=tmp_path)
        command.wait_for(moment)
        assert command.leave(signal.SIGKILL) == -signal.SIGKILL, command.text()
    last = Command(*words, cwd=tmp_path)
    assert last.leave() == 0, last.text()
    require_equal(newest(run), newest(uninterrupted))
    assert all(".tmp-" not in name for name in saved(run)) and len(saved(run)) == 3
    told, expected = (
        [(event["images_seen"], event["loss"]) for event in RunFolder(path).events() if event["event"] == "step"]
        for path in (run, uninterrupted)
    )
    assert told == expected and len(told) == IMAGES // 16
    assert sorted(p.name for p in (run / "sheets").iterdir()) == sorted(
        p.name for p in (uninterrupted / "sheets").iterdir()
    )


# --- Ctrl-C ---


@POSIX
def test_ctrl_c_and_sigterm_save_say_how_to_go_on_and_change_nothing(uninterrupted: Path, tmp_path: Path) -> None:
    run, words = tmp_path / "run", train_words(tmp_path, "run")
    for part, sent in ((1, signal.SIGINT), (2, signal.SIGTERM)):
        command = Command(*words, cwd=tmp_path)
        command.wait_for(lambda part=part: progress(run) >= part * IMAGES // 4 + 16)  # type: ignore[misc]
        assert command.leave(sent) == 3, command.text()
        assert "Saved at" in command.text() and "same command" in command.text()
        assert "Traceback" not in command.text()
        assert newest(run).images_seen >= progress(run) > 0
    last = Command(*words, cwd=tmp_path)
    assert last.leave() == 0, last.text()
    require_equal(newest(run), newest(uninterrupted))


def test_a_second_ctrl_c_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    class Left(Exception):
        pass

    def leave(code: int) -> None:
        raise Left(code)

    stop, before = threading.Event(), signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Left, match="4"), train_command._stopping_on_signals(stop):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@POSIX
def test_ctrl_c_before_training_leaves_plainly_and_the_same_command_begins(uninterrupted: Path, tmp_path: Path) -> None:
    """While the pictures are read there is nothing to save."""
    words = train_words(tmp_path, "run")
    first = Command(*words, cwd=tmp_path)
    first.wait_for(lambda: "Run folder" in first.text())
    assert first.leave(signal.SIGINT) in (3, 4), first.text()
    assert "Traceback" not in first.text() and ("intact" in first.text() or "Saved at" in first.text())
    again = Command(*words, cwd=tmp_path)
    assert again.leave() == 0, again.text()
    require_equal(newest(tmp_path / "run"), newest(uninterrupted))


def test_a_run_in_use_is_refused_to_a_second_process(uninterrupted: Path, tmp_path: Path) -> None:
    words = train_words(tmp_path, "run")
    first = Command(*words, cwd=tmp_path)
    try:
        first.wait_for(lambda: progress(tmp_path / "run") > 0)
        first.process.send_signal(signal.SIGSTOP)
        second = Command(*words, cwd=tmp_path)
        assert second.leave() == 10, second.text()
        assert "another process" in second.text() and "Traceback" not in second.text()
    finally:
        first.leave(signal.SIGKILL)


# --- what it says ---


def test_a_finished_run_says_so_and_takes_no_step(
    uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(uninterrupted.parent)
    before = newest(uninterrupted).images_seen
    assert run_main(monkeypatch, *train_words(uninterrupted.parent, "run")) == 0
    assert "finished" in capsys.readouterr().out and newest(uninterrupted).images_seen == before


def test_json_is_one_record_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = train_words(tmp_path, "run")
    words[words.index(str(IMAGES))] = "32"
    assert run_main(monkeypatch, *words, "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["event"] == "recipe" and records[-1]["event"] == "end"
    assert records[0]["recipe"]["batch"] == 16
    assert any(record["event"] == "step" and record["images_seen"] == 32 for record in records)


def test_progress_names_rate_time_left_loss_and_what_to_do_next(uninterrupted: Path) -> None:
    output = "".join(path.read_text() for path in uninterrupted.parent.glob("output-*"))
    for said in ("Run folder: run", "Recipe:", "images/s", " left", "loss ", "Finished", "Next: fromnoise sample run"):
        assert said in output


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"fromnoise {__version__}\n"


HELP = ("demo", "train", "sample", "evaluate", "runs", "look forward", "look reverse", "look sheet", "look info")


@pytest.mark.parametrize("command", HELP)
def test_every_command_shows_an_example(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_main(monkeypatch, *command.split(), "--help") == 0
    said = capsys.readouterr().out
    assert "Examples:" in said and f"fromnoise {command}" in said.partition("Examples:")[2]


def test_help_lists_every_command_and_the_exit_codes_without_torch() -> None:
    code = "import sys\nfrom fromnoise.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    words = [sys.executable, "-c", code, "--help"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert all(command in said for command in ("demo", "train", "sample", "evaluate", "look", "runs"))
    assert said.rstrip().endswith("False") and "3 stopped" in said


# --- sample ---


@pytest.fixture(scope="module")
def folder_of_samples(uninterrupted: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(uninterrupted.parent)
        assert run_main(patch, "sample", "run", "-n", "5", "--seed", "3", "--first", "2", "--device", "cpu") == 0
    return uninterrupted / "samples" / "seed-3"


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def test_sample_writes_numbered_images_with_their_settings_and_a_sheet(folder_of_samples: Path) -> None:
    names = sorted(path.name for path in folder_of_samples.iterdir())
    assert names == [*(f"{number:06d}.png" for number in range(2, 7)), "sheet.png"]
    for path in folder_of_samples.glob("0*.png"):
        assert pixels(path).shape == (16, 16, 3)
        facts = json.loads(read_png_text(path)["fromnoise"])
        assert (facts["seed"], facts["number"], facts["steps"]) == (3, int(path.stem), 2)
        assert facts["class"] == ("panda", "cat", "dog", "flower")[facts["number"] % 4]
        assert facts["command"].startswith("fromnoise sample run") and len(facts["checkpoint"]) == 64


def test_the_command_inside_an_image_makes_it_again(
    folder_of_samples: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone as among the others, to one level of 255; other numbers are other images."""
    path = folder_of_samples / "000005.png"
    words = json.loads(read_png_text(path)["fromnoise"])["command"].split()[1:]
    out = words.index("--out") + 1
    words[out] = str(tmp_path / "again.png") if words[out].endswith("sheet.png") else str(tmp_path / "again")
    monkeypatch.chdir(uninterrupted.parent)
    assert run_main(monkeypatch, *words) == 0
    again = [tmp_path / "again.png", *sorted((tmp_path / "again").glob("0*.png"))]
    found = next(pixels(file) for file in again if file.exists() and pixels(file).shape == (16, 16, 3))
    assert np.abs(found - pixels(path)).max() <= 1
    assert np.abs(found - pixels(folder_of_samples / "000006.png")).max() > 1


def test_an_npz_holds_images_and_labels_and_the_same_seed_the_same_pixels(
    uninterrupted: Path, tmp_path: Path, folder_of_samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.npz", "b.npz"):
        words = ("sample", uninterrupted, "-n", "7", "--seed", "3", "--out", tmp_path / name)
        assert run_main(monkeypatch, *words) == 0
    with np.load(tmp_path / "a.npz", allow_pickle=False) as a, np.load(tmp_path / "b.npz", allow_pickle=False) as b:
        assert sorted(a.files) == ["images", "labels", "settings"]
        assert json.loads(str(a["settings"]))["command"].endswith("--out a.npz")
        assert a["images"].shape == (7, 16, 16, 3) and a["images"].dtype == np.uint8
        assert a["labels"].tolist() == [0, 1, 2, 3, 0, 1, 2]
        assert np.array_equal(a["images"], b["images"])
        assert np.abs(a["images"][4].astype(int) - pixels(folder_of_samples / "000004.png")).max() <= 1


def test_a_png_is_one_sheet_and_json_names_what_was_written(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cats.png"
    words = ("-n", "4", "--class", "cat", "--guidance", "2", "--sampler", "ddim", "--eta", "0.5", "--steps", "3")
    assert run_main(monkeypatch, "sample", uninterrupted, *words, "--out", out, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert [Path(file).name for file in said["files"]] == ["cats.png"]
    assert (said["class"], said["guidance"], said["sampler"], said["eta"], said["steps"]) == ("cat", 2, "ddim", 0.5, 3)
    facts = json.loads(read_png_text(out)["fromnoise"])
    assert facts["n"] == 4 and facts["class"] == "cat" and min(pixels(out).shape[:2]) >= 32


# --- runs ---


def test_runs_lists_what_there_is(
    uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "runs", uninterrupted.parent) == 0
    said = capsys.readouterr().out
    assert "menagerie:40" in said and "finished" in said and f"{IMAGES:,}" in said
    assert run_main(monkeypatch, "runs", uninterrupted.parent, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["images_seen"], record["images_total"]) == (IMAGES, IMAGES)


def test_runs_says_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "runs") == 0
    assert "No runs in runs" in capsys.readouterr().out


# --- mistakes ---


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "pictures that are not there": (("train", "nowhere/pictures"), "nowhere"),
    "a size that is none": (("train", "menagerie:40", "--size", "big"), "big"),
    "a way to fit that is none": (("train", "menagerie:40", "--fit", "squash"), "crop"),
    "pictures of one colour": (("train", "flat.npy"), "nothing can be learned"),
    "a device that is not there": (("train", "menagerie:40", "--size", "8", "--device", "tpu"), "tpu"),
    "a recipe that is not there": (("train", "menagerie:40", "--recipe", "no.json"), "no.json"),
    "a recipe that is no JSON": (("train", "menagerie:40", "--recipe", "broken.json"), "broken.json"),
    "a recipe with an unknown field": (("train", "menagerie:40", "--size", "8", "--recipe", "odd.json"), "colour"),
    "two lengths": (("train", "menagerie:40", "--size", "8", "--minutes", "3", "--images-seen", "64"), "--images-seen"),
    "another recipe": (("train", *PICTURES, "--run", "RUN", "--seed", "9"), "seed is 0"),
    "minutes for images": (("train", *PICTURES, "--run", "RUN", "--minutes", "3"), "1,280 images"),
    "no run": (("sample", "nowhere"), "nowhere was to be a run folder, but does not exist"),
    "no class of it": (("sample", "RUN", "--class", "horse"), "panda, cat, dog, flower"),
    "no sampler": (("sample", "RUN", "--sampler", "eular"), "dpm-2m"),
    "no grid": (("sample", "RUN", "--grid", "linear"), "karras"),
    "eta with heun": (("sample", "RUN", "--sampler", "heun", "--eta", "0.5"), "eta belongs to the sampler ddim"),
    "churn with ddim": (("sample", "RUN", "--sampler", "ddim", "--churn", "4"), "churn belongs to the sampler heun"),
    "no weights": (("sample", "RUN", "--weights", "mean"), "ema or raw"),
    "an image to look at that is none": (("look", "info", "broken.json"), "broken.json"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_sentence_and_code_2(
    mistake: str,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, says = MISTAKES[mistake]
    (tmp_path / "broken.json").write_text("{")
    np.save(tmp_path / "flat.npy", np.full((50, 8, 8), 7, np.uint8))
    (tmp_path / "odd.json").write_text('{"colour": 1}')
    monkeypatch.chdir(tmp_path)
    code = run_main(monkeypatch, *(str(uninterrupted) if word == "RUN" else word for word in words))
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("fromnoise: ") and error.count("\n") == 1 and says in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("trian",), "trian"),
        (("train",), "`fromnoise train --help`"),
        (("train", "menagerie", "--minutes", "0"), "--minutes"),
        (("sample", "RUN", "--steps", "many"), "--steps"),
        (("sample", "RUN", "-n"), "-n"),
        (("-x",), "-x"),
    ],
)
def test_words_that_no_command_takes_end_in_one_sentence_and_code_2(
    words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("fromnoise: ") and error.count("\n") == 1 and says in error and error.endswith("takes.\n")


def test_no_words_at_all_show_the_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_main(monkeypatch) == 2
    assert "Commands:" in capsys.readouterr().err


def test_other_pictures_are_code_5_and_a_damaged_run_code_9(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "train", "menagerie:24", "--size", "16", "--run", uninterrupted) == 5
    record = json.loads((uninterrupted / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {"format": 99}))
    assert run_main(monkeypatch, "sample", tmp_path) == 9
    (tmp_path / "run.json").write_text("{")
    assert run_main(monkeypatch, "sample", tmp_path) == 9
    error = capsys.readouterr().err
    assert error.count("\n") == 3 and "Traceback" not in error and "format 99" in error


def test_a_bug_shows_its_traceback_and_is_code_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("fromnoise.session.open_session", fails)
    assert run_main(monkeypatch, "train", "menagerie:40") == 70
    error = capsys.readouterr().err
    assert "Traceback" in error and "planted" in error and "this is a bug" in error
