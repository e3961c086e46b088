"""Every command of the README works, in its order, in an empty folder, with the minutes shortened."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fromnoise.images import encode_png
from fromnoise.menagerie import Menagerie

ROOT = Path(__file__).resolve().parent.parent
SHORT = "0.05"  # minutes
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # threads that wait for a busy core crawl
EXCEPTED = ("make", "pip", "git", "cd", "source")  # they install, clone or move
MODULES = ("-m venv", "-m pip", "-m pytest")
TRAINS = (("fromnoise", "train"), ("fromnoise", "demo"))


def commands(text: str) -> list[list[str]]:
    """The words of each command in the ```sh blocks, comments and prompts taken away, lines joined at backslashes."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words:
                words[0] = words[0].removeprefix(".venv/bin/")
                found.append(words)
    return found


def excepted(words: list[str]) -> bool:
    """Whether the test leaves a command out."""
    return words[0] in EXCEPTED or any(module in " ".join(words) for module in MODULES)


def shortened(words: list[str]) -> list[str]:
    """The same command with at most a few seconds of training."""
    out = list(words)
    if "--minutes" in out:
        out[out.index("--minutes") + 1] = SHORT
    elif tuple(out[:2]) in TRAINS and "--images-seen" not in out:
        out += ["--minutes", SHORT]
    return out


def started(words: list[str]) -> list[str]:
    """As words that start a process, whatever is on the path."""
    if words[0] == "fromnoise":
        return [sys.executable, "-m", "fromnoise", *words[1:]]
    if words[0] in ("python", "python3"):
        return [sys.executable, *words[1:]]
    return words


def pictures(folder: Path) -> None:
    """60 PNGs, as a user might have."""
    folder.mkdir()
    for number, image in enumerate(Menagerie(60, seed=1).render(np.arange(60), 24, 24)):
        (folder / f"picture {number}.png").write_bytes(encode_png(image))


def test_the_commands_of_the_readme_work(tmp_path: Path) -> None:
    wanted = [words for words in commands((ROOT / "README.md").read_text()) if not excepted(words)]
    assert wanted, "the README shows no command that can be run"
    assert any(words[0] == "fromnoise" for words in wanted)
    pictures(tmp_path / "pictures")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for words in wanted:
        done = subprocess.run(
            started(shortened(words)), cwd=tmp_path, capture_output=True, text=True, env=os.environ | ALONE, check=False
        )
        assert done.returncode == 0, f"`{shlex.join(words)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fromnoise train pictures --minutes 20  # while you wait", "fromnoise train pictures --minutes 0.05"),
        ("$ .venv/bin/fromnoise demo", "fromnoise demo --minutes 0.05"),
        ("fromnoise train menagerie \\\n  --images-seen 64", "fromnoise train menagerie --images-seen 64"),
        ("fromnoise sample runs/pictures -n 4", "fromnoise sample runs/pictures -n 4"),
    ],
)
def test_commands_are_found_and_shortened(line: str, words: str) -> None:
    (found,) = commands(f"text\n\n```sh\n\n# a comment\n{line}\n```\n\n```python\nimport this\n```\n")
    assert shortened(found) == words.split() and not excepted(found)


def test_what_installs_moves_or_tests_is_left_out() -> None:
    lines = ["make demo", "python3 -m venv .venv", ".venv/bin/python -m pip install .", "pip install x"]
    lines += ["git clone x", "cd x", "python -m pytest"]
    found = commands("```sh\n{}\n```\n".format("\n".join(lines)))
    assert len(found) == 7 and all(excepted(words) for words in found)
