"""The whole detector: unusual batches train and evaluate, and padding is not image."""

import math
from typing import Any

import pytest
import torch
from detectron2.config import LazyConfig, instantiate

from projects.codino import CoDINO
from sora_det.data.loader import TrainMapper
from tests.tools.tiny_codino import (
    CONFIG,
    OVERRIDES,
    ROOT,
    SIDE,
    sample,
    tiny_codino,
    train_step,
)

BOX = [8.0, 8.0, 40.0, 56.0]
CASES = {
    "no boxes at all": [(64, 64, [], []), (64, 64, [], [])],
    "no boxes in one image": [(64, 64, [BOX], [1]), (64, 64, [], [])],
    "more boxes than queries": [
        (64, 64, [[i, i, i + 20.0, i + 30.0] for i in range(30)], [2] * 30)
    ],
    "very different sizes": [(16, 160, [[2.0, 2.0, 90.0, 12.0]], [0]), (96, 32, [BOX[:4]], [6])],
    "smaller than a cell": [(5, 7, [[1.0, 1.0, 4.0, 4.0]], [3])],
    "a batch of one": [(64, 64, [BOX], [1])],
    "a box of a hair's breadth": [(64, 64, [[10.0, 10.0, 10.001, 60.0]], [1])],
}


@pytest.fixture(scope="module")
def model() -> CoDINO:
    return tiny_codino()


def check_detections(model: CoDINO, batch: list[dict[str, Any]]) -> None:
    with torch.no_grad():
        outputs = model.eval()(batch)
    for image, output in zip(batch, outputs, strict=True):
        found = output["instances"]
        assert found.image_size == (image["height"], image["width"])
        boxes = found.pred_boxes.tensor
        assert boxes.isfinite().all()
        assert found.scores.isfinite().all()
        limit = boxes.new_tensor([image["width"], image["height"]] * 2)
        assert ((boxes >= 0) & (boxes <= limit)).all()
        assert (found.scores[:-1] >= found.scores[1:]).all()
        assert found.pred_classes.max() < model.classes


@pytest.mark.parametrize("case", CASES)
def test_unusual_batches(model: CoDINO, case: str) -> None:
    """Losses, gradients and detections are finite, and every trained tensor has a gradient."""
    batch = [sample(*image) for image in CASES[case]]
    losses = train_step(model, batch)
    assert all(math.isfinite(value.item()) for value in losses.values()), losses
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    check_detections(model, batch)


def test_losses_are_always_the_same_ones(model: CoDINO) -> None:
    """Processes of one training that see other images exchange them by place."""
    names = {case: list(train_step(model, [sample(*i) for i in CASES[case]])) for case in CASES}
    wanted = names["a batch of one"]
    assert all(found == wanted for found in names.values())
    assert (
        len(wanted) == 3 * (2 + 1 + 2 + 2 * 2) + 4 + 3
    )  # layers, encoder, dn, two heads; RoI, ATSS


def test_crowds_alone(model: CoDINO, tmp_path: Any) -> None:
    """The loader leaves crowds out, and the detector trains on what is left: nothing."""
    import cv2
    import numpy as np
    from detectron2.structures import BoxMode

    file = tmp_path / "crowd.png"
    cv2.imwrite(str(file), np.zeros((SIDE, SIDE, 3), np.uint8))
    crowd = {"bbox": BOX, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 1}
    record = {"file_name": str(file), "image_id": "0", "height": SIDE, "width": SIDE}
    batch = [TrainMapper([])({**record, "annotations": [crowd, crowd]})]
    assert len(batch[0]["instances"]) == 0
    losses = train_step(model, batch)
    assert all(math.isfinite(value.item()) for value in losses.values())
    assert losses["loss_box_0"].item() == losses["loss_giou_dn_0"].item() == 0


def test_one_class() -> None:
    model = tiny_codino("model.head.num_classes=1")
    batch = [sample(64, 64, [BOX], [0])]
    assert all(math.isfinite(v.item()) for v in train_step(model, batch).values())
    check_detections(model, batch)


@pytest.mark.parametrize("name", ["dino", "deformable_detr"])
def test_simpler_detectors(tmp_path: Any, name: str) -> None:
    """Without auxiliary heads; and without two stages and denoising: another import line."""
    text = CONFIG.read_text().replace("....configs", ".configs")
    kept = [line for line in text.splitlines() if "model.auxiliary" not in line]
    text = "\n".join(kept).replace("common.codino", f"common.{name}")
    if name == "deformable_detr":
        text = text.replace("model.head.denoising.queries = 50\n", "")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "common").symlink_to(CONFIG.parent / "common")
    (tmp_path / "run.py").write_text(text)
    known = [line for line in OVERRIDES if "auxiliary" not in line]
    known = [line for line in known if name == "dino" or "denoising" not in line]
    cfg = LazyConfig.apply_overrides(LazyConfig.load(str(tmp_path / "run.py")), known)
    model = instantiate(cfg.model)
    batch = [sample(64, 64, [BOX], [1]), sample(48, 64, [], [])]
    losses = train_step(model, batch)
    assert all(math.isfinite(value.item()) for value in losses.values())
    assert not [name for name in losses if "aux" in name]
    assert any("_dn_" in part for part in losses) == (name == "dino")
    assert any("_enc" in part for part in losses) == (name == "dino")
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    check_detections(model, batch)


