"""Augmentations with less work give the images that Detectron2's own way of applying them gives."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T

from scripts.benchmarks.loader import plain_distort
from sora_det.data import PadTo, PhotoMetricDistortion
from sora_det.data.augment import distort
from sora_det.data.order import random_numbers
from sora_det.data.render import augmented
from sora_det.data.toy import toy_image

SCALE = T.ResizeScale(min_scale=0.1, max_scale=2.0, target_height=128, target_width=128)
CROP = T.RandomCrop(crop_type="absolute", crop_size=(128, 128))
GEOMETRY = (SCALE, CROP, T.RandomFlip(), PadTo(128))
CORNERS = np.array([[3.0, 4.0, 50.0, 31.0], [0.0, 0.0, 160.0, 90.0]])


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    return toy_image("daytime-clear", "train", 0, size=160)[0][:90]


def both(
    image: np.ndarray, augmentations: Sequence[T.Augmentation], seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The image as it is made here, and as AugmentationList makes it; boxes must agree."""
    with random_numbers(seed):
        found, transforms = augmented(image, augmentations)
        after = np.random.rand()
    with random_numbers(seed):
        given = T.AugInput(image.copy())
        wanted = T.AugmentationList(list(augmentations))(given)
        assert np.random.rand() == after
    np.testing.assert_array_equal(
        transforms.apply_box(CORNERS.copy()), wanted.apply_box(CORNERS.copy())
    )
    return found, torch.from_numpy(given.image.transpose(2, 0, 1).copy())


@pytest.mark.parametrize("seed", range(30))
def test_resized_images_are_pillows(scene: np.ndarray, seed: int) -> None:
    found, wanted = both(scene, GEOMETRY, seed)
    assert found.dtype == wanted.dtype == torch.uint8
    apart = (found.int() - wanted.int()).abs()
    assert apart.max() <= 2
    assert apart.float().mean() < 0.1


@pytest.mark.parametrize("seed", range(20))
def test_padded_images_are_the_same(scene: np.ndarray, seed: int) -> None:
    found, wanted = both(scene, [CROP, T.RandomFlip(), PadTo(200), PhotoMetricDistortion()], seed)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize(
    "augmentations",
    [
        (),
        (T.RandomBrightness(0.5, 1.5), *GEOMETRY),  # looks at the image
        (PhotoMetricDistortion(), SCALE),
        (PadTo(200), CROP, PadTo(256)),
        (T.ResizeShortestEdge(64, 80, interp=0), T.RandomFlip()),
    ],
)
def test_in_any_other_order(scene: np.ndarray, augmentations: tuple[T.Augmentation, ...]) -> None:
    for seed in range(4):
        found, wanted = both(scene, augmentations, seed)
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_distortion_of_every_step_on_its_own(scene: np.ndarray, seed: int) -> None:
    with random_numbers(seed):
        settings = PhotoMetricDistortion().get_transform(scene).op.keywords
    settings = settings | {"brightness": abs(settings["brightness"])}  # below 0 hue has no meaning
    np.testing.assert_allclose(
        distort(scene, **settings), plain_distort(scene, **settings), atol=0.01
    )
