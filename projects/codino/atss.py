"""A dense head with one anchor a cell and adaptive selection of positives (arXiv 1912.02424)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor, nn

from .boxes import overlaps
from .losses import mean_over_processes

PRIOR = -math.log(99)  # logit of 1 %


class Selected(NamedTuple):
    """What the anchors of one image have to predict."""

    labels: Tensor  # (anchor,) class; the number of classes is background, -1 is ignored
    boxes: Tensor  # (anchor, 4) corners in pixels; 0 for what is no object


class ATSSHead(nn.Module):
    """Class, box and centredness of one square anchor a cell.

    Args:
        channels: of every map.
        num_classes: without background.
        strides: of the maps in pixels.
        scale: side of an anchor in strides.
        nearest: anchors a level that an object may choose from.
        weights: factors of the class, box and centredness losses.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        strides: Sequence[int] = (4, 8, 16, 32, 64, 128),
        scale: float = 8.0,
        nearest: int = 9,
        weights: Sequence[float] = (12.0, 24.0, 12.0),
    ) -> None:
        super().__init__()
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.scale, self.nearest, self.weights = scale, nearest, tuple(weights)
        self.class_conv, self.box_conv = _conv_norm(channels), _conv_norm(channels)
        self.class_score = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box_change = nn.Conv2d(channels, 4, 3, padding=1)
        self.centredness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ParameterList(nn.Parameter(torch.tensor(1.0)) for _ in self.strides)
        self._reset()
        self.transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))

    @torch.no_grad()
    def _reset(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(std=0.01)
                if module.bias is not None:
                    module.bias.fill_(PRIOR if module is self.class_score else 0.0)

    def forward(
        self,
        maps: list[Tensor],
        objects: list[tuple[Tensor, Tensor]],
        sizes: Sequence[tuple[int, int]],
    ) -> tuple[Tensor, list[Selected], dict[str, Tensor]]:
        """Compare predictions with the objects of a batch.

        Args:
            maps: (batch, channel, rows, columns) per stride.
            objects: of every image, boxes (object, 4) as corners in pixels, and classes.
            sizes: height and width of every image; anchors outside are ignored.

        Returns:
            The anchors (anchor, 4) of all maps, what they stand for in every image, and the
            losses `loss_cls`, `loss_box` and `loss_centre`.
        """
        levels = [
            anchors_of(tuple(x.shape[-2:]), stride, self.scale * stride, x.device)
            for x, stride in zip(maps, self.strides, strict=True)
        ]
        anchors = torch.cat(levels)
        counts = [len(level) for level in levels]
        selected = [
            select(anchors, counts, boxes, classes, size, self.num_classes, self.nearest)
            for (boxes, classes), size in zip(objects, sizes, strict=True)
        ]
        return anchors, selected, self._losses(anchors, selected, *self._predict(maps))

    def _predict(self, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return class logits (batch, anchor, class), changes (..., 4) and centredness (...)."""
        found = []
        for x, scale in zip(maps, self.scales, strict=True):
            box = self.box_conv(x)
            parts = (
                self.class_score(self.class_conv(x)),
                self.box_change(box) * scale,
                self.centredness(box),
            )
            found.append([part.flatten(2).transpose(1, 2).float() for part in parts])
        logits, changes, centred = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
        return logits, changes, centred.squeeze(-1)

    def _losses(
        self,
        anchors: Tensor,
        selected: list[Selected],
        logits: Tensor,
        changes: Tensor,
        centred: Tensor,
    ) -> dict[str, Tensor]:
        labels = torch.stack([s.labels for s in selected])  # (batch, anchor)
        positive = (labels >= 0) & (labels < self.num_classes)
        own = anchors.expand(len(labels), -1, -1)[positive]  # (positive, 4)
        wanted = torch.stack([s.boxes for s in selected])[positive]
        centre = centredness(own, wanted)
        boxes = self.transform.apply_deltas(changes[positive], own)
        missing = 1 - overlaps(boxes, wanted)[1]
        onehot = F.one_hot(labels.clamp(min=0), self.num_classes + 1)[..., :-1].to(logits)
        classes = focal(logits, onehot)[labels >= 0].sum()
        count = mean_over_processes(positive.sum().to(logits)).clamp(min=1)
        total = mean_over_processes(centre.sum()).clamp(min=1)
        by_centre = F.binary_cross_entropy_with_logits(centred[positive], centre, reduction="sum")
        return {
            "loss_cls": self.weights[0] * classes / count,
            "loss_box": self.weights[1] * (missing * centre).sum() / total,
            "loss_centre": self.weights[2] * by_centre / count,
        }


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the focal loss (arXiv 1708.02002; alpha 0.25, gamma 2) of every logit."""
    chance = logits.sigmoid()
    wrong = torch.where(targets > 0, 1 - chance, chance)
    share = torch.where(targets > 0, 0.25, 0.75)
    return share * wrong**2 * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def anchors_of(size: tuple[int, ...], stride: int, side: float, device: torch.device) -> Tensor:
    """Return a square around the corner of every cell, row by row: (rows * columns, 4) corners."""
    y, x = (torch.arange(count, device=device, dtype=torch.float32) * stride for count in size)
    centres = torch.cartesian_prod(y, x).flip(-1)
    return torch.cat([centres - side / 2, centres + side / 2], dim=-1)


@torch.no_grad()
def select(
    anchors: Tensor,
    counts: Sequence[int],
    boxes: Tensor,
    classes: Tensor,
    size: tuple[int, int],
    num_classes: int,
    nearest: int,
) -> Selected:
    """Choose the anchors of one image that stand for its objects.

    Of every level an object takes the anchors nearest to its centre. It keeps those whose IoU
    with it is at least the mean plus the standard deviation of all it took and whose centre lies
    inside it. An anchor kept by several objects goes to the one it overlaps most.

    Args:
        anchors: (anchor, 4) corners, level after level.
        counts: of the anchors of every level.
        boxes: (object, 4) corners.
        classes: (object,).
        size: height and width of the image.
        num_classes: the label of background.
        nearest: anchors a level.
    """
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    height, width = size
    inside = (centres < centres.new_tensor([width, height])).all(-1)
    labels = torch.where(inside, num_classes, -1)
    wanted = torch.zeros_like(anchors)
    if not len(boxes):
        return Selected(labels, wanted)
    iou = overlaps(anchors[:, None], boxes)[0]  # (anchor, object)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    # What cdist does for many boxes, products of matrices, would be off by parts of a pixel.
    exact = "donot_use_mm_for_euclid_dist"
    distance = torch.cdist(centres, middles, compute_mode=exact)
    distance = distance.masked_fill(~inside[:, None], torch.inf)
    near, start = [], 0
    for count in counts:
        part = distance[start : start + count]
        near.append(part.topk(min(nearest, count), dim=0, largest=False).indices + start)
        start += count
    candidates = torch.cat(near)  # (candidate, object)
    taken = iou.gather(0, candidates)
    threshold = taken.mean(0) + taken.std(0, correction=min(1, len(taken) - 1))
    room = torch.cat([centres[:, None] - boxes[:, :2], boxes[:, 2:] - centres[:, None]], dim=-1)
    fits = (room.amin(-1) > 0.01) & inside[:, None] & (iou >= threshold)
    kept = torch.zeros_like(fits).scatter_(0, candidates, True) & fits
    best, which = iou.masked_fill(~kept, -1).max(dim=1)
    positive = best >= 0
    labels[positive] = classes[which[positive]]
    wanted[positive] = boxes[which[positive]]
    return Selected(labels, wanted)


def centredness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return how central the anchors' centres, inside the boxes, lie: (n,), 1 in the middle."""
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    low, high = centres - boxes[:, :2], boxes[:, 2:] - centres
    ratio = torch.minimum(low, high) / torch.maximum(low, high)
    return ratio.prod(-1).clamp(min=0).sqrt()


def _conv_norm(channels: int) -> nn.Sequential:
    groups = 32 if channels % 32 == 0 else channels // 4
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.GroupNorm(groups, channels),
        nn.ReLU(),
    )
