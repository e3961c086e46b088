"""Numbers as conditions, all the way: pictures drawn from two numbers, trained on, measured again in the samples."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float, UInt8

from fromnoise.images import ImageSet, open_images
from fromnoise.model import Model
from fromnoise.recipe import Pictures, Recipe
from fromnoise.run_folder import RunFolder, load
from fromnoise.sample import Sampler
from fromnoise.training import fit
from tiny import close, newest, one_thread, recipe, require_equal

BRIGHT = (60.0, 200.0)  # mean of a picture, 0..255
SLOPE = 12.0  # of the ramp that rises towards the angle
DOWN, RIGHT = np.mgrid[0:8, 0:8] - 3.5
FEW = Sampler(steps=6)
TOTAL = 8000


def drawn(bright: Float[np.ndarray, " n"], angle: Float[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 8 8 1"]:
    turned = np.radians(angle)[:, None, None]
    ramp = SLOPE * (np.cos(turned) * RIGHT + np.sin(turned) * DOWN)
    return np.rint(np.clip(bright[:, None, None] + ramp, 0, 255)).astype(np.uint8)[..., None]


def brightness(images: UInt8[np.ndarray, "n 8 8 1"]) -> Float[np.ndarray, " n"]:
    return images.mean((1, 2, 3))


def angles(images: UInt8[np.ndarray, "n 8 8 1"]) -> Float[np.ndarray, " n"]:
    values = images[..., 0].astype(float)
    return np.degrees(np.arctan2((values * DOWN).sum((1, 2)), (values * RIGHT).sum((1, 2))))


def apart(left: Float[np.ndarray, " n"], right: float) -> Float[np.ndarray, " n"]:
    """Degrees between two directions, 0..180."""
    return np.abs((left - right + 180) % 360 - 180)


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def images() -> ImageSet:
    draw = np.random.default_rng(0)
    bright, angle = draw.uniform(*BRIGHT, 400), draw.uniform(0, 360, 400)
    opened = open_images(drawn(bright, angle))
    numbers = np.stack([bright, angle], 1).astype(np.float32)
    numbers[::10, 0] = np.nan  # of some only the angle is known
    return replace(opened, numbers=numbers, number_names=("bright", "angle"))


def recipe_of(images: ImageSet, total: int) -> Recipe:
    return recipe(Pictures.of("drawn", images), images_total=total, batch=32, warmup_images=640)


def train(path: Path, images: ImageSet, made: Recipe, leave_after: int | None = None) -> None:
    folder = RunFolder(path)
    if not folder.exists:
        folder.create(made, images.spec)
    with folder.writing():
        iterator = fit(made, images, folder)
        for count, _ in enumerate(iterator, 1):
            if count == leave_after:
                close(iterator)


@pytest.fixture(scope="module")
def model(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("runs") / "drawn"
    train(path, images, recipe_of(images, TOTAL))
    return load(path)


def test_samples_follow_the_number_asked_for(model: Model) -> None:
    asked = np.repeat(np.linspace(75, 185, 6), 12)
    samples = [
        model.sample(12, first=12 * k, numbers={"bright": float(each)}, sampler=FEW).images
        for k, each in enumerate(asked[::12])
    ]
    found = brightness(np.concatenate(samples))
    slope = float(np.polyfit(asked, found, 1)[0])
    assert np.corrcoef(asked, found)[0, 1] > 0.9 and slope == pytest.approx(1, abs=0.3)
    assert np.abs(found - asked).mean() < 15


def test_the_other_number_is_followed_as_well_and_both_together(model: Model) -> None:
    wrong = []
    for asked in (20.0, 110.0, 200.0, 290.0):
        wrong.append(apart(angles(model.sample(12, numbers={"angle": asked}, sampler=FEW).images), asked))
    assert np.mean(wrong) < 30  # of 90 by chance
    both = model.sample(12, numbers={"angle": 200.0, "bright": 90.0}, sampler=FEW).images
    assert apart(angles(both), 200.0).mean() < 30 and abs(brightness(both).mean() - 90) < 20


def test_nothing_asked_for_gives_the_spread_of_the_pictures(model: Model, images: ImageSet) -> None:
    asked: tuple[dict[str, int | float] | None, ...] = (None, {"angle": 110.0}, {"bright": 130.0})
    samples = [model.sample(48, numbers=numbers, sampler=FEW).images for numbers in asked]
    free, turned, bound = (brightness(each) for each in samples)
    spread = brightness(images.values).std()
    assert free.mean() == pytest.approx(brightness(images.values).mean(), abs=4 * spread / 48**0.5)
    assert 0.6 * spread < free.std() < 1.4 * spread and bound.std() < 0.4 * spread < turned.std()
    ways = np.radians(angles(samples[0]))
    assert np.hypot(np.cos(ways).mean(), np.sin(ways).mean()) < 0.4, "of vectors of length one, in all directions"


def test_a_run_with_numbers_that_stops_goes_on_bit_for_bit(images: ImageSet, tmp_path: Path) -> None:
    made = recipe_of(images, 320)
    train(tmp_path / "whole", images, made)
    train(tmp_path / "stopped", images, made, leave_after=5)
    train(tmp_path / "stopped", images, made)
    require_equal(newest(tmp_path / "whole"), newest(tmp_path / "stopped"))
    assert "embedding.numbers.weight" in newest(tmp_path / "whole").weights
