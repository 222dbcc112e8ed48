"""Images of a benchmark's domains, and the patch tokens that a ViT makes of them block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..data import Benchmark

SPLIT = "test"


class Picture(NamedTuple):
    """One image as a detector's backbone sees it."""

    images: Tensor  # (1, 3, height, width), normalised and padded
    content: tuple[float, float]  # height and width in pixels that are not padding


class DomainImages:
    """Some images of a domain's test split, spread evenly over it.

    The first ones of a split may all come from one drive.

    Args:
        cfg: with `dataloader.test`, whose workers and transforms are used; it is not changed.
        benchmark: registered already.
        domain: its name.
        limit: the most images taken.

    Raises:
        ValueError: a limit below 1.
    """

    def __init__(self, cfg: DictConfig, benchmark: Benchmark, domain: str, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"at least 1 image per domain is needed, got {limit}")
        name = benchmark.dataset_name(domain, SPLIT)
        loader = instantiate({**cfg.dataloader.test, "dataset_name": name})
        self.available = len(cast(Sized, loader.dataset))
        count = min(limit, self.available)
        chosen = [index * self.available // count for index in range(count)]
        self._images = DataLoader(
            Subset(loader.dataset, chosen),
            batch_size=1,
            num_workers=loader.num_workers,
            collate_fn=list,
        )
        self._sizes = {
            record["image_id"]: (record["height"], record["width"])
            for record in DatasetCatalog.get(name)
        }

    def __len__(self) -> int:
        return len(self._images)

    def pictures(self, model: Any) -> Iterator[Picture]:
        """Yield the images as `model`, a detector of Detectron2, preprocesses them."""
        for batch in self._images:
            (image,) = batch
            height, width = image["image"].shape[-2:]
            own = self._sizes[image["image_id"]]
            # The loader tells the size of the canvas, padding included, in the file's pixels.
            content = height * own[0] / image["height"], width * own[1] / image["width"]
            yield Picture(model.preprocess_image(batch).tensor, content)


def vit_of(backbone: nn.Module) -> nn.Module:
    """Return the ViT in a backbone.

    Raises:
        ValueError: it is built on something else.
    """
    net = getattr(backbone, "net", None)
    if not isinstance(getattr(net, "blocks", None), nn.Module):
        raise ValueError(f"blocks of a ViT are looked at, but {type(backbone).__name__} has none")
    return cast(nn.Module, net)


@torch.no_grad()
def block_tokens(backbone: nn.Module, picture: Picture) -> list[Tensor]:
    """Return the patch tokens (token, channel) after every block, without the final norm.

    Class and register tokens are left out, and so are patches whose centre is padding.
    """
    net: Any = vit_of(backbone)
    with _recorded(net.blocks) as outputs:
        backbone(picture.images)
    high, wide = net.patch_embed.patch_size
    columns = -(-picture.images.shape[-1] // wide)
    rows_kept = max(int(picture.content[0] / high + 0.5), 1)
    columns_kept = max(int(picture.content[1] / wide + 0.5), 1)
    tokens = []
    for output in outputs:
        cells = output[0]
        if cells.dim() == 2:  # (prefix + row * column, channel); SAM's are (row, column, channel)
            cells = cells[getattr(net, "num_prefix_tokens", 0) :].unflatten(0, (-1, columns))
        tokens.append(cells[:rows_kept, :columns_kept].flatten(0, 1))
    return tokens


def as_read(tokens: Tensor) -> Tensor:
    """Bring tokens (token, channel) to mean 0 and one length, as the norm of the next block does.

    Pretrained ViTs have a few tokens that are dozens of times as long as the others
    (arXiv 2309.16588); without this, they alone decide what a change or a similarity comes to.
    """
    return F.layer_norm(tokens, tokens.shape[-1:])


@contextmanager
def _recorded(blocks: Any) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []
    hooks = [b.register_forward_hook(lambda *call: outputs.append(call[2])) for b in blocks]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
