"""The chapters: forward pairs are the forward formula with one noise, reverse steps are the steps of ``sample``."""

import itertools
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fromnoise import keyed
from fromnoise.chapters import (
    branches,
    by_sampler,
    by_seed,
    class_names,
    forward,
    growth,
    jump_and_walk,
    lines,
    losses,
    nearest,
    pairs,
    pixels,
    predicted_noise,
    reverse,
    space,
    static,
)
from fromnoise.chapters.sets import MOST, WALKERS, levels
from fromnoise.errors import NoCheckpoint, UseError
from fromnoise.images import ImageSet, ValueSpec, beside, encode_png, montage, open_images
from fromnoise.model import Model, Samples, build_denoiser, build_net
from fromnoise.noise import SCHEDULES
from fromnoise.recipe import NumberSpec, Pictures
from fromnoise.run_folder import RunFolder, load
from fromnoise.sample import STEPPERS, Sampler
from fromnoise.session import Session
from fromnoise.training import TrainStep, fit
from tiny import awake, begin, one_thread, pictures, recipe, steps
from toys import gaussian

SPEC = ValueSpec(channels=3, alpha=False)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images("menagerie:20", size=(8, 10))


def model(denoiser: Any = None, **fields: Any) -> Model:
    made = recipe(pictures(**fields))
    return Model(made, SPEC, denoiser or build_denoiser(made, awake(build_net(made))), 0, "ema", "")


@pytest.mark.parametrize("name", SCHEDULES)
def test_forward_pairs_are_the_forward_formula_with_the_same_noise(images: ImageSet, name: str) -> None:
    schedule = SCHEDULES[name]()
    times = [0.0, 0.2, 0.7, schedule.t_max]
    pairs = forward(images, [3, 11], schedule, times, seed=5)
    assert torch.equal(pairs[0].x_t, images.x0([3, 11]))
    for pair, t in zip(pairs, times, strict=True):
        alpha, sigma = (float(value) for value in schedule.alpha_sigma(t))
        assert pair.t.tolist() == [t, t] and torch.equal(pair.eps, pairs[0].eps)
        expected = alpha * images.x0([3, 11]).double() + sigma * pair.eps.double()
        assert (pair.x_t - expected).abs().max() <= 1e-6 * max(1.0, sigma)


def test_forward_noise_belongs_to_seed_and_image_alone(images: ImageSet) -> None:
    schedule = SCHEDULES["flow"]()
    among = forward(images, [3, 11], schedule, [0.5], seed=5)[0]
    alone = forward(images, np.array([11]), schedule, [0.9], seed=5)[0]
    assert torch.equal(among.eps[1], alone.eps[0])
    assert not torch.equal(among.eps[0], among.eps[1])
    assert not torch.equal(alone.eps, forward(images, [11], schedule, [0.9], seed=6)[0].eps)


@pytest.mark.parametrize("sampler", [Sampler(steps=5), Sampler("heun", 3), Sampler("ddpm", 4)])
def test_reverse_shows_the_very_images_that_sample_makes(sampler: Sampler) -> None:
    with one_thread():
        tiny = model()
        told: dict[str, Any] = {"seed": 3, "class_name": "dog", "guidance": 2.0, "sampler": sampler}
        steps = reverse(tiny, [4, 5], **told)
        made = tiny.sample(2, first=4, **told)
    assert np.array_equal(tiny.to_values(steps[-1].x_s)[0], made.images)
    assert [step.i for step in steps] == list(range(sampler.steps)) and steps[-1].s == 0.0
    assert all(torch.equal(before.x_s, after.x_t) for before, after in itertools.pairwise(steps))


