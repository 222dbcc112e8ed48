"""Linear soft non-maximum suppression (arXiv 1704.04503)."""

import torch
from torch import Tensor

from .boxes import overlaps


@torch.no_grad()
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    threshold: float = 0.8,
    min_score: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """Lower the score of boxes that overlap a better one of their class.

    Args:
        boxes: (n, 4) corners.
        scores: (n,) in 0..1.
        labels: (n,) classes.
        threshold: an IoU above this multiplies the score of the worse box by 1 - IoU.
        min_score: boxes whose score is lower are left out.

    Returns:
        Indices of what remains, the best first, and the new scores.
    """
    # A step depends on the one before: many small steps, which a GPU is slow at.
    at = boxes.device
    boxes, rest, labels = boxes.float().cpu(), scores.float().cpu().clone(), labels.cpu()
    iou = overlaps(boxes[:, None], boxes)[0]
    close = (iou > threshold) & (labels[:, None] == labels)
    factor = torch.where(close, 1 - iou, torch.ones_like(iou))
    kept: list[int] = []
    found: list[float] = []
    for _ in range(len(rest)):
        score, best = rest.max(0)
        if not score >= min_score:
            break
        kept.append(int(best))
        found.append(float(score))
        rest *= factor[best]
        rest[best] = -1
    return torch.tensor(kept, dtype=torch.int64, device=at), scores.new_tensor(found)
