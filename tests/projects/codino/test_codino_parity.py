"""The query head against numbers of the published code: forward, denoising, every loss."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from projects.codino import Denoising, QueryHead
from projects.codino.auxiliary import Candidates, choose
from projects.codino.boxes import to_centres
from projects.codino.convert import convert_query_head
from projects.codino.denoising import noisy_queries
from projects.codino.detector import best_pairs
from projects.codino.matching import Targets
from projects.codino.query_head import Predictions
from projects.codino.transformer import Tokens

PARITY = Path(__file__).parents[2] / "data" / "parity"
SIDE, CLASSES, NOISY = 128, 7, 198
FORWARD, LOSS, DETECTION = 1e-4, 1e-4, 1e-3  # absolute, relative, absolute: the reference's own


@pytest.fixture(scope="module")
def numbers() -> dict[str, Tensor]:
    return load_file(PARITY / "codino_tiny.safetensors")


@pytest.fixture(scope="module")
def described() -> dict:
    return json.loads((PARITY / "codino_tiny.json").read_text())


@pytest.fixture(scope="module")
def head(numbers: dict[str, Tensor]) -> QueryHead:
    head = QueryHead(
        CLASSES,
        channels=32,
        queries=12,
        encoder_layers=2,
        decoder_layers=2,
        hidden=64,
        denoising=Denoising(),
        auxiliary=2,
        reference_compat=True,
    )
    theirs = {k.removeprefix("sd."): v for k, v in numbers.items() if k.startswith("sd.")}
    head.load_state_dict(convert_query_head(theirs), strict=True)
    return head.requires_grad_(False)


def encode(head: QueryHead, numbers: dict[str, Tensor], sizes: list[dict]) -> Tokens:
    padding = torch.ones(2, SIDE, SIDE, dtype=torch.bool)
    for mask, image in zip(padding, sizes, strict=True):
        mask[: image["img_shape"][0], : image["img_shape"][1]] = False
    return head.encode([numbers[f"feat{level}"] for level in range(5)], padding)


def near(found: Tensor, wanted: Tensor, *, atol: float = FORWARD) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def check_layers(layers: list[Predictions], numbers: dict[str, Tensor], name: str) -> None:
    near(torch.stack([layer.logits for layer in layers]), numbers[f"{name}.cls"])
    near(torch.stack([layer.boxes for layer in layers]), numbers[f"{name}.box"])


def targets(numbers: dict[str, Tensor]) -> list[Targets]:
    return [
        Targets(numbers[f"gt{i}.labels"], to_centres(numbers[f"gt{i}.boxes"] / SIDE))
        for i in range(2)
    ]


@pytest.mark.parametrize("name", ["full", "masked"])
def test_forward(head: QueryHead, numbers: dict[str, Tensor], described: dict, name: str) -> None:
    """Without and with padding: memory, two-stage selection, every layer, detections."""
    sizes = described[f"metas_{name}"]
    tokens = encode(head, numbers, sizes)
    for level, found in enumerate(head.memory_maps(tokens)):
        near(found, numbers[f"{name}.memory{level}"])
    content, boxes, proposed = head.start(tokens)
    assert proposed is not None
    near(proposed.logits, numbers[f"{name}.enc_topk_logits"])
    near(proposed.boxes, numbers[f"{name}.enc_topk_box"])
    layers = head.decode(tokens, content, boxes)
    check_layers(layers, numbers, name)
    for image, size in enumerate(sizes):
        last = Predictions(layers[-1].logits[image], layers[-1].boxes[image])
        corners, scores, labels = best_pairs(last, 10)
        height, width = size["img_shape"]
        corners = corners * corners.new_tensor([width, height, width, height])
        wanted = f"{name}.det{image}"
        near(corners / size.get("scale_factor", 1.0), numbers[f"{wanted}.boxes"], atol=DETECTION)
        near(scores, numbers[f"{wanted}.scores"], atol=DETECTION)
        assert labels.tolist() == numbers[f"{wanted}.labels"].tolist()


def denoised(
    head: QueryHead, numbers: dict[str, Tensor], tokens: Tokens
) -> tuple[list[Predictions], Predictions]:
    content, boxes, proposed = head.start(tokens)
    assert proposed is not None
    content = torch.cat([numbers["dn.label_query"], content], dim=1)
    boxes = torch.cat([numbers["dn.bbox_query"].sigmoid(), boxes], dim=1)
    return head.decode(tokens, content, boxes, numbers["dn.attn_mask"]), proposed


def test_denoising_forward(head: QueryHead, numbers: dict[str, Tensor], described: dict) -> None:
    layers, _ = denoised(head, numbers, encode(head, numbers, described["metas_full"]))
    check_layers(layers, numbers, "dn")


def test_denoising_layout(head: QueryHead, numbers: dict[str, Tensor], described: dict) -> None:
    noisy = noisy_queries(Denoising(), targets(numbers), head.label_embed, others=12)
    assert torch.equal(noisy.blocked, numbers["dn.attn_mask"])
    assert noisy.content.shape == numbers["dn.label_query"].shape
    # Noise moves a positive's corners, and so its centre, by less than half a side.
    theirs = numbers["dn.bbox_query"].sigmoid().unflatten(1, (33, 2, 3))[0, :, 0]
    moved = (theirs[..., :2] - targets(numbers)[0].boxes[:, :2]).abs()
    assert (moved <= targets(numbers)[0].boxes[:, 2:] / 2).all()


def test_losses(head: QueryHead, numbers: dict[str, Tensor], described: dict) -> None:
    """Matched, encoder's and denoising losses, one by one."""
    layers, proposed = denoised(head, numbers, encode(head, numbers, described["metas_full"]))
    noisy = noisy_queries(Denoising(), targets(numbers), head.label_embed, others=12)
    found = head.matched_losses(
        [layer.part(NOISY) for layer in layers], proposed, targets(numbers)
    ) | head.layer_losses([layer.part(0, NOISY) for layer in layers], noisy.assigned, "dn")
    wanted = described["losses"]["with_dn"]
    compare(
        found,
        wanted,
        {"_1": "loss_{}", "_0": "d0.loss_{}", "_enc": "enc_loss_{}"}
        | {"_dn_1": "dn_loss_{}", "_dn_0": "d0.dn_loss_{}"},
    )


@pytest.mark.parametrize("index", [0, 1])
def test_auxiliary_queries(
    head: QueryHead, numbers: dict[str, Tensor], described: dict, index: int
) -> None:
    tokens = encode(head, numbers, described["metas_full"])
    given = zip(*(numbers[f"aux.{name}"] for name in ("coords", "labels", "targets")), strict=True)
    boxes, assigned = choose(
        [Candidates(*image) for image in given], [(SIDE, SIDE)] * 2, num_classes=CLASSES
    )
    layers = head.decode_auxiliary(tokens, boxes, index)
    check_layers(layers, numbers, f"aux{index}")
    found = head.layer_losses(layers, assigned, "x")
    wanted = described["losses"][f"aux_head{index}"]
    compare(found, wanted, {"_x_1": "loss_{}_aux", "_x_0": "d0.loss_{}_aux"})


def compare(found: dict[str, Tensor], wanted: dict[str, float], names: dict[str, str]) -> None:
    """Compare all losses; `names` maps our suffixes to the reference's names."""
    kinds = {"cls": "cls", "box": "bbox", "giou": "iou"}
    renamed = {
        theirs.format(kind): found[f"loss_{own}{suffix}"].item()
        for suffix, theirs in names.items()
        for own, kind in kinds.items()
    }
    assert len(found) == len(renamed)
    assert renamed == pytest.approx(wanted, rel=LOSS)