def test_a_model_certain_of_one_image_predicts_the_noise_it_started_from() -> None:
    schedule, image = SCHEDULES["vp-cosine"](), torch.linspace(-1, 1, 3 * 64, dtype=torch.float64)
    certain = model(gaussian(schedule, image, 0.0), classes=())
    steps = reverse(certain, [7], seed=1, sampler=Sampler("ddim", 12, "uniform"))
    started = keyed.normals(keyed.derive(1, keyed.Purpose.START, np.array([7])), 3 * 64).reshape(1, 3, 8, 8)
    for step in steps:
        alpha, sigma = (float(value) for value in schedule.alpha_sigma(step.t))
        noise = predicted_noise(step, schedule)
        assert (alpha * step.x0_hat + sigma * noise - step.x_t).abs().max() <= 1e-5
        # x_t starts as sigma eps, without the alpha x0 of a true noisy image: alpha / sigma of x0 is missing in eps.
        start_alpha, start_sigma = (float(value) for value in schedule.alpha_sigma(steps[0].t))
        expected = started - start_alpha / start_sigma * image.reshape(1, 3, 8, 8).numpy()
        assert np.abs(noise.numpy() - expected).max() <= 1e-4


def test_classes_are_named_and_wrong_ones_refused() -> None:
    tiny = model()
    assert class_names(tiny, [0, 1, 2]) == ("cat", "dog", "cat")
    assert class_names(tiny, [0, 1], "dog") == ("dog", "dog")
    assert class_names(model(classes=()), [5]) == (None,)
    with pytest.raises(UseError, match=r"'cow'.*cat, dog"):
        reverse(tiny, [0], class_name="cow")
    with pytest.raises(UseError, match="Guidance 2 has nothing to act on"):
        reverse(model(classes=()), [0], guidance=2.0)


# --- Runs: training ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, list[TrainStep]]]:
    """A finished run of 20 steps on 84 images of 8x8x3, every step of which is logged."""
    with pytest.MonkeyPatch.context() as patch, one_thread():
        session = begin(tmp_path_factory.mktemp("runs") / "tiny", patch, "menagerie:84")
        yield session, steps(session)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_row_losses_of_pairs_have_the_very_mean_that_the_next_step_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    told: dict[str, Any] = {"overrides": {"dtype": dtype, "warmup_images": 0}}
    with one_thread():
        stop, session = threading.Event(), begin(tmp_path / "run", monkeypatch, "menagerie:84", **told)
        for step in session.fit(stop):
            if step.images_seen == 48:
                stop.set()
        batch = pairs(session.folder, session.images)
        following = steps(begin(tmp_path / "run", monkeypatch, "menagerie:84", **told), 1)[0]
    assert following.images_seen == batch.images_seen + session.recipe.batch == 80
    assert float(batch.losses.mean()) == following.loss
    assert tuple(batch.losses.view(8, -1).mean(1).tolist()) == following.loss_by_noise


def test_a_row_of_pairs_holds_together(trained: tuple[Session, list[TrainStep]]) -> None:
    session, _ = trained
    with one_thread():
        batch = pairs(session.folder, session.images)
    pair, column = batch.pair, (-1, 1, 1, 1)
    alpha, sigma = pair.alpha.view(column), pair.sigma.view(column)
    assert torch.equal(pair.x0, session.images.x0(batch.indices)) and set(batch.indices) <= set(session.images.train)
    assert torch.equal(pair.x_t, alpha.float() * pair.x0 + sigma.float() * pair.eps)
    assert bool((pair.sigma.diff() > 0).all()), "from clean to noisy"
    r, s = sigma / alpha, session.recipe.pictures.sigma_data  # Karras et al. 2022, table 1, written out again
    c_skip, c_out = s**2 / (r**2 + s**2), r * s / (r**2 + s**2).sqrt()
    assert (c_skip * pair.x_t / alpha + c_out * batch.target - pair.x0).abs().max() <= 1e-5
    assert (c_skip * pair.x_t / alpha + c_out * batch.output - batch.x0_hat).abs().max() <= 1e-5
    weighted = ((batch.x0_hat - pair.x0) ** 2 / c_out**2).flatten(1).mean(1)
    assert batch.losses.tolist() == pytest.approx(weighted.tolist(), rel=1e-3)


