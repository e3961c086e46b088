"""What a line of progress says."""

from dataclasses import replace
from pathlib import Path

import pytest

from fromnoise.cli import show
from fromnoise.recipe import training_seconds
from fromnoise.training import TrainStep
from tiny import begin


def step(images_seen: int, seconds: float, total: int = 320) -> TrainStep:
    return TrainStep(images_seen, total, 0.5, (), 1e-3, seconds)


def paced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, minutes: float | None, times: list[float]) -> show._Pace:
    """The pace of a run whose steps of 16 images end at ``times``."""
    session = replace(begin(tmp_path / "run", monkeypatch), minutes=minutes)
    clock = iter([0.0, *times])
    monkeypatch.setattr(show.time, "monotonic", lambda: next(clock))
    pace = show._Pace(session)
    for number in range(1, len(times) + 1):
        pace.take(step(16 * number, times[number - 1]))
    return pace


def test_the_rate_forgets_a_slow_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A first step of 100 s, then 16 images a second for 30 s."""
    pace = paced(monkeypatch, tmp_path, None, [100.0 + second for second in range(31)])
    assert pace.rate() == pytest.approx(16.0)
    assert pace.left(step(160, 0.0)) == pytest.approx(10.0)


def test_time_left_is_what_the_budget_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pace = paced(monkeypatch, tmp_path, 2.0, [1.0, 2.0])
    left = training_seconds(2.0) - 30.0
    assert 80.0 < left < 90.0 and pace.left(step(32, 30.0)) == pytest.approx(left)
    assert "1:25 left" in pace.text(step(32, 30.0)) and "0:00 left" in pace.text(step(320, 119.0))
