"""The same code on every accelerator torch finds here; skipped where there is none."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fromnoise import load
from fromnoise.batches import Batch, batch_at
from fromnoise.errors import NonFinite
from fromnoise.images import ImageSet, open_images
from fromnoise.machine import devices
from fromnoise.noise import EDM
from fromnoise.recipe import Pictures
from fromnoise.session import open_session
from fromnoise.trainer import Trainer, compiles
from tiny import NET, recipe

ACCELERATORS = [device for device in devices() if device in ("cuda", "mps")]
anywhere = pytest.mark.skipif(not ACCELERATORS, reason="torch finds no accelerator on this machine")
on_cuda = pytest.mark.skipif("cuda" not in ACCELERATORS, reason="torch finds no CUDA device on this machine")

FIELDS = {"images_total": 512, "batch": 64, "dtype": "float32", "warmup_images": 0}
TRANSFORMER = {"kind": "transformer", "width": 64, "depth": 2}
LONG = 10**14  # images, a run worth compiling for even with these nets


@pytest.fixture(params=ACCELERATORS or ["cuda"])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def losses(run: Path, device: str, stop_after: int = 10**9, **fields: object) -> list[float]:
    session, found = open_session("menagerie:400", size=(16, 16), run=run, device=device, overrides=FIELDS | fields), []
    for step in session.fit():
        found.append(step.loss)
        if step.saved and step.images_seen >= stop_after:
            break
    return found


@anywhere
def test_training_learns_and_agrees_with_the_processor_on_the_first_losses(device: str, tmp_path: Path) -> None:
    """The noise is drawn on the device, so the losses agree as those of two draws do, and no closer."""
    there, here = losses(tmp_path / "there", device), losses(tmp_path / "here", "cpu")
    assert len(there) == len(here) == 8 and all(np.isfinite(there))
    assert there[0] == pytest.approx(here[0], rel=0.1) and there[-1] < there[0]


@anywhere
def test_a_run_goes_on_where_it_stopped(device: str, tmp_path: Path) -> None:
    whole = losses(tmp_path / "whole", device)
    first = losses(tmp_path / "parts", device, stop_after=256)
    rest = losses(tmp_path / "parts", device)
    assert first + rest == pytest.approx(whole, rel=1e-3)


@anywhere
def test_the_same_model_makes_the_same_images_there_and_here(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One level of 255 of rounding, and no more in all but a few values, where both work in float32."""
    monkeypatch.setattr("fromnoise.model.has_bf16", lambda device: False)
    losses(tmp_path / "run", "cpu")
    here, there = (load(tmp_path / "run", device=where).sample(8).images for where in ("cpu", device))
    assert here.std() > 10
    assert np.percentile(np.abs(here.astype(int) - there.astype(int)), 99.5) <= 1