def test_pairs_say_what_the_net_is_told_in_the_words_and_units_of_the_pictures(tmp_path: Path) -> None:
    drawn = open_images("menagerie:84", size=(8, 8))
    known = np.stack([np.arange(84) % 7 * 30, np.arange(84) - 41.25], 1).astype(np.float32)
    known[::9, 1] = np.nan
    images = replace(drawn, numbers=known, number_names=("angle", "time of day"))
    folder = RunFolder(tmp_path / "run")
    folder.create(recipe(Pictures.of("drawn", images), label_dropout=0.3, batch=64, images_total=64), images.spec)
    with folder.writing(), one_thread():
        list(fit(folder.recipe(), images, folder))
        batch = pairs(folder, images)
    hidden = {"class": 0, "angle": 0, "time of day": 0}
    for index, told in zip(batch.indices, batch.told, strict=True):
        angle, hour = known[index].tolist()
        truth = {"class": images.classes[images.labels[index]], "angle": angle, "time of day": hour}
        assert list(told) == list(truth)
        assert told["time of day"] is None or not math.isnan(hour), "what is unknown is not told"
        for name, value in told.items():
            hidden[name] += value is None
            assert value is None or value == truth[name], "to the digit of the table"
    assert all(5 < count < 55 for count in hidden.values()) and hidden["class"] < hidden["angle"]


def test_nothing_is_told_where_there_is_nothing_to_tell(tmp_path: Path) -> None:
    images = replace(open_images("menagerie:84", size=(8, 8)), labels=None, classes=())
    folder = RunFolder(tmp_path / "run")
    folder.create(recipe(Pictures.of("drawn", images), images_total=16), images.spec)
    with folder.writing(), one_thread():
        list(fit(folder.recipe(), images, folder))
        assert pairs(folder, images).told == ({},) * 16


def test_the_losses_of_a_run_are_those_its_steps_and_probes_had(trained: tuple[Session, list[TrainStep]]) -> None:
    session, taken = trained
    found = losses(session.folder)
    assert found.images_seen == tuple(step.images_seen for step in taken)
    assert found.training == tuple(step.loss for step in taken)
    assert found.probes == tuple((step.images_seen, step.probe) for step in taken if step.probe)
    quantiles = torch.special.ndtri((torch.arange(8, dtype=torch.float64) + 0.5) / 8)
    assert found.noise_ratios == pytest.approx(torch.exp(-1.2 + 1.3 * quantiles).tolist())


def test_growth_is_the_very_sheets_of_the_run(trained: tuple[Session, list[TrainStep]]) -> None:
    session, taken = trained
    grown = growth(session.folder)
    assert [(sheet.images_seen, probe) for sheet, probe in grown] == [
        (step.images_seen, step.probe) for step in taken if step.sheet
    ]
    last = grown[-1][0]
    with one_thread():
        for weights in ("raw", "ema"):
            made = load(session.folder.path, weights=weights).sample(16, seed=session.recipe.seed)
            assert np.array_equal(getattr(last, weights), made.images)
    for (sheet, _), step in zip(grown, (step for step in taken if step.sheet), strict=True):
        said = f"weights, {sheet.images_seen:,} images seen"
        drawn = beside([(f"raw {said}", montage(sheet.raw)), (f"ema {said}", montage(sheet.ema))])
        assert step.sheet and step.sheet.read_bytes() == encode_png(drawn)


def test_what_a_run_has_not_kept_is_asked_for_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with one_thread():
        begun = begin(tmp_path / "run", monkeypatch, overrides={"images_total": 64})
        for chapter in (losses, growth):
            with pytest.raises(UseError, match="train it further"):
                chapter(begun.folder)
            with pytest.raises(UseError, match=r"no run\.json"):
                chapter(RunFolder(tmp_path / "none"))
        with pytest.raises(NoCheckpoint, match="none was saved yet"):
            pairs(begun.folder, begun.images)
        steps(begun)
    (tmp_path / "run" / "sheets" / f"{64:012d}.npz").write_bytes(b"no archive")
    with pytest.raises(UseError, match=r"64 images seen.*train the run again"):
        growth(begun.folder)


# --- Runs: several ways from one noise ---


