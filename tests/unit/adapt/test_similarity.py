"""Similarity and change of features against direct formulas on all samples at once."""

import pytest
import torch
from torch import Tensor

from sora_det.adapt import AdaptationError
from sora_det.adapt.similarity import FeatureChange, LinearCKA


def features(channels: int, samples: int = 60, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(samples, channels, generator=generator, dtype=torch.float64)
    return mixed @ torch.randn(channels, channels, generator=generator).double() + 3.0


def by_gram_matrices(x: Tensor, y: Tensor) -> float:
    """HSIC of (sample, sample) kernels, as Kornblith et al. define CKA."""
    centre = torch.eye(len(x)).double() - 1 / len(x)
    k, m = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    return float((k * m).sum() / k.norm() / m.norm())


def cka(x: Tensor, y: Tensor, batches: int = 1) -> float | None:
    found = LinearCKA()
    for a, b in zip(x.chunk(batches), y.chunk(batches), strict=True):
        found.update(a, b)
    return found.value()


@pytest.mark.parametrize("batches", [1, 4, 60])
def test_cka_is_that_of_gram_matrices(batches: int) -> None:
    x, y = features(5), features(7, seed=1) + features(7)[:, :1] * 2
    assert cka(x, y, batches) == pytest.approx(by_gram_matrices(x, y), rel=1e-10)
    assert 0.01 < by_gram_matrices(x, y) < 0.99


def test_cka_of_the_same_features() -> None:
    x = features(6)
    assert cka(x, x, 3) == pytest.approx(1.0, abs=1e-12)


def test_cka_does_not_see_rotation_scale_and_shift() -> None:
    x = features(6)
    rotation = torch.linalg.qr(features(6, 6, seed=2)).Q
    assert cka(x, 4 * x @ rotation - 7) == pytest.approx(1.0, abs=1e-12)
    assert cka(x, x * torch.arange(1, 7).double()) < 0.999


def test_cka_of_unrelated_features_is_small() -> None:
    x, y = features(3, 20_000), features(3, 20_000, seed=5)
    assert cka(x, y, 7) < 1e-3


def test_cka_far_from_the_origin() -> None:
    """Sums of squares alone would lose the variance in the mean."""
    x, y = features(4), features(4, seed=1)
    assert cka(x + 1e7, y - 1e7, 5) == pytest.approx(cka(x, y), rel=1e-6)


def test_cka_of_float32_features() -> None:
    x, y = features(4), features(4, seed=1)
    assert cka(x.float(), y.float(), 3) == pytest.approx(cka(x, y), rel=1e-5)


def test_nothing_to_compare() -> None:
    assert LinearCKA().value() is None
    x, constant = features(4), torch.full((60, 4), 0.1)
    assert cka(x, constant) is None
    assert cka(constant.double(), x, 3) is None
    assert FeatureChange().value() is None
    change = FeatureChange()
    change.update(constant, constant + 1)
    assert change.value() is None


def test_change_by_hand() -> None:
    change = FeatureChange()
    # Means 0, squares 1 each; every sample moves by 3.
    change.update(torch.tensor([[1.0], [-1.0]]), torch.tensor([[4.0], [2.0]]))
    assert change.value() == pytest.approx(3.0)
    assert change.samples == 2


@pytest.mark.parametrize("batches", [1, 5])
def test_change_against_the_formula(batches: int) -> None:
    x, y = features(4), features(4, seed=1)
    change = FeatureChange()
    for a, b in zip(x.chunk(batches), y.chunk(batches), strict=True):
        change.update(a, b)
    assert change.value() == pytest.approx(float((y - x).norm() / (x - x.mean(0)).norm()))


def test_change_of_nothing_is_zero() -> None:
    change = FeatureChange()
    change.update(features(4), features(4))
    assert change.value() == 0.0


BAD = {
    "rows": (torch.ones(3, 2), torch.ones(4, 2), "of the same samples"),
    "no matrix": (torch.ones(3), torch.ones(3), "of the same samples"),
    "empty": (torch.ones(0, 2), torch.ones(0, 2), "of the same samples"),
    "nan": (torch.ones(3, 2), torch.full((3, 2), torch.nan), "not finite"),
}


@pytest.mark.parametrize("kind", [LinearCKA, FeatureChange])
@pytest.mark.parametrize(("x", "y", "match"), BAD.values(), ids=BAD)
def test_bad_features(kind: type, x: Tensor, y: Tensor, match: str) -> None:
    with pytest.raises(AdaptationError, match=match):
        kind().update(x, y)


def test_widths_may_not_change() -> None:
    found = LinearCKA()
    found.update(features(3), features(4))
    with pytest.raises(AdaptationError, match=r"keep their widths \(3, 4\), got \(4, 3\)"):
        found.update(features(4), features(3))
    with pytest.raises(AdaptationError, match="a change needs features of one shape"):
        FeatureChange().update(features(3), features(4))
