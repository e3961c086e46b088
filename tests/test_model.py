"""A trained model: image k of a seed is the same alone or among others, settings are told, nothing is changed."""

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.errors import UseError
from fromnoise.images import open_images
from fromnoise.model import BATCH, Model, build_denoiser, build_net, last
from fromnoise.noise import SCHEDULES
from fromnoise.recipe import YOUNG_GUIDANCE, NumberSpec, Recipe
from fromnoise.sample import Sampler
from tiny import awake, equal, one_thread, pictures, recipe

LEVEL = 1  # of 255: one image alone or among others


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


def model_of(made: Recipe) -> Model:
    """A model with random weights, so that every part of the net speaks."""
    spec = open_images("menagerie:16", size=(8, 8)).spec
    return Model(made, spec, build_denoiser(made, awake(build_net(made))), 0, "ema", "")


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(recipe(sampler={"steps": 4}))


def near(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal within one level of 255."""
    return bool((np.abs(left.astype(int) - right.astype(int)) <= LEVEL).all())


def test_images_have_the_shape_of_the_pictures_and_labels_take_turns(model: Model) -> None:
    samples = model.sample(5, first=1)
    assert samples.images.shape == (5, 8, 8, 3) and samples.images.std() > 0
    assert samples.numbers == (1, 2, 3, 4, 5)
    assert samples.labels is not None and samples.labels.tolist() == [1, 0, 1, 0, 1]
    assert len(np.unique(samples.images.reshape(5, -1), axis=0)) == 5


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(model: Model) -> None:
    first, again, other = (model.sample(3, seed=seed).images for seed in (4, 4, 5))
    assert np.array_equal(first, again) and not near(first, other)


@pytest.mark.parametrize("stepper", ["dpm-2m", "ddpm", "heun"])
def test_an_image_is_the_same_alone_and_among_others(model: Model, stepper: str) -> None:
    sampler = Sampler(stepper, 4)
    among = model.sample(7, seed=2, sampler=sampler).images
    for number in (0, 4, 6):
        single = model.sample(1, seed=2, first=number, sampler=sampler).images[0]
        assert near(single, among[number])
        assert not near(single, among[(number + 2) % 6])


@pytest.mark.parametrize(("side", "count"), [(32, 256), (64, 256), (256, 16), (2048, 1)])
def test_a_gpu_takes_fewer_large_images_together(model: Model, side: int, count: int) -> None:
    told = recipe(pictures(height=side, width=side))
    assert Model(told, model.spec, model.denoiser, 0, "ema", "", "cuda").together == count
    assert Model(told, model.spec, model.denoiser, 0, "ema", "", "cpu").together == BATCH


def test_batches_join_without_a_seam(model: Model) -> None:
    told: list[tuple[int, int]] = []
    count = BATCH + 3
    many = model.sample(count, sampler=Sampler(steps=2), progress=lambda done, n: told.append((done, n)))
    tail = model.sample(3, first=BATCH, sampler=Sampler(steps=2))
    assert near(many.images[BATCH:], tail.images)
    assert told == [(done, 2 * count) for done in (BATCH, 2 * BATCH, 2 * BATCH + 3, 2 * count)]


def test_a_class_is_obeyed_and_an_unknown_one_refused_with_the_known(model: Model) -> None:
    dogs = model.sample(4, class_name="dog")
    assert dogs.labels is not None and dogs.labels.tolist() == [1, 1, 1, 1]
    turns = model.sample(4)
    assert near(dogs.images[1::2], turns.images[1::2]) and not near(dogs.images[::2], turns.images[::2])
    with pytest.raises(UseError, match=r"horse.*cat, dog"):
        model.sample(1, class_name="horse")


def test_guidance_is_the_recipe_s_unless_asked_otherwise(model: Model) -> None:
    own, said = model.sample(2), model.sample(2, guidance=model.recipe.guidance)
    assert model.recipe.guidance == YOUNG_GUIDANCE == own.settings["guidance"]
    assert np.array_equal(own.images, said.images)
    plain, guided = model.sample(2, guidance=1.0).images, model.sample(2, guidance=3.0).images
    assert not near(plain, guided) and not np.array_equal(plain, own.images)


def test_guidance_of_one_asks_once_for_the_class_alone(model: Model) -> None:
    labels = model.labels([0, 1])
    steps = list(model.trajectory([0, 1], labels=labels, guidance=1.0))
    assert steps[-1].nfe == model.recipe.sampler.steps
    everywhere = replace(model, recipe=model.recipe.model_copy(update={"guided_within": None}))
    assert list(everywhere.trajectory([0, 1], labels=labels))[-1].nfe == 2 * steps[-1].nfe


def test_a_model_without_classes_refuses_class_and_guidance() -> None:
    bare = model_of(recipe(pictures(classes=())))
    assert bare.sample(2).labels is None
    for wrong in ({"class_name": "cat"}, {"guidance": 2.0}):
        with pytest.raises(UseError, match="without class folders"):
            bare.sample(1, **wrong)  # type: ignore[arg-type]


def test_an_earlier_denoiser_is_led_away_from_with_classes_and_without(model: Model) -> None:
    """Where the two agree there is nothing to lead away from; where they do not, guidance 1 leaves the plain answer."""
    for classes in ((), ("cat", "dog")):
        told = recipe(pictures(classes=classes), sampler={"steps": 3}, guided_within=None)
        bare = model_of(told)
        other = replace(bare, earlier=build_denoiser(told, awake(build_net(told), 5)))
        same = replace(bare, earlier=bare.denoiser)
        plain = bare.sample(2, guidance=1.0).images
        assert np.array_equal(other.sample(2, guidance=1.0).images, plain)
        assert near(same.sample(2).images, bare.sample(2).images) and not near(other.sample(2).images, plain)
        labels = other.labels([0, 1])
        assert [list(each.trajectory([0, 1], labels=labels))[-1].nfe for each in (bare, other)] == [
            6 if classes else 3,
            6,
        ]
        assert list(other.trajectory([0, 1], labels=labels, guidance=1.0))[-1].nfe == 3


KNOWN = (
    NumberSpec(name="angle", low=0, high=360, mean=180, std=100),
    NumberSpec(name="age", low=1, high=9, mean=4, std=2),
)


@pytest.fixture(scope="module")
def numbered() -> Model:
    return model_of(recipe(pictures(numbers=KNOWN), sampler={"steps": 3}))


def test_numbers_are_asked_for_by_name_in_any_subset(numbered: Model) -> None:
    asked: list[dict[str, int | float]] = [{}, {"angle": 30}, {"angle": 200}, {"age": 3}, {"age": 3, "angle": 30}]
    found = [numbered.sample(3, numbers=numbers) for numbers in asked]
    assert all(not near(a.images, b.images) for k, a in enumerate(found) for b in found[:k])
    assert np.array_equal(found[0].images, numbered.sample(3).images)
    assert [samples.settings["numbers"] for samples in found] == [asked_for or None for asked_for in asked]
    alone = numbered.sample(1, first=2, numbers={"angle": 30, "age": 3})
    assert near(alone.images[0], found[-1].images[2]) and found[-1].labels is not None
    steps = numbered.trajectory([2], labels=numbered.labels([2]), numbers={"age": 3, "angle": 30})
    assert near(numbered.to_values(last(steps).x_s)[0][0], found[-1].images[2])


def test_a_net_is_told_deviations_from_the_mean_of_the_pictures(numbered: Model) -> None:
    condition = numbered._condition(2, None, numbered.asked({"age": 7}))
    assert condition.numbers is not None
    np.testing.assert_array_equal(condition.numbers.numpy(), [[np.nan, 1.5]] * 2)


def test_guidance_acts_on_numbers_alone_too() -> None:
    model = model_of(
        recipe(pictures(classes=(), numbers=KNOWN), sampler={"steps": 3}, guidance=1.5, guided_within=None)
    )
    told = list(model.trajectory([0], numbers={"age": 2}))
    assert told[-1].nfe == 2 * list(model.trajectory([0], numbers={"age": 2}, guidance=1.0))[-1].nfe
    assert list(model.trajectory([0]))[-1].nfe == told[-1].nfe / 2, "nothing is asked for, nothing to guide to"
    assert not near(
        model.sample(2, numbers={"age": 2}).images, model.sample(2, numbers={"age": 2}, guidance=4.0).images
    )


def test_unknown_numbers_are_refused_with_the_known_and_far_ones_spoken_of(numbered: Model, model: Model) -> None:
    for wrong, says in (
        ({"size": 3.0}, r"'size'.*angle \(0 to 360\), age \(1 to 9\)"),
        ({"age": np.nan}, "value of age"),
    ):
        with pytest.raises(UseError, match=says):
            numbered.sample(1, numbers=wrong)
    with pytest.raises(UseError, match=r"without columns of numbers in a labels\.csv"):
        model.sample(1, numbers={"age": 2})
    assert numbered.beyond({"age": 1, "angle": 360}) == numbered.beyond(None) == ()
    (said,) = numbered.beyond({"age": 9.5, "angle": 3})
    assert "age 9.5 lies outside the 1 to 9" in said


def test_settings_say_how_the_images_were_made(model: Model) -> None:
    sampler = Sampler("ddim", 3, "uniform", eta=0.5)
    settings = model.sample(1, seed=9, class_name="cat", guidance=2.0, sampler=sampler).settings
    assert settings == {
        "seed": 9,
        "class": "cat",
        "numbers": None,
        "guidance": 2.0,
        "sampler": "ddim",
        "steps": 3,
        "grid": "uniform",
        "eta": 0.5,
        "churn": 0.0,
        "tolerance": None,
        "corrections": 0,
    }
    assert model.sample(1).settings["steps"] == model.recipe.sampler.steps == 4


def test_the_trajectory_ends_in_the_image_that_sample_gives(model: Model) -> None:
    steps = list(model.trajectory([3], seed=1, labels=np.array([1], np.int64)))
    assert len(steps) == 4 and steps[-1].s == 0
    values, _ = model.to_values(steps[-1].x_s)
    assert near(values[0], model.sample(1, first=3, seed=1).images[0])
    assert torch.equal(last(iter(steps)).x_s, steps[-1].x_s)


def test_values_outside_the_range_of_the_files_are_counted(model: Model) -> None:
    inside = torch.zeros(1, 3, 8, 8)
    outside = inside.clone()
    outside[0, 0, 0, :3] = 5.0
    assert model.to_values(inside)[1] == 0 and model.to_values(outside)[1] == 3


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_one_model_samples_under_every_schedule(model: Model, schedule: str) -> None:
    under = model.under(schedule)
    assert type(under.denoiser.schedule) is type(SCHEDULES[schedule]())
    assert under.sample(2).images.std() > 0
    assert model.denoiser.schedule is not under.denoiser.schedule


def test_sampling_changes_neither_the_weights_nor_the_random_state(model: Model) -> None:
    net = model.denoiser.net  # type: ignore[attr-defined]
    before, state = {name: w.clone() for name, w in net.named_parameters()}, torch.get_rng_state()
    model.sample(2, sampler=Sampler("ddpm", 2))
    assert equal(before, dict(net.named_parameters())) and torch.equal(state, torch.get_rng_state())


def test_first_weights_depend_on_the_seed_of_the_recipe_alone() -> None:
    torch.manual_seed(1)
    first, state = dict(build_net(recipe()).named_parameters()), torch.get_rng_state()
    torch.manual_seed(2)
    again, other = (dict(build_net(recipe(seed=seed)).named_parameters()) for seed in (0, 1))
    assert equal(first, again) and not equal(first, other)
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


def test_samples_show_themselves_in_a_notebook(model: Model) -> None:
    shown = Image.open(BytesIO(model.sample(4)._repr_png_()))
    assert shown.format == "PNG" and min(shown.size) >= 16


def test_a_model_cannot_be_changed(model: Model) -> None:
    assert replace(model, weights="raw").weights == "raw"
    with pytest.raises(AttributeError):
        model.weights = "raw"  # type: ignore[misc]
