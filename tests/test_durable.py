"""The room that writes: what was saved is proved, what was not saved leaves the old state whole."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromnoise import durable
from fromnoise.errors import CouldNotSave, Locked, NoCheckpoint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
CALLS = ("open", "write", "fsync", "mkdir", "rename", "replace")


def save(path: Path, text: str) -> None:
    """A small folder whose every part tells which save it came from."""
    with durable.new_folder(path, {"text": text}) as folder:
        folder.write("a.bin", text.encode())
        with folder.stream("b.bin") as writer:
            writer.write(text.encode())
            writer.write(memoryview(b" and more"))


def saved(path: Path) -> str:
    """Which save is at ``path``, after proving that all parts are of the same one."""
    manifest = durable.verify_folder(path)
    text = str(manifest.facts["text"])
    assert (path / "a.bin").read_bytes() == text.encode()
    assert (path / "b.bin").read_bytes() == text.encode() + b" and more"
    return text


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def failing(nth: int, error: int) -> Iterator[None]:
    """Make the nth system call of the writing kind fail; raise LookupError if there were not so many."""
    seen = 0

    def fail_at(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **kwargs: object) -> object:
            nonlocal seen
            seen += 1
            if seen == nth + 1:
                raise OSError(error, os.strerror(error))
            return call(*args, **kwargs)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, fail_at(getattr(os, name)))
        yield
    if seen <= nth:
        raise LookupError


# --- JSON ---


@given(JSON)
def test_json_returns_equal_and_has_one_spelling(value: object) -> None:
    text = durable.to_json(value)
    assert durable.from_json(text, "x") == value
    assert durable.to_json(durable.from_json(text, "x")) == text


@pytest.mark.parametrize(
    "text",
    [b'{"a":1,"a":1}', b"[NaN]", b"-Infinity", b"1e999", b"{", b"\xff", b"[" * 40 + b"]" * 40, b"[" * 10**5],
)
def test_json_refuses_what_has_two_meanings(text: bytes) -> None:
    with pytest.raises(durable.Damaged, match=r"state\.json"):
        durable.from_json(text, "state.json")


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, {"a": {2: 3}}, b"bytes", Path("x")])
def test_json_writes_nothing_that_would_not_come_back(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        durable.to_json(value)


# --- one file ---


def test_a_file_is_replaced_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "x.bin"
    for data in (b"", b"first", b"second " * 100_000):
        durable.write_file(path, data)
        assert path.read_bytes() == data
    assert names(path.parent) == {"x.bin"}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_file_survives_a_fault_at_every_call(tmp_path: Path, error: int) -> None:
    path = tmp_path / "x.bin"
    results = []
    for nth in range(100):
        durable.write_file(path, b"old")
        try:
            with failing(nth, error):
                durable.write_file(path, b"new")
        except CouldNotSave as failure:
            assert str(path) in str(failure) and os.strerror(error) in str(failure)
        except LookupError:
            break
        results.append(path.read_bytes())
        assert names(tmp_path) == {"x.bin"}
    assert set(results) == {b"old", b"new"}  # new: when only the last sync of the folder failed


def test_a_full_disk_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 64 * 2**20 + 1100
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, free))  # type: ignore[attr-defined]
    durable.require_space(tmp_path, 1000)
    for save_it in (
        lambda: durable.require_space(tmp_path, 1001),
        lambda: durable.write_file(tmp_path / "x", bytes(1001)),
        lambda: save(tmp_path / "folder", "x" * 1001),
    ):
        with pytest.raises(CouldNotSave, match="free some space"):
            save_it()
    assert names(tmp_path) == set()


def test_a_place_that_cannot_hold_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "x.bin", tmp_path):
        with pytest.raises(CouldNotSave, match="Could not save"):
            durable.write_file(path, b"data")
    assert names(tmp_path) == {"file"}


# --- lines ---


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run" / "events.jsonl"
    assert durable.read_lines(path) == []
    records = [{"images_seen": i, "loss": 1 / (i + 1), "text": "two\nlines ü"} for i in range(5)]
    for record in records:
        durable.append_line(path, record)
    assert durable.read_lines(path) == records
    assert path.read_bytes().count(b"\n") == 5


def test_a_line_torn_anywhere_is_absent_and_the_next_starts_fresh(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    durable.append_line(path, {"i": 0, "long": "x" * 70_000})
    first = path.stat().st_size
    durable.append_line(path, {"i": 1})
    whole = path.read_bytes()
    for length in range(first, len(whole)):
        path.write_bytes(whole[:length])
        assert [line["i"] for line in durable.read_lines(path)] == [0]
        durable.append_line(path, {"i": 2})
        assert [line["i"] for line in durable.read_lines(path)] == [0, 2]


def test_a_long_torn_line_is_cut_off_too(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"i":0}\n{"torn":"' + b"x" * 200_000)
    durable.append_line(path, {"i": 1})
    assert durable.read_lines(path) == [{"i": 0}, {"i": 1}]
    path.write_bytes(b"y" * 200_000)
    durable.append_line(path, {"i": 2})
    assert durable.read_lines(path) == [{"i": 2}]


@pytest.mark.parametrize("text", [b'{"i":0}\n{"i"\n{"i":2}\n', b"[1]\n", b'{"i":0}\n\n{"i":2}\n'])
def test_a_bad_line_before_the_last_is_damage(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(text)
    with pytest.raises(durable.Damaged, match=r"events\.jsonl line"):
        durable.read_lines(path)


def test_a_line_is_whole_or_absent_when_the_disk_fills_inside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "events.jsonl"
    durable.append_line(path, {"i": 0})
    true_write = os.write
    rooms = [3, 0]

    def small(descriptor: int, data: memoryview) -> int:
        room = rooms.pop(0)
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return true_write(descriptor, data[:room])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", small)
        with pytest.raises(CouldNotSave, match=r"events\.jsonl"):
            durable.append_line(path, {"i": 1})
    assert path.read_bytes() == b'{"i":0}\n'


# --- folders ---


def test_a_folder_comes_back_with_its_facts(tmp_path: Path) -> None:
    facts: dict[str, object] = {"step": 3}
    with durable.new_folder(tmp_path / "a" / "set", facts) as folder:
        with folder.stream("big") as writer:
            assert sum(writer.write(bytes([i]) * 1000) for i in range(10)) == 10_000
        folder.write("empty", b"")
        facts["count"] = 10
        assert not (tmp_path / "a" / "set").exists()
    manifest = durable.verify_folder(tmp_path / "a" / "set")
    assert manifest == durable.read_manifest(tmp_path / "a" / "set")
    assert manifest.facts == {"step": 3, "count": 10}
    assert [(f.name, f.size) for f in manifest.files] == [("big", 10_000), ("empty", 0)]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\\b", "c:x", "manifest.json", "twice"])
def test_only_new_plain_names_go_into_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="plain"), durable.new_folder(tmp_path / "set", {}) as folder:
        folder.write("twice", b"")
        folder.write(name, b"")
    assert names(tmp_path) == set()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_exception_inside_leaves_the_old_folder_and_no_trace(tmp_path: Path, error: type[BaseException]) -> None:
    save(tmp_path / "set", "old")
    with pytest.raises(error), durable.new_folder(tmp_path / "set", {}) as folder:
        folder.write("a.bin", b"new")
        raise error
    assert saved(tmp_path / "set") == "old"
    assert names(tmp_path) == {"set"}


def test_every_changed_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "set"
    save(path, "some bytes")
    assert {file.name for file in path.iterdir()} == {"a.bin", "b.bin", "manifest.json"}
    for file in path.iterdir():
        whole = file.read_bytes()
        for bit in range(8 * len(whole)):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            with pytest.raises(durable.Damaged, match=file.name):
                durable.verify_folder(path)
        file.write_bytes(whole)
    assert saved(path) == "some bytes"


@pytest.mark.parametrize("name", ["a.bin", "b.bin", "manifest.json"])
def test_every_cut_every_extra_byte_and_a_missing_file_are_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / "set"
    save(path, "some bytes")
    file = path / name
    whole = file.read_bytes()
    for wrong in [whole[:length] for length in range(len(whole))] + [whole + b"\n", whole + b"\0"]:
        file.write_bytes(wrong)
        with pytest.raises(durable.Damaged, match=name) as refusal:
            durable.verify_folder(path)
        # A wrong size is said as such, before a large file is hashed.
        assert name == "manifest.json" or f"{len(wrong)} bytes where {len(whole)}" in str(refusal.value)
    file.unlink()
    with pytest.raises(durable.Damaged, match=name):
        durable.verify_folder(path)


def test_files_swapped_between_saves_are_found(tmp_path: Path) -> None:
    save(tmp_path / "one", "aaaa")
    save(tmp_path / "two", "bbbb")
    shutil.copy(tmp_path / "one" / "a.bin", tmp_path / "two" / "a.bin")
    with pytest.raises(durable.Damaged, match=r"a\.bin is damaged: its content"):
        durable.verify_folder(tmp_path / "two")


def forge(path: Path, **changes: object) -> None:
    """A manifest with a right hash of itself, but other contents."""
    record = durable.from_json((path / "manifest.json").read_bytes(), "manifest")
    assert isinstance(record, dict)
    record = {key: value for key, value in (record | changes).items() if key != "sha256"}
    record["sha256"] = hashlib.sha256(durable.to_json(record)).hexdigest()
    (path / "manifest.json").write_bytes(durable.to_json(record))


def test_a_newer_format_is_refused_plainly(tmp_path: Path) -> None:
    save(tmp_path / "set", "text")
    forge(tmp_path / "set", format=2)
    with pytest.raises(NoCheckpoint, match=r"format 2.*update fromnoise"):
        durable.read_manifest(tmp_path / "set")


def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    durable.write_file(tmp_path / "secret", b"")
    save(tmp_path / "set", "text")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    forge(tmp_path / "set", files=[{"name": "../secret", "size": 0, "sha256": empty}])
    with pytest.raises(durable.Damaged, match=r"\.\./secret"):
        durable.verify_folder(tmp_path / "set")


@pytest.mark.parametrize("replacing", [True, False])
def test_a_folder_survives_a_fault_at_every_call(tmp_path: Path, replacing: bool) -> None:
    outcomes = []
    for nth in range(100):
        parent = tmp_path / str(nth)
        parent.mkdir()
        path = parent / "set"
        if replacing:
            save(path, "old")
        try:
            with failing(nth, errno.EIO):
                save(path, "new")
        except CouldNotSave as failure:
            assert str(path) in str(failure)
        except LookupError:
            break
        outcomes.append(saved(path) if path.exists() else "none")
        durable.remove_leftovers(parent)
        assert names(parent) <= {"set"}
    assert set(outcomes) == {"old" if replacing else "none", "new"}
    assert len(outcomes) > 12


KILLED = """
import os, sys
from pathlib import Path
from fromnoise import durable
left = int(sys.argv[2])
def dying(call):
    def wrapped(*args, **kwargs):
        global left
        if left == 0:
            os._exit(9)
        left -= 1
        return call(*args, **kwargs)
    return wrapped
