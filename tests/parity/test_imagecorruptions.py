"""Corruptions against the `imagecorruptions` package, at the pixels that its numbers file keeps.

tests/tools/imagecorruptions_numbers.py made the file, and compared every pixel: the JSON file
beside it has the differences.
"""

import json

import numpy as np
import pytest

from sora_det.data.corruptions import NAMES, corrupt
from tests.tools.imagecorruptions_numbers import DATA, SEED, SEVERITIES, Legacy, positions, textures

Kept = dict[str, np.ndarray]
PICTURES = ("wide", "odd")


@pytest.fixture(scope="module")
def kept() -> Kept:
    return dict(np.load(DATA / "imagecorruptions.npz"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("picture", PICTURES)
def test_pixels(kept: Kept, picture: str, name: str) -> None:
    """One level, from rounding before the fraction is cut off; libraries differ in no more."""
    image = kept[picture]
    at = positions(image.shape)
    for severity in SEVERITIES:
        ours = corrupt(image, name, severity, Legacy(SEED), textures=textures(kept))  # type: ignore[arg-type]
        difference = np.abs(ours[at].astype(int) - kept[f"{picture}/{name}"][severity - 1])
        assert difference.max() <= 1, f"severity {severity}"
        assert difference.mean() < 0.05, f"severity {severity}"
        # All pixels at once, SciPy's lost border of a zoomed image included.
        own = np.concatenate([ours.mean(axis=(0, 1)), ours.std(axis=(0, 1))])
        whole = [kept[f"{picture}/{name}/{kind}"][severity - 1] for kind in ("mean", "std")]
        np.testing.assert_allclose(own, np.concatenate(whole), atol=0.15)


def test_the_pictures_are_not_square(kept: Kept) -> None:
    assert [kept[picture].shape for picture in PICTURES] == [(96, 160, 3), (97, 81, 3)]


def test_what_was_measured_over_all_pixels() -> None:
    """What docs/robustness.md says."""
    document = json.loads((DATA / "imagecorruptions.json").read_text())
    measured = document["difference"]
    assert {*measured} == {*NAMES}
    assert all(row["largest inside the border"] <= 1 for row in measured.values())
    assert {name for name, row in measured.items() if row["largest"] > 1} == {"zoom_blur", "snow"}
    assert document["frost with the package's photographs"]["largest"] == 0
