"""Contrastive denoising queries (arXiv 2203.03605, section 3.3)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .boxes import to_centres, to_corners
from .matching import Assigned, Targets

EDGE = 1e-3  # a noisy box keeps this distance from 0 and 1


class Denoising:
    """How objects are disturbed that the decoder has to restore.

    Args:
        queries: about so many positive ones a batch: the busiest image decides into how many
            groups, each with all objects once, they are divided.
        label_noise: half of this share of the labels is drawn anew.
        box_noise: a positive's corners move by less than this times half the box's sides, a
            negative's by as much to twice as much.
    """

    # Not a dataclass: a lazy config cannot hold one.
    def __init__(
        self, queries: int = 100, label_noise: float = 0.5, box_noise: float = 1.0
    ) -> None:
        if queries < 1 or box_noise < 0 or not 0 <= label_noise <= 1:
            raise ValueError(
                "denoising needs queries >= 1, label_noise in 0..1 and box_noise >= 0, got "
                f"{queries}, {label_noise} and {box_noise}"
            )
        self.queries, self.label_noise, self.box_noise = queries, label_noise, box_noise


@dataclass(frozen=True)
class NoisyQueries:
    """Queries to be restored: every group has a positive and then a negative one per object.

    Images with fewer objects than the busiest are filled up with negatives in the image's middle.
    """

    content: Tensor  # (batch, query, channel)
    boxes: Tensor  # (batch, query, 4)
    blocked: Tensor  # (query + others, query + others) bool, see `attention_mask`
    assigned: Assigned


def noisy_queries(
    settings: Denoising, targets: list[Targets], embedding: nn.Embedding, *, others: int
) -> NoisyQueries:
    """Disturb the objects of a batch; no queries if it has none.

    Args:
        settings: how.
        targets: one per image.
        embedding: a vector for every class.
        others: number of ordinary queries, which come after these.
    """
    most = max(len(target.labels) for target in targets)
    groups = max(settings.queries // max(most, 1), 1)
    classes, width = embedding.weight.shape
    device = embedding.weight.device
    size = (len(targets), groups, 2, most)  # 2: positives, then negatives
    content = embedding.weight.new_zeros(*size, width)
    boxes = torch.full((*size, 4), 0.5, device=device)
    labels = torch.full(size, classes, device=device)
    wanted = torch.zeros(*size, 4, device=device)
    for image, target in enumerate(targets):
        count = len(target.labels)
        known = target.labels.expand(groups, 2, count)
        content[image, :, :, :count] = embedding(noisy_labels(known, settings, classes)).to(content)
        boxes[image, :, :, :count] = noisy_boxes(target.boxes.expand(groups, 2, -1, 4), settings)
        labels[image, :, 0, :count] = target.labels
        wanted[image, :, 0, :count] = target.boxes
    return NoisyQueries(
        content.flatten(1, 3),
        boxes.flatten(1, 3),
        attention_mask(groups, 2 * most, others, device),
        Assigned(labels.flatten(1), wanted.flatten(1, 3)),
    )


def noisy_labels(labels: Tensor, settings: Denoising, classes: int) -> Tensor:
    """Draw some labels anew, the true one not excluded."""
    changed = torch.rand(labels.shape, device=labels.device) < settings.label_noise / 2
    return torch.where(changed, torch.randint_like(labels, classes), labels)


def noisy_boxes(boxes: Tensor, settings: Denoising) -> Tensor:
    """Move the corners of (group, 2, object, 4) boxes; further in the second half, the negatives.

    Takes and returns centre and size as fractions of the image.
    """
    amount = torch.rand_like(boxes)
    amount[:, 1] += 1
    sign = torch.randint_like(boxes, 2) * 2 - 1
    half = boxes[..., 2:].repeat(1, 1, 1, 2) / 2
    corners = to_corners(boxes) + settings.box_noise * sign * amount * half
    return to_centres(corners.clamp(0, 1)).clamp(EDGE, 1 - EDGE)


def attention_mask(groups: int, size: int, others: int, device: torch.device) -> Tensor:
    """Return who may not attend to whom: (groups * size + others) squared, bool.

    A group sees itself and the ordinary queries, these only each other: nobody learns the answer.
    """
    group = torch.arange(groups, device=device).repeat_interleave(size)
    group = torch.cat([group, group.new_full((others,), -1)])
    return (group[:, None] != group) & (group >= 0)
