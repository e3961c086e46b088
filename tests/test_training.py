"""Training: every step is a pure function of its position, and a run that stops goes on bit for bit."""

import math
import shutil
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fromnoise import keyed
from fromnoise.batches import training_indices, training_pair
from fromnoise.errors import NonFinite
from fromnoise.images import ImageSet, open_images
from fromnoise.noise import SCHEDULES
from fromnoise.recipe import STRATA, Pictures, Recipe
from fromnoise.run_folder import PARTS, Checkpoint, Revision, RunFolder
from fromnoise.trainer import Outcome, Trainer
from fromnoise.training import (
    TrainStep,
    fit,
    make_sheet,
    probe_loss,
)
from tiny import close, equal, newest, one_thread, recipe, require_equal

TOTAL = 320  # 20 steps of 16
EDM = SCHEDULES["edm"]()


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """84 of 8x8x3 in four classes; the batch does not divide those trained on, and enough are held out to probe."""
    drawn = open_images("menagerie:84", size=(8, 8))
    assert len(drawn.train) % 16 and len(drawn.heldout) >= STRATA
    return drawn


def recipe_of(images: ImageSet, minutes: float | None = None, **fields: object) -> Recipe:
    return recipe(Pictures.of("drawn", images), minutes, **fields)


class Clock:
    """About ``each`` seconds a step: half of them pass when somebody looks, which happens at least once a step."""

    def __init__(self, each: float) -> None:
        self.each, self.now = each, 0.0

    def __call__(self) -> float:
        self.now += 0.5 * self.each
        return self.now

    def tick(self) -> None:
        self.now += 0.5 * self.each


def run(
    path: Path,
    images: ImageSet,
    made: Recipe,
    *,
    stop_after: int | None = None,
    leave_after: int | None = None,
    clock: Clock | None = None,
) -> list[TrainStep]:
    """Begin or go on; stop with a save, or stop listening, after so many steps."""
    folder, stop, taken, clock = RunFolder(path), threading.Event(), list[TrainStep](), clock or Clock(0.01)
    if stop_after == 1:
        stop.set()
    if not folder.exists:
        folder.create(made, images.spec)
    with folder.writing():
        iterator = fit(made, images, folder, stop=stop, elapsed=clock)
        for step in iterator:
            taken.append(step)
            clock.tick()
            if len(taken) == leave_after:
                close(iterator)
            if stop_after is not None and len(taken) == stop_after - 1:
                stop.set()
    return taken


def losses(steps: list[TrainStep]) -> list[tuple[int, float, float]]:
    return [(step.images_seen, step.loss, step.learning_rate) for step in steps]


@pytest.fixture(scope="module")
def uninterrupted(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrainStep]]:
    path = tmp_path_factory.mktemp("runs") / "whole"
    return path, run(path, images, recipe_of(images))


# --- the loop ---


def test_steps_count_images_to_the_end_of_the_plan(uninterrupted: tuple[Path, list[TrainStep]]) -> None:
    _, steps = uninterrupted
    assert [step.images_seen for step in steps] == list(range(16, TOTAL + 1, 16))
    assert all(step.images_total == TOTAL and not step.revised for step in steps)
    for step in steps:
        assert len(step.loss_by_noise) == STRATA
        assert step.loss == pytest.approx(sum(step.loss_by_noise) / STRATA, rel=1e-5)
    assert steps[-1].saved and steps[-1].sheet and steps[-1].probe
    assert steps[-1].sheet.is_file() and len(steps[-1].probe.train) == len(steps[-1].probe.heldout) == STRATA
    assert [step.sheet is None for step in steps] == [step.probe is None for step in steps]


