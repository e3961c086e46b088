"""Runs small enough for tests: few weights, images of 8 to 16 px, a machine that is not measured."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fromnoise import session
from fromnoise.machine import Machine
from fromnoise.recipe import Pictures, Recipe, auto
from fromnoise.run_folder import Checkpoint, RunFolder
from fromnoise.session import Session, open_session
from fromnoise.training import TrainStep

MACHINE = Machine(2, 2**33, "cpu", "a fixed machine", 1, False, 5.0, 10.0, torch.__version__)
NET = {"width": 16, "multipliers": [1, 2], "blocks": [1, 1], "patch": 2}
FIELDS = {"net": NET, "batch": 16, "dtype": "float32", "sampler": {"steps": 2}, "images_total": 320}


@contextmanager
def one_thread() -> Iterator[None]:
    """For nets this small a second thread costs more than it brings, and much more on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def normals(*shape: int, seed: int = 1) -> Tensor:
    """Standard normal numbers of this shape, the same for a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pictures(**fields: Any) -> Pictures:
    """Pictures of a set that nobody opens: 40 of 8x8x3 in two classes."""
    given = {
        "source": "a set",
        "identity": "0" * 64,
        "height": 8,
        "width": 8,
        "channels": 3,
        "classes": ("cat", "dog"),
        "train_count": 36,
        "heldout_count": 4,
        "sigma_data": 0.5,
    }
    return Pictures.model_validate(given | fields)


def recipe(shown: Pictures | None = None, minutes: float | None = None, **fields: Any) -> Recipe:
    """A tiny recipe; ``fields`` replace its own by name."""
    return auto(shown or pictures(), MACHINE, minutes, **FIELDS | fields)


def begin(run: Path, monkeypatch: pytest.MonkeyPatch, source: Any = "menagerie:40", **options: Any) -> Session:
    """A session on ``run`` without measuring the machine: 40 images of 8x8x3 in four classes."""
    monkeypatch.setattr(session, "probe", lambda device, threads: MACHINE)
    overrides = FIELDS | options.pop("overrides", {})
    return open_session(source, run=run, overrides=overrides, **{"size": (8, 8)} | options)


def steps(of: Session, count: int | None = None) -> list[TrainStep]:
    """Train to the end, or for ``count`` steps and then stop listening without a save."""
    iterator = of.fit()
    taken = [step for _, step in zip(range(count or 10**9), iterator, strict=False)]
    close(iterator)
    return taken


def close(iterator: Iterator[TrainStep]) -> None:
    """End a loop as a consumer does that stops listening."""
    iterator.close()  # type: ignore[attr-defined]


def newest(run: Path) -> Checkpoint:
    """The newest checkpoint of a run."""
    folder = RunFolder(run)
    return folder.load(folder.newest())


def equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Same names, types and bits."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


def require_equal(left: Checkpoint, right: Checkpoint) -> None:
    """Bit for bit the same state of training."""
    assert left.images_seen == right.images_seen
    assert (left.earlier is None) == (right.earlier is None) and equal(left.earlier or {}, right.earlier or {})
    for part in ("weights", "ema", "optimizer"):
        assert len(getattr(left, part)) > 10
        assert equal(getattr(left, part), getattr(right, part)), part


def awake(net: nn.Module, seed: int = 0) -> nn.Module:
    """The net with every weight drawn anew, also those that start at zero."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            fan = max(1, weight[0].numel()) if weight.ndim > 1 else 4
            weight.copy_(torch.randn(weight.shape, generator=draw) / fan**0.5)
    return net.eval()
