"""Every number drawn is a pure function of (seed, purpose, position)."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromnoise import keyed

START = keyed.Purpose.START
SEEDS = st.integers(0, 2**64 - 1)


def words(*values: int) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(value, np.uint32) for value in values)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_random123(counter, key, expected):
    """The three lines ``threefry2x32 20`` of the Random123 library's known-answer file, kat_vectors."""
    found = keyed.threefry(words(*key), words(*counter))
    assert tuple(int(word) for word in found) == expected


def test_threefry_is_a_bijection_of_counters():
    counter = np.arange(2**16, dtype=np.uint32)
    low, high = keyed.threefry(words(7, 9), (counter, np.zeros_like(counter)))
    assert len(np.unique(low.astype(np.uint64) << np.uint64(32) | high)) == len(counter)


@settings(deadline=None)
@given(SEEDS, st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4))
def test_an_array_of_words_gives_the_keys_of_its_entries(seed, found):
    together = keyed.derive(seed, START, np.asarray(found, np.int64), 5)
    for i, word in enumerate(found):
        alone = keyed.derive(seed, START, word, 5)
        assert (together[0][i], together[1][i]) == (alone[0], alone[1])


def test_keys_depend_on_each_half_of_seed_and_word_and_on_their_order():
    paths = [(3,), (3 + 2**32,), (3, 0), (3, 1), (3, 1 + 2**32), (3, 1, 2), (3, 2, 1), (4, 1, 2)]
    assert len({tuple(int(word) for word in keyed.derive(*path)) for path in paths}) == len(paths)


@settings(deadline=None)
@given(SEEDS, st.integers(0, 2**63 - 1))
def test_an_integer_fits_into_63_bits_and_says_the_same_twice(seed, word):
    found = keyed.integer(seed, keyed.Purpose.WEIGHTS, word)
    assert 0 <= found < 2**63
    assert found == keyed.integer(seed, keyed.Purpose.WEIGHTS, word)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 40), st.integers(1, 40))
def test_the_first_normals_do_not_depend_on_how_many_are_drawn(seed, few, many):
    key = keyed.derive(seed, START, np.arange(3))
    shared = min(few, many)
    np.testing.assert_array_equal(keyed.normals(key, few)[:, :shared], keyed.normals(key, many)[:, :shared])


def test_one_key_gives_the_row_that_many_keys_give():
    together = keyed.normals(keyed.derive(3, START, np.arange(64)), 11)
    np.testing.assert_array_equal(together[17], keyed.normals(keyed.derive(3, START, 17), 11))


def test_the_quantile_agrees_with_torch_from_end_to_end():
    """torch.special.ndtri is the Cephes routine, by other rational functions than AS 241."""
    cells = np.concatenate([2.0 ** np.arange(0, 33), np.linspace(1, 2**32 - 1, 100_001).round()])
    p = np.concatenate([(cells - 0.5) / 2.0**32, 1.0 - (cells - 0.5) / 2.0**32, [0.075, 0.925]])
    expected = torch.special.ndtri(torch.from_numpy(p)).numpy()
    np.testing.assert_allclose(keyed.normal_quantile(p), expected, rtol=5e-15, atol=5e-15)


def test_the_quantile_is_odd_and_zero_in_the_middle():
    p = (np.arange(1, 2**10) + 0.5) / 2.0**11
    np.testing.assert_array_equal(keyed.normal_quantile(p), -keyed.normal_quantile(1.0 - p))
    assert keyed.normal_quantile(np.array([0.5])) == 0.0


def test_uniforms_are_the_middles_of_the_cells_the_words_name():
    """By the known answer for key 0 and counter 0; the ends 0 and 1 can then never come."""
    found = keyed.uniforms(words(0, 0), 2)
    np.testing.assert_array_equal(found, [(0x6B200159 + 0.5) / 2**32, (0x99BA4EFE + 0.5) / 2**32])


@pytest.mark.parametrize("part", ["high bits", "low bits"])
def test_uniforms_are_uniform(part):
    """Chi-squared with 255 degrees of freedom has deviation 22.6; six of them at a fixed seed is generous."""
    u = keyed.uniforms(keyed.derive(0, START), 2**16)
    assert u.min() > 0.0 and u.max() < 1.0
    cell = np.floor(u * 256) if part == "high bits" else np.floor(u * 2.0**32) % 256
    expected = len(u) / 256
    chi_squared = ((np.bincount(cell.astype(int), minlength=256) - expected) ** 2 / expected).sum()
    assert abs(chi_squared - 255) < 6 * np.sqrt(2 * 255)


def test_normals_have_the_moments_of_a_normal():
    """Six standard errors of the mean of x, x**2, x**3, x**4, and of the product of neighbours and of keys."""
    x = keyed.normals(keyed.derive(0, START, np.arange(2)), 2**16).astype(np.float64)
    n = x.size
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((x**power).mean() - mean) < 6 * np.sqrt(variance / n)
    assert abs((x[:, 1:] * x[:, :-1]).mean()) < 6 / np.sqrt(n)
    assert abs((x[0] * x[1]).mean()) < 6 / np.sqrt(n / 2)


@settings(deadline=None)
@given(SEEDS, st.integers(0, 100), st.integers(1, 3000))
def test_permute_is_a_bijection(seed, epoch, size):
    landed = keyed.permute(seed, epoch, np.arange(size), size)
    np.testing.assert_array_equal(np.sort(landed), np.arange(size))


@settings(deadline=None)
@given(st.integers(2, 2**62), st.data())
def test_permute_goes_place_by_place_at_any_size(size, data):
    places = np.asarray(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=5)), np.int64)
    landed = keyed.permute(3, 1, places, size)
    assert ((landed >= 0) & (landed < size)).all()
    assert len(set(landed.tolist())) == len(set(places.tolist()))
    np.testing.assert_array_equal(landed[:1], keyed.permute(3, 1, places[:1], size))


def test_permute_differs_between_epochs_and_seeds():
    orders = [keyed.permute(seed, epoch, np.arange(50), 50) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


@pytest.mark.parametrize("size", [10, 20])
def test_a_place_lands_everywhere_equally_often(size):
    """Over 400 epochs, for the first and the last place: chi-squared within six deviations above its mean."""
    ends = np.array([0, size - 1])
    landed = np.stack([keyed.permute(0, epoch, ends, size) for epoch in range(400)])
    for column in landed.T:
        expected = len(column) / size
        chi_squared = ((np.bincount(column, minlength=size) - expected) ** 2 / expected).sum()
        assert chi_squared < size - 1 + 6 * np.sqrt(2 * (size - 1))