def test_the_loss_falls_on_a_small_set(images: ImageSet, tmp_path: Path) -> None:
    """A fresh net answers zero, which in the edm row costs 1 on average; after 100 steps of 16 far less is left."""
    steps = run(tmp_path / "run", images, recipe_of(images, images_total=1600, warmup_images=160))
    losses_seen = [step.loss for step in steps]
    assert 0.5 < losses_seen[0] < 2
    assert np.mean(losses_seen[-20:]) < 0.6 * losses_seen[0]
    probes = [step.probe for step in steps if step.probe]
    assert np.mean(probes[-1].train) < 0.6 * losses_seen[0] and np.mean(probes[-1].train) < np.mean(probes[0].train)


def test_sheets_and_probes_change_nothing(images: ImageSet, tmp_path: Path) -> None:
    made = recipe_of(images)
    quiet, watched = (Trainer(made, images, "cpu") for _ in range(2))
    for _ in range(3):
        quiet.update(TOTAL)
        watched.update(TOTAL)
    random = torch.get_rng_state()
    before = frozen(watched.state(0.0))
    first = probe_loss(watched)
    make_sheet(watched, RunFolder(tmp_path))
    assert probe_loss(watched) == first
    require_equal(before, watched.state(0.0))
    assert torch.equal(random, torch.get_rng_state())
    quiet.update(TOTAL)
    watched.update(TOTAL)
    require_equal(quiet.state(0.0), watched.state(0.0))


def frozen(state: Checkpoint) -> Checkpoint:
    """A copy that training does not reach."""
    parts = {
        part: {name: value.detach().clone() for name, value in tensors.items()}
        for part in PARTS
        if (tensors := getattr(state, part)) is not None
    }
    return Checkpoint(state.images_seen, state.seconds, **parts)