@anywhere
def test_bfloat16_learns_like_float32(device: str, tmp_path: Path) -> None:
    one, other = (losses(tmp_path / dtype, device, dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert one == pytest.approx(other, rel=0.05) and one[-1] < 0.95 * one[0]


# --- the recorded step, on CUDA ---


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images("menagerie:200", size=(16, 16))


def as_recorded(trainer: Trainer) -> None:
    """As every trainer on CUDA works."""


def as_written(trainer: Trainer) -> None:
    """Each update run part by part, without a graph."""
    trainer.step = trainer._step


def updated(
    images: ImageSet, change: Callable[[Trainer], None] = as_recorded, updates: int = 12, **fields: object
) -> tuple[Trainer, list[Tensor]]:
    """A trainer on CUDA after some updates, and the losses of each, read one update late."""
    made = recipe(Pictures.of("drawn", images), **{"warmup_images": 0, "images_total": 12 * 16} | fields)
    with closing(Trainer(made, images, "cuda")) as trainer:
        change(trainer)
        owed, found = [], []
        for _ in range(updates):
            owed.append(trainer.update(12 * 16))
            found += [trainer.settled(outcome) for outcome in owed[:-1]]
            owed = owed[-1:]
        return trainer, [*found, trainer.settled(owed[0])]


@on_cuda
@pytest.mark.parametrize("net", [NET, TRANSFORMER], ids=["unet", "transformer"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_recorded_update_is_the_update(images: ImageSet, net: dict[str, object], dtype: str) -> None:
    """Every input of a step, its images, its rates and its share of the average, must reach the recording.

    Sums on a GPU may differ in their order from run to run, and what differs grows: so the distance to the update as
    written is held against the way the weights went.
    """
    (replayed, found), (plain, expected) = (
        updated(images, change, net=net, dtype=dtype) for change in (as_recorded, as_written)
    )
    torch.testing.assert_close(torch.cat(found), torch.cat(expected), rtol=0.05, atol=1e-3)
    begun = Trainer(replayed.recipe, images, "cuda")
    for part in ("weights", "ema"):
        ends = [
            torch.cat([tensor.detach().flatten() for tensor in getattr(of, part).values()])
            for of in (replayed, plain, begun)
        ]
        assert (ends[0] - ends[1]).norm() < 0.1 * (ends[1] - ends[2]).norm()


def require_compiled_alike() -> None:
    """Called in a process of its own, where no shapes are checked: a compiler would have to read the checks too."""
    images = open_images("menagerie:200", size=(16, 16))
    compiled, found = updated(images, net=TRANSFORMER, images_total=LONG)
    plain, expected = updated(images, net=TRANSFORMER)
    assert compiles(compiled.recipe, "cuda") and not compiles(plain.recipe, "cuda")
    torch.testing.assert_close(torch.cat(found), torch.cat(expected), rtol=0.05, atol=1e-3)


@on_cuda
def test_a_compiled_net_learns_the_same() -> None:
    if not compiles(recipe(images_total=LONG, net=TRANSFORMER), "cuda"):
        pytest.skip("no compiler on this machine")
    code = "import sys; sys.path.append('tests'); import test_devices; test_devices.require_compiled_alike()"
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr


@on_cuda
def test_what_becomes_infinite_in_a_recorded_update_is_named_one_update_late(images: ImageSet) -> None:
    def spoil(trainer: Trainer) -> None:
        made = trainer.update

        def update(total: int) -> object:
            if trainer.images_seen == 8 * 16:
                with torch.no_grad():
                    trainer.weights["enter.weight"].fill_(torch.inf)
            return made(total)

        trainer.update = update  # type: ignore[method-assign,assignment]

    with pytest.raises(NonFinite, match="128 images seen, at noise ratio"):
        updated(images, spoil)


@on_cuda
def test_nothing_is_waited_for_in_an_update(images: ImageSet) -> None:
    """torch raises at every call that would wait for the device, once the step is recorded."""
    made = recipe(Pictures.of("drawn", images))
    trainer = Trainer(made, images, "cuda")
    batches = [batch_at(made, images, EDM(), "cuda", 16 * k) for k in range(8)]
    trainer.batches = (batch for batch in batches)
    owed = [trainer.update(320) for _ in range(5)]
    try:
        torch.cuda.set_sync_debug_mode("error")
        owed += [trainer.update(320) for _ in range(3)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(bool(torch.isfinite(trainer.settled(outcome)).all()) for outcome in owed)


# --- anywhere ---


def test_only_long_runs_of_transformers_on_cuda_are_compiled() -> None:
    assert not compiles(recipe(images_total=LONG, net=TRANSFORMER), "cpu")
    assert not compiles(recipe(images_total=320, net=TRANSFORMER), "cuda")
    assert not compiles(recipe(images_total=LONG), "cuda")


def test_a_batch_says_what_its_numbers_are_about(images: ImageSet) -> None:
    made = recipe(Pictures.of("drawn", images))
    with closing(Trainer(made, images, "cpu")) as trainer:
        outcome = trainer.update(320)
    batch = outcome.batch
    assert isinstance(batch, Batch) and len(outcome.losses) == len(batch.indices) == len(batch.log_snr) == 16
    assert batch.images_seen == 0 and trainer.images_seen == 16