def test_every_sampler_begins_at_the_same_noise_and_calls_the_model_equally_often() -> None:
    with one_thread():
        tiny = model()
        ways = by_sampler(tiny, 5, 7, seed=3, class_name="dog", guidance=2.0)
        for sampler, way in ways.items():
            made = tiny.sample(1, first=5, seed=3, class_name="dog", guidance=2.0, sampler=sampler)
            assert np.array_equal(tiny.to_values(way[-1].x_s)[0], made.images)
    assert [sampler.stepper for sampler in ways] == list(STEPPERS)
    every = list(ways.values())
    assert all(7 < way[-1].nfe < 14 for way in every), "7 calls, some of two evaluations"
    assert all(torch.equal(way[0].x_t, every[0][0].x_t) for way in every)
    coarse = [step.t for step in min(every, key=len)]
    for way in every:
        assert all(min(abs(step.t - t) for step in way) < 1e-12 for t in coarse), "grids are nested"
    assert {way[-1].nfe for way in by_sampler(tiny, 5, 7, guidance=1.0).values()} == {7}
    unbounded = replace(tiny, recipe=tiny.recipe.model_copy(update={"guided_within": None}))
    twice = by_sampler(unbounded, 5, 7, class_name="dog", guidance=2.0)
    assert {way[-1].nfe for way in twice.values()} == {14}, "7 calls, each of two evaluations"
    with pytest.raises(UseError, match="odd number, not 8"):
        by_sampler(tiny, 0, 8)


def test_each_seed_gives_the_image_that_sample_makes_of_it() -> None:
    with one_thread():
        tiny = model()
        ways = by_seed(tiny, 4, [2, 9], guidance=1.0)
        for seed, way in ways.items():
            made = tiny.sample(1, first=4, seed=seed, guidance=1.0)
            assert np.array_equal(tiny.to_values(way[-1].x_s)[0], made.images)
    assert list(ways) == [2, 9] and not torch.equal(ways[2][0].x_t, ways[9][0].x_t)


def test_numbers_are_asked_for_in_every_way() -> None:
    told: dict[str, Any] = {"numbers": {"age": 3.5}, "class_name": "dog", "guidance": 2.0}
    with one_thread():
        tiny = model(numbers=(NumberSpec(name="age", low=1, high=5, mean=3, std=1),))
        free = reverse(tiny, [4], seed=3, class_name="dog", guidance=2.0)
        made = tiny.sample(1, first=4, seed=3, **told)
        way, (seeded,) = reverse(tiny, [4], seed=3, **told), by_seed(tiny, 4, [3], **told).values()
        assert np.array_equal(tiny.to_values(way[-1].x_s)[0], made.images)
        assert torch.equal(seeded[-1].x_s, way[-1].x_s) and not torch.equal(free[-1].x_s, way[-1].x_s)
        for sampler, each in by_sampler(tiny, 4, 3, seed=3, **told).items():
            assert torch.equal(each[-1].x_s, reverse(tiny, [4], seed=3, sampler=sampler, **told)[-1].x_s)
        chosen = Sampler("ddpm", 5)
        (last,) = branches(tiny, 4, (0.002,), 2, steps=5, seed=3, **told)
        trunk = reverse(tiny, [4], seed=3, sampler=chosen, **told)
        assert torch.equal(last.step.x_t, trunk[-1].x_t)
        assert (last.finished - trunk[-1].x_s).abs().max() < 1e-4, "the branches are told the same as the path"
        with pytest.raises(UseError, match=r"No number 'size'.* age \(1 to 5\)"):
            branches(tiny, 4, (1.0,), 2, steps=3, numbers={"size": 1})


def left_over(ratios: list[float], v: float) -> tuple[float, float]:
    """By ddpm along falling noise ratios, for x0 of variance v: what is kept of x_t, and the variance that is added.

    With x0_hat = v / (v + r**2) z, one step is z_s = (g (1 - q) + q) z + s sqrt(1 - q) n, q = s**2 / r**2.
    """
    kept, variance = 1.0, 0.0
    for r, s in itertools.pairwise([*ratios, 0.0]):
        g, q = v / (v + r**2), s**2 / r**2
        factor = g * (1 - q) + q
        kept, variance = kept * factor, variance * factor**2 + s**2 * (1 - q)
    return kept, variance


