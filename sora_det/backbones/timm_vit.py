"""Plain vision transformers of timm: built with their weights, asked for the maps of their blocks.

A plain ViT keeps one resolution: every block maps tokens of `patch x patch` pixels to as many.
"""

import difflib
import logging
from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .weights import TimmViT, describe_file, load_vit, read_state

logger = logging.getLogger(__name__)

PLAIN = (VisionTransformer, Eva, VisionTransformerSAM)
SAM = ("vision_transformer_sam",)
BEHIND_BLOCKS = ("norm", "fc_norm", "attn_pool", "neck", "head")  # never reach a block's map


def vit(
    name: str,
    *,
    weights: str = "",
    pretrained: bool = False,
    random_init: bool = False,
    patch_size: int | None = 16,
    img_size: int | Sequence[int] | None = None,
    recompute_blocks: bool = False,
    compile_blocks: bool = False,
    **timm_kwargs: Any,
) -> TimmViT:
    """Build a plain ViT of timm without a head, with its weights loaded.

    Exactly one of `weights`, `pretrained` and `random_init` says where the weights come from. The
    patch kernel and the position embedding are resized as they are loaded. What lies behind the
    last block (final norm, SAM's neck) keeps its weights but is not trained, as maps do not use it.

    Args:
        name: of timm, such as "vit_large_patch14_dinov2".
        weights: local file: .pth of DINOv2's authors, or timm's .safetensors or .pth; or
            "toy_foundation", which comes with the package.
        pretrained: take the weights from timm's hub; the only case of a download.
        random_init: start from timm's random initialisation.
        patch_size: pixels a token covers, each way; None is the model's own.
        img_size: height and width in pixels (or one number for both) for which the position
            embedding is stored; None keeps the grid of pretraining. Other sizes still work: it is
            then resized at run time.
        recompute_blocks: keep only the input of a block for the backward pass and compute the block
            again there (activation checkpointing): less memory, more time.
        compile_blocks: compile the blocks with torch.compile, each kind once, when they are first
            used; so they may be adapted before. Names and weights stay as they are, copies (such as
            a merged network) are not compiled. Every further image size may compile once more.
        timm_kwargs: passed to `timm.create_model`.

    Returns:
        The timm module; `weights_source` (str) and `random_init` (bool) are added to it.

    Raises:
        ValueError: no or several sources, an unknown or not plain model, one without weights on the
            hub, an image size that the patch size does not divide, or a file that does not fit.
        FileNotFoundError: `weights` does not exist.
        OSError: the hub cannot be reached.
    """
    _one_source(name, weights, pretrained, random_init)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        raise ValueError(f"timm has no model {name!r}; near: {', '.join(near) or 'none'}")
    state = read_state(weights) if weights else {}
    net = _build(name, patch_size, img_size, timm_kwargs)
    source = "random initialisation"
    if weights:
        source = describe_file(weights)
        load_vit(net, state, source=source)
    elif pretrained:
        hub = _from_hub(name, timm_kwargs)
        source = f"timm hub {hub.pretrained_cfg['architecture']}.{hub.pretrained_cfg['tag']}"
        load_vit(net, hub.state_dict(), source=source)
    for part in BEHIND_BLOCKS:
        if isinstance(module := getattr(net, part, None), nn.Module):
            module.requires_grad_(False)
    net.weights_source, net.random_init = source, random_init
    net.set_grad_checkpointing(recompute_blocks)
    if compile_blocks:
        for block in net.blocks:
            block.compile()
    return net


