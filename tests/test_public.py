"""The public list: every name on it, nothing else, and each says what it is. The examples run."""

import inspect
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import fromnoise

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))
LINES = 40  # of an example, at most
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # threads that wait for a busy core crawl
# fmt: off
PUBLIC = {
    "open_images", "ImageSet", "Menagerie",
    "SCHEDULES", "Condition", "NoisyPair", "corrupt", "walk",
    "MLP", "MLPSpec", "UNet", "UNetSpec", "Transformer", "TransformerSpec",
    "Denoiser", "EnergyModel", "NetDenoiser", "Guidance", "GaussianMixture", "Empirical", "LocalPatches",
    "GRIDS", "STEPPERS", "Sampler", "Step", "trajectory",
    "probe", "Recipe", "Model", "Samples", "load", "TrainStep", "fit", "open_session", "train",
}
# fmt: on


def test_the_public_list_is_this_one() -> None:
    assert set(fromnoise.__all__) - {"__version__"} == PUBLIC
    assert len(set(fromnoise.__all__)) == len(fromnoise.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        fromnoise.no_such_name  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(fromnoise, name)
    if isinstance(found, Mapping):
        assert found and all(isinstance(key, str) for key in found)
        return
    assert callable(found)
    said = found.__doc__ or ""
    assert len(said.split()) >= 4 and not said.startswith(f"{name}("), "a docstring of its own"
    assert inspect.getmodule(found) is not None and found.__name__ == name


def test_every_name_stays_itself_whatever_is_imported() -> None:
    """A module of the same name must not take the place of a function once it is loaded."""
    code = (
        "import fromnoise, importlib, pkgutil, types\n"
        "for module in pkgutil.iter_modules(fromnoise.__path__, 'fromnoise.'):\n"
        "    importlib.import_module(module.name)\n"
        "shadowed = [n for n in fromnoise.__all__ if isinstance(getattr(fromnoise, n), types.ModuleType)]\n"
        "assert not shadowed, shadowed\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, fromnoise; fromnoise.__all__; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_runs(example: Path, tmp_path: Path) -> None:
    assert len(example.read_text().splitlines()) <= LINES
    done = subprocess.run(
        [sys.executable, example], cwd=tmp_path, capture_output=True, text=True, env=os.environ | ALONE, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
