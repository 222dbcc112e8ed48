"""A small benchmark and a test image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.annotation_trees import write_domain

MINIATURE = """
name: small_weather
root: {root}
format: voc
classes: [car, person]
class_map: {{person: [rider]}}
source: {{name: clear, folder: clear, train: train, test: test}}
targets:
  - {{name: fog, folder: [Fog, fog], test: train}}
"""


@pytest.fixture
def small_weather(tmp_path: Path) -> Path:
    """A benchmark file with data beside it: 3 + 2 clear images, 2 in fog."""
    root = tmp_path / "data"
    write_domain(
        root / "clear",
        "train",
        {"a": [("car", 1, 1, 10, 8), ("rider", 3, 3, 6, 9)], "b": [], "c": [("car", 5, 5, 9, 9)]},
    )
    write_domain(root / "clear", "test", {"d": [("person", 2, 2, 8, 8)], "e": []})
    write_domain(root / "fog", "train", {"a": [("car", 1, 1, 4, 4)], "f": []})
    file = tmp_path / "small_weather.yaml"
    file.write_text(MINIATURE.format(root="data"))
    return file


@pytest.fixture
def stripes() -> Callable[[int, int], np.ndarray]:
    """Makes an RGB image whose every pixel differs from its neighbours."""

    def make(height: int, width: int) -> np.ndarray:
        values = np.arange(height * width * 3) * 7 % 251
        return values.reshape(height, width, 3).astype(np.uint8)

    return make
