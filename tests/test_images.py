"""Image space: every source, every kind of colour, and the promises of the packed set."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from fromnoise.errors import NonFinite, UseError
from fromnoise.images import (
    ImageSet,
    ValueSpec,
    decode,
    drawn_source,
    encode_png,
    enlarge,
    montage,
    open_images,
    parse_size,
    picture_source,
    read_png_text,
)
from fromnoise.images.kinds import Kind
from fromnoise.images.raster import Raster
from fromnoise.images.resize import fit_image
from fromnoise.images.split import fingerprint, heldout_indices, wanted_heldout
from fromnoise.images.workers import Job

GREY, RGB, RGBA = (
    ValueSpec(channels=1, alpha=False),
    ValueSpec(channels=3, alpha=False),
    ValueSpec(channels=4, alpha=True),
)


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("FROMNOISE_CACHE", str(cache))
    return cache


def random_values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, values: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def folder_of(root: Path, count: int, *shape: int) -> Path:
    for i in range(count):
        save(root / f"{i:04}.png", random_values(*shape, seed=i))
    return root


def refusals(images: ImageSet) -> dict[str, str]:
    return {each.name: each.reason for each in images.report.refused}


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    decoded: list[str] = []
    original = picture_source.answers

    def counted(jobs: Iterable[Job]) -> Iterator[object]:
        for file, answer in original(jobs):
            decoded.extend([file.name] if isinstance(answer, Raster) else [])
            yield file, answer

    monkeypatch.setattr(picture_source, "answers", counted)
    return decoded


# Values


def shapes(channels: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.just(channels))


@given(arrays.arrays(np.uint8, shapes(3)))
def test_decoding_undoes_encoding(values: np.ndarray) -> None:
    encoded = RGB.encode(values)
    assert encoded.dtype == np.float32 and encoded.min() >= -1 and encoded.max() <= 1
    decoded, clipped = RGB.decode(encoded)
    np.testing.assert_array_equal(decoded, values)
    assert clipped == 0


@given(arrays.arrays(np.uint8, shapes(4)))
def test_premultiplied_decoding_undoes_encoding_wherever_anything_shows(values: np.ndarray) -> None:
    decoded, clipped = RGBA.decode(RGBA.encode(values))
    np.testing.assert_array_equal(decoded[..., 3], values[..., 3])
    np.testing.assert_array_equal(decoded[..., :3], np.where(values[..., 3:] == 0, 0, values[..., :3]))
    assert clipped == 0


@given(arrays.arrays(np.uint8, shapes(4)), st.floats(0.0005, 0.03), st.integers(0, 99))
def test_an_error_in_x0_stays_within_the_stated_bound(values: np.ndarray, error: float, seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-error, error, values.shape)
    decoded, _ = RGBA.decode(RGBA.encode(values).astype(np.float64) + noise)
    moved = np.abs(decoded.astype(float) - values)
    assert moved[..., 3].max() <= 127.5 * error + 0.5 + 1e-4
    alpha = values[..., 3:] / 255
    bounded = alpha - error / 2 > 0.5 / 255
    bound = 255 * error / np.where(bounded, alpha - error / 2, 1) + 0.5 + 1e-3
    assert np.all((moved[..., :3] <= bound) | ~bounded)


def test_encoding_in_closed_form() -> None:
    grey = GREY.encode(np.array([0, 51, 255], np.uint8).reshape(1, 3, 1))
    np.testing.assert_allclose(grey.ravel(), [-1, -0.6, 1], atol=1e-7)
    half = RGBA.encode(np.array([[[255, 51, 0, 102]]], np.uint8))  # opacity 0.4
    np.testing.assert_allclose(half.ravel(), [-0.2, 2 * 0.2 * 0.4 - 1, -1, -0.2], atol=1e-6)


def test_clipped_values_are_counted_and_rounding_alone_is_not() -> None:
    x0 = np.array([-1.003, 1.003, -1.01, 1.01, 0.0], np.float64).reshape(1, 5, 1)
    values, clipped = GREY.decode(x0)
    assert values.ravel().tolist() == [0, 255, 0, 255, 128] and clipped == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_has_no_picture(bad: float) -> None:
    with pytest.raises(NonFinite, match="1 of the 3 values"):
        GREY.decode(np.array([0.0, bad, 0.5]).reshape(1, 3, 1))


@pytest.mark.parametrize("spec", [GREY, RGB, RGBA])
def test_a_spec_survives_json(spec: ValueSpec) -> None:
    assert ValueSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_values_of_a_newer_version_are_refused() -> None:
    with pytest.raises(UseError, match="newer fromnoise"):
        ValueSpec.from_json(GREY.to_json() | {"bits": 24})


# Kinds of colour


@pytest.mark.parametrize(
    ("stored", "channels"),
    [(random_values(9, 7), 1), (random_values(9, 7, 3), 3), (random_values(9, 7, 4), 4)],
    ids=["grey", "RGB", "RGBA"],
)
def test_each_kind_arrives_as_it_was(tmp_path: Path, stored: np.ndarray, channels: int) -> None:
    save(tmp_path / "p" / "one.png", stored)
    images = open_images(tmp_path / "p")
    expected = stored.reshape(9, 7, channels)
    if channels == 4:
        expected = np.where(expected[..., 3:] == 0, 0, expected)
    np.testing.assert_array_equal(images.values[0], expected)
    assert images.shape == (9, 7, channels) and images.spec.alpha == (channels == 4)
    assert images.report.decisions[0] == "All images are 9x7 (height x width) and stay as they are."


def test_palettes_one_bit_and_colour_keys_are_expanded(tmp_path: Path) -> None:
    palette = Image.fromarray(random_values(4, 5, 3)).quantize(8)
    (tmp_path / "p").mkdir()
    palette.save(tmp_path / "p" / "palette.png")
    palette.save(tmp_path / "p" / "see_through.png", transparency=0)
    palette.save(tmp_path / "p" / "see_through_too.png", transparency=0)
    images = open_images(tmp_path / "p")
    assert images.spec == RGBA and len(images) == 3
    np.testing.assert_array_equal(images.values[0, ..., :3], np.asarray(palette.convert("RGB")))
    assert set(np.unique(images.values[1, ..., 3])) == {0, 255} and images.values[0, ..., 3].min() == 255
    assert "With a palette, read as RGB, or as RGBA where transparent: 3." in images.report.decisions


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_each_format_is_read(tmp_path: Path, suffix: str) -> None:
    card = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    save(tmp_path / "p" / f"one.{suffix}", card)
    difference = np.abs(open_images(tmp_path / "p").values[0].astype(int) - card)
    assert difference.max() <= (0 if suffix == "png" else 4)


def test_a_mixed_folder_takes_the_commonest_kind_and_loses_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 5, 6, 6, 3)
    grey = random_values(6, 6, seed=50)
    opaque = np.dstack([random_values(6, 6, 3, seed=51), np.full((6, 6), 255, np.uint8)])
    save(folder / "grey.png", grey)
    save(folder / "opaque.png", opaque)
    save(folder / "glass.png", np.dstack([opaque[..., :3], random_values(6, 6)]))
    images = open_images(folder)
    by_name = dict(zip(images.names, images.values, strict=True))
    np.testing.assert_array_equal(by_name["grey.png"], grey[..., None].repeat(3, axis=-1))
    np.testing.assert_array_equal(by_name["opaque.png"], opaque[..., :3])
    assert refusals(images) == {"glass.png": "misfit: it is partly transparent, while the pictures here are RGB"}
    assert "Most images are RGB; 1 grey, 1 RGBA became RGB, nothing was lost." in images.report.decisions


def test_a_grey_folder_takes_grey_stored_as_colour_but_no_colour(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 3, 6, 6)
    grey = random_values(6, 6, seed=50)
    save(folder / "as_rgb.png", np.dstack([grey] * 3))
    save(folder / "coloured.png", random_values(6, 6, 3))
    images = open_images(folder)
    np.testing.assert_array_equal(images.values[list(images.names).index("as_rgb.png"), ..., 0], grey)
    assert refusals(images) == {"coloured.png": "misfit: it is coloured, while the pictures here are grey"}


# EXIF 2.32, table 4: where the 0th row and the 0th column of the stored picture are seen.
def stored_for(orientation: int, upright: np.ndarray) -> np.ndarray:
    rows_first = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    if orientation in rows_first:
        return rows_first[orientation]
    turned = np.swapaxes(upright, 0, 1)  # 5: row 0 is the left-hand side, column 0 the top
    return {5: turned, 6: turned[::-1], 7: turned[::-1, ::-1], 8: turned[:, ::-1]}[orientation]


def test_the_table_of_orientations_says_what_exif_says() -> None:
    upright = random_values(4, 6, 3)
    stored = stored_for(6, upright)  # "the 0th row is the visual right-hand side, the 0th column the visual top"
    np.testing.assert_array_equal(stored[0], upright[:, -1])
    np.testing.assert_array_equal(stored[:, 0], upright[0, ::-1])


def exif_bytes(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = random_values(5, 8, 3)
    stored = np.ascontiguousarray(stored_for(orientation, upright))
    save(tmp_path / "p" / "one.png", stored, exif=exif_bytes(orientation))
    images = open_images(tmp_path / "p")
    np.testing.assert_array_equal(images.values[0], upright)
    assert ("Turned upright, as their EXIF says: 1." in images.report.decisions) == (orientation != 1)


def test_exif_after_the_pixels_counts_too(tmp_path: Path) -> None:
    upright = random_values(5, 8, 3)
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored_for(6, upright))).save(stream, format="PNG")
    body = exif_bytes(6).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "one.png").write_bytes(stream.getvalue()[:-12] + chunk + stream.getvalue()[-12:])
    np.testing.assert_array_equal(open_images(tmp_path / "p").values[0], upright)


# Sizes


@pytest.mark.parametrize(
    ("text", "size"), [("64", (64, 64)), ("48x64", (48, 64)), (" 7 × 9 ", (7, 9)), ("1X1", (1, 1))]
)
def test_sizes_are_height_by_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "64x", "x64", "-3", "64x0", "1.5", "64 64", "4097", "big", "3x4x5", "٣x"])
def test_other_texts_are_no_size(text: str) -> None:
    with pytest.raises(UseError, match="height x width"):
        parse_size(text)


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([(28, 28)] * 2, (28, 28)),
        ([(64, 48)] * 2, (64, 48)),
        ([(65, 65)] * 2, (64, 64)),
        ([(90, 120), (75, 100)], (48, 64)),
        ([(427, 640), (667, 1000)], (43, 64)),
        ([(90, 120), (120, 90)], (64, 64)),
        ([(20, 20), (30, 30)], (30, 30)),
        ([(1, 300)], (1, 64)),
    ],
)
def test_the_default_size(tmp_path: Path, sizes: list[tuple[int, int]], chosen: tuple[int, int]) -> None:
    for i, (h, w) in enumerate(sizes):
        save(tmp_path / "p" / f"{i}.png", random_values(h, w))
    images = open_images(tmp_path / "p")
    assert images.shape[:2] == chosen
    assert "--size" in images.report.decisions[0] or set(sizes) == {chosen}


def test_crop_takes_the_middle_and_copies_pixels_where_nothing_is_resized() -> None:
    values = random_values(10, 21, 3)
    np.testing.assert_array_equal(fit_image(values, (10, 10), "crop"), values[:, 5:15])


def test_pad_keeps_all_in_the_middle_and_stretch_fills() -> None:
    values = np.full((4, 8, 3), 200, np.uint8)
    padded = fit_image(values, (8, 8), "pad")
    np.testing.assert_array_equal(padded[2:6], values)
    assert not padded[:2].any() and not padded[6:].any()
    np.testing.assert_array_equal(fit_image(values, (8, 8), "stretch"), np.full((8, 8, 3), 200))
    glass = fit_image(np.full((4, 8, 4), 200, np.uint8), (8, 8), "pad", alpha=True)
    assert not glass[0].any() and np.all(glass[4] == 200)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4]))
@settings(deadline=None, max_examples=60)
def test_any_size_goes_into_any_other_and_a_flat_colour_stays(h: int, w: int, H: int, W: int, c: int) -> None:
    colour = np.array([180, 20, 90, 130][-c:], np.uint8)
    image = np.broadcast_to(colour, (h, w, c)).copy()
    for fit in ("crop", "stretch"):
        np.testing.assert_array_equal(fit_image(image, (H, W), fit, c == 4), np.broadcast_to(colour, (H, W, c)))
    assert fit_image(image, (H, W), "pad", c == 4).shape == (H, W, c)


@pytest.mark.parametrize(("stored", "wanted"), [((32, 32), (8, 8)), ((32, 32), (11, 13)), ((9, 9), (40, 40))])
def test_the_colour_behind_transparency_never_shows(stored: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Opaque orange beside invisible green: all that can be seen afterwards is orange."""
    values = np.zeros((*stored, 4), np.uint8)
    values[:] = (0, 255, 0, 0)
    values[2:-3, : stored[1] // 2] = (200, 100, 50, 255)
    resized = fit_image(values, wanted, "stretch", alpha=True)
    seen = resized[..., 3] > 0
    assert 0 < seen.sum() < seen.size and 0 < resized[..., 3][seen].min() < 255
    np.testing.assert_array_equal(resized[seen][:, :3], np.broadcast_to((200, 100, 50), (seen.sum(), 3)))
    np.testing.assert_array_equal(resized[~seen], 0)


def test_a_large_jpeg_is_shrunk_to_the_mean_of_its_parts(tmp_path: Path) -> None:
    """Decoding at an eighth of the size is a shortcut, not another picture."""
    card = np.zeros((640, 960, 3), np.uint8)
    card[:, :480], card[:, 480:] = (220, 40, 40), (50, 70, 200)
    save(tmp_path / "p" / "one.jpg", card, quality=95, exif=exif_bytes(6))
    images = open_images(tmp_path / "p", size=(24, 16))
    assert images.report.sizes == (((960, 640), 1),)
    assert np.abs(images.values[0, :10].astype(int) - (220, 40, 40)).max() <= 4
    assert np.abs(images.values[0, 14:].astype(int) - (50, 70, 200)).max() <= 4


# Folders


def test_sub_folders_are_classes_below_the_folder_they_share(tmp_path: Path) -> None:
    for i, name in enumerate(("cat/a.png", "cat/deep/b.png", "dog/c.png")):
        save(tmp_path / "p" / "download" / name, random_values(4, 4, 3, seed=i))
    images = open_images(tmp_path / "p")
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 0, 1]
    assert images.report.class_counts == (("cat", 2), ("dog", 1))
    assert "The 2 sub-folders in download are the classes: cat, dog." in images.report.decisions


