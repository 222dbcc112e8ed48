"""The reference's checkpoints in the terms of this project."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

BACKBONE = "backbone.model."
UNUSED = ("backbone.model.mask_token",)  # never reached by a gradient
ADAPTED = (".lora_A.weight", ".lora_B.weight")

# (pattern, our name); the first that matches a whole name counts.
QUERY_HEAD = (
    (r"transformer\.level_embeds", r"level_embed"),
    (r"transformer\.query_embed\.weight", r"query_embed.weight"),
    (r"transformer\.encoder\.(layers\.\d+)\.attentions\.0\.(.+)", r"encoder.\1.attention.\2"),
    (r"transformer\.encoder\.(layers\.\d+)\.norms\.0\.(.+)", r"encoder.\1.attention_norm.\2"),
    (r"transformer\.encoder\.(layers\.\d+)\.norms\.1\.(.+)", r"encoder.\1.feed_forward_norm.\2"),
    (r"transformer\.(decoder\.layers\.\d+)\.attentions\.0\.attn\.(.+)", r"\1.self_attention.\2"),
    (r"transformer\.decoder\.(layers\.\d+)\.attentions\.1\.(.+)", r"decoder.\1.attention.\2"),
    (r"transformer\.decoder\.(layers\.\d+)\.norms\.0\.(.+)", r"decoder.\1.self_norm.\2"),
    (r"transformer\.decoder\.(layers\.\d+)\.norms\.1\.(.+)", r"decoder.\1.attention_norm.\2"),
    (r"transformer\.decoder\.(layers\.\d+)\.norms\.2\.(.+)", r"decoder.\1.feed_forward_norm.\2"),
    (r"transformer\.(\w+\.layers\.\d+)\.ffns\.0\.layers\.0\.0\.(.+)", r"\1.feed_forward.0.\2"),
    (r"transformer\.(\w+\.layers\.\d+)\.ffns\.0\.layers\.1\.(.+)", r"\1.feed_forward.2.\2"),
    (r"transformer\.decoder\.ref_point_head\.(.+)", r"decoder.position.\1"),
    (r"transformer\.decoder\.norm\.(.+)", r"decoder.norm.\1"),
    (r"transformer\.enc_output\.(.+)", r"proposal.\1"),
    (r"transformer\.enc_output_norm\.(.+)", r"proposal_norm.\1"),
    (r"transformer\.aux_pos_trans\.(\d+)\.(.+)", r"auxiliary.\1.0.\2"),
    (r"transformer\.aux_pos_trans_norm\.(\d+)\.(.+)", r"auxiliary.\1.1.\2"),
    (r"cls_branches\.(.+)", r"class_branches.\1"),
    (r"reg_branches\.(.+)", r"box_branches.\1"),
    (r"downsample\.(.+)", r"downsample.\1"),
    (r"dn_generator\.label_embedding\.weight", r"label_embed.weight"),
)  # fmt: skip
OTHERS = (
    (r"neck\.(.+)", r"backbone.neck.\1"),
    (r"rpn_head\.rpn_conv\.(.+)", r"auxiliary.0.rpn.rpn_head.conv.\1"),
    (r"rpn_head\.rpn_cls\.(.+)", r"auxiliary.0.rpn.rpn_head.objectness_logits.\1"),
    (r"rpn_head\.rpn_reg\.(.+)", r"auxiliary.0.rpn.rpn_head.anchor_deltas.\1"),
    (r"roi_head\.0\.bbox_head\.shared_fcs\.0\.(.+)", r"auxiliary.0.roi_heads.box_head.fc1.\1"),
    (r"roi_head\.0\.bbox_head\.shared_fcs\.1\.(.+)", r"auxiliary.0.roi_heads.box_head.fc2.\1"),
    (r"roi_head\.0\.bbox_head\.fc_cls\.(.+)", r"auxiliary.0.roi_heads.box_predictor.cls_score.\1"),
    (r"roi_head\.0\.bbox_head\.fc_reg\.(.+)", r"auxiliary.0.roi_heads.box_predictor.bbox_pred.\1"),
    (r"bbox_head\.0\.cls_convs\.0\.conv\.(.+)", r"auxiliary.1.head.class_conv.0.\1"),
    (r"bbox_head\.0\.cls_convs\.0\.gn\.(.+)", r"auxiliary.1.head.class_conv.1.\1"),
    (r"bbox_head\.0\.reg_convs\.0\.conv\.(.+)", r"auxiliary.1.head.box_conv.0.\1"),
    (r"bbox_head\.0\.reg_convs\.0\.gn\.(.+)", r"auxiliary.1.head.box_conv.1.\1"),
    (r"bbox_head\.0\.atss_cls\.(.+)", r"auxiliary.1.head.class_score.\1"),
    (r"bbox_head\.0\.atss_reg\.(.+)", r"auxiliary.1.head.box_change.\1"),
    (r"bbox_head\.0\.atss_centerness\.(.+)", r"auxiliary.1.head.centredness.\1"),
    (r"bbox_head\.0\.scales\.(\d+)\.scale", r"auxiliary.1.head.scales.\1"),
)  # fmt: skip
RULES = (*((rf"query_head\.{theirs}", f"head.{ours}") for theirs, ours in QUERY_HEAD), *OTHERS)


def convert_detector(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a whole reference detector, or of any part of it.

    q, k and v of a block become one layer; where they are adapted, their weight is the residual
    that the low-rank term comes on top of. Anchors change their order, shapes stay.

    Returns:
        Tensors by the names of `CoDINO` with a `ViTPyramid`.

    Raises:
        ValueError: a name that is not the reference's, or one part of q, k and v without the rest.
    """
    ours: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(BACKBONE):
            ours[_renamed(name, RULES)] = _anchors_by_scale(name, value)
    inner = {
        name.removeprefix(BACKBONE): value
        for name, value in state.items()
        if name.startswith(BACKBONE) and name not in UNUSED
    }
    return ours | {f"backbone.net.{name}": value for name, value in _vit(inner).items()}


