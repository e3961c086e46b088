"""What the race keeps: states of training, weights and samples in its work folders, and finished lines in docs.

Tensors and their facts are one file each, written whole or not at all: safetensors with the facts as JSON inside.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from fromnoise.durable import append_line, read_lines, write_file
from fromnoise.machine import probe

ROOT = Path(__file__).resolve().parents[1]
LINES = ROOT / "docs" / "race.jsonl"


def save(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write both as one file."""
    write_file(path, safetensors.torch.save(dict(tensors), {"facts": json.dumps(facts)}))


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save`` wrote."""
    with safe_open(path, "pt") as stored:
        return {name: stored.get_tensor(name) for name in stored.keys()}, facts_of(path)  # noqa: SIM118


def facts_of(path: Path) -> dict[str, Any]:
    """The facts alone."""
    with safe_open(path, "pt") as stored:
        return json.loads(stored.metadata()["facts"])


def lines() -> list[dict[str, Any]]:
    """The finished lines; of work that was done again the last one alone."""
    found = {key_of(line): line for line in read_lines(LINES)}
    return list(found.values())


def key_of(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a line is about."""
    return line["track"], line["entrant"], line["minutes"]


def finished(track: str, entrant: str, minutes: float) -> bool:
    """Whether there is a line of this."""
    return (track, entrant, minutes) in {key_of(line) for line in lines()}


def add_line(line: Mapping[str, Any]) -> None:
    """Keep a finished line."""
    append_line(LINES, {**line, "date": datetime.now(UTC).strftime("%Y-%m-%d")})


def where() -> dict[str, Any]:
    """The commit, with a + where files differ from it, and the machine, measured now."""
    differs = "+" if _git("status", "--porcelain", "src", "benchmarks") else ""
    commit = _git("rev-parse", "--short=10", "HEAD") + differs
    return {"commit": commit, "machine": asdict(probe()), "python": sys.version.split()[0], "torch": torch.__version__}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