def test_branches_vary_as_x0_given_x_t_does() -> None:
    """x0 round around a mean: the law of the branches is that of the steps, which tends to that of x0 given x_t."""
    schedule, v, mean = SCHEDULES["edm"](), 0.25, torch.linspace(-0.5, 0.5, 192, dtype=torch.float64)
    for ratio in (80.0, 0.5, 0.01):
        kept, variance = left_over(np.geomspace(ratio, 0.002, 5000).tolist(), v)
        assert kept == pytest.approx(v / (v + ratio**2), rel=0.01)
        assert variance == pytest.approx(v * ratio**2 / (v + ratio**2) - 0.002**2, rel=0.01), "the last step draws none"
    steps_, n = 24, 48
    grown = branches(model(gaussian(schedule, mean, v), classes=()), 3, (80.0, 0.5, 0.1, 0.01), n, steps=steps_, seed=1)
    times = Sampler("ddpm", steps_).times(schedule)[:-1]
    for each in grown:
        kept, variance = left_over(torch.exp(-0.5 * schedule.log_snr(times[each.step.i :])).tolist(), v)
        around = mean.view(1, 3, 8, 8) + kept * (each.step.x_t - mean.view(1, 3, 8, 8))
        assert float(each.finished.var(0).mean()) == pytest.approx(variance, rel=4 * math.sqrt(2 / (n * 192)))
        away = float((each.finished.mean(0) - around).square().mean())
        assert away == pytest.approx(variance / n, rel=4 * math.sqrt(2 / 192))
        expected = each.finished.double().numpy().var(0, ddof=1).mean(0) ** 0.5 / 2
        assert np.abs(each.deviation().numpy() - expected).max() < 1e-6
    assert float(grown[-1].deviation().max()) < 0.01 < 0.1 < float(grown[0].deviation().min())


def test_branches_share_their_path_up_to_where_they_leave_it_and_no_noise_after() -> None:
    with one_thread():
        tiny = model()
        trunk = reverse(tiny, [3], seed=1, sampler=Sampler("ddpm", 6))
        grown, fewer = (branches(tiny, 3, (80.0, 1.0, 0.002), n, steps=6, seed=1) for n in (4, 2))
    assert [each.step.i for each in grown] == sorted({each.step.i for each in grown})
    for each, less in zip(grown, fewer, strict=True):
        assert torch.equal(each.step.x_t, trunk[each.step.i].x_t)
        assert (each.finished[:2] - less.finished).abs().max() < 1e-4
    for each in grown[:-1]:
        ways = torch.cat([each.finished, trunk[-1].x_s])
        assert all((a - b).abs().max() > 1e-2 for a, b in itertools.combinations(ways, 2))
    assert grown[-1].step.s == 0.0 and (grown[-1].finished - trunk[-1].x_s).abs().max() < 1e-4, "no noise left to draw"


# --- Runs: learned or copied ---


def test_a_planted_copy_is_found_and_distances_are_those_of_brute_force() -> None:
    images = open_images("menagerie:60", size=(8, 10))
    drawn = np.random.default_rng(0).integers(0, 256, (5, 8, 10, 3), np.uint8)
    drawn[2] = images.values[images.train[7]]
    found = nearest(Samples(drawn, SPEC, None, tuple(range(5)), {}, 0), images)
    values = images.values.astype(np.float64) / 255

    def brute(of: np.ndarray, among: np.ndarray) -> np.ndarray:
        return np.asarray(np.sqrt(((of[:, None] - values[among]) ** 2).mean((2, 3, 4))))

    for near, among in ((found.training, images.train), (found.heldout, images.heldout)):
        distances = brute(drawn / 255, among)
        assert near.distances == pytest.approx(distances.min(1), abs=1e-6)
        assert np.array_equal(near.indices, among[distances.argmin(1)])
    assert found.training.distances[2] == 0.0 and found.training.indices[2] == images.train[7]
    assert found.usual == pytest.approx(brute(values[images.heldout], images.train).min(1), abs=1e-6)
    with pytest.raises(UseError, match="held-out pictures"):
        nearest(found.samples, replace(images, heldout=np.empty(0, np.int64)))


# --- Sets ---


