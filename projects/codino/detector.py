"""The detector: backbone, query head and auxiliary heads."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from .auxiliary import choose
from .boxes import to_centres, to_corners
from .matching import Targets
from .query_head import Predictions, QueryHead
from .soft_nms import soft_nms
from .transformer import Tokens


class CoDINO(nn.Module):
    """A detector with object queries; auxiliary heads help in training and do nothing at test.

    Args:
        backbone: of Detectron2's interface.
        head: made for as many maps as `in_features`.
        in_features: names of the backbone's maps, from fine to coarse.
        auxiliary: heads such as `RoIAuxiliary`, as many as `head` expects. They are given the
            encoded maps under the names in `memory_names`.
        memory_names: of the encoded maps and of one more at half the last one's resolution.
        pixel_mean, pixel_std: of the input's channels in 0..255.
        input_format: of the images, such as "RGB".
        reference_compat: take padding for image, as the published code does: nothing is masked,
            and boxes are fractions of the padded batch. Its images are padded to one size before;
            only then does a detection not depend on the batch.
        test_topk_per_image: pairs of query and class an image that soft-NMS sees.
        test_score_thresh: detections with a lower score are left out.
        soft_nms_iou: boxes of a class that overlap by more lower each other's score; None keeps
            all, as DINO does.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: QueryHead,
        *,
        in_features: Sequence[str] = ("p2", "p3", "p4", "p5", "p6"),
        auxiliary: Sequence[nn.Module] = (),
        memory_names: Sequence[str] = ("m2", "m3", "m4", "m5", "m6", "m7"),
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        input_format: str = "RGB",
        reference_compat: bool = False,
        test_topk_per_image: int = 300,
        test_score_thresh: float = 1e-3,
        soft_nms_iou: float | None = 0.8,
    ) -> None:
        super().__init__()
        if len(auxiliary) != len(head.auxiliary):
            raise ValueError(
                f"the query head expects {len(head.auxiliary)} auxiliary heads, got "
                f"{len(auxiliary)}: set the head's `auxiliary` to the number of the detector's"
            )
        if auxiliary and len(memory_names) != len(in_features) + 1:
            raise ValueError(
                f"memory_names must name {len(in_features) + 1} maps, got {len(memory_names)}"
            )
        self.backbone, self.head = backbone, head
        self.in_features, self.memory_names = tuple(in_features), tuple(memory_names)
        self.auxiliary = nn.ModuleList(auxiliary)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            column = torch.tensor(list(values), dtype=torch.float32)[:, None, None]
            self.register_buffer(name, column, persistent=False)
        self.input_format, self.reference_compat = input_format, reference_compat
        self.test_topk_per_image, self.test_score_thresh = test_topk_per_image, test_score_thresh
        self.soft_nms_iou = soft_nms_iou

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(
        self, batched_inputs: list[dict[str, Any]]
    ) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Return losses in training, else detections.

        Args:
            batched_inputs: Detectron2's dictionaries with `image` (3, height, width), in training
                `instances` with `gt_boxes` and `gt_classes`, at test `height` and `width` of the
                output.

        Returns:
            The weighted losses by name; or for every image {"instances": Instances} with
            `pred_boxes`, `scores` and `pred_classes`, the best first.
        """
        images = self._images(batched_inputs)
        features = self.backbone(images.tensor)
        tokens = self.head.encode(
            [features[name] for name in self.in_features], self._padding(images)
        )
        if self.training:
            return self._losses(images, tokens, self._instances(batched_inputs))
        found = self.head.predict(tokens)
        return [
            self._output(Predictions(*part), tuple(image["image"].shape[-2:]), size, image)
            for part, size, image in zip(
                zip(*found, strict=True), images.image_sizes, batched_inputs, strict=True
            )
        ]

    def _images(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise and pad the images; padding counts as image under `reference_compat`."""
        pixels = [image["image"].to(self.device) for image in batched_inputs]
        images = ImageList.from_tensors(
            [(x - self.pixel_mean) / self.pixel_std for x in pixels],
            self.backbone.size_divisibility,
        )
        if self.reference_compat:
            height, width = images.tensor.shape[-2:]
            return ImageList(images.tensor, [(height, width)] * len(pixels))
        return images

    def _padding(self, images: ImageList) -> Tensor:
        """Return (batch, height, width) bool, True outside the image."""
        batch, _, height, width = images.tensor.shape
        padding = torch.ones(batch, height, width, dtype=torch.bool, device=self.device)
        for mask, (rows, columns) in zip(padding, images.image_sizes, strict=True):
            mask[:rows, :columns] = False
        return padding

    def _instances(self, batched_inputs: list[dict[str, Any]]) -> list[Instances]:
        if any("instances" not in image for image in batched_inputs):
            raise ValueError("an image to train on has no `instances`: use a training loader")
        found = [image["instances"].to(self.device) for image in batched_inputs]
        for image in found:
            labels = image.gt_classes
            if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
                raise ValueError(
                    f"gt_classes must be 0..{self.classes - 1}, got {labels.unique().tolist()}: "
                    "give the head the benchmark's number of classes"
                )
        return found

    @property
    def classes(self) -> int:
        return self.head.num_classes

    def _losses(
        self, images: ImageList, tokens: Tokens, instances: list[Instances]
    ) -> dict[str, Tensor]:
        targets = [
            Targets(found.gt_classes, to_centres(found.gt_boxes.tensor / _scale(size, tokens)))
            for found, size in zip(instances, images.image_sizes, strict=True)
        ]
        losses = self.head.losses(tokens, targets)
        if not len(self.auxiliary):
            return losses
        maps = dict(zip(self.memory_names, self.head.memory_maps(tokens), strict=True))
        for index, auxiliary in enumerate(self.auxiliary):
            candidates, own = auxiliary(images, maps, instances)
            boxes, assigned = choose(candidates, images.image_sizes, num_classes=self.classes)
            layers = self.head.decode_auxiliary(tokens, boxes, index)
            losses |= own | self.head.layer_losses(layers, assigned, f"aux{index}")
        return losses

    def _output(
        self,
        found: Predictions,
        shape: tuple[int, int],
        size: tuple[int, int],
        image: dict[str, Any],
    ) -> dict[str, Instances]:
        """Turn one image's predictions, fractions of `size`, into detections in output pixels."""
        boxes, scores, labels = best_pairs(found, self.test_topk_per_image)
        boxes = boxes * _scale(size, boxes)
        if self.soft_nms_iou is None:
            kept = scores >= self.test_score_thresh
            scores = scores[kept]
        else:
            kept, scores = soft_nms(
                boxes,
                scores,
                labels,
                threshold=self.soft_nms_iou,
                min_score=self.test_score_thresh,
            )
        result = Instances(shape)
        result.pred_boxes, result.scores = Boxes(boxes[kept]), scores
        result.pred_classes = labels[kept]
        height, width = (int(image.get(name, n)) for name, n in zip(SIDES, shape, strict=True))
        return {"instances": detector_postprocess(result, height, width)}


SIDES = ("height", "width")


def best_pairs(found: Predictions, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes, scores and classes of the best pairs of query and class of one image.

    Args:
        found: logits (query, class) and boxes (query, 4).
        count: at most so many.

    Returns:
        Corners (pair, 4) as fractions of the image, limited to it; scores and classes (pair,).
    """
    scores = found.logits.float().sigmoid().flatten()
    scores, pairs = scores.topk(min(count, len(scores)))
    classes = found.logits.shape[1]
    boxes = to_corners(found.boxes[pairs // classes]).clamp(0, 1)
    return boxes, scores, pairs % classes


def _scale(size: tuple[int, int], like: Tensor | Tokens) -> Tensor:
    height, width = size
    values = like.values if isinstance(like, Tokens) else like
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=values.device)
