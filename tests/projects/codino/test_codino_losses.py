"""Matching, losses and denoising on tensors that can be checked by hand, and in two processes."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from projects.codino import Denoising, QueryHead, losses
from projects.codino.boxes import to_corners
from projects.codino.denoising import attention_mask, noisy_boxes, noisy_labels, noisy_queries
from projects.codino.losses import LossWeights, prediction_losses, quality_focal
from projects.codino.matching import Assigned, Targets, match, pair_costs
from projects.codino.query_head import Predictions
from tests.tools.process import Started

# --- matching and losses ------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))
def test_assignment_is_the_cheapest(queries: int, objects: int, seed: int) -> None:
    torch.manual_seed(seed)
    logits, boxes = torch.randn(1, queries, 3), torch.rand(1, queries, 4) * 0.4 + 0.3
    target = Targets(torch.randint(3, (objects,)), torch.rand(objects, 4) * 0.4 + 0.3)
    costs = pair_costs(logits[0], boxes[0], target)
    found = match(logits, boxes, [target])
    chosen = (found.labels[0] < 3).nonzero()[:, 0].tolist()
    assert len(chosen) == min(queries, objects)
    given_to = [(target.boxes == box).all(-1).nonzero().item() for box in found.boxes[0, chosen]]
    assert len(set(given_to)) == len(given_to)
    wide = costs if queries <= objects else costs.t()
    best = min(
        sum(wide[row, column] for row, column in enumerate(order))
        for order in itertools.permutations(range(wide.shape[1]), len(wide))
    )
    assert_close(costs[chosen, given_to].sum(), best)


def test_objects_find_their_queries() -> None:
    boxes = torch.tensor([[0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])
    logits = torch.zeros(2, 3, 4)
    objects = Targets(torch.tensor([3, 1]), boxes[[1, 0]] + 0.01)
    nothing = Targets(torch.empty(0, dtype=torch.int64), torch.empty(0, 4))
    found = match(logits, boxes.expand(2, 3, 4), [objects, nothing])
    assert found.labels.tolist() == [[1, 3, 4], [4, 4, 4]]
    assert_close(found.boxes[0, 1], boxes[1] + 0.01)
    diverged = match(logits * torch.nan, boxes.expand(2, 3, 4), [objects, nothing])
    assert sorted(diverged.labels[0].tolist()) == [1, 3, 4]


def test_quality_focal_by_hand() -> None:
    logits = torch.tensor([0.0, 0.0])
    found = quality_focal(logits, torch.tensor([0.0, 0.75]))
    assert_close(found, torch.log(torch.tensor(2.0)) * torch.tensor([0.25, 0.0625]))


def test_prediction_losses_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.full((1, 3, 2), -20.0)
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]]])
    wanted = boxes.clone()
    wanted[0, 0, 2:] = 0.4  # four times the area, so IoU and GIoU are 1/4
    assigned = Assigned(torch.tensor([[1, 2, -1]]), wanted)
    found = prediction_losses(logits, boxes, assigned, weights=LossWeights())
    assert found["box"].item() == pytest.approx(5 * 0.4)
    assert found["giou"].item() == pytest.approx(2 * 0.75)
    assert found["cls"].item() == pytest.approx(0.25**2 * 20 * 0.25, rel=1e-3)
    # The ignored query counts nowhere, a certain background one has no loss.
    logits[0, 2] = 5.0
    assert prediction_losses(logits, boxes, assigned, weights=LossWeights()) == found
    # On average over the processes there are four positives.
    monkeypatch.setattr(losses, "mean_over_processes", lambda count: 4 * count)
    shared = prediction_losses(logits, boxes, assigned, weights=LossWeights())
    assert {name: value.item() * 4 for name, value in shared.items()} == pytest.approx(
        {name: value.item() for name, value in found.items()}
    )
    alone = prediction_losses(logits, boxes, assigned, weights=LossWeights(), synchronised=False)
    assert alone["cls"] == found["cls"]
    assert alone["box"] == shared["box"]


@pytest.mark.parametrize("compat", [False, True])
def test_reference_compat_divides_by_own_positives(
    compat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = QueryHead(2, channels=8, queries=3, heads=2, hidden=8, reference_compat=compat)
    found = Predictions(torch.zeros(1, 3, 2), torch.full((1, 3, 4), 0.3))
    assigned = Assigned(torch.tensor([[1, 2, 2]]), torch.full((1, 3, 4), 0.4))
    own = head.layer_losses([found], assigned, "x")
    monkeypatch.setattr(losses, "mean_over_processes", lambda count: 4 * count)
    shared = head.layer_losses([found], assigned, "x")
    assert (own["loss_cls_x_0"] / shared["loss_cls_x_0"]).item() == (1 if compat else 4)
    assert (own["loss_box_x_0"] / shared["loss_box_x_0"]).item() == pytest.approx(4)


TWO = """
import sys, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from projects.codino.losses import LossWeights, mean_over_processes, prediction_losses
from projects.codino.matching import Assigned
from tests.tools.tiny_codino import sample, tiny_codino, train_step
rank, store = int(sys.argv[1]), sys.argv[2]
generator = torch.Generator().manual_seed(0)
logits = torch.randn(2, 4, 3, generator=generator)
boxes, wanted = torch.rand(2, 2, 4, 4, generator=generator) / 4 + 0.3
labels = torch.tensor([[0, 1, 2, 3], [3, 2, 3, -1]])  # 3 positives in one half, 1 in the other
parts = (logits, boxes, Assigned(labels, wanted))
whole = prediction_losses(*parts, weights=LossWeights())
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
assert mean_over_processes(torch.tensor(2.0 + rank)).item() == 2.5
own = slice(rank, rank + 1)
parts = (logits[own], boxes[own], Assigned(labels[own], wanted[own]))
for name, value in prediction_losses(*parts, weights=LossWeights()).items():
    torch.testing.assert_close(mean_over_processes(value), whole[name])