def test_the_average_is_set_aside_when_a_quarter_of_the_plan_is_over(images: ImageSet) -> None:
    trainer, aside = Trainer(recipe_of(images), images, "cpu"), list[Checkpoint]()
    for _ in range(TOTAL // 16):
        trainer.update(TOTAL)
        state = frozen(trainer.state(0.0))
        assert (state.earlier is None) == (state.images_seen < TOTAL / 4)
        aside += [state] if state.earlier else []
    assert all(equal(each.earlier, aside[0].ema) for each in aside)
    assert len(aside) > 1 and not equal(aside[-1].ema, aside[0].ema)
    assert trainer.model(trainer.average, "ema").earlier is not None


def test_without_a_share_nothing_is_set_aside(images: ImageSet) -> None:
    trainer = Trainer(recipe_of(images, earlier_at=None), images, "cpu")
    for _ in range(TOTAL // 16):
        trainer.update(TOTAL)
    assert trainer.state(0.0).earlier is None and trainer.model(trainer.average, "ema").earlier is None


# --- stopping and going on ---


@pytest.mark.parametrize("stops", [(1,), (7,), (3, 1, 9)])
def test_stopping_with_a_save_and_going_on_is_as_never_stopping(
    images: ImageSet, tmp_path: Path, uninterrupted: tuple[Path, list[TrainStep]], stops: tuple[int, ...]
) -> None:
    path, whole = uninterrupted
    made, parts = recipe_of(images), list[TrainStep]()
    for count in stops:
        taken = run(tmp_path / "run", images, made, stop_after=count)
        assert len(taken) == count and taken[-1].saved
        parts += taken
    torch.manual_seed(99)
    parts += run(tmp_path / "run", images, made)
    assert losses(parts) == losses(whole)
    assert [step.probe for step in parts] == [step.probe for step in whole]
    require_equal(newest(tmp_path / "run"), newest(path))


@pytest.mark.parametrize("leaves", [(1,), (11, 4)])
def test_a_consumer_that_stops_listening_loses_no_more_than_the_steps_since_the_last_save(
    images: ImageSet, tmp_path: Path, uninterrupted: tuple[Path, list[TrainStep]], leaves: tuple[int, ...]
) -> None:
    made, folder, saved = recipe_of(images), RunFolder(tmp_path / "run"), 0
    for count in leaves:
        taken = run(folder.path, images, made, leave_after=count)
        assert len(taken) == count and taken[0].images_seen == saved + 16
        saved = max([saved, *(step.images_seen for step in taken if step.saved)])
    rest = run(folder.path, images, made)
    assert rest[0].images_seen == saved + 16
    path, whole = uninterrupted
    assert losses(rest) == losses(whole)[-len(rest) :]
    require_equal(newest(folder.path), newest(path))
    logged, expected = (
        [(event["images_seen"], event["loss"]) for event in RunFolder(p).events() if event["event"] == "step"]
        for p in (folder.path, path)
    )
    assert logged == expected


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before_and_is_named(
    images: ImageSet, tmp_path: Path, uninterrupted: tuple[Path, list[TrainStep]]
) -> None:
    folder, made = RunFolder(tmp_path / "run"), recipe_of(images)
    run(folder.path, images, made, stop_after=13)
    file = folder.newest() / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    run(folder.path, images, made)
    resumed = [event for event in folder.events() if event["event"] == "resume"]
    assert "optimizer.safetensors" in resumed[-1]["damaged"][0] and resumed[-1]["images_seen"] < 13 * 16
    require_equal(newest(folder.path), newest(uninterrupted[0]))


def test_a_finished_run_takes_no_step(images: ImageSet, uninterrupted: tuple[Path, list[TrainStep]]) -> None:
    assert run(uninterrupted[0], images, recipe_of(images)) == []


# --- the plan ---


def budget(images: ImageSet) -> Recipe:
    """One minute at a guess of 960 images; the clocks below make it more or less."""
    return recipe_of(images, 1.0, images_total=960)


def totals(steps: list[TrainStep]) -> list[int]:
    return [step.images_total for step in steps]


def test_a_plan_revised_by_the_clock_is_replayed_without_it(images: ImageSet, tmp_path: Path) -> None:
    """Stop early, go on to the end; then once more from the early stop, with all plans on disk and another clock."""
    made, first, second, third = budget(images), *(tmp_path / name for name in ("first", "second", "third"))
    run(first, images, made, stop_after=2, clock=Clock(1.5))
    for copy in (second, third):
        shutil.copytree(first, copy)
    whole = run(first, images, made, clock=Clock(1.5))
    shutil.rmtree(second / "plan")
    shutil.copytree(first / "plan", second / "plan")
    again = run(second, images, made, clock=Clock(7.0))
    assert losses(again) == losses(whole) and totals(again) == totals(whole)
    require_equal(newest(first), newest(second))
    assert RunFolder(first).revisions() == RunFolder(second).revisions()
    assert len(set(totals(whole))) > 2
    measured = run(third, images, made, clock=Clock(7.0))
    assert totals(measured)[-1] != totals(whole)[-1]


def test_a_revision_is_on_disk_before_the_step_that_follows_it(images: ImageSet, tmp_path: Path) -> None:
    folder, made = RunFolder(tmp_path / "run"), budget(images)
    folder.create(made, images.spec)
    revised, clock = 0, Clock(1.5)
    with folder.writing():
        for step in fit(made, images, folder, elapsed=clock):
            clock.tick()
            revised += step.revised
            assert len(folder.revisions()) == revised + 1
            assert folder.revisions()[-1].images_total == step.images_total
    assert revised > 1


@pytest.mark.parametrize("slower", [1.0, 2.0])
def test_a_run_ends_on_time_also_on_a_machine_that_slows_down(images: ImageSet, tmp_path: Path, slower: float) -> None:
    """One minute by the clock of steps, of which the later half may take twice as long as the earlier."""
    made, folder, clock = budget(images), RunFolder(tmp_path / "run"), Clock(1.0)
    folder.create(made, images.spec)
    with folder.writing():
        for step in fit(made, images, folder, elapsed=clock):
            clock.tick()
            if step.images_seen > made.images_total / 2:
                clock.each = slower
    assert 0.9 * 60 <= clock.now <= 1.1 * 60


def test_a_budget_already_spent_is_exceeded_by_one_step(images: ImageSet, tmp_path: Path) -> None:
    steps = run(tmp_path / "run", images, budget(images), clock=Clock(1000.0))
    assert [step.revised for step in steps][-2:] == [True, False]
    assert sum(step.revised for step in steps) == 1 and steps[-1].saved and steps[-1].sheet


def test_a_step_reports_the_rate_it_was_made_with(images: ImageSet, tmp_path: Path) -> None:
    made = budget(images)
    steps = run(tmp_path / "run", images, made, clock=Clock(1.5))
    for before, step in pairwise(steps):
        assert step.learning_rate == made.learning_rate * made.rate_share_at(before.images_seen, before.images_total)


def test_two_revisions_at_one_position_hold_alike_going_through_and_going_on(
    images: ImageSet, tmp_path: Path, uninterrupted: tuple[Path, list[TrainStep]]
) -> None:
    made = recipe_of(images, anneal_from=0.1)
    through, on = tmp_path / "through", tmp_path / "on"
    run(on, images, made, stop_after=5)
    shutil.copytree(on, through)
    shutil.rmtree(through / "checkpoints")
    for path in (on, through):
        for number, total in enumerate((240, 480), start=1):
            revision = Revision(images_seen=80, images_total=total, minutes=None, seconds=0.0)
            RunFolder(path).revise(number, revision)
        run(path, images, made)
    require_equal(newest(through), newest(on))
    assert newest(on).images_seen == 480


def test_muon_moves_the_convolutions_between_the_first_and_the_last_and_adam_the_rest(images: ImageSet) -> None:
    made = recipe_of(images, warmup_images=10**6)
    trainer = Trainer(made, images, "cpu")
    trainer.update(TOTAL)
    by_muon = {name for name, optimizer in trainer.optimizer_of.items() if optimizer is trainer.muon}
    convolutions = {f"{name}.weight" for name, layer in trainer.net.named_modules() if isinstance(layer, nn.Conv2d)}
    assert by_muon == convolutions - {"enter.weight", "leave.weight"}
    assert set(trainer.weights) > by_muon and len(by_muon) > 5
    share = made.rate_share_at(0, TOTAL)
    assert trainer.muon.param_groups[0]["lr"] == made.muon_rate * share < made.muon_rate
    assert trainer.adam.param_groups[0]["lr"] == made.learning_rate * share


# --- NaN ---


class Poisoned(ImageSet):
    """A set of which one image is read as NaN."""

    bad: int

    def x0(self, indices: object) -> Tensor:
        x0 = super().x0(indices)  # type: ignore[arg-type]
        x0[torch.from_numpy(np.asarray(indices) == self.bad)] = math.nan
        return x0


def poisoned(images: ImageSet, bad: int) -> Poisoned:
    found = Poisoned(**{name: getattr(images, name) for name in images.__dataclass_fields__})
    object.__setattr__(found, "bad", bad)
    return found


def test_a_poisoned_image_stops_the_run_with_its_name_and_noise_level(images: ImageSet, tmp_path: Path) -> None:
    made, folder = recipe_of(images), RunFolder(tmp_path / "run")
    run(folder.path, images, made, stop_after=5)
    before, indices = newest(folder.path), training_indices(made, images.train, 80)
    pair = training_pair(made, images, indices, 80, EDM, "cpu")
    bad, ratio = int(indices[3]), float((pair.sigma / pair.alpha)[3])
    with pytest.raises(NonFinite) as caught:
        run(folder.path, poisoned(images, bad), made)
    message = str(caught.value)
    assert images.names[bad] in message and f"{ratio:.3g}" in message and "80 images seen" in message
    assert caught.value.exit_code == 7
    require_equal(newest(folder.path), before)


def test_what_became_infinite_is_noticed_when_the_next_step_is_under_way_and_never_yielded(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, folder, begun, yielded = recipe_of(images, images_total=1600), RunFolder(tmp_path / "run"), [0], list[int]()
    update = Trainer.update

    def spoiled(trainer: Trainer, images_total: int) -> Outcome:
        if trainer.images_seen == 80:
            with torch.no_grad():
                trainer.weights["enter.weight"].fill_(math.inf)
        outcome = update(trainer, images_total)
        begun.append(trainer.images_seen)
        return outcome

    monkeypatch.setattr(Trainer, "update", spoiled)
    folder.create(made, images.spec)
    with folder.writing(), pytest.raises(NonFinite, match="after 80 images seen, at noise ratio"):
        yielded.extend(step.images_seen for step in fit(made, images, folder))
    assert begun[-1] == 112 and yielded[-1] == 80
    assert all(folder.load(path).images_seen <= 80 for path in folder.checkpoints())


def test_a_step_is_yielded_when_the_next_is_under_way_or_at_once_where_something_follows_it(
    images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a device is never left without work while the numbers of a step are looked at."""
    made, folder, begun = recipe_of(images), RunFolder(tmp_path / "run"), [0]
    update = Trainer.update

    def counted(trainer: Trainer, images_total: int) -> Outcome:
        begun.append(begun[-1] + 16)
        return update(trainer, images_total)

    monkeypatch.setattr(Trainer, "update", counted)
    folder.create(made, images.spec)
    with folder.writing():
        for step in fit(made, images, folder):
            at_once = step.sheet is not None or step.saved is not None
            assert begun[-1] == step.images_seen + (0 if at_once else 16)
    assert begun[-1] == TOTAL


def test_a_poisoned_held_out_image_stops_the_run_at_the_first_probe(images: ImageSet, tmp_path: Path) -> None:
    bad, folder = int(images.heldout[-1]), RunFolder(tmp_path / "run")
    with pytest.raises(NonFinite, match="average") as caught:
        run(folder.path, poisoned(images, bad), recipe_of(images))
    assert images.names[bad] in str(caught.value)
    assert all(event["event"] != "sheet" for event in folder.events())


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("what", ["weight", "moment", "momentum", "average"])
def test_a_poisoned_state_stops_the_run_before_it_is_saved(images: ImageSet, what: str, value: float) -> None:
    trainer = Trainer(recipe_of(images), images, "cpu")
    trainer.update(TOTAL)
    weight = trainer.weights["enter.weight"]
    target = {
        "weight": weight,
        "moment": trainer.adam.state[weight]["exp_avg_sq"],
        "momentum": trainer.muon.state[trainer.weights["down.0.0.conv1.weight"]]["momentum"],
        "average": trainer.ema["enter.weight"],
    }[what]
    with torch.no_grad():
        target[(0,) * target.ndim] = value
    with pytest.raises(NonFinite):
        if what == "weight":
            trainer.update(TOTAL)
        trainer.state(0.0)


@pytest.mark.parametrize("rate", ["learning_rate", "muon_rate"])
def test_a_rate_far_too_high_stops_loudly_and_leaves_a_checkpoint_that_loads(
    images: ImageSet, tmp_path: Path, rate: str
) -> None:
    made, folder = recipe_of(images, **{rate: 1e30}, warmup_images=0), RunFolder(tmp_path / "run")
    with pytest.raises(NonFinite, match="noise ratio"):
        run(folder.path, images, made)
    for path in folder.checkpoints():
        assert all(bool(torch.isfinite(value).all()) for value in folder.load(path).weights.values())


def test_the_purposes_of_randomness_are_not_mixed_up(images: ImageSet) -> None:
    """Levels and class dropout of a batch are drawn apart: hiding classes says nothing of the noise level."""
    made = recipe_of(images)
    levels, dropout = (
        keyed.uniforms(keyed.derive(made.seed, purpose, 3), made.batch)
        for purpose in (keyed.Purpose.LEVELS, keyed.Purpose.DROPOUT)
    )
    assert not np.array_equal(levels, dropout)
    assert not equal({"u": torch.from_numpy(levels)}, {"u": torch.from_numpy(dropout)})
