"""Images of all kinds are read as they look, written by Pillow and by OpenCV."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sora_det.data.images import BadImageError, image_size, read_image

# Where the upper left corner of the stored image goes when it is shown, by EXIF's orientation.
CORNERS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("top", "left"),
    6: ("top", "right"),
    7: ("bottom", "right"),
    8: ("bottom", "left"),
}
ENDINGS = ("jpg", "png", "tif", "webp")


def ramp() -> np.ndarray:
    """Grey values 0..255 from left to right, 8 rows."""
    return np.tile(np.arange(256, dtype=np.uint8), (8, 1))


def colours() -> np.ndarray:
    """Fields of red, green, blue and white side by side, (16, 64, 3) RGB."""
    fields = np.array([(250, 10, 10), (10, 240, 10), (10, 10, 230), (245, 245, 245)], np.uint8)
    return np.repeat(np.repeat(fields[None], 16, axis=0), 16, axis=1)


def alike(found: np.ndarray, wanted: np.ndarray, tolerance: int = 1) -> None:
    assert (found.dtype, found.shape) == (np.uint8, wanted.shape)
    assert np.abs(found.astype(int) - wanted).max() <= tolerance


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("1", "a.png"),
        ("L", "a.png"),
        ("LA", "a.png"),
        ("RGB", "a.png"),
        ("RGBA", "a.png"),
        ("P", "a.gif"),
        ("CMYK", "a.tif"),
        ("YCbCr", "a.tif"),
        ("I;16", "a.png"),
        ("I;16", "a.tif"),
        ("I", "a.tif"),
        ("F", "a.tif"),
    ],
)
def test_every_mode_of_pillow(tmp_path: Path, mode: str, name: str) -> None:
    wanted = ramp()
    if mode == "I;16":
        image = Image.fromarray(wanted.astype(np.uint16) * 257)
    elif mode in "IF":
        image = Image.fromarray(wanted.astype({"I": np.int32, "F": np.float32}[mode]) * 257)
    elif mode == "1":
        wanted = np.where(wanted > 127, 255, 0).astype(np.uint8)
        image = Image.fromarray(wanted).convert("1", dither=Image.Dither.NONE)
    else:
        rgb = Image.fromarray(wanted).convert("RGB")
        image = rgb.convert(mode) if mode in ("CMYK", "YCbCr") else Image.fromarray(wanted)
        image = image.convert(mode)
    assert image.mode == mode
    image.save(tmp_path / name)
    alike(read_image(tmp_path / name), np.repeat(wanted[..., None], 3, axis=2))


@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "webp", "bmp"])
@pytest.mark.parametrize("writer", ["pillow", "opencv"])
def test_colours(tmp_path: Path, ending: str, writer: str) -> None:
    file = tmp_path / f"a.{ending}"
    if writer == "pillow":
        Image.fromarray(colours()).save(file, quality=95)
    else:
        assert cv2.imwrite(str(file), colours()[..., ::-1])
    pixels = read_image(file)[8, 8::16]  # the middle of every field
    alike(pixels, colours()[8, 8::16], 12)
    assert read_image(file).flags.writeable


def test_cmyk_of_a_camera_ready_jpeg(tmp_path: Path) -> None:
    """Programs store CMYK in JPEG the other way round, as Adobe began."""
    Image.fromarray(colours()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert Image.open(tmp_path / "a.jpg").mode == "CMYK"
    alike(read_image(tmp_path / "a.jpg")[8, 8::16], colours()[8, 8::16], 12)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_opencv(tmp_path: Path, name: str) -> None:
    wide = colours()[..., ::-1].astype(np.uint16) * 257
    assert cv2.imwrite(str(tmp_path / name), wide)
    alike(read_image(tmp_path / name), colours())
    assert cv2.imwrite(str(tmp_path / name), ramp().astype(np.uint16) * 257)
    alike(read_image(tmp_path / name), np.repeat(ramp()[..., None], 3, axis=2))


def test_a_dark_image_of_sixteen_bits_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 1, np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").max() == 0


@pytest.mark.parametrize("largest", [1.0, 255.0, 65535.0, 1e6])
def test_floats_end_at_1_or_255_or_65535(tmp_path: Path, largest: float) -> None:
    image = ramp().astype(np.float32) / 255 * largest
    image[0, 0] = np.nan
    Image.fromarray(image).save(tmp_path / "a.tif")
    alike(read_image(tmp_path / "a.tif"), np.repeat(ramp()[..., None], 3, axis=2))


@pytest.mark.parametrize("writer", ["pillow", "opencv"])
def test_alpha_is_left_out(tmp_path: Path, writer: str) -> None:
    alpha = np.full((16, 64, 1), 255, np.uint8)
    alpha[:, 32:] = 0
    rgba = np.concatenate([colours(), alpha], axis=2)
    if writer == "pillow":
        Image.fromarray(rgba).save(tmp_path / "a.png")
    else:
        cv2.imwrite(str(tmp_path / "a.png"), rgba[..., [2, 1, 0, 3]])
    alike(read_image(tmp_path / "a.png"), colours(), 0)


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.fromarray(colours()).quantize(4)
    image.save(tmp_path / "a.png", transparency=b"\x00\xff\x80\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alike(read_image(tmp_path / "a.png"), colours(), 8)


def test_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[4, 4].tolist() == [255, 0, 0]


def turned(file: Path, orientation: int, *, width: int = 48, height: int = 32) -> Path:
    """A black image with a white square in the upper left corner, as it is stored."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(file, exif=exif)
    return file