for name in sys.argv[3].split():
    setattr(os, name, dying(getattr(os, name)))
with durable.new_folder(Path(sys.argv[1]), {"text": "new"}) as folder:
    folder.write("a.bin", b"new")
    with folder.stream("b.bin") as writer:
        writer.write(b"new and more")
"""


def test_a_process_dying_at_any_call_leaves_the_old_or_the_new_folder(tmp_path: Path) -> None:
    outcomes = []
    for nth in range(100):
        path = tmp_path / str(nth) / "set"
        save(path, "old")
        calls = " ".join((*CALLS, "close", "unlink", "rmdir"))
        command = [sys.executable, "-c", KILLED, str(path), str(nth), calls]
        code = subprocess.run(command, check=False).returncode
        durable.remove_leftovers(path.parent)
        outcomes.append(saved(path))
        assert names(path.parent) == {"set"}
        if code == 0:
            break
        assert code == 9
    assert outcomes == sorted(outcomes, reverse=True)  # old up to one instant, new from then on
    assert set(outcomes) == {"old", "new"} and len(outcomes) > 20


def test_leftovers_go_and_all_else_stays(tmp_path: Path) -> None:
    random = "0123456789abcdef"
    save(tmp_path / f"set.tmp-{random}", "half")
    save(tmp_path / f"set.discarded-{random}", "discarded")
    save(tmp_path / f"kept.old-{random}", "old of kept")
    durable.write_file(tmp_path / f"file.tmp-{random}", b"half")
    save(tmp_path / f"back.old-{random}", "old of back")
    save(tmp_path / "kept", "kept")
    durable.write_file(tmp_path / "my.tmp-pictures", b"not ours")
    durable.remove_leftovers(tmp_path)
    durable.remove_leftovers(tmp_path / "absent")
    assert names(tmp_path) == {"kept", "back", "my.tmp-pictures"}
    assert (saved(tmp_path / "kept"), saved(tmp_path / "back")) == ("kept", "old of back")


def test_a_discarded_folder_is_gone(tmp_path: Path) -> None:
    save(tmp_path / "set", "text")
    durable.discard_folder(tmp_path / "set")
    assert names(tmp_path) == set()
    with pytest.raises(CouldNotSave):
        durable.discard_folder(tmp_path / "set")


# --- the lock ---

HOLD = """
import sys
from pathlib import Path
from fromnoise import durable
with durable.writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_locked_out_until_the_first_dies(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(Locked, match="run is being written"), durable.writer_lock(run):
            pass
        holder.kill()
    with durable.writer_lock(run):
        pass


def test_the_lock_holds_within_one_process_and_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with durable.writer_lock(tmp_path), pytest.raises(Locked), durable.writer_lock(tmp_path):
            pass
