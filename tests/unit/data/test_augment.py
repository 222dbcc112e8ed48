import colorsys
from collections.abc import Callable

import numpy as np
import pytest
from detectron2.data import transforms as T

from sora_det.data import PadTo, PhotoMetricDistortion
from sora_det.data.augment import distort

Stripes = Callable[[int, int], np.ndarray]


@pytest.fixture(autouse=True)
def _seed() -> None:
    np.random.seed(0)


def test_padding_is_right_and_below(stripes: Stripes) -> None:
    image = stripes(6, 9)
    given = T.AugInput(image, boxes=np.array([[1.0, 2.0, 8.0, 6.0]]))
    PadTo(12)(given)
    assert given.image.shape == (12, 12, 3)
    assert given.image.dtype == np.uint8
    np.testing.assert_array_equal(given.image[:6, :9], image)
    assert (given.image[6:] == 114).all()
    assert (given.image[:, 9:] == 114).all()
    np.testing.assert_array_equal(given.boxes, [[1, 2, 8, 6]])


def test_padding_needs_room(stripes: Stripes) -> None:
    with pytest.raises(ValueError, match="at most 8 pixels high and wide, got 6x9"):
        PadTo(8).get_transform(stripes(6, 9))
    with pytest.raises(ValueError, match="size must be at least 1"):
        PadTo(0)


@pytest.mark.parametrize("size", [(20, 31), (31, 20), (25, 25)])
def test_longer_side_with_detectron2s_classes(stripes: Stripes, size: tuple[int, int]) -> None:
    """The recipes that the module's docstring gives do what it says."""
    image = stripes(*size)
    fixed = T.AugInput(image)
    T.ResizeShortestEdge(short_edge_length=64, max_size=64)(fixed)
    assert max(fixed.image.shape[:2]) == 64
    assert min(fixed.image.shape[:2]) == pytest.approx(64 * min(size) / max(size), abs=0.5)
    sides = []
    for _ in range(200):
        scaled = T.AugInput(image)
        scale = T.ResizeScale(min_scale=0.1, max_scale=2.0, target_height=64, target_width=64)
        scale(scaled)
        sides.append(max(scaled.image.shape[:2]))
        T.RandomCrop(crop_type="absolute", crop_size=(64, 64))(scaled)
        assert max(scaled.image.shape[:2]) == min(sides[-1], 64)
    assert 6 <= min(sides) < 20
    assert 110 < max(sides) <= 128


def test_crops_fall_anywhere(stripes: Stripes) -> None:
    crop = T.RandomCrop(crop_type="absolute", crop_size=(4, 4))
    image = stripes(6, 7)
    corners = {(t.y0, t.x0) for t in (crop.get_transform(image) for _ in range(300))}
    assert corners == {(y, x) for y in range(3) for x in range(4)}


def test_no_change_is_the_image_as_float(stripes: Stripes) -> None:
    image = stripes(4, 5)
    result = distort(image)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, image)
    assert image.dtype == np.uint8


def test_brightness_and_contrast_are_not_clipped() -> None:
    image = np.array([[[10, 128, 250]]], dtype=np.uint8)
    np.testing.assert_allclose(distort(image, brightness=-20)[0, 0], [-10, 108, 230])
    np.testing.assert_allclose(distort(image, contrast=1.5)[0, 0], [15, 192, 375])
    both = distort(image, brightness=10, contrast=0.5, contrast_first=False)
    np.testing.assert_allclose(both[0, 0], [10, 69, 130])


@pytest.mark.parametrize("hue", [-18.0, 0.0, 18.0])
@pytest.mark.parametrize("saturation", [0.5, 1.0, 1.5])
def test_colours_follow_hsv(stripes: Stripes, hue: float, saturation: float) -> None:
    image = stripes(5, 6)
    result = distort(image, hue=hue, saturation=saturation)
    for pixel, got in zip(image.reshape(-1, 3), result.reshape(-1, 3), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255.0))
        want = colorsys.hsv_to_rgb((h + hue / 360) % 1, min(s * saturation, 1.0), v)
        np.testing.assert_allclose(got, np.multiply(want, 255), atol=0.02)


def test_contrast_comes_before_or_after_colour(stripes: Stripes) -> None:
    image = stripes(5, 6)
    first = distort(image, contrast=0.5, saturation=1.5)
    last = distort(image, contrast=0.5, saturation=1.5, contrast_first=False)
    np.testing.assert_allclose(first, last, atol=0.01)  # HSV is homogeneous in brightness


def test_channels_are_permuted() -> None:
    image = np.array([[[1, 2, 3]]], dtype=np.uint8)
    np.testing.assert_array_equal(distort(image, order=(2, 0, 1))[0, 0], [3, 1, 2])


def test_every_step_happens_every_other_time(stripes: Stripes) -> None:
    image = stripes(2, 2)
    augmentation = PhotoMetricDistortion()
    drawn = [augmentation.get_transform(image).op.keywords for _ in range(2000)]
    for name, still in {"brightness": 0, "contrast": 1, "saturation": 1, "hue": 0}.items():
        values = np.array([settings[name] for settings in drawn])
        assert 0.45 < (values == still).mean() < 0.55
    assert 0.45 < np.mean([settings["contrast_first"] for settings in drawn]) < 0.55
    assert 0.45 < np.mean(["order" in settings for settings in drawn]) < 0.55
    for name, low, high in (("brightness", -32, 32), ("contrast", 0.5, 1.5), ("hue", -18, 18)):
        values = [settings[name] for settings in drawn]
        assert low <= min(values) < low + (high - low) / 20
        assert high - (high - low) / 20 < max(values) <= high


def test_distortion_leaves_boxes(stripes: Stripes) -> None:
    boxes = np.array([[1.0, 2.0, 8.0, 6.0]])
    given = T.AugInput(stripes(10, 10), boxes=boxes.copy())
    transform = PhotoMetricDistortion()(given)
    np.testing.assert_array_equal(given.boxes, boxes)
    np.testing.assert_array_equal(transform.apply_image(stripes(10, 10)), given.image)  # repeatable


def test_swapping_can_be_turned_off(stripes: Stripes) -> None:
    augmentation = PhotoMetricDistortion(swap_channels=False)
    drawn = [augmentation.get_transform(stripes(2, 2)).op.keywords for _ in range(50)]
    assert not any("order" in settings for settings in drawn)


def test_ranges_are_checked(stripes: Stripes) -> None:
    with pytest.raises(ValueError, match="contrast must be a pair"):
        PhotoMetricDistortion(contrast=(1.5, 0.5))
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        PhotoMetricDistortion(brightness=-1)
    with pytest.raises(ValueError, match=r"must be \(height, width, 3\), got \(4, 5\)"):
        PhotoMetricDistortion().get_transform(stripes(4, 5)[..., 0])


def test_logs_show_the_settings() -> None:
    assert str(PadTo(8)) == "PadTo(size=8)"
    assert str(PhotoMetricDistortion(hue=9.0)) == "PhotoMetricDistortion(hue=9.0)"
