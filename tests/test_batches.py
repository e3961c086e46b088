"""What a training step is shown: a pure function of its position, and what the recipe says of it."""

import itertools
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fromnoise import batches, keyed
from fromnoise.batches import (
    PLACES,
    TOGETHER,
    ahead,
    batch_at,
    feed,
    noise_levels,
    training_indices,
    training_pair,
)
from fromnoise.denoise import stratified
from fromnoise.errors import UseError
from fromnoise.images import ImageSet, open_images
from fromnoise.noise import SCHEDULES
from fromnoise.recipe import STRATA, Pictures, Recipe
from tiny import close, recipe

EDM = SCHEDULES["edm"]()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """84 of 8x8x3 in four classes; the batch does not divide those trained on."""
    drawn = open_images("menagerie:84", size=(8, 8))
    assert len(drawn.train) % 16
    return drawn


def recipe_of(images: ImageSet, **fields: object) -> Recipe:
    return recipe(Pictures.of("drawn", images), **fields)


@pytest.mark.parametrize("size", [1, 7, 16, 37])
def test_every_epoch_shows_every_image_once_in_an_order_of_its_own(size: int) -> None:
    made, train = recipe(), 100 + np.arange(size, dtype=np.int64)
    epochs = 16
    shown = np.concatenate([training_indices(made, train, seen) for seen in range(0, size * epochs, made.batch)])
    order = shown[: size * epochs].reshape(epochs, size)
    assert np.array_equal(np.sort(order, 1), np.tile(train, (epochs, 1)))
    if size > 1:
        assert len(np.unique(order, axis=0)) > epochs // 4


def test_the_order_depends_on_the_seed_and_the_position_alone() -> None:
    made, train = recipe(), np.arange(37, dtype=np.int64)
    first = [training_indices(made, train, seen) for seen in (160, 0, 160)]
    assert np.array_equal(first[0], first[2]) and not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], training_indices(recipe(seed=1), train, 160))


def test_a_training_pair_is_a_pure_function_of_seed_and_position(images: ImageSet) -> None:
    made = recipe_of(images)

    def at(of: Recipe, seen: int) -> list[Tensor]:
        indices = training_indices(of, images.train, seen)
        pair = training_pair(of, images, indices, seen, EDM, "cpu")
        assert pair.condition.class_index is not None
        return [pair.x0, pair.eps, pair.t, pair.x_t, pair.condition.class_index]

    first = at(made, 48)
    torch.manual_seed(5)
    np.random.seed(5)
    at(made, 0)
    assert all(torch.equal(left, right) for left, right in zip(first, at(made, 48), strict=True))
    for other in (at(made, 64), at(recipe_of(images, seed=1), 48)):
        assert not any(torch.equal(left, right) for left, right in zip(first[:4], other[:4], strict=True))


def test_a_batch_shows_its_images_with_standard_noise_at_a_level_from_each_stratum(images: ImageSet) -> None:
    made = recipe_of(images, batch=64)
    edges = noise_levels(made, torch.linspace(0, 1, STRATA + 1, dtype=torch.float64), EDM)
    eps = []
    for seen in range(0, 640, 64):
        indices = training_indices(made, images.train, seen)
        pair = training_pair(made, images, indices, seen, EDM, "cpu")
        assert torch.equal(pair.x0, images.x0(indices))
        log_snr = EDM.log_snr(pair.t).view(STRATA, -1)
        assert bool((log_snr < edges[:-1, None] + 1e-9).all() and (log_snr > edges[1:, None] - 1e-9).all())
        eps.append(pair.eps)
    drawn = torch.stack(eps)
    assert abs(float(drawn.mean())) < 4 / math.sqrt(drawn.numel())
    assert abs(float(drawn.var()) - 1) < 4 * math.sqrt(2 / drawn.numel())


@pytest.mark.parametrize("levels", ["log-normal", "logit-normal", "uniform"])
def test_levels_go_from_clean_to_noisy(images: ImageSet, levels: str) -> None:
    u = stratified(torch.full((64,), 0.5, dtype=torch.float64))
    log_snr = noise_levels(recipe_of(images, levels=levels), u, EDM)
    assert bool((log_snr.diff() < 0).all())


def test_classes_are_hidden_in_the_share_asked_for_and_right_elsewhere(images: ImageSet) -> None:
    """Within four standard deviations of the binomial law."""
    assert images.labels is not None
    made, hidden, shown = recipe_of(images, label_dropout=0.2, batch=64), 0, 0
    for seen in range(0, 64 * 100, 64):
        indices = training_indices(made, images.train, seen)
        told = training_pair(made, images, indices, seen, EDM, "cpu").condition.class_index
        assert told is not None
        kept = told.numpy() >= 0
        assert np.array_equal(told.numpy()[kept], images.labels[indices][kept])
        hidden, shown = hidden + int((~kept).sum()), shown + len(kept)
    assert abs(hidden / shown - 0.2) < 4 * math.sqrt(0.2 * 0.8 / shown)