model = DistributedDataParallel(tiny_codino(), broadcast_buffers=False)
torch.manual_seed(rank)
for boxes in ([[8.0, 8.0, 40.0, 56.0]], []):  # the other process sees an empty image
    train_step(model, [sample(64, 64, boxes if rank else [], [1] * len(boxes) * rank)])
total = sum(p.grad.double().sum() for p in model.parameters() if p.requires_grad).item()
seen = [torch.zeros(1, dtype=torch.float64) for _ in range(2)]
dist.all_gather(seen, torch.tensor([total], dtype=torch.float64))
assert seen[0] == seen[1] and total != 0, seen
del model
dist.destroy_process_group()
"""


def test_two_processes_train_together(tmp_path: Path) -> None:
    """Losses are those of one process, no parameter is ever unused, and gradients agree."""
    script = tmp_path / "two.py"
    script.write_text(TWO)
    env = {"PYTHONPATH": str(Path(__file__).parents[3]), "PYTHONWARNINGS": "ignore"}
    both = [
        Started(script, str(rank), str(tmp_path / "store"), folder=tmp_path / str(rank), env=env)
        for rank in range(2)
    ]
    try:
        for process in both:
            ended = process.wait(180)
            assert ended.code == 0, ended.err[-3000:]
    finally:
        for process in both:
            if process.process.poll() is None:
                process.kill()


# --- denoising ----------------------------------------------------------------------------


def test_noise_stays_within_its_bounds() -> None:
    boxes = torch.tensor([0.5, 0.5, 0.2, 0.2]).expand(200, 2, 1, 4)
    noisy = noisy_boxes(boxes, Denoising())
    moved = (to_corners(noisy) - to_corners(boxes)).abs() / 0.1  # in half sides
    assert moved[:, 0].max() < 1.001
    assert moved[:, 0].mean() == pytest.approx(0.5, abs=0.05)
    whole = (noisy[:, 1, 0, 2:] > 0.002).all(-1)  # others have lost their area
    assert whole.sum() > 50
    assert moved[whole, 1].min() > 0.999
    assert moved[whole, 1].max() < 2.001
    edge = noisy_boxes(torch.tensor([0.0, 1.0, 0.5, 0.5]).expand(50, 2, 1, 4), Denoising())
    assert ((edge >= 1e-3) & (edge <= 1 - 1e-3)).all()
    still = noisy_boxes(boxes, Denoising(box_noise=0.0))
    assert_close(still, boxes.contiguous())


def test_half_of_the_noisy_labels_are_drawn_anew() -> None:
    labels = torch.full((4000,), 3)
    share = (noisy_labels(labels, Denoising(label_noise=0.5), 10) != 3).float().mean()
    assert share.item() == pytest.approx(0.25 * 0.9, abs=0.03)
    assert (noisy_labels(labels, Denoising(label_noise=0.0), 10) == 3).all()


def test_groups_see_themselves_and_the_ordinary_queries() -> None:
    seen = (~attention_mask(2, 2, 1, torch.device("cpu"))).int()
    assert seen.tolist() == [
        [1, 1, 0, 0, 1],
        [1, 1, 0, 0, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1],
        [0, 0, 0, 0, 1],
    ]


def test_groups_follow_the_busiest_image() -> None:
    embedding = nn.Embedding(4, 8)
    targets = [
        Targets(torch.tensor([0, 1, 2]), torch.rand(3, 4) / 2 + 0.25),
        Targets(torch.tensor([3]), torch.rand(1, 4) / 2 + 0.25),
    ]
    noisy = noisy_queries(Denoising(queries=7), targets, embedding, others=5)
    labels = noisy.assigned.labels.reshape(2, 2, 2, 3)  # image, group, positive or not, object
    assert labels[0, 1].tolist() == [[0, 1, 2], [4, 4, 4]]
    assert labels[1, 0].tolist() == [[3, 4, 4], [4, 4, 4]]
    assert_close(noisy.assigned.boxes.reshape(2, 2, 2, 3, 4)[1, 1, 0, 0], targets[1].boxes[0])
    many = [Targets(torch.zeros(50, dtype=torch.int64), torch.rand(50, 4))]
    found = noisy_queries(Denoising(queries=7), many, embedding, others=5)
    assert found.boxes.shape == (1, 100, 4)  # one group at least
    nothing = Targets(torch.empty(0, dtype=torch.int64), torch.empty(0, 4))
    empty = noisy_queries(Denoising(), [nothing], embedding, others=5)
    assert empty.boxes.shape == (1, 0, 4)
    assert not empty.blocked.any()
    with pytest.raises(ValueError, match=r"label_noise in 0\.\.1 .* got 1, 2 and 0"):
        Denoising(1, 2, 0)