@pytest.mark.parametrize(
    "switch", ["two_stage=False", "look_forward_twice=False", "denoising=null"]
)
def test_single_switches(switch: str) -> None:
    model = tiny_codino(f"model.head.{switch}")
    batch = [sample(64, 64, [BOX], [1]), sample(48, 64, [], [])]
    losses = train_step(model, batch)
    assert all(math.isfinite(value.item()) for value in losses.values())
    assert any("_enc" in name for name in losses) == (switch != "two_stage=False")
    assert any("_dn_" in name for name in losses) == (switch != "denoising=null")
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    check_detections(model, batch)


@pytest.mark.parametrize("twice", [True, False])
def test_looking_forward_twice(twice: bool) -> None:
    """The second layer's boxes train the refinement of the first, or do not."""
    head = tiny_codino(f"model.head.look_forward_twice={twice}").head
    for branch in head.box_branches:
        torch.nn.init.normal_(branch[-1].weight)  # it starts at 0, which no gradient passes
    maps = [torch.randn(1, 16, n, n) for n in (8, 4, 2, 1)]
    tokens = head.encode(maps, torch.zeros(1, SIDE, SIDE, dtype=torch.bool))
    content, boxes, _ = head.start(tokens)
    head.decode(tokens, content, boxes)[1].boxes.sum().backward()
    gradient = head.box_branches[0][-1].bias.grad
    assert (gradient is not None and gradient.abs().sum() > 0) == twice


@pytest.mark.gpu
def test_a_gpu_equals_the_cpu(model: CoDINO) -> None:
    batch = [sample(64, 96, [BOX], [1]), sample(48, 64, [], [])]
    with torch.no_grad():
        wanted = [output["instances"] for output in model.eval()(batch)]
        on_gpu = tiny_codino().cuda()
        on_gpu.load_state_dict(model.state_dict())
        found = [output["instances"].to("cpu") for output in on_gpu.eval()(batch)]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.scores[:10], other.scores[:10], atol=1e-4, rtol=0)
    assert all(math.isfinite(v.item()) for v in train_step(on_gpu, batch).values())


def test_what_lies_in_the_padding_does_not_matter(model: CoDINO) -> None:
    """Only where it is declared; taken for image, as the published code does, it matters."""
    model.eval()
    padding = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    padding[:, 32:] = True
    maps = [torch.randn(1, 16, n, n) for n in (8, 4, 2, 1)]
    other = [x.clone() for x in maps]
    for x in other[:3]:
        x[:, :, x.shape[2] // 2 :] = 5.0
    with torch.no_grad():
        first, second = (model.head.predict(model.head.encode(x, padding)) for x in (maps, other))
        torch.testing.assert_close(first.boxes, second.boxes)
        torch.testing.assert_close(first.logits, second.logits)
        whole = torch.zeros_like(padding)
        first, second = (model.head.predict(model.head.encode(x, whole)) for x in (maps, other))
        assert (first.logits - second.logits).abs().max() > 1e-3


def test_reference_compat_measures_boxes_by_the_padded_batch() -> None:
    batch = [sample(64, 64, [BOX], [1]), sample(32, 48, [], [])]
    for compat, size in ((False, (32, 48)), (True, (64, 64))):
        model = tiny_codino(f"model.reference_compat={compat}")
        images = model._images(batch)
        assert tuple(images.image_sizes[1]) == size
        assert model._padding(images)[1].any() == (not compat)
        assert model.head.reference_compat == compat
        check_detections(model, batch)


def test_checkpointed_layers_change_nothing() -> None:
    gradients = []
    for layers in (0, 1):
        model = tiny_codino(f"model.head.checkpointed={layers}")
        torch.manual_seed(1)
        train_step(model, [sample(64, 64, [BOX], [1])])
        weight = model.head.encoder.layers[0].attention.value_proj.weight
        gradients.append(weight.grad)
    torch.testing.assert_close(*gradients)


def test_mixed_precision(model: CoDINO) -> None:
    batch = [sample(64, 64, [BOX], [1])]
    with torch.autocast("cpu", torch.bfloat16):
        losses = train_step(model, batch)
        check_detections(model, batch)
    assert all(math.isfinite(v.item()) and v.dtype is torch.float32 for v in losses.values())


def test_wrong_use(model: CoDINO) -> None:
    with pytest.raises(ValueError, match="expects 1 auxiliary heads, got 2"):
        tiny_codino("model.head.auxiliary=1")
    with pytest.raises(ValueError, match="memory_names must name 5 maps, got 2"):
        tiny_codino("model.memory_names=[a,b]")
    with pytest.raises(ValueError, match="made for 4 maps, got 1"):
        model.head.encode([torch.zeros(1, 16, 4, 4)], torch.zeros(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"gt_classes must be 0..6, got \[7\]"):
        model.train()([sample(64, 64, [BOX], [7])])
    with pytest.raises(ValueError, match="no `instances`: use a training loader"):
        model.train()([{"image": torch.zeros(3, 64, 64)}])
    with pytest.raises(ValueError, match="queries must be at least 1, got 0"):
        tiny_codino("model.head.queries=0")
