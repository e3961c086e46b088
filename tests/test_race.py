"""The race of benchmarks/: what is set aside, a rival's training in slices, and lines that are not repeated."""

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_blocks import AttnDownBlock2D

from fromnoise.errors import UseError
from fromnoise.evaluate.nearest import nearest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import race_files
import race_scores
import race_tracks
from race_files import add_line, finished, lines
from race_report import above, page, report
from race_rivals import Rival, Settings, build, classes_of, samples
from race_scores import blocks, median, nearness, rows
from race_tracks import TRACKS, N, Part, Track, divided, set_aside
from race_units import resume, train_to, weights_at

WIDTHS = (32, 32)


def pictures(n: int, channels: int = 1) -> Part:
    """Noise, each image another."""
    source = np.random.default_rng(0)
    return Part(source.integers(0, 256, (n, 8, 8, channels), np.uint8), source.integers(0, 2, n), ("a", "b"))


def counted() -> itertools.count:
    """A clock on which every look takes a second."""
    return itertools.count(0.0)


def test_a_fifth_is_set_aside_by_pixels_alone() -> None:
    images = pictures(4000).images
    aside = set_aside(images)
    assert abs(aside.mean() - 0.2) < 4 * (0.2 * 0.8 / 4000) ** 0.5
    order = np.random.default_rng(1).permutation(4000)
    assert np.array_equal(set_aside(images[order]), aside[order])
    assert np.array_equal(set_aside(np.concatenate([images[:50], images])), np.concatenate([aside[:50], aside]))


def test_the_parts_share_no_image_and_keep_labels() -> None:
    whole = pictures(300)
    train, test = divided(Part(np.concatenate([whole.images] * 2), np.tile(whole.labels, 2), whole.classes))
    ours, theirs = ({image.tobytes() for image in part.images} for part in (train, test))
    assert ours and theirs and not ours & theirs
    label_of = {image.tobytes(): label for image, label in zip(whole.images, whole.labels, strict=True)}
    for part in (train, test):
        assert [label_of[image.tobytes()] for image in part.images] == part.labels.tolist()


@pytest.mark.parametrize("tuned", [False, True])
def test_slices_are_one_training(tuned: bool, tmp_path: Path) -> None:
    part, settings = pictures(24, 4), Settings(8, 1e-3, tuned)
    whole = Rival(settings, part, WIDTHS)
    assert whole.train(4.0, 1e9, counted().__next__)
    for ends in (2.0, 1e9):
        rival = Rival(settings, part, WIDTHS)
        resume(rival, tmp_path, 0.0)
        done = train_to(rival, tmp_path, 4 / 60, ends, counted().__next__)
        assert done == (ends > 4.0) == weights_at(tmp_path, 4 / 60).is_file()
    assert rival.steps == whole.steps == 4 and rival.seconds == whole.seconds == 4.0
    for name, value in whole.state().items():
        assert torch.equal(rival.state()[name], value), name
    assert rival.images_seen == 32


def test_the_first_start_counts_and_later_ones_do_not(tmp_path: Path) -> None:
    part, settings = pictures(20), Settings(8, 1e-3, False)
    rival = Rival(settings, part, WIDTHS)
    resume(rival, tmp_path, 5.0)
    assert not train_to(rival, tmp_path, 1.0, 2.0, counted().__next__)
    assert rival.seconds == 7.0
    resume(rival, tmp_path, 5.0)
    assert rival.seconds == 7.0


def test_an_epoch_shows_every_image_once_and_tells_its_label() -> None:
    rival = Rival(Settings(8, 1e-3, True), pictures(40), WIDTHS)
    epochs = [torch.cat([rival.rows(step) for step in range(5 * k, 5 * k + 5)]) for k in range(2)]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(40))
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("tuned", [False, True])
def test_samples_are_images_of_the_set_and_the_same_again(tuned: bool) -> None:
    part, settings = pictures(20, 4), Settings(8, 1e-3, tuned)
    net = Rival(settings, part, WIDTHS).net
    first, again = (samples(net, settings, part, 4, 2) for _ in range(2))
    assert first.shape == (2, 8, 8, 4) and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, samples(net, settings, part, 6, 2))


def test_a_finished_line_is_known_and_the_last_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race_files, "LINES", tmp_path / "race.jsonl")
    work = {"track": "clothes", "entrant": "diffusers", "minutes": 3.0}
    assert not finished(**work)
    add_line({**work, "seconds": 181})
    assert finished(**work) and not finished(**work | {"minutes": 10})
    add_line({**work, "minutes": 10.0, "seconds": 600})
    add_line({**work, "seconds": 180})
    assert [line["seconds"] for line in lines()] == [180, 600]


def test_other_settings_do_not_go_on(tmp_path: Path) -> None:
    part = pictures(20)
    train_to(Rival(Settings(8, 1e-3, False), part, WIDTHS), tmp_path, 1.0, -1.0, counted().__next__)
    with pytest.raises(UseError, match="batch"):
        resume(Rival(Settings(4, 1e-3, False), part, WIDTHS), tmp_path, 0.0)