def test_a_flat_folder_has_no_classes_nor_has_a_mixture(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 3, 4, 4)
    images = open_images(folder)
    assert images.labels is None and images.classes == ()
    assert "All pictures lie in one folder, so there are no classes." in images.report.decisions
    save(folder / "cat" / "more.png", random_values(4, 4, seed=9))
    images = open_images(folder)
    assert images.labels is None and len(images) == 4
    assert any("both at the top (3) and in sub-folders (1)" in each for each in images.report.decisions)


def test_a_broken_file_sways_no_decision(tmp_path: Path) -> None:
    """Their headers say 100x100 and RGB, their pixels are missing; what is left is 9x9 and RGBA."""
    folder = folder_of(tmp_path / "p", 3, 9, 9, 4)
    stream = io.BytesIO()
    Image.fromarray(random_values(100, 100, 3)).save(stream, format="PNG")
    for i in range(5):
        (folder / f"broken{i}.png").write_bytes(stream.getvalue()[:5000])
    images = open_images(folder)
    assert images.shape == (9, 9, 4) and len(images) == 3
    assert refusals(images) == {f"broken{i}.png": "truncated: the data end before the picture does" for i in range(5)}


def test_links_are_named_and_never_followed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 2, 4, 4)
    outside = folder_of(tmp_path / "outside", 1, 4, 4)
    for name, target in {
        "self": folder / "self",
        "parent": folder,
        "out.png": outside / "0000.png",
        "out": outside,
        "in.png": folder / "0000.png",
    }.items():
        (folder / name).symlink_to(target)
    images = open_images(folder)
    assert images.names == ("0000.png", "0001.png")
    words = {name: reason.split(":")[0] for name, reason in refusals(images).items()}
    assert words == {
        "self": "link-loop",
        "parent": "link-loop",
        "out.png": "unsafe-path",
        "out": "unsafe-path",
        "in.png": "link",
    }