def of_kind(images: ImageSet, kind: str) -> ImageSet:
    """The same pictures as 16-bit grey, 12 float channels, or grey with opacity."""
    grey = images.values.astype(np.float64).mean(-1, keepdims=True)
    if kind == "grey16":
        values = np.rint(grey * 12 + 700).astype(np.uint16)
        spec = ValueSpec(bits=16, low=(float(values.min()),), high=(float(values.max()),), channels=1, alpha=False)
    elif kind == "float12":
        values = np.concatenate([grey / 40 * (k + 1) - k for k in range(12)], -1).astype(np.float32)
        low, high = (tuple(map(float, end((0, 1, 2)))) for end in (values.min, values.max))
        spec = ValueSpec(kind="float", bits=32, low=low, high=high, channels=12, alpha=False)
    else:
        values = np.concatenate([grey, 255 - grey], -1).astype(np.uint8)
        spec = ValueSpec(channels=2, alpha=True)
    return replace(images, values=values, spec=spec)


KINDS = ("grey16", "float12", "greyalpha")


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        (ValueSpec(channels=3, alpha=False), (256, 256, 256)),
        (ValueSpec(bits=16, low=(5.0,), high=(4095.0,), channels=1, alpha=False), (4091,)),
        (ValueSpec(kind="int", bits=8, low=(-3.0, 0.0), high=(3.0, 0.0), channels=2, alpha=False), (7, 1)),
        (ValueSpec(kind="float", bits=32, low=(1.0,), high=(2.0,), channels=1, alpha=False), (2**23 + 1,)),
        (ValueSpec(kind="float", bits=64, low=(1.0,), high=(4.0,), channels=1, alpha=False), (2 * 2**52 + 1,)),
        # 127 exponents of 2**23 numbers lie on either side of zero up to 1, and zero is one number.
        (ValueSpec(kind="float", bits=32, low=(-1.0,), high=(1.0,), channels=1, alpha=False), (2 * 127 * 2**23 + 1,)),
    ],
)
def test_the_values_that_a_channel_can_hold_are_counted(spec: ValueSpec, counts: tuple[int, ...]) -> None:
    assert levels(spec) == counts


def test_possible_images_are_the_levels_to_the_power_of_the_values(images: ImageSet) -> None:
    record = static(images, 3)
    assert record.power == pytest.approx(8 * 10 * 3 * math.log10(256), rel=1e-12)
    twelve = static(of_kind(images, "float12"), 3)
    assert twelve.power == pytest.approx(80 * sum(math.log10(count) for count in twelve.levels), rel=1e-12)


@pytest.mark.parametrize("kind", ["rgb", *KINDS])
def test_static_has_the_size_kind_and_range_of_the_images(images: ImageSet, kind: str) -> None:
    given = images if kind == "rgb" else of_kind(images, kind)
    record, again, other = static(given, 3, 5), static(given, 3, 5), static(given, 3, 6)
    assert np.array_equal(record.picture, given.values[3])
    assert record.random.shape == record.picture.shape and record.random.dtype == given.spec.dtype
    assert (record.random >= given.spec.low).all() and (record.random <= given.spec.high).all()
    assert np.array_equal(record.random, again.random) and not np.array_equal(record.random, other.random)
    size = record.noise.numel()
    assert abs(float(record.noise.mean())) < 4 / math.sqrt(size)
    assert abs(float(record.noise.norm()) / math.sqrt(size) - 1) < 4 / math.sqrt(2 * size)


def test_static_is_as_often_low_as_high_and_is_the_noise_that_samples_begin_as() -> None:
    record = static(open_images("menagerie:2", size=(64, 64)), 0, seed=7)
    counts = np.bincount(record.random.ravel(), minlength=256)
    expected = record.random.size / 256
    assert len(counts) == 256 and ((counts - expected) ** 2 / expected).sum() < 255 + 4 * math.sqrt(2 * 255)
    begun = keyed.normals(keyed.derive(7, keyed.Purpose.START, np.array([0])), record.noise.numel())
    assert np.array_equal(record.noise.numpy().ravel(), begun[0])


