"""The menagerie: pictures are functions of (seed, number), factors follow their distributions, all of them show."""

from pathlib import Path

import numpy as np
import pytest

from fromnoise.errors import UseError
from fromnoise.menagerie import DISTRIBUTIONS, KIND, KINDS, Choice, Menagerie, Uniform, paint
from fromnoise.menagerie.factors import draw
from fromnoise.menagerie.flower import turns
from fromnoise.menagerie.shapes import Canvas, Frame, cos_sin

DOCS = Path(__file__).parent.parent / "docs" / "menagerie.md"
EVERY_FACTOR = [(kind, name) for kind in KINDS for name in DISTRIBUTIONS[kind]]


def members(menagerie: Menagerie, kind: str) -> np.ndarray:
    return np.flatnonzero(menagerie.labels() == KINDS.index(kind))


def factor_columns(menagerie: Menagerie, kind: str, count: int) -> dict[str, np.ndarray]:
    """What ``paint`` takes: for each factor, the numbers or codes of choices of the first images of a kind."""
    return draw(DISTRIBUTIONS[kind], menagerie.seed, members(menagerie, kind)[:count], kind)


@pytest.mark.parametrize("size", [(32, 32), (21, 47)])
def test_a_picture_is_the_same_alone_in_a_batch_in_another_order_and_count(size: tuple[int, int]) -> None:
    menagerie = Menagerie(count=5000, seed=3)
    indices = np.arange(700)
    together = menagerie.render(indices, *size)
    shuffled = np.random.default_rng(0).permutation(indices)
    assert np.array_equal(menagerie.render(shuffled, *size), together[shuffled])
    for i in range(0, 700, 71):
        alone = Menagerie(count=i + 1, seed=3).render(np.array([i]), *size)
        assert np.array_equal(alone[0], together[i]), i


def test_a_large_picture_is_the_same_alone_and_in_a_batch() -> None:
    menagerie = Menagerie(seed=11)
    together = menagerie.render(np.arange(40), 160, 160)
    for i in (0, 7, 23, 39):
        assert np.array_equal(menagerie.render(np.array([i]), 160, 160)[0], together[i])


def test_a_number_named_twice_gives_its_picture_twice_and_none_gives_none() -> None:
    menagerie = Menagerie()
    twice = menagerie.render(np.array([4, 9, 4]), 16, 16)
    assert np.array_equal(twice[0], twice[2])
    assert menagerie.render(np.array([], np.int64), 16, 16).shape == (0, 16, 16, 3)


def test_seeds_and_numbers_give_other_pictures() -> None:
    first = Menagerie(seed=0).render(np.arange(300), 16, 16).reshape(300, -1)
    other = Menagerie(seed=1).render(np.arange(300), 16, 16).reshape(300, -1)
    assert len(np.unique(np.concatenate([first, other]), axis=0)) == 600


def test_a_picture_is_painted_from_its_factors() -> None:
    """The public factors are all that a picture depends on."""
    menagerie = Menagerie(400, seed=5)
    for kind in KINDS:
        some = members(menagerie, kind)[:20]
        public = [menagerie.factors(int(i)) for i in some]
        columns = {}
        for name, d in DISTRIBUTIONS[kind].items():
            values = [factors[name] for factors in public]
            columns[name] = np.array([d.values.index(v) for v in values] if isinstance(d, Choice) else values)
        assert np.array_equal(paint(kind, columns, 40, 40), menagerie.render(some, 40, 40))


def test_labels_are_the_kinds_and_equally_likely() -> None:
    menagerie = Menagerie(count=40_000, seed=1)
    labels = menagerie.labels()
    assert labels.dtype == np.int64
    assert [menagerie.factors(i)["kind"] for i in range(50)] == [KINDS[label] for label in labels[:50]]
    assert np.array_equal(menagerie.labels(np.array([7, 3])), labels[[7, 3]])
    assert_choice_fits(KIND, np.bincount(labels, minlength=4))


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_factors_follow_their_distributions(kind: str) -> None:
    menagerie = Menagerie(count=10_000, seed=2)
    columns = factor_columns(menagerie, kind, 2000)
    for name, d in DISTRIBUTIONS[kind].items():
        if isinstance(d, Choice):
            assert_choice_fits(d, np.bincount(columns[name], minlength=len(d.values)))
        else:
            assert_uniform_fits(d, columns[name])


def assert_choice_fits(d: Choice, counts: np.ndarray) -> None:
    """Chi-squared below its mean k plus 5 standard deviations sqrt(2 k) (k degrees of freedom)."""
    expected = counts.sum() * np.array(d.probabilities)
    k = len(counts) - 1
    assert ((counts - expected) ** 2 / expected).sum() < k + 5 * np.sqrt(2 * k), (d, counts)