def test_odd_names_and_pipes_are_survived(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 1, 4, 4)
    data = (folder / "0000.png").read_bytes()
    odd = ["-rf.png", "a'b\"c.png", "$x;#&\\.png", "line\nfeed.png", os.fsdecode(b"\xff\xfe.png")]
    for name in odd:
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.png")
    for _ in range(2):
        images = open_images(folder)
        assert set(images.names) == {"0000.png", *odd}
        assert refusals(images) == {"pipe.png": "not-a-file: a pipe, socket or device is never opened"}


def test_the_test_cards_come_out_right(data_folder: Path, tmp_path: Path) -> None:
    card = np.zeros((32, 48, 3), int)
    card[:16, :24], card[:16, 24:] = (220, 40, 40), (40, 170, 60)
    card[16:, :24], card[16:, 24:] = (50, 70, 200), (240, 240, 230)
    wanted = [path for path in (data_folder / "bad_images").iterdir() if "orientation" in path.name]
    for path in wanted:
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / "p" / path.name).write_bytes(path.read_bytes())
    images = open_images(tmp_path / "p")
    assert len(images) == len(wanted)
    assert images.shape == (32, 48, 3)
    inner = np.ones((32, 48), bool)
    inner[14:18], inner[:, 22:26] = False, False  # lossy formats blur the borders of the quarters
    assert np.abs(images.values.astype(int) - card)[:, inner].max() <= 4


