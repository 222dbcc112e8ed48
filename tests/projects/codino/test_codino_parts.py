"""The parts of Co-DINO on tensors that can be checked by hand."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.testing import assert_close
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from projects.codino import QueryHead
from projects.codino.atss import ATSSHead, anchors_of, centredness, select
from projects.codino.auxiliary import Candidates, choose
from projects.codino.boxes import inverse_sigmoid, overlaps, to_centres, to_corners
from projects.codino.deformable import DeformableAttention, sample
from projects.codino.positions import sine_coordinates, sine_map
from projects.codino.soft_nms import soft_nms
from projects.codino.transformer import cell_centres, tokens_of

# --- boxes and positions ------------------------------------------------------------------


def test_overlaps_by_hand() -> None:
    first = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    others = torch.tensor([[1.0, 0.0, 3.0, 2.0], [4.0, 0.0, 6.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    iou, giou = overlaps(first, others)
    assert_close(iou, torch.tensor([2 / 6, 0.0, 0.0]))
    assert_close(giou, torch.tensor([2 / 6, -4 / 12, 0.0]))
    assert overlaps(others[2:], others[2:])[0].item() == 0


def test_centres_and_corners_are_inverse() -> None:
    boxes = torch.rand(5, 4)
    assert_close(to_centres(to_corners(boxes)), boxes)
    assert_close(inverse_sigmoid(boxes).sigmoid(), boxes)
    assert inverse_sigmoid(torch.tensor([0.0, 1.0, 2.0])).isfinite().all()


def test_position_embeddings() -> None:
    found = sine_coordinates(torch.tensor([0.25, 0.5]), 4, temperature=100.0)
    # Angles pi/2 and pi at the first frequency, a tenth of them at the second.
    angles = torch.tensor([torch.pi / 2, torch.pi / 20, torch.pi, torch.pi / 10])
    assert_close(found, torch.stack([angles.sin(), angles.cos()], 1).flatten(), atol=1e-6, rtol=0)
    padding = torch.zeros(1, 2, 4, dtype=torch.bool)
    padding[:, :, 2:] = True
    narrow = sine_map(padding, 8, temperature=20.0).unflatten(1, (2, 4))[:, :, :2]
    alone = sine_map(padding[:, :, :2], 8, temperature=20.0).unflatten(1, (2, 2))
    assert_close(narrow, alone)


# --- deformable attention -----------------------------------------------------------------


def test_sampling_the_middle_of_a_cell_finds_it() -> None:
    value = torch.arange(12.0).reshape(1, 12, 1, 1)  # maps of 2 x 4 and 2 x 2 cells
    locations = torch.tensor([[0.625, 0.75], [0.25, 0.75]])  # column 2, row 1; column 0, row 1
    locations = locations[None, None, None, :, None]  # one point on each map
    for weights, wanted in (([1.0, 0.0], 6.0), ([0.0, 1.0], 10.0), ([0.5, 0.5], 8.0)):
        share = torch.tensor(weights)[None, None, None, :, None]
        assert sample(value, [(2, 4), (2, 2)], locations, share).item() == pytest.approx(wanted)
    outside = sample(value, [(2, 4), (2, 2)], locations + 5, torch.ones(1, 1, 1, 2, 1))
    assert outside.item() == 0


def by_loops(value: Tensor, shapes: list[tuple[int, int]], places: Tensor, share: Tensor) -> Tensor:
    batch, queries, heads, _, points, _ = places.shape
    out = value.new_zeros(batch, queries, heads, value.shape[-1])
    for b, q, h, (level, (rows, columns)), p in itertools.product(
        range(batch), range(queries), range(heads), enumerate(shapes), range(points)
    ):
        start = sum(r * c for r, c in shapes[:level])
        x = places[b, q, h, level, p, 0].item() * columns - 0.5
        y = places[b, q, h, level, p, 1].item() * rows - 0.5
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                if 0 <= row < rows and 0 <= column < columns:
                    part = (1 - abs(x - column)) * (1 - abs(y - row))
                    cell = value[b, start + row * columns + column, h]
                    out[b, q, h] += share[b, q, h, level, p] * part * cell
    return out.flatten(2)


def test_sampling_equals_the_definition_and_its_gradient() -> None:
    shapes = [(3, 4), (2, 1)]
    value = torch.rand(2, 14, 2, 3, dtype=torch.float64, requires_grad=True)
    places = (torch.rand(2, 3, 2, 2, 2, 2, dtype=torch.float64) * 1.4 - 0.2).requires_grad_()
    share = torch.rand(2, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert_close(sample(value, shapes, places, share), by_loops(value, shapes, places, share))
    torch.autograd.gradcheck(lambda *x: sample(x[0], shapes, *x[1:]), (value, places, share))


def test_attention_in_half_precision_and_with_padding() -> None:
    attention = DeformableAttention(16, heads=4, levels=2, points=2)
    shapes, tokens = [(8, 8), (4, 4)], torch.randn(2, 80, 16)
    query, references = torch.randn(2, 5, 16), torch.rand(2, 5, 2, 4)
    padding = torch.zeros(2, 80, dtype=torch.bool)
    padding[:, 70:] = True
    plain = attention(query, tokens, references, shapes, padding)
    other = tokens.masked_fill(padding[..., None], 7.0)
    assert_close(attention(query, other, references, shapes, padding), plain)
    with torch.autocast("cpu", torch.bfloat16):
        half = attention(query, tokens, references, shapes, padding)
    assert half.dtype is torch.bfloat16
    assert_close(half.float(), plain, atol=0.05, rtol=0.05)
    with pytest.raises(ValueError, match="channels must be a multiple of the 3 heads, got 16"):
        DeformableAttention(16, heads=3)


@pytest.mark.gpu
def test_attention_on_a_gpu_equals_the_cpu() -> None:
    attention = DeformableAttention(32, heads=4, levels=2, points=4)
    shapes, tokens = [(16, 16), (8, 8)], torch.randn(2, 320, 32)
    arguments = (torch.randn(2, 9, 32), tokens, torch.rand(2, 9, 2, 2))
    wanted = attention(*arguments, shapes)
    found = attention.cuda()(*(x.cuda() for x in arguments), shapes)
    assert_close(found.cpu(), wanted, atol=1e-4, rtol=1e-4)


def test_token_centres_are_fractions_of_the_image() -> None:
    padding = torch.zeros(1, 8, 8, dtype=torch.bool)
    padding[:, :, 4:] = True  # the image is the left half
    tokens = tokens_of([torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 2, 2)], padding)
    assert tokens.ratios.tolist() == [[[0.5, 1.0], [0.5, 1.0]]]
    centres = cell_centres(tokens)[0]
    assert centres[:2].tolist() == [[0.25, 0.125], [0.75, 0.125]]
    assert centres[16].tolist() == [0.5, 0.25]  # the first cell of the coarse map spans the image
    assert [x.shape for x in tokens.maps()] == [(1, 4, 4, 4), (1, 4, 2, 2)]


# --- auxiliary heads ----------------------------------------------------------------------


def test_atss_selects_by_its_threshold() -> None:
    anchors = anchors_of((4, 4), 8, 16.0, torch.device("cpu"))
    assert anchors[5].tolist() == [0.0, 0.0, 16.0, 16.0]  # around x = y = 8
    box = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    found = select(anchors, [16], box, torch.tensor([2]), (32, 32), 7, nearest=9)
    # Of the nine nearest only the one that is the box lies above mean plus deviation.
    assert found.labels.tolist() == [7] * 5 + [2] + [7] * 10
    assert found.boxes[5].tolist() == box[0].tolist()
    assert centredness(anchors[5:6], box).item() == 1
    beside = torch.tensor([[0.0, 4.0, 12.0, 12.0]])  # from x = y = 8: 8 and 4, 4 and 4
    assert centredness(anchors[5:6], beside).item() == pytest.approx((4 / 8) ** 0.5)
    narrow = select(anchors, [16], box[:0], torch.empty(0, dtype=torch.int64), (32, 9), 7, 9)
    assert narrow.labels.tolist() == [7, 7, -1, -1] * 4  # outside the image
    alone = select(anchors[5:6], [1], box, torch.tensor([2]), (32, 32), 7, nearest=9)
    assert alone.labels.tolist() == [2]


def test_an_anchor_of_two_objects_goes_to_the_closer_fit() -> None:
    anchors = anchors_of((4, 4), 8, 16.0, torch.device("cpu"))
    boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 16.0, 16.0]])
    found = select(anchors, [16], boxes, torch.tensor([0, 1]), (32, 32), 7, nearest=9)
    assert found.labels[5] == 1


def test_the_nearest_anchor_is_found_among_many_objects_far_from_the_origin() -> None:
    middles = torch.tensor([[3000.25, 3000.0], [3000.0, 3000.0]])
    anchors = torch.cat([middles - 8, middles + 8], dim=1)
    box = torch.tensor([[2992.1, 2992.0, 3008.1, 3008.0]])  # its middle is 0.15 and 0.1 away
    labels = torch.full((30,), 2)
    found = select(anchors, [2], box.expand(30, 4), labels, (4000, 4000), 7, nearest=1)
    assert found.labels.tolist() == [7, 2]


def test_atss_losses_equal_those_of_torchvision() -> None:
    head = ATSSHead(8, 3, strides=(8, 16), scale=3.0)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    maps = [torch.randn(2, 8, 8, 8), torch.randn(2, 8, 4, 4)]
    objects = [
        (torch.tensor([[4.0, 6.0, 30.0, 34.0], [30.0, 20.0, 60.0, 61.0]]), torch.tensor([0, 2])),
        (torch.empty(0, 4), torch.empty(0, dtype=torch.int64)),
    ]
    anchors, selected, found = head(maps, objects, [(64, 64), (64, 40)])
    logits, changes, centred = head._predict(maps)
    labels = torch.stack([image.labels for image in selected])
    assert (labels == -1).any()  # beyond the second image
    positive = (labels >= 0) & (labels < 3)
    count = positive.sum()
    assert count > 1
    onehot = torch.eye(4)[labels.clamp(min=0)][..., :3]
    focal = sigmoid_focal_loss(logits, onehot, alpha=0.25, gamma=2)[labels >= 0].sum()
    own = anchors.expand(2, -1, 4)[positive]
    wanted = torch.stack([image.boxes for image in selected])[positive]
    boxes = head.transform.apply_deltas(changes[positive], own)
    centre = centredness(own, wanted)
    giou = (generalized_box_iou_loss(boxes, wanted) * centre).sum() / centre.sum().clamp(min=1)
    cross = binary_cross_entropy_with_logits(centred[positive], centre, reduction="sum")
    assert_close(
        [found[f"loss_{name}"] for name in ("cls", "box", "centre")],
        [12 * focal / count, 24 * giou, 12 * cross / count],
    )


def candidates(positive: int, negative: int) -> Candidates:
    labels = torch.tensor([1] * positive + [7] * negative)
    boxes = torch.rand(len(labels), 4) * 10
    return Candidates(boxes, labels, boxes + 1)


@pytest.mark.parametrize(
    ("positives", "count"), [((0, 0), 9), ((12, 3), 12), ((500, 2), 300)], ids=str
)
def test_number_of_auxiliary_queries(positives: tuple[int, int], count: int) -> None:
    given_ = [candidates(n, 400) for n in positives]
    boxes, assigned = choose(given_, [(100, 50)] * 2, num_classes=7)
    assert boxes.shape == (2, count, 4)
    for image, n in enumerate(positives):
        assert (assigned.labels[image] == 1).sum() == min(n, count)
        assert (assigned.labels[image] == 7).sum() == count - min(n, count)
    pixels = to_corners(boxes) * torch.tensor([50.0, 100.0, 50.0, 100.0])
    wanted = to_corners(assigned.boxes) * torch.tensor([50.0, 100.0, 50.0, 100.0])
    assert_close(wanted, pixels + 1, atol=1e-4, rtol=0)


def test_too_few_candidates_leave_queries_unscored() -> None:
    boxes, assigned = choose([candidates(2, 1)], [(10, 10)], num_classes=7)
    assert assigned.labels.tolist() == [[1, 1, 7] + [-1] * 6]
    assert boxes.isfinite().all()


# --- test time ----------------------------------------------------------------------------


def test_soft_nms_by_hand() -> None:
    boxes = torch.tensor(
        [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0], [0.0, 0.0, 10.0, 5.0], [0.0, 0, 10, 9]]
    )
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 0, 1])
    kept, found = soft_nms(boxes, scores, labels)
    assert kept.tolist() == [0, 2, 3, 1]  # the second overlaps the first by 0.9
    assert found.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.08])
    kept, _ = soft_nms(boxes, scores, labels, min_score=0.1)
    assert kept.tolist() == [0, 2, 3]
    assert len(soft_nms(boxes[:0], scores[:0], labels[:0])[0]) == 0


# --- where training starts ----------------------------------------------------------------


@pytest.mark.parametrize("compat", [False, True])
def test_start(compat: bool) -> None:
    head = QueryHead(
        7,
        channels=16,
        queries=5,
        encoder_layers=1,
        decoder_layers=1,
        hidden=16,
        heads=4,
        reference_compat=compat,
    )
    assert (head.level_embed.abs().sum() == 0) == compat
    limit = (6 / (16 + 16)) ** 0.5  # of Xavier's uniform distribution; PyTorch's own is 1 / 4
    assert (head.proposal.weight.abs().max() > 0.25) != compat
    assert head.proposal.weight.abs().max() <= limit
    assert_close(head.class_branches[0].bias.sigmoid(), torch.full((7,), 0.01))
    attention = head.encoder.layers[0].attention
    assert attention.sampling_offsets.weight.abs().sum() == 0
    start = attention.sampling_offsets.bias.reshape(4, 5, 4, 2)  # head, level, point, x and y
    assert_close(start[1, 2, :, 1], torch.arange(1.0, 5.0))  # the second head looks down