def test_a_rival_passes_every_budget() -> None:
    for name, track in TRACKS.items():
        assert track.name == name and track.of_rivals[-1] == track.longest
        assert set(track.budgets) <= set(track.of_rivals)


def test_the_floor_is_that_of_the_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track, classifier = Track("noise", lambda: divided(pictures(1500)), 1, classified=True), "one"
    monkeypatch.setattr(race_tracks, "WORK", tmp_path)
    monkeypatch.setattr(race_scores, "classifier", lambda track: (None, {"sha256": classifier}))
    made = iter(range(1, 9))
    monkeypatch.setattr(
        race_scores,
        "all_features",
        lambda track, part: {
            name: np.random.default_rng(next(made)).normal(size=(500, 4)).astype(np.float32)
            for name in ("lite0", "classifier")
        },
    )
    track.prepare()
    (seen, first), (again, same) = race_scores.floor(track), race_scores.floor(track)
    assert same == first and np.array_equal(seen["lite0"], again["lite0"])
    classifier = "another"
    assert race_scores.floor(track)[1] != first


def test_samples_have_classes_as_often_as_training_images() -> None:
    labels = np.repeat([0, 1], [300, 900])
    told = classes_of(Part(np.zeros((1200, 1, 1, 1), np.uint8), labels, ("a", "b")), 0, N)
    assert np.array_equal(np.bincount(told), [256, 768])


def test_only_the_tuned_net_leaves_attention_out_where_a_side_is_above_16() -> None:
    part = Part(np.zeros((2, 64, 48, 3), np.uint8), np.zeros(2, np.int64), ("a",))
    nets = [build(Settings(8, 1e-3, tuned), part, (32, 32, 32)) for tuned in (False, True)]
    attended = [[isinstance(block, AttnDownBlock2D) for block in net.down_blocks] for net in nets]
    assert attended == [[False, True, True], [False, False, True]]


def test_a_report_of_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race_files, "LINES", tmp_path / "race.jsonl")
    with pytest.raises(UseError, match="Nothing was raced"):
        report(tmp_path)


def test_copies_are_at_distance_zero_and_new_images_are_not() -> None:
    train, test = divided(pictures(300))
    heldout = nearest(rows(test), blocks(train))[0] / 2
    copied = nearness(train.images[:60], train, test, heldout)
    assert copied["samples"]["median"] == {"value": 0.0, "error": 0.0}
    assert copied["copies"]["within"]["value"] == 1.0 and copied["copies"]["heldout_first"]["value"] == 0.0
    fresh = nearness(test.images, train, test, heldout)
    assert fresh["samples"] == fresh["heldout"] and fresh["copies"]["heldout_first"]["value"] == 1.0


def test_the_error_of_a_median_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 40_000)
    found = median(values)
    assert found.error == pytest.approx(2.0 * np.sqrt(np.pi / 2 / 40_000), rel=0.3)
    assert abs(found.value - 3.0) < 4 * found.error


def a_line(entrant: str, minutes: float, kid: float) -> dict[str, Any]:
    """What a report needs, with a floor of 1 +- 0.3 everywhere."""
    floor, machine = {"value": 1.0, "error": 0.3}, {"cores": 2, "device": "cpu", "matrix_gflops_float32": 1.0}
    scored = {name: {"value": kid, "error": 0.4} for name in ("kid", "frechet")}
    scored |= {f"{name}_floor": floor for name in ("kid", "frechet")}
    done = {"seconds": 60.0, "images_seen": 640, "sampler": "a sampler", "sampling_images_per_second": 5.0}
    near = {"samples": {"median": floor}, "heldout": {"median": floor}}
    facts = {"track": "tiles", "entrant": entrant, "minutes": minutes, "commit": "c", "torch": "t", "machine": machine}
    return {**facts, **done, **scored, "nearest": near, "scored_on": 100}


def test_a_report_subtracts_the_floor_and_compares_at_equal_minutes() -> None:
    found = [a_line("diffusers", 3.0, 9.0), a_line("fromnoise", 3.0, 3.0), a_line("fromnoise", 1.0, 5.0)]
    assert above(found[0], "kid") == {"value": 8.0, "error": pytest.approx(0.5)}
    rows_of = [line for line in page(found).splitlines() if line.startswith(("| fromnoise", "| diffusers"))]
    assert [row.split(" | ")[1] for row in rows_of] == ["1", "3", "3"]
    assert "2.00 ± 0.50 | 2.00 ± 0.50 | 0.250" in rows_of[1] and "8.00 ± 0.50 | 8.00 ± 0.50 | 1.000" in rows_of[2]
    assert "| 4.00 ± 0.50 | 4.00 ± 0.50 |  |" in rows_of[0]