# Arrays


def test_an_array_in_memory(tmp_path: Path) -> None:
    values = random_values(6, 5, 4)
    images = open_images(values)
    np.testing.assert_array_equal(images.values[..., 0], values)
    assert images.names[5] == "images[5]" and images.shape == (5, 4, 1)
    assert open_images(values[:, :, ::-1]).identity != images.identity


def test_large_arrays_are_resized_and_small_ones_are_not() -> None:
    assert open_images(np.full((3, 128, 256, 3), 90, np.uint8)).shape == (32, 64, 3)
    images = open_images(np.full((3, 9, 9, 4), 90, np.uint8), size=(4, 6), fit="stretch")
    assert images.shape == (4, 6, 4) and np.all(images.values == 90)


@pytest.mark.parametrize(("x", "y"), [("images", "labels"), ("x", "y"), ("x_train", "y_train")])
@pytest.mark.parametrize("compressed", [True, False])
def test_archives_of_arrays(tmp_path: Path, x: str, y: str, compressed: bool) -> None:
    values, labels = random_values(5, 4, 6, 3), np.array([7, 3, 7, 3, 3], np.uint8)
    write = np.savez_compressed if compressed else np.savez
    write(tmp_path / "set.npz", **{x: values, y: labels, "x_test": values[:2]})
    images = open_images(tmp_path / "set.npz")
    np.testing.assert_array_equal(images.values, values)
    assert images.labels.tolist() == [1, 0, 1, 0, 0] and images.classes == ("3", "7")
    assert images.names[2] == f"{x}[2]"
    aside = "The test part under x_test (2 images) is left aside."
    assert (aside in images.report.decisions) == (x == "x_train")


def test_class_names_of_an_archive(tmp_path: Path) -> None:
    values, labels = random_values(3, 4, 4), np.array([2, 0, 2])
    np.savez(tmp_path / "set.npz", x=values, y=labels, classes=np.array(["cat", "dog", "panda"]))
    images = open_images(tmp_path / "set.npz")
    assert images.classes == ("cat", "dog", "panda") and images.labels.tolist() == [2, 0, 2]
    assert images.report.class_counts == (("cat", 1), ("dog", 0), ("panda", 2))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_single_array_file(tmp_path: Path, order: str) -> None:
    values = np.array(random_values(5, 4, 6, 3), order=order)
    np.save(tmp_path / "set.npy", values)
    images = open_images(tmp_path / "set.npy")
    np.testing.assert_array_equal(images.values, values)
    assert images.names[0] == "set[0]"


