"""What all tests share: one thread, fixed seeds, no leftovers."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch or NumPy load: the tensors here are tiny, and two workers share two cores.
# Processes that tests start inherit it.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start every test from the same random numbers, of the libraries loaded so far."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _catalogs() -> Iterator[None]:
    """Take back what a test registers with Detectron2."""
    if "detectron2.data" not in sys.modules:
        yield
        return
    data = sys.modules["detectron2.data"]
    before = set(data.DatasetCatalog.list()), set(data.MetadataCatalog.list())
    yield
    for catalog, names in zip((data.DatasetCatalog, data.MetadataCatalog), before, strict=True):
        for name in set(catalog.list()) - names:
            catalog.pop(name)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what is kept between runs out of the user's cache folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.getbasetemp() / "cache")


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Benchmark file of a toy benchmark with a few small images. Do not change its folder."""
    from sora_det.data.toy import write_toy

    folder = tmp_path_factory.mktemp("toy") / "toy_weather"
    return write_toy(folder, train=8, test=3, size=96, workers=1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and weights beside the checkout; skips the test where there are none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder ../shared with real data and weights")
    return folder
