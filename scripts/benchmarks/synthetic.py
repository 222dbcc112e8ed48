"""Detections and ground truth of Diverse-Weather's size, drawn at random."""

from dataclasses import dataclass

import numpy as np

from sora_det.evaluation import Detections, GroundTruth
from sora_det.evaluation.ap import Array

CLASSES = ("bus", "bike", "car", "motor", "person", "rider", "truck")
WIDTH, HEIGHT = 1280, 720


@dataclass(frozen=True)
class Domain:
    """Images of one test set of Diverse-Weather, and boxes of each of `CLASSES` in all of them."""

    name: str
    images: int
    boxes: tuple[int, ...]


DIVERSE_WEATHER = (
    Domain("daytime-clear", 8_313, (1738, 1046, 95339, 537, 12309, 787, 5029)),
    Domain("night-sunny", 26_158, (2012, 1410, 241616, 665, 17566, 841, 4853)),
    Domain("dusk-rainy", 3_501, (820, 322, 34240, 110, 5144, 169, 2235)),
    Domain("night-rainy", 2_494, (248, 121, 21655, 49, 1532, 71, 499)),
    Domain("daytime-foggy", 3_775, (554, 4920, 33392, 911, 21530, 2363, 736)),
)


def sample(domain: Domain, images: int) -> Domain:
    """Return a smaller domain with as many boxes per image, at least one of each class."""
    share = images / domain.images
    return Domain(domain.name, images, tuple(max(1, round(n * share)) for n in domain.boxes))


def draw(domain: Domain, *, per_image: int = 100, seed: int = 0) -> tuple[Detections, GroundTruth]:
    """Draw a domain as a trained detector may see it.

    Two of three boxes are found, up to three times each; random boxes with lower scores fill every
    image up to `per_image` detections, half of them of the commoner classes. Images are in order,
    the detections of each by falling score, as a Detectron2 model gives them.
    """
    rng = np.random.default_rng(seed)
    truth = _truth(rng, domain)
    found = np.repeat(np.arange(len(truth)), rng.choice(4, len(truth), p=[0.35, 0.35, 0.2, 0.1]))
    drawn = domain.images * per_image
    common = np.repeat(np.arange(len(CLASSES)), domain.boxes)
    label = np.where(
        rng.random(drawn) < 0.5, rng.choice(common, drawn), rng.integers(0, len(CLASSES), drawn)
    )
    image = np.concatenate([truth.image[found], np.repeat(np.arange(domain.images), per_image)])
    order = np.argsort(image, kind="stable")  # found ones first, so that they are kept
    keep = order[_place(image[order]) < per_image]
    score = np.concatenate([rng.beta(4, 2, len(found)), rng.beta(1, 6, drawn)])
    keep = keep[np.lexsort((-score[keep], image[keep]))]
    box = np.concatenate([_moved(rng, truth.box[found]), _boxes(rng, drawn)])
    detections = Detections(
        image=image[keep].astype(np.int32),
        label=np.concatenate([truth.label[found], label])[keep].astype(np.int32),
        score=score[keep].astype(np.float32),
        box=box[keep],
    )
    return detections, truth


def _truth(rng: np.random.Generator, domain: Domain) -> GroundTruth:
    label = np.repeat(np.arange(len(CLASSES), dtype=np.int32), domain.boxes)
    image = rng.integers(0, domain.images, len(label), dtype=np.int32)
    order = np.argsort(image, kind="stable")
    box = np.floor(_boxes(rng, len(label)))
    box[:, 2:] = np.maximum(box[:, 2:], box[:, :2] + 1)
    return GroundTruth(
        image=image[order], label=label[order], box=box, ignore=np.zeros(len(label), dtype=bool)
    )


def _boxes(rng: np.random.Generator, count: int) -> Array:
    """Boxes (count, 4) of 8 to 400 pixels inside the image, small ones being common, float32."""
    limit = np.array([WIDTH, HEIGHT], dtype=np.float32)
    side = np.exp(rng.uniform(np.log(8), np.log(400), (count, 1))).astype(np.float32)
    size = side * np.exp(rng.normal(0, 0.3, (count, 2))).astype(np.float32)
    size = np.minimum(size, limit - 2)
    corner = rng.random((count, 2), dtype=np.float32) * (limit - size)
    return np.concatenate([corner, corner + size], axis=1)


def _moved(rng: np.random.Generator, box: Array) -> Array:
    """Shift every side by some percent of the box."""
    size = np.tile(box[:, 2:] - box[:, :2], 2)
    spread = rng.choice(np.array([0.02, 0.06, 0.15], dtype=np.float32), (len(box), 1))
    moved = box + size * spread * rng.standard_normal(box.shape, dtype=np.float32)
    corner = np.clip(moved[:, :2], 0, np.array([WIDTH - 1, HEIGHT - 1], dtype=np.float32))
    other = np.clip(moved[:, 2:], corner + 1, np.array([WIDTH, HEIGHT], dtype=np.float32))
    return np.concatenate([corner, other], axis=1)


def _place(image: Array) -> Array:
    """Position of every row among the rows of its image; rows of an image are neighbours."""
    return np.arange(len(image)) - np.searchsorted(image, image, side="left")