def test_numbers_are_hidden_all_together_or_each_on_its_own_and_right_elsewhere(images: ImageSet) -> None:
    values = np.stack([np.arange(len(images)), np.where(np.arange(len(images)) % 3, 2.0, np.nan)], 1).astype(np.float32)
    values[::2, 1] += 1
    numbered = replace(images, numbers=values, number_names=("x", "y"))
    made, share = recipe_of(numbered, label_dropout=0.3, batch=64), 0.3
    told, classes, right = [], [], []
    for seen in range(0, 64 * 40, 64):
        indices = training_indices(made, images.train, seen)
        condition = training_pair(made, numbered, indices, seen, EDM, "cpu").condition
        plain = training_pair(recipe_of(images, label_dropout=0.3, batch=64), images, indices, seen, EDM, "cpu")
        assert condition.class_index is not None and plain.condition.class_index is not None
        assert torch.equal(condition.class_index, plain.condition.class_index) and plain.condition.numbers is None
        assert condition.numbers is not None and condition.numbers.dtype == torch.float32
        told.append(condition.numbers)
        classes.append(condition.class_index)
        right.append(torch.from_numpy(made.pictures.normalised(values[indices])))
    found, expected, hidden = torch.cat(told), torch.cat(right), torch.cat(classes) < 0
    unknown = torch.isnan(found)
    assert bool(unknown[hidden].all()) and torch.equal(found[~unknown], expected[~unknown])
    both = unknown[~hidden & ~torch.isnan(expected[:, 1])].double()
    close_to = 4 * (share * (1 - share) / len(both)) ** 0.5
    assert both.mean(0).tolist() == pytest.approx([share, share], abs=close_to)
    assert both.prod(1).mean().item() == pytest.approx(share**2, abs=close_to)


def test_pictures_without_classes_are_told_none(images: ImageSet) -> None:
    bare = replace(images, labels=None, classes=())
    made = recipe_of(bare)
    pair = training_pair(made, bare, training_indices(made, bare.train, 0), 0, EDM, "cpu")
    assert pair.condition.class_index is None


# --- the feed ---


def test_the_feed_gives_the_batch_of_every_position_and_begins_at_any(images: ImageSet) -> None:
    made = recipe_of(images)
    for batch, seen in zip(feed(made, images, EDM, "cpu", 48), (48, 64, 80), strict=False):
        again = batch_at(made, images, EDM, "cpu", seen)
        assert batch.images_seen == seen and np.array_equal(batch.indices, again.indices)
        assert torch.equal(batch.pair.x_t, again.pair.x_t) and torch.equal(batch.pair.t, again.pair.t)
        assert torch.allclose(batch.log_snr, EDM.log_snr(batch.pair.t), rtol=1e-12, atol=1e-12)


def test_only_cuda_is_sent_float64(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """MPS has none."""
    sent: list[torch.dtype] = []

    def note(tensor: Tensor, device: str) -> Tensor:
        sent.append(tensor.dtype)
        return tensor

    monkeypatch.setattr(batches, "_sent", note)
    batch_at(recipe_of(images), images, EDM, "cpu", 0)
    assert torch.float32 in sent and torch.float64 not in sent


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that CUDA can use")
def test_a_gpu_is_fed_the_batches_of_every_position_and_its_thread_ends(images: ImageSet) -> None:
    made, before = recipe_of(images), threading.active_count()
    fed = feed(made, images, EDM, "cuda", 0)
    for seen in range(0, 320, made.batch):
        batch, alone = next(fed), batch_at(made, images, EDM, "cuda", seen)
        tensors = {name: value for name, value in vars(batch.pair).items() if name != "condition"}
        assert all(torch.equal(value, getattr(alone.pair, name)) and value.is_cuda for name, value in tensors.items())
        assert batch.pair.condition.class_index is not None and alone.pair.condition.class_index is not None
        assert torch.equal(batch.pair.condition.class_index, alone.pair.condition.class_index)
    fed.close()
    assert threading.active_count() == before


def test_what_is_made_ahead_comes_in_order_and_never_more_than_asked_for() -> None:
    begun: list[int] = []

    def make(position: int) -> int:
        begun.append(position)
        return position**2

    made = ahead(make, itertools.count(), 3)
    assert [next(made) for _ in range(5)] == [0, 1, 4, 9, 16]
    close(made)
    assert begun == list(range(len(begun))) and 5 <= len(begun) <= 5 + 3


def test_the_thread_ends_when_nobody_listens_any_more_and_when_making_fails() -> None:
    def fails(position: int) -> int:
        if position == 2:
            raise UseError("the third is broken")
        return position

    before = threading.active_count()
    left = ahead(lambda position: position, itertools.count(), 2)
    next(left)
    close(left)
    with pytest.raises(UseError, match="third"):
        list(ahead(fails, itertools.count(), 2))
    assert threading.active_count() == before


def test_draws_made_together_are_those_made_alone() -> None:
    """Across the borders of a block of draws, and of an epoch's order."""
    made, train = recipe(), np.arange(PLACES + 37, dtype=np.int64)
    for seen in (0, PLACES - 16, PLACES, len(train) // 16 * 16):
        positions = np.arange(seen, seen + 16)
        alone = [
            keyed.permute(made.seed, int(p) // len(train), np.array([p % len(train)]), len(train))[0] for p in positions
        ]
        assert training_indices(made, train, seen).tolist() == alone
    images = open_images("menagerie:84", size=(8, 8))
    for number in (0, TOGETHER - 1, TOGETHER):
        u = keyed.uniforms(keyed.derive(made.seed, keyed.Purpose.LEVELS, number), made.batch)
        levels = noise_levels(made, stratified(torch.from_numpy(u)), EDM)
        batch = batch_at(made, images, EDM, "cpu", number * made.batch)
        assert torch.equal(batch.pair.t, EDM.t_at(levels))
