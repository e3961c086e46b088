"""The same code on every accelerator torch finds here; skipped where there is none."""

from pathlib import Path

import numpy as np
import pytest

from fromnoise import load
from fromnoise.machine import devices
from fromnoise.session import open_session

ACCELERATORS = [device for device in devices() if device in ("cuda", "mps")]
pytestmark = pytest.mark.skipif(not ACCELERATORS, reason="torch finds no accelerator on this machine")

FIELDS = {"images_total": 512, "batch": 64, "dtype": "float32", "warmup_images": 0}


@pytest.fixture(params=ACCELERATORS)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def losses(run: Path, device: str, stop_after: int = 10**9, **fields: object) -> list[float]:
    session, found = open_session("menagerie:400", size=(16, 16), run=run, device=device, overrides=FIELDS | fields), []
    for step in session.fit():
        found.append(step.loss)
        if step.saved and step.images_seen >= stop_after:
            break
    return found


def test_training_learns_and_agrees_with_the_processor_on_the_first_losses(device: str, tmp_path: Path) -> None:
    """The noise is drawn on the device, so the losses agree as those of two draws do, and no closer."""
    there, here = losses(tmp_path / "there", device), losses(tmp_path / "here", "cpu")
    assert len(there) == len(here) == 8 and all(np.isfinite(there))
    assert there[0] == pytest.approx(here[0], rel=0.1) and there[-1] < there[0]


def test_a_run_goes_on_where_it_stopped(device: str, tmp_path: Path) -> None:
    whole = losses(tmp_path / "whole", device)
    first = losses(tmp_path / "parts", device, stop_after=256)
    rest = losses(tmp_path / "parts", device)
    assert first + rest == pytest.approx(whole, rel=1e-3)


def test_the_same_model_makes_the_same_images_there_and_here(device: str, tmp_path: Path) -> None:
    """One level of 255 of rounding, and no more in all but a few values."""
    losses(tmp_path / "run", "cpu")
    here, there = (load(tmp_path / "run", device=where).sample(8).images for where in ("cpu", device))
    assert here.std() > 10
    assert np.percentile(np.abs(here.astype(int) - there.astype(int)), 99.5) <= 1


def test_bfloat16_learns_like_float32(device: str, tmp_path: Path) -> None:
    one, other = (losses(tmp_path / dtype, device, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert one == pytest.approx(other, rel=0.05) and one[-1] < 0.95 * one[0]