SAVED: dict[str, tuple[Callable[[Path], None], str]] = {
    "wide integers": (lambda path: np.save(path, np.zeros((2, 4, 4), np.int64)), "save it as uint8, uint16 or float32"),
    "complex numbers": (lambda path: np.save(path, np.zeros((2, 4, 4), np.complex64)), "save it as uint8"),
    "one axis": (lambda path: np.save(path, np.zeros(4, np.uint8)), r"has the shape \(4,\)"),
    "five axes": (lambda path: np.save(path, np.zeros((1, 1, 4, 4, 3), np.uint8)), "channels"),
    "one picture": (lambda path: np.save(path, np.zeros((20, 20, 3), np.uint8)), r"x\[None\]"),
    "no images": (lambda path: np.save(path, np.zeros((0, 4, 4), np.uint8)), r"\(0, 4, 4\)"),
    "channels first": (lambda path: np.save(path, np.zeros((2, 3, 8, 8), np.uint8)), r"transpose\(0, 2, 3, 1\)"),
    "objects": (lambda path: np.save(path, np.array([{}, {}])), "unpickling"),
    "cut": (lambda path: path.write_bytes(npy_bytes(np.zeros((9, 8, 8), np.uint8))[:300]), "truncated"),
    "no array": (lambda path: path.write_bytes(b"hello" * 50), "no .npy header"),
}


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("name", SAVED)
def test_arrays_that_are_no_set_are_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    write, said = SAVED[name]
    write(tmp_path / "set.npy")
    with pytest.raises(UseError, match=said):
        open_images(tmp_path / "set.npy")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a": np.zeros(3)}, "holds a: save it again"),
        ({"x": np.zeros((3, 4, 4), np.uint8), "y": np.zeros(2, int)}, "3 labels that are whole numbers"),
        ({"x": np.zeros((3, 4, 4), np.uint8), "y": np.zeros(3)}, "float64"),
        ({"x": np.zeros((2, 4, 4), np.uint8), "y": np.array([0, 5]), "classes": np.array(["a"])}, "0..5"),
    ],
)
def test_archives_that_are_no_set_are_refused_in_a_sentence(tmp_path: Path, members: dict, said: str) -> None:
    np.savez(tmp_path / "set.npz", **members)
    with pytest.raises(UseError, match=said):
        open_images(tmp_path / "set.npz")


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("where", [60, 2000])
def test_a_damaged_archive_is_refused_and_leaves_no_pack(
    tmp_path: Path, fresh_cache: Path, write: Callable[..., None], where: int
) -> None:
    write(tmp_path / "set.npz", x=random_values(50, 8, 8))
    data = bytearray((tmp_path / "set.npz").read_bytes())
    data[where + 40 : where + 60] = bytes(20)
    (tmp_path / "set.npz").write_bytes(data)
    with pytest.raises(UseError):
        open_images(tmp_path / "set.npz")
    assert not fresh_cache.exists() or list((fresh_cache / "sets").iterdir()) == []
    (tmp_path / "set.npz").write_bytes(data[:100])
    with pytest.raises(UseError, match=r"no whole \.npz"):
        open_images(tmp_path / "set.npz")


def test_the_arrays_of_the_bad_folder_raise_nothing_else(data_folder: Path) -> None:
    for path in sorted((data_folder / "bad_images").glob("*.npy")):
        with suppress(UseError):
            assert len(open_images(path)) > 0


# The embedded set


def test_the_menagerie_is_drawn_packed_and_labelled() -> None:
    from fromnoise.menagerie import KINDS, Menagerie

    images = open_images("menagerie:50@7", size=(16, 24))
    pictures = Menagerie.parse("menagerie:50@7")
    np.testing.assert_array_equal(images.values, pictures.render(np.arange(50), 16, 24))
    np.testing.assert_array_equal(images.labels, pictures.labels())
    assert images.classes == tuple(KINDS) and images.spec == RGB
    assert sum(count for _, count in images.report.class_counts) == 50
    assert open_images("menagerie:3").shape == (32, 32, 3)


# The split


def test_how_many_are_held_out() -> None:
    assert [wanted_heldout(n) for n in (0, 39, 40, 100, 199, 200, 320, 1000, 60_000)] == [
        0,
        0,
        4,
        10,
        20,
        16,
        16,
        50,
        3000,
    ]


prints = st.lists(st.integers(0, 400), min_size=40, max_size=300).map(
    lambda numbers: [fingerprint(number.to_bytes(2, "little")) for number in numbers]
)