@pytest.mark.parametrize("kind", ["rgb", *KINDS])
def test_the_patch_holds_the_numbers_of_the_picture_where_they_differ_most(images: ImageSet, kind: str) -> None:
    given = images if kind == "rgb" else of_kind(images, kind)
    record = pixels(given, 4)
    height, width = record.values.shape[:2]
    assert (height, width) == (8, 8) and record.values.dtype == given.spec.dtype
    part = given.values[4][record.top : record.top + 8, record.left : record.left + 8]
    assert np.array_equal(record.values, part)
    encoded = given.spec.encode(given.values[4]).astype(np.float64)
    contrasts = {
        (top, left): encoded[top : top + 8, left : left + 8].var((0, 1)).sum() for top in range(1) for left in range(3)
    }
    assert contrasts[record.top, record.left] == pytest.approx(max(contrasts.values()), rel=1e-6)


def test_the_patch_of_a_small_or_constant_picture_is_at_its_corner() -> None:
    small = open_images(np.zeros((4, 3, 5, 1), np.uint8))
    record = pixels(small, 1)
    assert (record.top, record.left, record.values.shape) == (0, 0, (3, 5, 1))


@pytest.mark.parametrize("kind", ["rgb", *KINDS])
def test_points_of_image_space_are_the_stored_values_and_r_is_that_of_numpy(images: ImageSet, kind: str) -> None:
    given = images if kind == "rgb" else of_kind(images, kind)
    record = space(given, 2)
    assert record.channel == {"rgb": 1, "grey16": 0, "float12": 5, "greyalpha": 0}[kind]
    assert sorted(record.indices.tolist()) == list(range(20))
    assert np.array_equal(record.picture, given.values[2])
    for pair in (record.neighbours, record.distant):
        for column, (y, x) in enumerate((pair.a, pair.b)):
            stored = given.values[:, y, x, record.channel]
            assert np.array_equal(pair.points[:, column], stored[record.indices]) and pair.points.dtype == stored.dtype
        r = np.corrcoef(pair.points[:, 0].astype(float), pair.points[:, 1].astype(float))[0, 1]
        assert pair.r == pytest.approx(r, abs=1e-12)
    (ya, xa), (yb, xb), (yc, xc) = record.neighbours.a, record.neighbours.b, record.distant.b
    assert abs(ya - yb) + abs(xa - xb) == 1 and record.distant.a == record.neighbours.a
    assert max(abs(ya - yc), abs(xa - xc)) >= 10 // 3


def test_neighbours_are_alike_and_random_values_are_not_and_fill_the_square() -> None:
    images = open_images("menagerie:1500", size=(16, 16))
    record = space(images, seed=3)
    assert record.neighbours.r > 0.5
    for pair in (record.neighbours, record.distant):
        assert abs(pair.random_r) < 4 / math.sqrt(1500)
        cells = np.histogram2d(*pair.random.T.astype(float), bins=4, range=[(0, 256)] * 2)[0]
        assert ((cells - 1500 / 16) ** 2 / (1500 / 16)).sum() < 15 + 4 * math.sqrt(30)


def test_a_scatter_takes_a_large_set_in_part_and_says_nothing_of_what_never_changes() -> None:
    many = open_images(np.arange(2 * (MOST + 3), dtype=np.uint32).astype(np.uint8).reshape(-1, 1, 2, 1))
    indices = space(many, seed=1).indices
    assert len(set(indices.tolist())) == MOST and not np.array_equal(indices, space(many, seed=2).indices)
    constant = space(open_images(np.full((5, 2, 2, 1), 9, np.uint8)))
    assert math.isnan(constant.neighbours.r)
    with pytest.raises(UseError, match="only one"):
        space(open_images(np.zeros((5, 1, 1, 1), np.uint8)))