def assert_uniform_fits(d: Uniform, drawn: np.ndarray) -> None:
    """Kolmogorov-Smirnov: sqrt(n) D exceeds 2.2 once in 8,000 (2 exp(-2 * 2.2^2))."""
    assert drawn.min() >= d.low and drawn.max() <= d.high
    n = len(drawn)
    quantiles = (np.sort(drawn) - d.low) / (d.high - d.low)
    ranks = np.arange(n) / n
    distance = max((quantiles - ranks).max(), (ranks + 1 / n - quantiles).max())
    assert np.sqrt(n) * distance < 2.2, d


@pytest.mark.parametrize("kind", KINDS)
def test_factors_of_one_image_and_of_neighbours_are_uncorrelated(kind: str) -> None:
    columns = factor_columns(Menagerie(count=10_000, seed=8), kind, 2000)
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()])
    values = np.concatenate([values[:, :-1], values[:, 1:]])
    off_diagonal = np.corrcoef(values) - np.eye(len(values))
    assert np.abs(off_diagonal).max() < 5.5 / np.sqrt(values.shape[1])


def test_probabilities_sum_to_one_and_ranges_are_not_empty() -> None:
    for kind in KINDS:
        assert len(DISTRIBUTIONS[kind]) >= 12
        for d in DISTRIBUTIONS[kind].values():
            if isinstance(d, Choice):
                assert len(d.values) == len(d.probabilities) == len(set(d.values))
                assert sum(d.probabilities) == pytest.approx(1)
            else:
                assert d.low < d.high


@pytest.mark.parametrize(("kind", "name"), EVERY_FACTOR)
def test_a_factor_that_changes_alone_changes_the_picture(kind: str, name: str) -> None:
    """Some factors show only beside others (the length of a tongue that is out): in 16 images, some must change."""
    columns = factor_columns(Menagerie(count=1000, seed=4), kind, 16)
    values = some_values(DISTRIBUTIONS[kind][name])
    tried = {other: np.tile(column, len(values)) for other, column in columns.items()}
    painted = paint(kind, {**tried, name: np.repeat(values, 16)}, 64, 64).reshape(len(values), 16, -1)
    changed = np.abs(np.diff(painted.astype(int), axis=0)).max(axis=2) > 8
    assert (changed.sum(axis=1) >= 2).all()