def block_maps(net: TimmViT, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
    """Return the patch tokens after the given blocks as maps, without the final norm.

    Args:
        net: a plain ViT of timm, adapted or not.
        images: (batch, 3, height, width), both sides multiples of the patch size.
        blocks: indices, in any order and also repeated.

    Returns:
        One (batch, channel, height / patch, width / patch) per index.
    """
    if _embeds_plainly(net):
        found = _plain_maps(net, images, sorted(set(blocks)))
    else:
        found = net.forward_intermediates(
            images,
            indices=sorted(set(blocks)),
            norm=False,
            stop_early=True,
            intermediates_only=True,
        )
    by_block = dict(zip(sorted(set(blocks)), found, strict=True))
    return [by_block[index] for index in blocks]


def _plain_maps(net: TimmViT, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
    x = embed(net, images)  # (batch, token, channel)
    maps = []
    for index, block in enumerate(net.blocks[: blocks[-1] + 1]):
        if net.grad_checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
        if index in blocks:
            cells = x[:, net.num_prefix_tokens :].transpose(1, 2)
            maps.append(cells.unflatten(2, _grid(net, images)))
    return maps


def embed(net: TimmViT, images: Tensor) -> Tensor:
    """Return the tokens that enter the first block: class, registers, then patches row by row.

    timm itself resizes positions with antialiasing at run time; here they are resized as DINOv2
    does, which the published results used.
    """
    x = net.patch_embed(images)
    if x.dim() == 4:
        x = x.flatten(1, 2)  # (batch, rows, columns, channel) to (batch, token, channel)
    extra = [t.expand(len(x), -1, -1) for t in (net.cls_token, net.reg_token) if t is not None]
    if net.pos_embed is None:
        x = torch.cat([*extra, x], dim=1)
    elif net.no_embed_class:
        x = torch.cat([*extra, x + position_for(net, _grid(net, images))], dim=1)
    else:
        x = torch.cat([*extra, x], dim=1) + position_for(net, _grid(net, images))
    return net.norm_pre(net.patch_drop(net.pos_drop(x)))


def position_for(net: TimmViT, grid: tuple[int, int]) -> Tensor:
    """Return the position embedding (1, token, channel) for a grid of (rows, columns) patches.

    Bicubic by a factor of (n + 0.1) / n_stored each way, DINOv2's guard against a grid that is one
    short: the values differ a little from a resize by size.
    """
    stored: tuple[int, int] = net.patch_embed.grid_size
    if grid == tuple(stored):
        return net.pos_embed
    prefix = 0 if net.no_embed_class else net.num_prefix_tokens
    extra, cells = net.pos_embed[:, :prefix], net.pos_embed[:, prefix:]
    cells = cells.float().unflatten(1, stored).permute(0, 3, 1, 2)  # (1, channel, rows, columns)
    factor = [(new + 0.1) / old for new, old in zip(grid, stored, strict=True)]
    cells = F.interpolate(cells, scale_factor=factor, mode="bicubic", align_corners=False)
    return torch.cat([extra, cells.flatten(2).transpose(1, 2).to(extra.dtype)], dim=1)


def check_plain(net: TimmViT) -> int:
    """Return the patch size of a plain ViT of timm, in pixels.

    Raises:
        ValueError: another kind of network, or patches that are not square.
    """
    if not isinstance(net, PLAIN):
        kinds = ", ".join(kind.__name__ for kind in PLAIN)
        raise ValueError(f"{type(net).__name__} is not a plain ViT of timm ({kinds})")
    patch = getattr(net.patch_embed, "patch_size", None)
    if not patch or len(set(patch)) != 1:
        raise ValueError(f"a plain ViT with square patches is needed, this one has {patch}")
    return patch[0]


def _one_source(name: str, weights: str, pretrained: bool, random_init: bool) -> None:
    if sum(map(bool, (weights, pretrained, random_init))) != 1:
        given = {"weights": weights, "pretrained": pretrained, "random_init": random_init}
        got = ", ".join(f"{key}={value!r}" for key, value in given.items() if value) or "nothing"
        raise ValueError(
            f"say where the weights of {name} come from, with exactly one of weights=<local file>, "
            f"pretrained=True (timm's hub) and random_init=True (untrained); got {got}"
        )


def _build(
    name: str, patch_size: int | None, img_size: int | Sequence[int] | None, kwargs: dict[str, Any]
) -> TimmViT:
    options: dict[str, Any] = {"num_classes": 0, "global_pool": "", **kwargs}
    if not timm.models.is_model_in_modules(name.partition(".")[0], SAM):
        options.setdefault("dynamic_img_size", True)  # SAM takes any size without being told
    try:
        with torch.device("meta"):
            native: TimmViT = timm.create_model(name, **options)  # only its shapes are looked at
    except TypeError as error:
        raise ValueError(f"{name} is no plain ViT, or does not take all of {options}") from error
    patch = patch_size or check_plain(native)
    size = _image_size(img_size, patch)
    if size is None:
        rows, columns = native.patch_embed.grid_size
        size = (rows * patch, columns * patch)
    net = timm.create_model(name, patch_size=patch, img_size=size, **options)
    check_plain(net)
    return net


def _image_size(img_size: int | Sequence[int] | None, patch: int) -> tuple[int, int] | None:
    if img_size is None:
        return None
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if height < patch or width < patch or height % patch or width % patch:
        raise ValueError(f"img_size must be multiples of patch_size {patch}, got {img_size}")
    return height, width


def _from_hub(name: str, kwargs: dict[str, Any]) -> TimmViT:
    try:
        return timm.create_model(name, pretrained=True, num_classes=0, **kwargs)
    except OSError as error:
        raise OSError(
            f"timm's hub gave no weights for {name}: without a connection, download the file "
            f"elsewhere and pass weights=<local file> ({str(error).splitlines()[0]})"
        ) from error
    except RuntimeError as error:
        if "No pretrained weights" not in str(error):
            raise
        raise ValueError(
            f"timm's hub has no weights for {name}: take a file of its authors with "
            "weights=<local file>, another model, or random_init=True"
        ) from error


def _embeds_plainly(net: TimmViT) -> bool:
    """Tell whether tokens are made the way `embed` makes them; rotary and SAM models differ."""
    return getattr(type(net), "_pos_embed", None) is VisionTransformer._pos_embed


def _grid(net: TimmViT, images: Tensor) -> tuple[int, int]:
    high, wide = net.patch_embed.patch_size
    return images.shape[-2] // high, images.shape[-1] // wide
