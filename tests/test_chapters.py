"""The chapters: forward pairs are the forward formula with one noise, reverse steps are the steps of ``sample``."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from fromnoise import keyed
from fromnoise.chapters import class_names, forward, predicted_noise, reverse
from fromnoise.errors import UseError
from fromnoise.images import ImageSet, ValueSpec, open_images
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.noise import SCHEDULES
from fromnoise.sample import Sampler
from tiny import awake, one_thread, pictures, recipe
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
    with pytest.raises(UseError, match="Guidance 2 needs classes"):
        reverse(model(classes=()), [0], guidance=2.0)