def some_values(d: Choice | Uniform) -> np.ndarray:
    """Every choice, or two places in a range (its ends can look alike: a whole turn)."""
    if isinstance(d, Choice):
        return np.arange(len(d.values))
    return d.low + (d.high - d.low) * np.array([0.1, 0.75])


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (32, 32), (33, 48), (48, 33), (8, 512), (512, 512)])
def test_every_size_is_drawn(size: tuple[int, int]) -> None:
    images = Menagerie().render(np.arange(6), *size)
    assert images.shape == (6, *size, 3) and images.dtype == np.uint8
    short = min(size)
    top, left = (side // 2 - short // 2 for side in size)
    middle = images[:, top : top + short, left : left + short].reshape(6, -1, 3)
    assert (middle.std(axis=1).mean(axis=1) > 15).all()


def test_small_pictures_are_the_large_ones_averaged() -> None:
    """Antialiasing: a 32 px picture is within 2.5 of 255 (mean) of its 128 px drawing, box-filtered."""
    menagerie, n = Menagerie(seed=6), 200
    large = menagerie.render(np.arange(n), 128, 128).reshape(n, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    small = menagerie.render(np.arange(n), 32, 32)
    assert np.abs(large - small).mean(axis=(1, 2, 3)).max() < 2.5


def test_the_animal_stands_in_the_middle_of_the_shorter_side() -> None:
    """Where the backdrop is plain in a square, a wider picture holds that square's animal in its middle."""
    menagerie = Menagerie(count=400, seed=9)
    square, wide = (menagerie.render(np.arange(60), 32, width).astype(int) for width in (32, 64))
    assert np.abs(wide[:, :, 16:48] - square).max() == 0


def canvas_of(side: int, n: int) -> Canvas:
    centres = ((np.arange(side) + 0.5) * (2 / side) - 1).astype(np.float32)
    return Canvas(np.zeros((3, side, side, n), np.float32), centres, centres, 2 / side)


@pytest.mark.parametrize("side", [8, 16, 64, 256])
def test_shapes_cover_the_area_they_should(side: int) -> None:
    """Area in pixels against geometry; within 4 %, plus what first-order cover loses on curves of a pixel or two."""
    canvas = canvas_of(side, 1)
    one = np.ones(1, np.float32)
    frame = Frame.upright(0.03 * one, -0.04 * one, 0.8 * one).turned(0.4)
    pixels = (0.8 * side / 2) ** 2
    radius = (0.64 + 0.09) / 0.6
    lens = 2 * (radius**2 * np.arcsin(0.8 / radius) - 0.8 * (radius - 0.3))
    for patch, area in (
        (canvas.ellipse(frame, 0.6, 0.4), np.pi * 0.24),
        (canvas.leaf(frame, 0.8, 0.3), lens),
        (canvas.capsule(frame, 0.5, 0.2), np.pi * 0.04 + 0.4),
        (canvas.arc(frame, 0.6, 1.0, 0.1), 0.24 + np.pi * 0.01),
        (canvas.capsule(frame, 0.7, 0.01), 0.028 + np.pi * 0.0001),
    ):
        assert patch.cover.sum() == pytest.approx(area * pixels, rel=0.04, abs=0.6)


@pytest.mark.parametrize("pixel_radius", [0.1, 0.5, 1.0, 3.0, 10.0])
def test_a_shape_ends_inside_its_window(pixel_radius: float) -> None:
    """A batch can only widen a window; a pixel outside the narrowest one must then get a cover of exactly 0."""
    canvas = canvas_of(64, 2)
    size = np.full(2, pixel_radius / 32, np.float32)
    place = np.array([0.01, -0.6], np.float32)
    near, lone = Frame.upright(place, place, size).turned(0.7), slice(0, 1)
    alone = Frame.upright(place[lone], place[lone], size[lone]).turned(0.7)
    for shape, *radii in (("ellipse", 1.0, 0.3), ("leaf", 1.0, 0.25), ("capsule", 1.0, 0.2), ("glow", 1.0, 0.4)):
        both = getattr(canvas, shape)(near, *radii)
        single = getattr(canvas.part(lone), shape)(alone, *radii)
        rest = both.cover[..., 0].copy()
        rows, columns = (
            slice(part.start - whole.start, part.stop - whole.start)
            for part, whole in ((single.rows, both.rows), (single.columns, both.columns))
        )
        assert np.array_equal(rest[rows, columns], single.cover[..., 0])
        rest[rows, columns] = 0
        assert (rest == 0).all()


def test_own_trigonometry_agrees_with_numpy() -> None:
    angle = np.linspace(-4, 4, 1001).astype(np.float32)
    cos, sin = cos_sin(angle)
    assert np.abs(cos - np.cos(angle, dtype=np.float64)).max() < 1e-5
    assert np.abs(sin - np.sin(angle, dtype=np.float64)).max() < 1e-5
    x, y = (np.cos(angle) * 0.7)[None, None], (np.sin(angle) * 0.7)[None, None]
    assert np.abs(turns(x, y) - np.arctan2(y, x) / (2 * np.pi)).max() < 1e-5


@pytest.mark.parametrize(
    ("text", "count", "seed"),
    [
        ("menagerie", 20_000, 0),
        ("menagerie:500", 500, 0),
        ("menagerie:20000@7", 20_000, 7),
        ("menagerie@7", 20_000, 7),
        ("menagerie:1@4294967295", 1, 2**32 - 1),
    ],
)
def test_names_of_a_menagerie(text: str, count: int, seed: int) -> None:
    assert Menagerie.parse(text) == Menagerie(count, seed)
    assert len(Menagerie.parse(text)) == count


@pytest.mark.parametrize(
    "text",
    ["", "menage", "Menagerie", "menagerie:", "menagerie@", "menagerie:0", "menagerie:-3", "menagerie:1e4",
     "menagerie:10000001", "menagerie@4294967296", "menagerie@7:20", "menagerie:5@", "menagerie:٣", " menagerie"],
)  # fmt: skip
def test_other_names_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(UseError, match=r"; (write menagerie|choose).*\.$"):
        Menagerie.parse(text)


@pytest.mark.parametrize("size", [(7, 32), (32, 7), (513, 32), (32, 513), (0, 0), (-8, 8)])
def test_sizes_out_of_bounds_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UseError, match="8 to 512 pixels"):
        Menagerie().render(np.arange(2), *size)


@pytest.mark.parametrize("index", [-1, 10])
def test_pictures_it_does_not_have_are_refused(index: int) -> None:
    menagerie = Menagerie(count=10)
    for ask in (lambda: menagerie.factors(index), lambda: menagerie.render(np.array([index]), 8, 8)):
        with pytest.raises(UseError, match="pictures 0 to 9"):
            ask()


def row(name: str, d: Choice | Uniform) -> str:
    return f"| `{name}` | {spread(d)} | {d.about} |"


def spread(d: Choice | Uniform) -> str:
    if isinstance(d, Uniform):
        return f"uniform, {d.low:g} to {d.high:g}"
    if len(set(d.probabilities)) == 1:
        return f"alike: {', '.join(map(str, d.values))}"
    return ", ".join(f"{value} {p:.0%}" for value, p in zip(d.values, d.probabilities, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_lists_every_factor_as_it_is_drawn(kind: str) -> None:
    """A factor that all kinds, or all animals, share with one distribution stands once, in their own table."""
    sections = {s.split("\n", 1)[0]: s for s in DOCS.read_text(encoding="utf-8").split("\n## ")}
    tables = ["Every kind"] + (["The three animals"] if kind != "flower" else []) + [kind.capitalize()]
    lines = [line for table in tables for line in sections[table].splitlines() if line.startswith("| `")]
    assert sorted(lines) == sorted(row(name, d) for name, d in DISTRIBUTIONS[kind].items())


def test_the_code_on_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = DOCS.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code, str(DOCS), "exec"), {})
    assert "'kind': " in capsys.readouterr().out