def convert_query_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the reference's query head to those of `QueryHead`.

    Raises:
        ValueError: a name that is not the reference's.
    """
    return {_renamed(name, QUERY_HEAD): value for name, value in state.items()}


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in rules:
        if match := re.fullmatch(theirs, name):
            return match.expand(ours)
    raise ValueError(f"{name} is no name of the reference's Co-DINO: is this another detector?")


def _anchors_by_scale(name: str, value: Tensor) -> Tensor:
    """Put the nine anchors of the RPN in the order of Detectron2.

    The reference counts 3 ratios with 3 scales each, Detectron2 the other way round.
    """
    per_anchor = {"rpn_head.rpn_cls": 1, "rpn_head.rpn_reg": 4}.get(name.rpartition(".")[0])
    if per_anchor is None:
        return value
    if len(value) != 9 * per_anchor:
        raise ValueError(f"{name} must be for 3 ratios times 3 scales, got {len(value)} rows")
    return value.unflatten(0, (3, 3, per_anchor)).transpose(0, 1).flatten(0, 2)


def _vit(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give a ViT with separate q, k and v and low-rank factors the names of an adapted timm ViT."""
    layers = {name.removesuffix(ADAPTED[0]) for name in state if name.endswith(ADAPTED[0])}
    ours: dict[str, Tensor] = {}
    for name in state:
        if "." not in name:  # class token and positions
            ours[name] = state[name]
            continue
        layer, kind, stack = _parts(name, adapted=layers)
        stem, _, last = layer.rpartition(".")
        if not stem.endswith("attn") or last not in ("q", "k", "v"):
            ours[f"{layer}.{kind}"] = state[name][None] if stack else state[name]
        elif last == "q":
            parts = [state.get(name.replace(layer, f"{stem}.{part}")) for part in "qkv"]
            known = [part for part in parts if part is not None]
            if len(known) < 3:
                raise ValueError(f"{BACKBONE}{name} lacks its counterpart of k or v")
            ours[f"{stem}.qkv.{kind}"] = torch.stack(known) if stack else torch.cat(known)
    return ours


def _parts(name: str, *, adapted: set[str]) -> tuple[str, str, bool]:
    """Return layer, our kind of tensor, and whether there is one per group."""
    for suffix, kind in zip(ADAPTED, ("down", "up"), strict=True):
        if name.endswith(suffix):
            return name.removesuffix(suffix), kind, True
    layer, _, kind = name.rpartition(".")
    return layer, "residual" if kind == "weight" and layer in adapted else kind, False