@pytest.mark.parametrize("kind", ["rgb", *KINDS])
def test_the_corners_of_the_plane_are_the_pictures_and_the_noise(images: ImageSet, kind: str) -> None:
    given = images if kind == "rgb" else of_kind(images, kind)
    record = lines(given, 3, 11, shown=5, seed=2)
    a, b, z = record.corners
    met = record.plane.points(torch.from_numpy(record.corners)).numpy()
    noise = static(given, 0, seed=2).noise[0].double().numpy()
    assert np.abs(met - [*given.x0([3, 11]).double().numpy(), noise]).max() < 1e-12
    for point, index in zip(met[:2], (3, 11), strict=True):
        decoded, clipped = given.spec.decode(point.transpose(1, 2, 0))
        if kind != "greyalpha":  # whose colour under little opacity is not kept precisely by any encoding
            assert clipped == 0 and np.allclose(decoded, given.values[index], rtol=1e-6, atol=0)
    full = given.x0([3, 11]).double().numpy()
    assert np.linalg.norm(z - a) == pytest.approx(np.linalg.norm(noise - full[0]), rel=1e-12)
    assert np.linalg.norm(b - z) == pytest.approx(np.linalg.norm(noise - full[1]), rel=1e-12)


def test_the_corners_of_eight_bit_pictures_are_exact_to_the_byte(images: ImageSet) -> None:
    record = lines(images, 3, 11)
    for corner, index in zip(torch.from_numpy(record.corners), (3, 11), strict=False):
        decoded, _ = images.spec.decode(record.plane.points(corner).numpy().transpose(1, 2, 0))
        assert np.array_equal(decoded, images.values[index])


def test_the_ways_are_straight_and_end_where_they_should(images: ImageSet) -> None:
    record = lines(images, 3, 11, shown=5, seed=2)
    a, b = images.x0([3, 11])
    z = static(images, 0, seed=2).noise[0]
    for way, end in ((record.to_picture, b), (record.to_noise, z)):
        assert torch.equal(way[0], a) and torch.equal(way[-1], end)
        for share, between in zip(record.shares, way, strict=True):
            assert torch.allclose(between, a + share * (end - a), atol=1e-6)
    assert record.shares == (0.0, 0.25, 0.5, 0.75, 1.0)
    with pytest.raises(UseError, match="3 and 3 are the same"):
        lines(images, 3, 3)


@pytest.mark.parametrize("name", ["vp-cosine", "edm", "flow"])
def test_walks_and_jumps_have_the_moments_of_the_formula(images: ImageSet, name: str) -> None:
    schedule = SCHEDULES[name]()
    record = jump_and_walk(images, 6, schedule, shown=5, between=10, seed=4)
    x0 = images.x0([6])
    c, y, x = record.place
    value = float(x0[0, c, y, x])
    assert abs(value) == float(x0.abs().max()) and record.steps == 40
    for i, pair in enumerate(record.jumps):
        assert float(pair.t[0]) == pytest.approx(schedule.t_max * i / 4)
        alpha, sigma = float(pair.alpha[0]), float(pair.sigma[0])
        for draws in (record.value_walks[i].double(), record.value_jumps[i].double()):
            assert len(draws) == WALKERS
            slack = 1e-5 * max(1.0, sigma)  # of float32 and the clipping of t
            assert abs(float(draws.mean()) - alpha * value) <= 4 * sigma / math.sqrt(WALKERS) + slack
            assert abs(float(draws.std()) - sigma) <= 4 * sigma / math.sqrt(2 * WALKERS) + slack
        residual = (record.walks[i] - alpha * x0) / (sigma or 1.0)
        bound = 4 / math.sqrt(residual.numel())
        assert abs(float(residual.mean())) <= bound and abs(float(residual.std()) - bool(i)) <= bound
    assert torch.equal(record.walks[0], x0) and torch.equal(record.jumps[0].x_t, x0)


def test_a_walk_keeps_what_it_has_gathered_and_its_noise_is_fresh(images: ImageSet) -> None:
    schedule = SCHEDULES["flow"]()
    record = jump_and_walk(images, 6, schedule, shown=5, between=10)
    assert not torch.equal(record.walks[2], record.jumps[2].x_t)
    # Under flow x_t = r x_s + sqrt(t**2 - r**2 s**2) z with r = (1 - t) / (1 - s): corr(x_s, x_t) given x0 = r s / t.
    s, t = (float(record.jumps[i].t[0]) for i in (2, 3))
    expected = (1 - t) / (1 - s) * s / t
    found = np.corrcoef(record.value_walks[2].numpy(), record.value_walks[3].numpy())[0, 1]
    assert found == pytest.approx(expected, abs=4 * (1 - expected**2) / math.sqrt(WALKERS))
