"""What a user waits for: seconds to the first training step and to the first sheet, the longest silence, memory.

    python benchmarks/waiting.py [PICTURES ...] [--seconds 40]
    python benchmarks/waiting.py --million FOLDER

The real command, on a terminal of its own (a pty), is watched for so many seconds and then stopped with Ctrl-C; twice
for each set, with an empty cache and with the pictures packed. A silence is a time in which nothing is shown that was
not before, the running clock aside. Without sets: clothes, menagerie and flowers of ``FROMNOISE_DATA``. ``--million``
opens a packed set of a million images of 32x32x3 instead, in processes of their own (twice 3 GB are kept in FOLDER).
JSON lines go to benchmarks/results/waiting.jsonl. Run it alone on the machine.
"""

import argparse
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("FROMNOISE_DATA", ROOT.parent / "shared" / "data"))
SETS = (str(DATA / "fashion_mnist.npz"), "menagerie", str(DATA / "flowers64.zip"))
RESULTS = Path(__file__).parent / "results" / "waiting.jsonl"
CLOCK = re.compile(r"\d+:\d\d:\d\d")  # of the bar, which runs on while nothing else does
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
OPEN = """
import json, sys, time
began = time.perf_counter()
from fromnoise.images import open_images
imported = time.perf_counter()
images = open_images(sys.argv[1])
opened = time.perf_counter()
images.values[images.train[:64]]
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
row = {"images": len(images), "import": imported - began, "open": opened - imported, "peak_mib": peak}
print(json.dumps(row | {"first_batch": time.perf_counter() - opened}))
"""


@dataclass
class Watched:
    """What a terminal showed and how much memory the command held, in seconds since it was started."""

    shown: list[tuple[float, str]] = field(default_factory=list)  # each text when it was first shown
    memory: list[tuple[float, int]] = field(default_factory=list)  # MiB of its own: mapped pictures are the system's
    peak: int = 0  # MiB

    def first(self, text: str) -> float | None:
        """When ``text`` was first shown."""
        return next((round(when, 2) for when, line in self.shown if text in line), None)

    def silence(self) -> tuple[float, str]:
        """The longest time without a change, and what was shown then."""
        times = [0.0, *(when for when, _ in self.shown)]
        gaps = zip(times, times[1:], ["nothing", *(text for _, text in self.shown)], strict=False)
        longest, text = max((b - a, text) for a, b, text in gaps)
        return round(longest, 2), text

    def held(self, when: float) -> int:
        """MiB at about a time."""
        return min(self.memory, key=lambda each: abs(each[0] - when))[1]


def watch(words: list[str], cache: Path, seconds: float) -> Watched:
    """Run fromnoise on a pty of its own for so many seconds, then stop it with Ctrl-C."""
    control, terminal = pty.openpty()
    environment = os.environ | {"FROMNOISE_CACHE": str(cache), "TERM": "xterm-256color", "COLUMNS": "110"}
    began, found, before = time.monotonic(), Watched(), {""}
    process = subprocess.Popen(
        [sys.executable, "-m", "fromnoise", *words], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    stopped = False
    for text in _texts(control):
        now = time.monotonic() - began
        if text not in before:
            before.add(text)
            found.shown.append((now, text))
        if not found.memory or now - found.memory[-1][0] > 0.5:
            found.memory.append((now, _status(process.pid, "RssAnon")))
            found.peak = _status(process.pid, "VmHWM") or found.peak
        if now > seconds and not stopped:
            process.send_signal(signal.SIGINT)
            stopped = True
    process.wait()
    os.close(control)
    return found


def _texts(control: int) -> Iterator[str]:
    """The texts between the controls of a terminal as they arrive, "" where none did for a while, to the end."""
    while True:
        if not select.select([control], [], [], 0.1)[0]:
            yield ""
            continue
        try:
            data = os.read(control, 2**16)
        except OSError:  # Linux's way to say that the other side is closed
            return
        for text in re.split(r"[\r\n]+", CONTROLS.sub("\n", data.decode(errors="replace"))):
            yield CLOCK.sub("", text).strip()


def _status(process: int, name: str) -> int:
    """A line of /proc/PID/status in MiB; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith(name)), 0)


def of_command(pictures: str, run: Path, cache: Path, seconds: float) -> dict[str, object]:
    """One row: the command as a user gives it."""
    found = watch(["train", pictures, "--run", str(run), "--minutes", "10"], cache, seconds)
    step, sheet = found.first("images/s"), found.first("sheets/")
    silence, meanwhile = found.silence()
    last = max(when for when, _ in found.memory[:-2])
    return {
        "first_text": round(found.shown[0][0], 2),
        "first_step": step,
        "first_sheet": sheet,
        "longest_silence": silence,
        "shown_meanwhile": meanwhile[:80],
        "memory_after_first_sheet_mib": found.held((sheet or last) + 2.0),
        "memory_at_end_mib": found.held(min(last, seconds)),
        "peak_mib": found.peak,
    }


def million(work: Path) -> dict[str, object]:
    """A million images of 32x32x3: made, packed, and opened again by a process of its own."""
    source = work / "million.npy"
    if not source.exists():
        values = np.lib.format.open_memmap(source, "w+", np.uint8, (1_000_000, 32, 32, 3))
        for start in range(0, len(values), 50_000):
            values[start : start + 50_000] = np.random.default_rng(start).integers(
                0, 256, (50_000, 32, 32, 3), np.uint8
            )
        values.flush()
    words = [sys.executable, "-c", OPEN, str(source)]
    environment = os.environ | {"FROMNOISE_CACHE": str(work / "cache")}
    rows = [json.loads(subprocess.run(words, env=environment, check=True, capture_output=True).stdout) for _ in "12"]
    return {"first": rows[0], "again": rows[1]}


def main() -> None:
    """Print and append a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", nargs="*", default=SETS)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--million", type=Path, metavar="FOLDER", help="Where to keep the set of a million.")
    given = parser.parse_args()
    if given.million:
        given.million.mkdir(parents=True, exist_ok=True)
        keep({"million": million(given.million)})
        return
    for pictures in given.pictures:
        with tempfile.TemporaryDirectory() as work:
            for cached in (False, True):
                row = of_command(pictures, Path(work, f"run-{cached}"), Path(work, "cache"), given.seconds)
                keep({"pictures": Path(pictures).name, "packed_before": cached, **row})


def keep(row: dict[str, object]) -> None:
    """Print it and append it."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as lines:
        lines.write(json.dumps(row) + "\n")
    print(json.dumps(row, indent=1), flush=True)


if __name__ == "__main__":
    main()
