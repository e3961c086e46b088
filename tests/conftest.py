"""What every test stands on: checked shapes, two threads, a cache of its own, the real data if there are any."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Before torch is first imported, here or in a command a test starts: two threads, whatever the machine has.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MKL_NUM_THREADS", "2")

# Before fromnoise is first imported: beartype checks every annotated shape and type.
install_import_hook("fromnoise", "beartype.beartype")

# Time is measured in benchmarks/: a slow machine fails no test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or leaves packed sets in the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROMNOISE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real data, or a skip that says where they were looked for."""
    folder = Path(os.environ.get("FROMNOISE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is no folder (FROMNOISE_DATA names another)")
    return folder