@given(prints)
def test_copies_stay_on_one_side_and_enough_are_held_out(fingerprints: list[bytes]) -> None:
    heldout = set(heldout_indices(fingerprints).tolist())
    outside = {fingerprints[i] for i in heldout}
    assert all((each in outside) == (i in heldout) for i, each in enumerate(fingerprints))
    wanted = wanted_heldout(len(fingerprints))
    copies = Counter(fingerprints)
    if max(copies.values()) <= wanted:
        assert wanted <= len(heldout) < wanted + max(copies.values())
    assert len(heldout) < 2 * wanted


@given(st.integers(40, 400), st.integers(1, 400), st.randoms())
def test_adding_images_only_moves_the_border(n: int, more: int, random: object) -> None:
    old = [fingerprint(i.to_bytes(4, "little")) for i in range(n)]
    new = [*old, *(fingerprint(i.to_bytes(4, "little")) for i in range(n, n + more))]
    before, after = set(heldout_indices(old).tolist()), set(heldout_indices(new).tolist()) & set(range(n))
    assert before <= after or after <= before


def test_the_split_of_a_set(tmp_path: Path) -> None:
    values = random_values(300, 4, 4)
    values[250:] = values[:50]  # 50 copies
    images = open_images(values)
    np.testing.assert_array_equal(np.sort(np.concatenate([images.train, images.heldout])), np.arange(300))
    sides = [{images.values[i].tobytes() for i in side} for side in (images.train, images.heldout)]
    assert not sides[0] & sides[1]
    assert images.report.n_heldout == len(images.heldout) >= 16
    assert images.report.n_train + images.report.n_heldout == 300
    assert any(each.startswith("50 images are exact copies of others") for each in images.report.decisions)
    few = open_images(values[:39])
    assert len(few.heldout) == 0 and "No images are held out: 39 are too few to spare any." in few.report.decisions


# The packed copy


def test_a_second_open_decodes_nothing_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(45):
        save(tmp_path / "p" / "ab"[i % 2] / f"{i}.png", random_values(8, 8, 4, seed=i))
    (tmp_path / "p" / "broken.png").write_bytes(b"no picture")
    decoded = count_decodes(monkeypatch)
    calls: list[tuple[int, int]] = []
    first = open_images(tmp_path / "p", progress=lambda done, total: calls.append((done, total)))
    assert len(decoded) == 45 and calls[-1] == (90, 90)
    again = open_images(tmp_path / "p", progress=lambda done, total: calls.append((done, total)))
    assert len(decoded) == 45 and len(calls) == 1
    assert isinstance(again.values, np.memmap) and not again.values.flags.writeable
    for name in ("values", "labels", "train", "heldout"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    for name in ("classes", "names", "spec", "identity", "report", "sigma_data", "mean", "std"):
        assert getattr(again, name) == getattr(first, name)


def test_a_changed_folder_size_or_fit_is_another_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "p", 3, 8, 12)
    decoded = count_decodes(monkeypatch)
    identities = {open_images(folder).identity, open_images(folder, size=(8, 8)).identity}
    identities.add(open_images(folder, size=(8, 8), fit="stretch").identity)
    save(folder / "0001.png", random_values(8, 12, seed=77))
    identities.add(open_images(folder).identity)
    assert len(decoded) == 12 and len(identities) == 4
    (folder / "0002.png").unlink()
    assert len(open_images(folder)) == 2


@pytest.mark.parametrize("file", ["values", "names", "heldout", "manifest.json"])
def test_a_damaged_pack_is_made_again(tmp_path: Path, fresh_cache: Path, file: str) -> None:
    folder = folder_of(tmp_path / "p", 41, 4, 4)
    first = open_images(folder)
    (pack,) = (fresh_cache / "sets").iterdir()
    (pack / file).write_bytes((pack / file).read_bytes()[:-1])
    again = open_images(folder)
    assert again.identity == first.identity and again.names == first.names
    np.testing.assert_array_equal(again.heldout, first.heldout)


def test_identity_depends_on_what_is_trained_on_and_on_nothing_else(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "p", 4, 4, 4)
    same = folder_of(tmp_path / "elsewhere", 4, 4, 4)
    (same / "notes.txt").write_text("no picture")
    assert open_images(folder).identity == open_images(same).identity
    labelled = tmp_path / "labelled"
    for i in range(4):
        save(labelled / "ab"[i % 2] / f"{i}.png", random_values(4, 4, seed=(0, 2, 1, 3)[i]))
    assert open_images(labelled).identity != open_images(folder).identity


def test_the_cache_lies_where_the_system_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FROMNOISE_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_images(random_values(2, 4, 4))
    assert len(list((tmp_path / "xdg" / "fromnoise" / "sets").iterdir())) == 1


# What the set gives


