"""Auxiliary heads on the encoder's maps, whose positives come as queries (arXiv 2211.12860)."""

from typing import NamedTuple

import torch
from detectron2.structures import ImageList, Instances
from torch import Tensor, nn

from .atss import ATSSHead
from .boxes import to_centres
from .matching import Assigned

FEWEST, MOST = 9, 300  # queries an image


class Candidates(NamedTuple):
    """Boxes of one image that an auxiliary head has compared with its objects."""

    boxes: Tensor  # (candidate, 4) corners in pixels
    labels: Tensor  # (candidate,) class; the number of classes is background, -1 neither
    targets: Tensor  # (candidate, 4) corners of the object; anything for background


class RoIAuxiliary(nn.Module):
    """A region proposal network and a RoI head of Detectron2's.

    Args:
        rpn: such as Detectron2's `RPN`.
        roi_heads: such as Detectron2's `StandardROIHeads`.
    """

    def __init__(self, rpn: nn.Module, roi_heads: nn.Module) -> None:
        super().__init__()
        self.rpn, self.roi_heads = rpn, roi_heads

    def forward(
        self, images: ImageList, maps: dict[str, Tensor], instances: list[Instances]
    ) -> tuple[list[Candidates], dict[str, Tensor]]:
        """Return the sampled proposals and the losses of both stages."""
        proposals, losses = self.rpn(images, maps, instances)
        sampled, more = self.roi_heads(images, maps, proposals, instances)
        losses = {f"aux_{name}": value for name, value in losses.items()}
        return [_sampled(found) for found in sampled], losses | {
            f"aux_roi_{name}": value for name, value in more.items()
        }


def _sampled(found: Instances) -> Candidates:
    boxes = found.proposal_boxes.tensor
    targets = found.gt_boxes.tensor if found.has("gt_boxes") else boxes
    return Candidates(boxes.detach(), found.gt_classes, targets)


class ATSSAuxiliary(nn.Module):
    """A dense head with adaptive selection of its positives.

    Args:
        head: applied to every level.
        levels: names of the encoded maps, one per stride of the head.
    """

    def __init__(self, head: ATSSHead, levels: list[str]) -> None:
        super().__init__()
        if len(levels) != len(head.strides):
            raise ValueError(
                f"{len(levels)} levels, but the head is for {len(head.strides)} strides"
            )
        self.head, self.levels = head, tuple(levels)

    def forward(
        self, images: ImageList, maps: dict[str, Tensor], instances: list[Instances]
    ) -> tuple[list[Candidates], dict[str, Tensor]]:
        """Return all anchors and the losses."""
        given = [(found.gt_boxes.tensor, found.gt_classes) for found in instances]
        anchors, assigned, losses = self.head(
            [maps[name] for name in self.levels], given, images.image_sizes
        )
        candidates = [Candidates(anchors, *found) for found in assigned]
        return candidates, {f"aux_atss_{name}": value for name, value in losses.items()}


def choose(
    candidates: list[Candidates], sizes: list[tuple[int, int]], *, num_classes: int
) -> tuple[Tensor, Assigned]:
    """Make queries of the positives of a batch, filled up with negatives drawn at random.

    There are as many queries as the image with most positives has, but at least 9 and at most 300,
    then drawn at random. Where even negatives run out, queries are not scored.

    Args:
        candidates: one per image.
        sizes: height and width of the images, by which boxes are divided.
        num_classes: the label of background.

    Returns:
        Boxes (batch, query, 4), centre and size as fractions of the image, and what to predict.
    """
    positives = [((c.labels >= 0) & (c.labels < num_classes)).nonzero()[:, 0] for c in candidates]
    count = min(max(FEWEST, *(len(found) for found in positives)), MOST)
    boxes, labels, targets = [], [], []
    for (given, classes, wanted), own, (height, width) in zip(
        candidates, positives, sizes, strict=True
    ):
        own = _some(own, count)
        negatives = _some((classes == num_classes).nonzero()[:, 0], count - len(own))
        chosen = torch.cat([own, negatives])
        scale = given.new_tensor([width, height, width, height])
        free = count - len(chosen)
        boxes.append(_padded(to_centres(given[chosen] / scale), free, 0.5))
        labels.append(_padded(classes[chosen], free, -1))
        targets.append(_padded(to_centres(wanted[chosen] / scale), free, 0.5))
    return torch.stack(boxes), Assigned(torch.stack(labels), torch.stack(targets))


def _some(indices: Tensor, count: int) -> Tensor:
    """Draw at most `count` of them."""
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]


def _padded(values: Tensor, count: int, value: float) -> Tensor:
    return torch.cat([values, values.new_full((count, *values.shape[1:]), value)])
