"""Every tensor of the reference's checkpoints has its place in the paper's detector."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from torch import Tensor, nn

from projects.codino.convert import convert_detector, convert_query_head
from sora_det.adapt.low_rank import Added, LowRankLinear
from sora_det.adapt.select import block_index
from sora_det.engine.config import load_config

ROOT = Path(__file__).parents[3]
PARITY = ROOT / "tests" / "data" / "parity"
CONFIG = ROOT / "projects" / "codino" / "configs" / "dinov2_l_sora_codino_weather.py"
RANK = 16


def low_rank(name: str, layer: nn.Linear) -> LowRankLinear:
    groups = 3 if name.endswith("qkv") else 1
    residual = layer.weight.detach().unflatten(0, (groups, -1))
    up = residual.new_zeros(*residual.shape[:2], RANK)
    down = residual.new_zeros(groups, RANK, residual.shape[2])
    return LowRankLinear(Added(residual, up, down), layer.bias)


@pytest.fixture(scope="module")
def shapes() -> dict[str, tuple[int, ...]]:
    """Of the adapted detector that the paper's config describes; no memory is spent on it."""
    cfg = load_config(CONFIG)
    cfg.backbone.net.random_init = True
    cfg.model.backbone = cfg.backbone
    with torch.device("meta"):
        model = instantiate(cfg.model)
        net = model.backbone.net  # what SoRA makes of it, without computing anything
        for name, layer in list(net.named_modules()):
            if isinstance(layer, nn.Linear) and (block_index(name) or 0) >= 8:
                net.set_submodule(name, low_rank(name, layer))
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def stored(file: str) -> dict[str, Tensor]:
    described = json.loads((PARITY / file).read_text())
    described = described.get("shapes", described)
    return {name: torch.empty(shape, device="meta") for name, shape in described.items()}


def test_the_whole_reference_model(shapes: dict[str, tuple[int, ...]]) -> None:
    theirs = stored("official_state_dict_shapes.json")
    assert len(theirs) == 987
    ours = {name: tuple(value.shape) for name, value in convert_detector(theirs).items()}
    assert ours == shapes  # all but the mask token, which nothing ever reads


def test_the_published_file(shapes: dict[str, tuple[int, ...]]) -> None:
    theirs = stored("released_ckpt_shapes.json")
    assert len(theirs) == 743
    ours = {name: tuple(value.shape) for name, value in convert_detector(theirs).items()}
    assert {name: shapes[name] for name in ours} == ours
    missing = {name for name in shapes if name not in ours}
    assert missing  # frozen weights of the ViT, and nothing else
    assert all(name.startswith("backbone.net.") for name in missing)
    assert not any(name.endswith((".up", ".down", ".bias")) for name in missing)


def test_anchors_change_their_order() -> None:
    ratio, scale = torch.arange(9.0).unflatten(0, (3, 3)), torch.arange(9).unflatten(0, (3, 3))
    name = "auxiliary.0.rpn.rpn_head.objectness_logits.bias"
    found = convert_detector({"rpn_head.rpn_cls.bias": ratio.flatten()})[name]
    assert found.tolist() == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    assert torch.equal(found.unflatten(0, (3, 3)), scale.t().float())
    deltas = torch.arange(36.0)  # anchor * 4 + coordinate
    found = convert_detector({"rpn_head.rpn_reg.bias": deltas})[
        "auxiliary.0.rpn.rpn_head.anchor_deltas.bias"
    ]
    assert found[4:8].tolist() == [12, 13, 14, 15]  # ratio 1, scale 0 is Detectron2's second


def test_query_key_and_value_are_stacked() -> None:
    layer = "backbone.model.blocks.8.attn"
    state = {f"{layer}.{part}.weight": torch.full((2, 2), i) for i, part in enumerate("qkv")}
    state |= {
        f"{layer}.{part}.lora_A.weight": torch.full((1, 2), i) for i, part in enumerate("qkv")
    }
    found = convert_detector(state)
    assert found["backbone.net.blocks.8.attn.qkv.residual"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert found["backbone.net.blocks.8.attn.qkv.down"].tolist() == [[[0, 0]], [[1, 1]], [[2, 2]]]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"query_head.nothing": (1,)}, "query_head.nothing is no name of the reference's"),
        ({"backbone.model.blocks.0.attn.q.bias": (4,)}, "lacks its counterpart of k or v"),
        ({"rpn_head.rpn_cls.bias": (3,)}, "must be for 3 ratios times 3 scales, got 3 rows"),
    ],
)
def test_another_file(state: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_detector({name: torch.zeros(shape) for name, shape in state.items()})


def test_another_head() -> None:
    with pytest.raises(ValueError, match="level_embed is no name"):
        convert_query_head({"level_embed": torch.zeros(1)})