def corner(image: np.ndarray) -> tuple[str, str]:
    """Where the white square is."""
    row, column = np.argwhere(image[..., 0] > 128).mean(axis=0) * 2 > image.shape[:2]
    return ("bottom" if row else "top", "right" if column else "left")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ENDINGS)
def test_orientation(tmp_path: Path, ending: str, orientation: int) -> None:
    file = turned(tmp_path / f"a.{ending}", orientation)
    shown = (48, 32) if orientation < 5 else (32, 48)
    assert image_size(file) == shown
    for size in (None, shown):  # as it is shown: without annotation, or if that has this size
        found = read_image(file, size)
        assert found.shape == (*shown[::-1], 3)
        assert corner(found) == CORNERS[orientation]
    if orientation >= 5:  # the annotation was made on the pixels as they are stored
        found = read_image(file, (48, 32))
        assert found.shape == (32, 48, 3)
        assert corner(found) == ("top", "left")


def test_turns_agree_with_opencv(tmp_path: Path) -> None:
    for orientation in range(1, 9):
        file = turned(tmp_path / f"{orientation}.jpg", orientation)
        alike(read_image(file), cv2.imread(str(file), cv2.IMREAD_COLOR)[..., ::-1], 12)


@pytest.mark.parametrize("size", [(48, 31), (31, 48), (24, 16), (1, 1)])
def test_another_size_than_the_annotation(tmp_path: Path, size: tuple[int, int]) -> None:
    file = turned(tmp_path / "a.jpg", 6)
    message = rf"a\.jpg: has 48x32 pixels, but its annotation says {size[0]}x{size[1]}$"
    with pytest.raises(BadImageError, match=message):
        read_image(file, size)


def test_a_square_is_shown_as_exif_says(tmp_path: Path) -> None:
    file = turned(tmp_path / "a.jpg", 6, width=32, height=32)
    assert corner(read_image(file, (32, 32))) == ("top", "right")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    Image.fromarray(colours()).save(file, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff broken")
    assert read_image(file).shape == (16, 64, 3)
    assert image_size(file) == (64, 16)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(BadImageError, match=r"a\.png: not a readable image"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [*ENDINGS, "bmp", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_part_of_an_image(tmp_path: Path, ending: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    file = tmp_path / f"a.{ending}"
    Image.fromarray(noise).save(file)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadImageError, match=rf"a\.{ending}: not a readable image"):
        read_image(file)


@pytest.mark.parametrize("name", ["none.jpg", "."])
def test_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadImageError, match=r"not a readable image: .*Errno"):
        read_image(tmp_path / name)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (2000, 2000)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    with pytest.raises(BadImageError, match=r"not a readable image: .*4000000 pixels"):
        read_image(tmp_path / "a.png")
