"""Boxes and names are seen on any background and at any size."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from sora_det.evaluation.ap import Detections
from sora_det.report.drawing import SMALLEST, Album, colour, draw

CLASSES = ("bus", "Fußgänger", "行人")


def found(*boxes: list[float], score: float = 0.5, label: int = 0) -> Detections:
    count = len(boxes)
    return Detections(
        np.zeros(count, dtype=int),
        np.full(count, label),
        np.full(count, score),
        np.array(boxes, dtype=np.float32).reshape(-1, 4),
    )


def plain(height: int, width: int, value: int = 90) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


@pytest.mark.parametrize("value", [0, 90, 255])
@pytest.mark.parametrize("size", [(480, 640), (2000, 3000)])
def test_boxes_are_drawn_where_they_are(value: int, size: tuple[int, int]) -> None:
    image = plain(*size, value)
    box = [0.25 * size[1], 0.25 * size[0], 0.75 * size[1], 0.75 * size[0]]
    drawn = draw(image, found(box), CLASSES)
    assert (image == value).all()  # the image given is left alone
    assert drawn.shape == image.shape
    middle = size[0] // 2
    painted = np.flatnonzero((drawn[middle] == colour(0)).all(axis=1))
    edges = {x for x in painted.tolist() if abs(x - box[0]) < 15} | {round(box[2])}
    assert {round(box[0]), round(box[2])} <= edges == edges & ({*painted.tolist()})
    black = np.flatnonzero((drawn[middle] == 0).all(axis=1)) if value else []
    assert not value or {min(painted) - 1, max(painted) + 1} <= {*black}  # the dark outline
    # Half a per mille of the size at least, so that lines are seen in a large picture.
    assert len(painted) >= 2 * max(1, size[1] // 2000)
    assert (drawn[:5] == value).all()


def test_small_images_are_enlarged_for_their_labels() -> None:
    drawn = draw(plain(50, 100), found([10, 10, 90, 40]), CLASSES)
    factor = 5
    assert drawn.shape == (50 * factor, 100 * factor, 3)
    assert max(drawn.shape) >= SMALLEST
    assert (drawn[25 * factor, 10 * factor] == colour(0)).all()


@pytest.mark.parametrize(
    "box",
    [[0, 0, 640, 480], [600, 1, 639, 9], [0, 470, 5, 480], [620, 200, 640, 300], [3, 3, 4, 4]],
)
def test_names_stay_within_the_picture(box: list[float]) -> None:
    """The label is as large at the border as in the middle."""
    assert labels_drawn(box) > 0.8 * labels_drawn([200, 200, 260, 260]) > 400


def test_names_do_not_cover_each_other() -> None:
    boxes = [[200.0 + i, 200, 300, 300] for i in range(4)]
    assert labels_drawn(*boxes) > 3.6 * labels_drawn(boxes[0])


def labels_drawn(*boxes: list[float]) -> int:
    """Pixels that change because boxes have names."""
    drawn = draw(plain(480, 640), found(*boxes), CLASSES)
    bare = draw(plain(480, 640), found(*boxes), ("",), scores=False)
    return int((drawn != bare).any(axis=2).sum())


def test_what_has_no_area_is_left_out() -> None:
    image = plain(480, 640)
    for nothing in (found(), found([10, 10, 10, 50], [30, 30, 30, 30])):
        assert (draw(image, nothing, CLASSES) == image).all()


def test_better_detections_lie_above_worse_ones() -> None:
    boxes = np.array([[100, 100, 300, 300]] * 2, dtype=float)
    for scores, top in (([0.9, 0.3], 0), ([0.3, 0.9], 1)):
        both = Detections(np.zeros(2, int), np.array([0, 1]), np.array(scores), boxes)
        drawn = draw(plain(480, 640), both, CLASSES)
        assert (drawn[200, 100] == colour(top)).all()


@pytest.mark.parametrize("label", [1, 2])
def test_names_in_any_script_are_written(label: int) -> None:
    with_name = draw(plain(480, 640), found([100, 100, 300, 300], label=label), CLASSES)
    assert (with_name[75:98, 95:200] != 90).any()


def test_colours_differ() -> None:
    colours = [np.array(colour(label), dtype=float) for label in range(10)]
    gaps = [np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]]
    assert min(gaps) > 25


# --- files ----------------------------------------------------------------------------------------


def test_an_album_keeps_names_and_kinds(tmp_path: Path) -> None:
    album = Album(tmp_path / "out", CLASSES)
    image = plain(480, 640)
    image[..., 0] = 200  # red, to be told from blue
    for name in ("a.jpg", "sub/b.PNG", "c.gif", "c.gif.png"):
        album.picture(name, image, found())
    files = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("*.*")}
    assert files == {"a.jpg", "sub/b.PNG", "c.gif.png", "c.gif_2.png"}
    stored = cv2.imread(str(tmp_path / "out" / "sub" / "b.PNG"))
    assert stored[5, 5].tolist() == [90, 90, 200]  # OpenCV's order


def test_a_film_of_odd_size(tmp_path: Path) -> None:
    album = Album(tmp_path, CLASSES)
    with album.film("drive.avi", 10.0) as add:
        for step in range(5):
            add(plain(481, 641), found([100 + 10 * step, 100, 300, 300]))
    capture = cv2.VideoCapture(str(tmp_path / "drive.avi.mp4"))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    assert len(frames) == 5
    assert frames[0].shape == (480, 640, 3)
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert np.abs(frames[0].astype(int) - frames[4]).max() > 50
