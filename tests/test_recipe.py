"""The recipe: contradictions are refused by name, the same inputs give the same run, positions and rates hold."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fromnoise.denoise import noise_ratio
from fromnoise.errors import UseError
from fromnoise.guide import Guidance, evaluations
from fromnoise.images import open_images
from fromnoise.machine import Machine
from fromnoise.nets import UNetSpec
from fromnoise.noise import EDM
from fromnoise.recipe import (
    BATCH,
    GPU_BATCH,
    GPU_MUON_RATE,
    GUIDANCE,
    MOST_KEPT,
    SIZES,
    YOUNG,
    YOUNG_GUIDANCE,
    NumberSpec,
    Pictures,
    Recipe,
    auto,
    net_of_size,
    plan_positions,
    revised_total,
    training_flops,
)
from fromnoise.sample import Sampler
from tiny import MACHINE, one_thread, pictures, recipe
from toys import conv_denoiser

FAST = Machine(2, 2**33, "cpu", "ten times as fast", 1, True, 50.0, 100.0, MACHINE.torch_version)
MINUTES = st.one_of(st.none(), st.floats(0.05, 20_000))


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


# --- what it refuses ---


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"net": {"channels": 1}}, ("net.channels", "pictures.channels")),
        ({"net": {"classes": 5}}, ("net.classes", "pictures.classes")),
        ({"net": {"numbers": 1}}, ("net.numbers", "len(pictures.numbers)")),
        ({"batch": 20}, ("batch", "8")),
        ({"sampler": {"steps": 0}}, ("sampler.steps", "1")),
        ({"guided_within": (5.0, 0.25)}, ("guided_within", "5", "0.25")),
        ({"net": {"width": 20}}, ("width", "16")),
        ({"schedule": "cosine"}, ("schedule", "vp-cosine")),
        ({"anneal_from": 1.0}, ("anneal_from", "1")),
        ({"ema_relative_std": 0.3}, ("ema_relative_std", "0.28")),
        ({"images_total": 0}, ("images_total", "0")),
        ({"net": {"blocks": [2, 2]}}, ("multipliers", "blocks")),
        (
            {"shown": pictures(classes=()), "guidance": 2.0, "earlier_at": None},
            ("guidance", "pictures.classes", "pictures.numbers", "earlier_at"),
        ),
        ({"earlier_at": 1.0}, ("earlier_at", "1")),
    ],
)
def test_contradictory_or_impossible_fields_are_refused_with_both_names(
    fields: dict[str, Any], names: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        recipe(**fields)
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize(
    ("sampler", "says"),
    [
        ({"stepper": "eular"}, r"eular.*dpm-2m"),
        ({"grid": "linear"}, r"linear.*karras"),
        ({"stepper": "heun", "eta": 0.5}, r"eta.*ddim.*heun"),
    ],
)
def test_a_sampler_that_cannot_be_is_wrong_use(sampler: dict[str, Any], says: str) -> None:
    with pytest.raises(UseError, match=says):
        recipe(sampler=sampler)


@pytest.mark.parametrize("fields", [{"colour": 1}, {"net": {"depth": 3}}, {"sampler": {"order": 2}}])
def test_a_field_that_does_not_exist_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"colour|depth|order"):
        recipe(**fields)


def test_without_minutes_the_total_must_be_said() -> None:
    with pytest.raises(ValidationError, match="images_total"):
        auto(pictures(), MACHINE, None)


def test_it_survives_json_and_cannot_be_changed() -> None:
    made = recipe(minutes=3.0)
    assert Recipe.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValidationError):
        made.batch = 8  # type: ignore[misc]


# --- how it is derived ---


@pytest.mark.parametrize("minutes", [0.05, 3.0, 60.0])
def test_the_same_inputs_give_the_same_recipe_and_stay_as_they_are(minutes: float) -> None:
    overrides: dict[str, Any] = {"net": {"multipliers": (1, 2), "blocks": (1, 2)}, "seed": 3}
    first = auto(pictures(), MACHINE, minutes, **overrides)
    assert auto(pictures(), MACHINE, minutes, **overrides) == first
    assert overrides == {"net": {"multipliers": (1, 2), "blocks": (1, 2)}, "seed": 3}
    assert (first.seed, first.net.blocks, first.minutes) == (3, (1, 2), minutes)


def test_more_minutes_or_a_faster_machine_give_a_larger_net_and_never_a_smaller_one() -> None:
    budgets = (0.05, 100.0, 1_000.0, 10_000.0)
    shown = pictures(height=16, width=16)
    sizes = [net_of_size(width, blocks, shown) for width, blocks, _ in SIZES]
    slow, fast = ([sizes.index(auto(shown, each, budget).net) for budget in budgets] for each in (MACHINE, FAST))
    assert slow == sorted(slow) and fast == sorted(fast)
    assert all(left <= right for left, right in zip(slow, fast, strict=True))
    assert slow[0] < slow[-1] and slow != fast


def test_the_same_net_sees_more_images_in_more_minutes() -> None:
    totals = [auto(pictures(), MACHINE, minutes, net={"width": 64}).images_total for minutes in (10.0, 20.0, 200.0)]
    assert totals == sorted(set(totals))


def test_low_precision_is_taken_where_the_machine_gains_from_it() -> None:
    assert auto(pictures(), MACHINE, 1.0).dtype == "float32" and auto(pictures(), FAST, 1.0).dtype == "bfloat16"


@pytest.mark.parametrize(("height", "width"), [(8, 8), (13, 200), (64, 48), (256, 256)])
@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_of_any_shape_get_a_net(height: int, width: int, channels: int) -> None:
    made = auto(pictures(height=height, width=width, channels=channels, classes=()), MACHINE, 10.0)
    assert (made.net.channels, made.net.classes) == (channels, 0)


@pytest.mark.parametrize(
    ("side", "patch", "widths"),
    [
        (7, 1, (64,)),
        (12, 1, (64,)),
        (13, 1, (32, 64)),
        (24, 1, (32, 64)),
        (28, 1, (32, 32, 64)),
        (48, 1, (32, 32, 64)),
        (64, 1, (32, 32, 32, 64)),
        (65, 2, (32, 32, 64)),
        (256, 2, (32, 32, 32, 32, 64)),
    ],
)
def test_larger_pictures_get_more_levels_all_as_wide_as_the_finest_but_the_last(
    side: int, patch: int, widths: tuple[int, ...]
) -> None:
    net = net_of_size(32, 2, pictures(height=side, width=5))
    assert (net.patch, tuple(net.width * m for m in net.multipliers)) == (patch, widths)
    assert net.blocks == (2,) * len(widths)
    assert net_of_size(64, 1, pictures(height=side)).blocks == (1,) * len(widths)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("side", [7, 48, 64, 65])
@pytest.mark.parametrize("channels", [4, 12, 31, 40, 200])
def test_no_channel_of_a_pixel_must_share_the_finest_level(width: int, side: int, channels: int) -> None:
    net, plain = (net_of_size(width, 1, pictures(height=side, channels=count)) for count in (channels, 3))
    folded = channels * net.patch**2
    assert net.width >= min(folded, MOST_KEPT) and net.width % 16 == 0
    assert (net.multipliers, net.blocks) == (plain.multipliers, plain.blocks)
    if folded <= width:
        assert net.width == width


def test_guidance_is_for_all_but_runs_with_numbers_alone() -> None:
    number = NumberSpec(name="age", low=1, high=9, mean=4, std=2)
    asked = [auto(pictures(classes=of, numbers=by), FAST, 60.0) for of in ((), ("cat",)) for by in ((), (number,))]
    assert [made.guidance for made in asked] == [GUIDANCE, 1.0, GUIDANCE, GUIDANCE]
    bare = [auto(pictures(classes=of), FAST, 60.0, earlier_at=None) for of in ((), ("cat",))]
    assert [(made.guidance, made.earlier_told) for made in bare] == [(1.0, False), (YOUNG_GUIDANCE, False)]


@pytest.mark.parametrize("classes", [(), ("cat", "dog")])
def test_the_earlier_average_is_told_the_class_where_a_net_has_learned_it(classes: tuple[str, ...]) -> None:
    young, old = (auto(pictures(classes=classes), MACHINE, None, images_total=count) for count in (YOUNG - 1, YOUNG))
    assert (old.earlier_told, old.guidance) == (True, GUIDANCE)
    assert (young.earlier_told, young.guidance) == ((False, YOUNG_GUIDANCE) if classes else (True, GUIDANCE))


@pytest.mark.parametrize(("classes", "fields"), [(("cat", "dog"), {}), (("cat", "dog"), {"guidance": 1.0}), ((), {})])
def test_an_image_takes_twelve_evaluations_guided_or_not(classes: tuple[str, ...], fields: dict[str, float]) -> None:
    made = auto(pictures(classes=classes), MACHINE, 1.0, **fields)
    guided = Guidance(conv_denoiser(EDM()), made.guidance, made.guided_within)
    times = made.sampler.times(EDM())[:-1]
    calls = evaluations(guided, times) if made.guidance != 1.0 else torch.ones(len(times))
    assert int(calls.sum()) == 12 and made.sampler.grid == "inner"
    changed = auto(pictures(classes=classes), MACHINE, 1.0, **fields, sampler={"steps": 3}).sampler
    assert (changed.steps, changed.grid) == (3, "inner")
    assert auto(pictures(), MACHINE, 1.0, sampler={"stepper": "adaptive"}).sampler == Sampler("adaptive", 2)


def test_pictures_that_vary_little_are_sampled_down_to_noise_below_that() -> None:
    narrow = auto(pictures(sigma_data=0.03), MACHINE, 1.0).sampler.times(EDM())
    assert noise_ratio(EDM().log_snr(narrow[-2])) < 0.03 / 10


def test_noise_is_measured_by_what_the_pictures_vary_by() -> None:
    """Narrow pictures are trained at noise levels as far below their own as the others are; those stay as they are."""
    usual = [auto(pictures(sigma_data=each), MACHINE, 1.0).levels_mean for each in (0.3, 0.5, 0.9)]
    assert usual == [recipe().levels_mean] * 3 == [-1.2] * 3
    narrow = [auto(pictures(sigma_data=each), MACHINE, 1.0).levels_mean - math.log(each) for each in (0.003, 0.05, 0.3)]
    assert narrow == pytest.approx([narrow[-1]] * 3)
    ends = [np.divide(auto(pictures(sigma_data=each), MACHINE, 1.0).guided_within, each) for each in (0.003, 0.05, 0.3)]
    np.testing.assert_allclose(ends, ends[-1:] * 3)
    assert auto(pictures(sigma_data=0.05), MACHINE, 1.0, levels_mean=-1.0).levels_mean == -1.0
    centred = [auto(pictures(sigma_data=each, mean=-0.9), MACHINE, 1.0).centre for each in (0.05, 0.29, 0.3, 0.9)]
    assert centred == [-0.9, -0.9, 0.0, 0.0]


# --- numbers ---


def test_a_number_is_known_by_the_training_images_that_have_it() -> None:
    values = np.array([1, 5, np.nan, 3, 3], np.float32)
    spec = NumberSpec.of("age", values)
    assert (spec.name, spec.low, spec.high, spec.mean) == ("age", 1, 5, 3)
    shown = pictures(numbers=(spec, NumberSpec.of("kind", np.array([7, 7, 7, 7, np.nan], np.float32))))
    both = np.stack([values, np.array([7, 7, 7, 7, np.nan])], 1)
    told = shown.normalised(both)
    assert told.dtype == np.float32 and np.array_equal(np.isnan(told), np.isnan(both))
    assert np.nanmean(told[:, 0]) == pytest.approx(0, abs=1e-6) and np.nanstd(told[:, 0]) == pytest.approx(1)
    assert not told[:4, 1].any()
    assert auto(shown, MACHINE, 1.0).net.numbers == 2
    with pytest.raises(UseError, match="age is known of no picture"):
        NumberSpec.of("age", np.full(3, np.nan, np.float32))


def test_pictures_take_their_numbers_from_what_is_trained_on() -> None:
    drawn = open_images("menagerie:40", size=(8, 8))
    numbers = np.zeros((len(drawn), 2), np.float32)
    numbers[drawn.train, 1] = np.arange(len(drawn.train))
    numbers[drawn.heldout] = 1e6
    shown = Pictures.of("drawn", replace(drawn, numbers=numbers, number_names=("x", "y")))
    assert [spec.name for spec in shown.numbers] == ["x", "y"]
    assert (shown.numbers[1].low, shown.numbers[1].high) == (0, len(drawn.train) - 1)
    assert (shown.numbers[0].std, shown.numbers[0].high) == (1, 0)
    assert Pictures.of("drawn", drawn).numbers == ()


def test_a_gpu_gets_larger_batches_unless_asked_otherwise() -> None:
    gpu = replace(FAST, device="cuda")
    made, asked = auto(pictures(), gpu, 10.0), auto(pictures(), gpu, 10.0, batch=64)
    assert (made.batch, made.muon_rate) == (GPU_BATCH, GPU_MUON_RATE)
    on_cpu = auto(pictures(), MACHINE, 10.0)
    assert (asked.batch, asked.muon_rate) == (64, on_cpu.muon_rate)


@pytest.mark.parametrize(
    ("side", "images_total", "batch"),
    [(32, 99_999, BATCH // 2), (32, 100_000, BATCH), (26, 1_000, BATCH), (64, 99_999, BATCH // 2)],
)
def test_short_runs_of_larger_pictures_take_twice_as_many_steps(side: int, images_total: int, batch: int) -> None:
    """3 x 32 x 32 values are many, 3 x 26 x 26 are few."""
    shown = pictures(height=side, width=side)
    assert auto(shown, MACHINE, None, images_total=images_total).batch == batch
    assert auto(shown, MACHINE, None, images_total=images_total, batch=8).batch == 8
    assert auto(shown, replace(MACHINE, device="cuda"), None, images_total=images_total).batch == GPU_BATCH


def test_the_cost_of_an_image_grows_with_its_positions() -> None:
    """Everything but the embedding is done once per position: equal rows cost equally much."""
    spec = UNetSpec(channels=3, patch=1, width=16, multipliers=(1,), blocks=(1,))
    one, two, three = (training_flops(spec, 8 * k, 8) for k in (1, 2, 3))
    assert three - two == two - one > 0
    lighter = UNetSpec.model_validate(spec.model_dump() | {"patch": 2})
    assert training_flops(lighter, 8, 8) < one


def test_counting_the_cost_leaves_the_generator_where_it_was() -> None:
    before = torch.random.get_rng_state()
    training_flops(UNetSpec(channels=5, patch=1, width=16, multipliers=(1,), blocks=(1,)), 8, 8)
    assert torch.equal(torch.random.get_rng_state(), before)


# --- where things fall ---


@given(total=st.integers(1_000, 10**9), minutes=MINUTES)
@settings(max_examples=80, deadline=None)
def test_positions_are_sorted_within_the_run_and_end_at_its_end(total: int, minutes: float | None) -> None:
    positions = plan_positions(total, minutes)
    for name in ("sheets", "saves", "checks"):
        found = getattr(positions, name)
        assert list(found) == sorted(set(found)), name
        assert all(0 <= place <= total for place in found)
    assert positions.end == positions.sheets[-1] == total
    assert {total * k // 4 for k in range(1, 5)} <= set(positions.sheets)
    assert all(place < total for place in positions.saves)
    assert all(place < total for place in positions.checks)


@given(total=st.integers(1_000, 10**9), minutes=st.floats(0.05, 20_000))
@settings(max_examples=80, deadline=None)
def test_the_first_sheet_comes_within_half_a_minute_and_no_more_than_five_are_ever_lost(
    total: int, minutes: float
) -> None:
    positions, seconds = plan_positions(total, minutes), 60 * minutes
    assert positions.sheets[0] / total * seconds <= 30
    stops = [0, *positions.saves, total]
    widest = max(after - before for before, after in pairwise(stops))
    assert (widest - 1) / total * seconds <= 300 * 1.001


def test_the_rate_is_checked_in_runs_planned_in_minutes_alone() -> None:
    assert plan_positions(10_000, 5.0).checks and not plan_positions(10_000, None).checks


# --- the learning rate ---


def test_the_learning_rate_rises_stays_and_falls_to_zero_linearly() -> None:
    """At s of T images seen: min(1, (s + batch) / warmup) min(1, (T - s) / (T (1 - anneal_from)))."""
    made = recipe(learning_rate=1e-3, warmup_images=160, anneal_from=0.5, batch=16)
    rates = [made.learning_rate * made.rate_share_at(seen, 1600) for seen in range(0, 1600, 16)]
    expected = [1e-3 * min(1.0, (seen + 16) / 160) * min(1.0, (1600 - seen) / 800) for seen in range(0, 1600, 16)]
    assert rates == pytest.approx(expected, rel=1e-12)
    assert rates[0] == pytest.approx(1e-4) and rates[9:51] == pytest.approx([1e-3] * 42)
    assert 0 < rates[-1] <= 1e-3 * 16 / 800 * (1 + 1e-12)


@given(
    total=st.integers(64, 10**7),
    batch=st.sampled_from([8, 64, 256]),
    warmup=st.integers(0, 10**6),
    anneal=st.floats(0.02, 0.98),
)
@settings(max_examples=80, deadline=None)
def test_the_learning_rate_stays_within_its_bounds(total: int, batch: int, warmup: int, anneal: float) -> None:
    made = recipe(learning_rate=2e-3, batch=batch, warmup_images=warmup, anneal_from=anneal)
    for seen in range(0, total, max(batch, total // 50)):
        assert 0 < made.rate_share_at(seen, total) <= 1


# --- the budget ---


@given(
    minutes=st.floats(1, 10_000),
    used=st.floats(0, 0.5),
    seen=st.integers(0, 10**7),
    rate=st.floats(0.5, 10**5),
)
@settings(max_examples=100, deadline=None)
def test_a_revised_total_fills_the_budget_at_the_measured_rate_and_never_exceeds_it(
    minutes: float, used: float, seen: int, rate: float
) -> None:
    seconds = used * 60 * minutes
    total = revised_total(minutes, seen, seconds, rate, 64)
    end = seconds + (total - seen) / rate
    assert total >= seen + 64
    assert end <= 60 * minutes or total == seen + 64
    assert end + 1 / rate >= 0.9 * 60 * minutes


def test_an_overspent_budget_leaves_one_more_step() -> None:
    assert revised_total(1.0, 5_000, 90.0, 1_000.0, 64) == 5_064