def test_x0_is_what_the_spec_says(tmp_path: Path) -> None:
    import torch

    values = random_values(6, 5, 7, 4)
    images = open_images(values)
    x0 = images.x0(np.array([4, 0, 4]))
    assert (
        x0.dtype == torch.float32 and x0.shape == (3, 4, 5, 7) and x0.is_contiguous(memory_format=torch.channels_last)
    )
    np.testing.assert_array_equal(x0.numpy(), RGBA.encode(values[[4, 0, 4]]).transpose(0, 3, 1, 2))
    assert open_images(values[..., 0]).x0([1]).shape == (1, 1, 5, 7)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mean_and_deviation_are_those_of_x0(channels: int) -> None:
    images = open_images(random_values(50, 5, 7, channels))
    x0 = images.x0(range(50)).numpy().astype(np.float64)
    np.testing.assert_allclose(images.mean, x0.mean(axis=(0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(images.std, x0.std(axis=(0, 2, 3)), atol=1e-6)
    assert images.sigma_data == pytest.approx(x0.std(), abs=1e-6)


def test_a_notebook_shows_the_first_64() -> None:
    values = random_values(70, 64, 64, 3)
    shown = np.asarray(Image.open(io.BytesIO(open_images(values)._repr_png_())))
    np.testing.assert_array_equal(shown, montage(values[:64]))


# What cannot be opened


def test_a_missing_source_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "flowers64").mkdir()
    with pytest.raises(UseError, match="did you mean flowers64"):
        open_images(tmp_path / "flowrs64")
    with pytest.raises(UseError, match=r"holds .*flowers64"):
        open_images(tmp_path / "zzz")
    with pytest.raises(UseError, match="there is no gone in"):
        open_images(tmp_path / "gone" / "deep" / "er")
    with pytest.raises(UseError, match=r"is empty\."):
        open_images(tmp_path / "flowers64" / "x")


def test_a_folder_without_pictures_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(UseError, match="found no files: give the folder"):
        open_images(tmp_path / "p")
    for name in ("a.txt", "b.txt", "c"):
        (tmp_path / "p" / name).write_text("text")
    with pytest.raises(UseError, match=r"found 3 files \(2 \.txt, 1 without an ending\)"):
        open_images(tmp_path / "p")
    (tmp_path / "p" / "a.png").write_text("text")
    with pytest.raises(UseError, match=r"none of the 1 there can be used; the first is a\.png \(mislabelled"):
        open_images(tmp_path / "p")


def test_a_single_file_is_no_source(tmp_path: Path) -> None:
    save(tmp_path / "one.png", random_values(4, 4))
    with pytest.raises(UseError, match=r"a single \.png: give the folder"):
        open_images(tmp_path / "one.png")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UseError, match="neither a folder nor a file"):
        open_images(tmp_path / "loop")


def test_many_pictures_are_drawn_by_processes_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 8, the last of 5, by three processes in turn: the same pictures as by none."""
    from fromnoise.menagerie import Menagerie

    monkeypatch.setattr(drawn_source, "AT_ONCE", 8)
    monkeypatch.setattr(drawn_source, "PROCESSES", 3)
    started, start = list[str](), drawn_source.start_python
    monkeypatch.setattr(drawn_source, "start_python", lambda *words: started.append(words[-1]) or start(*words))
    images = open_images("menagerie:61@7", size=(32, 32))
    assert np.array_equal(images.values, Menagerie(61, 7).render(np.arange(61), 32, 32))
    assert started == ["0", "1", "2"]


def test_a_process_that_ends_while_it_draws_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    start = drawn_source.start_python
    monkeypatch.setattr(drawn_source, "AT_ONCE", 8)
    monkeypatch.setattr(drawn_source, "PROCESSES", 3)
    monkeypatch.setattr(drawn_source, "start_python", lambda code, *words: start("sys.exit()", *words))
    with pytest.raises(UseError, match="menagerie:61@7 was not drawn"):
        open_images("menagerie:61@7", size=(32, 32))


@pytest.mark.parametrize("text", ["menagerie:many", "menagerie:5@", "menagerie:0"])
def test_a_misspelt_menagerie_is_wrong_use(text: str) -> None:
    with pytest.raises(UseError):
        open_images(text)


@given(st.binary(max_size=300), st.sampled_from(["png", "jpg", "webp"]), st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_no_mutated_file_ends_the_scan(noise: bytes, kind: str, at: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(random_values(9, 11, 3)).save(stream, format={"jpg": "JPEG"}.get(kind, kind.upper()))
    data = bytearray(stream.getvalue())
    start = at % len(data)
    data[start : start + len(noise)] = noise
    verdict = try_to_read(bytes(data))
    assert verdict is None or verdict.shape == (9, 11, 3)


def try_to_read(data: bytes) -> np.ndarray | None:
    folder = Path(os.environ["FROMNOISE_CACHE"]).parent / "mutated"
    folder.mkdir(exist_ok=True)
    (folder / "one.png").write_bytes(data)
    file = decode.File("one.png", len(data), str(folder / "one.png"))
    try:
        if decode.read_header(file) is None:
            return None
        return decode.read_pixels(file, decode.Target(Kind("uint", 8, 3, False), (9, 11), "stretch")).values
    except decode.BadFile:
        return None


# PNG files and montages


def test_a_png_carries_its_settings(tmp_path: Path) -> None:
    text = {"fromnoise": json.dumps({"seed": 3, "name": "花と犬"}), "Title": "two\nlines"}
    for values in (random_values(5, 6), random_values(5, 6, 1), random_values(5, 6, 3), random_values(5, 6, 4)):
        data = encode_png(values, text)
        assert data == encode_png(values, text)
        (tmp_path / "x.png").write_bytes(data)
        assert read_png_text(tmp_path / "x.png") == text
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x.png")), values.squeeze())
    assert read_png_text(str(tmp_path / "x.png")) == text


def test_the_settings_of_no_png_are_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(UseError, match=r"x\.png is no PNG"):
        read_png_text(tmp_path / "x.png")
    with pytest.raises(UseError, match="no such file"):
        read_png_text(tmp_path / "y.png")


@given(st.integers(1, 11), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 3), st.booleans())
def test_each_pixel_of_a_montage_is_a_block(n: int, h: int, w: int, k: int, gap: int, grey: bool) -> None:
    values = random_values(n, h, w, 1 if grey else 3)
    sheet = montage(values, columns=3, gap=gap, factor=k)
    rows = -(-n // 3)
    assert sheet.shape == (rows * (h * k + gap) - gap, 3 * (w * k + gap) - gap, 3)
    left_over = np.ones(sheet.shape[:2], bool)
    for i in range(n):
        top, left = (i // 3) * (h * k + gap), (i % 3) * (w * k + gap)
        cell = sheet[top : top + h * k, left : left + w * k]
        blocks = cell.reshape(h, k, w, k, 3)
        np.testing.assert_array_equal(blocks, np.broadcast_to(values[i][:, None, :, None], (h, k, w, k, 3)))
        left_over[top : top + h * k, left : left + w * k] = False
    assert np.all(sheet[left_over] == 255)


def test_a_montage_is_near_square_and_large_enough_to_see() -> None:
    assert montage(random_values(64, 32, 32, 3), gap=0).shape == (512, 512, 3)
    assert montage(random_values(50, 28, 28, 1), gap=0).shape == (7 * 84, 8 * 84, 3)
    assert montage(random_values(2, 100, 100, 3), gap=2).shape == (100, 202, 3)
    h, w, _ = montage(random_values(64, 16, 64, 3)).shape
    assert 0.5 < h / w < 2


def test_transparency_is_shown_on_a_checkerboard() -> None:
    clear = montage(np.zeros((1, 64, 64, 4), np.uint8))
    assert set(np.unique(clear)) == {225, 255} and (clear == 225).mean() == 0.5
    opaque = random_values(1, 64, 64, 4)
    opaque[..., 3] = 255
    np.testing.assert_array_equal(montage(opaque), opaque[0, ..., :3])


def test_enlarging_repeats_pixels() -> None:
    values = random_values(2, 3, 4, 3)
    np.testing.assert_array_equal(enlarge(values, 3), np.kron(values, np.ones((1, 3, 3, 1), np.uint8)))
    np.testing.assert_array_equal(enlarge(values[0], 2), np.kron(values[0], np.ones((2, 2, 1), np.uint8)))
    np.testing.assert_array_equal(enlarge(values[0, ..., 0], 2), np.kron(values[0, ..., 0], np.ones((2, 2), np.uint8)))


# Real data


def test_fashion_mnist(data_folder: Path) -> None:
    images = open_images(data_folder / "fashion_mnist.npz")
    assert len(images) == 60_000 and images.shape == (28, 28, 1) and images.spec == GREY
    assert images.report.class_counts == tuple((str(k), 6000) for k in range(10))
    assert len(images.heldout) == 3000  # no copies, says the data's README
    # The published mean 0.28604 and deviation 0.35302 of values / 255.
    assert images.mean[0] == pytest.approx(2 * 0.28604 - 1, abs=2e-5)
    assert images.sigma_data == pytest.approx(2 * 0.35302, abs=2e-5)
    assert "The test part under x_test (10,000 images) is left aside." in images.report.decisions


def test_flowers(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(data_folder / "flowers64.zip") as archive:
        archive.extractall(tmp_path)
    decoded = count_decodes(monkeypatch)
    images = open_images(tmp_path / "flowers64")
    assert len(images) == len(decoded) == 3670 and images.shape == (64, 64, 3)
    counts = {"daisy": 633, "dandelion": 898, "roses": 641, "sunflowers": 699, "tulips": 799}
    assert dict(images.report.class_counts) == counts and images.report.other == ("README.txt",)
    np.testing.assert_allclose((np.array(images.mean) + 1) / 2, [0.4883, 0.4375, 0.3105], atol=1e-4)
    np.testing.assert_allclose(np.array(images.std) / 2, [0.2899, 0.2609, 0.2869], atol=1e-4)
    assert any(each.startswith("3 images are exact copies") for each in images.report.decisions)
    assert open_images(tmp_path / "flowers64").identity == images.identity and len(decoded) == 3670


def test_game_tiles_and_emoji(data_folder: Path) -> None:
    tiles = open_images(data_folder / "dcss_tiles32.npz")
    assert tiles.shape == (32, 32, 4) and tiles.spec == RGBA and len(tiles) == 3747
    assert dict(tiles.report.class_counts)["dngn"] == 1097
    with np.load(data_folder / "dcss_tiles32.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(tiles.values, stored["x"])
    emoji = open_images(data_folder / "emoji_google32.npz")
    assert any(each.startswith("14 images are exact copies") for each in emoji.report.decisions)
