import numpy as np
import pytest

from sora_det.evaluation import overlap
from sora_det.evaluation.overlap import best_truth, groups, ranking


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("in_order", [True, False])
def test_the_short_cut_ranks_like_sorting_by_keys(seed: int, in_order: bool) -> None:
    rng = np.random.default_rng(seed)
    image, label = rng.integers(0, 5, 300), rng.integers(0, 7, 300)
    if in_order:
        image = np.sort(image)
    values = [-1e30, -2.0, -1e-40, -0.0, 0.0, 1e-40, 0.1, 0.1000001, 1.0, 3e38]
    score = rng.choice(np.array(values, dtype=np.float32), 300)
    order = ranking(image, label, score)
    np.testing.assert_array_equal(order, np.lexsort((image, -score, label)))
    np.testing.assert_array_equal(ranking(image, label, score.astype(np.float64)), order)


def test_labels_that_leave_no_room_for_the_short_cut() -> None:
    label = np.array([2**31, 0, 2**31, 0])
    score = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)
    assert ranking(np.arange(4), label, score).tolist() == [3, 1, 2, 0]


def test_ranking_of_nothing_and_of_one() -> None:
    none = np.zeros(0, dtype=int)
    assert ranking(none, none, np.zeros(0, np.float32)).tolist() == []
    assert ranking(none[:1], none[:1], np.zeros(0, np.float64)).tolist() == []
    one = np.zeros(1, dtype=int)
    assert ranking(one, one, np.zeros(1, np.float32)).tolist() == [0]


def test_groups_by_hand() -> None:
    image, label = np.array([0, 0, 1, 9]), np.array([0, 1, 1, 1])
    order, start, size = groups(image, label, np.array([1, 0, 1, 2]), np.array([1, 1, 1, 0]), 2)
    assert order.tolist() == [1, 0, 2, 3]
    assert size.tolist() == [0, 1, 2, 0]
    assert start[1:3].tolist() == [0, 1]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def boxes(count: int) -> np.ndarray:
        corner = rng.integers(0, 4, (count, 2))
        return np.concatenate([corner, corner + rng.integers(1, 4, (count, 2))], axis=1)

    box, truth = boxes(200), boxes(80)
    start, end = np.sort(rng.integers(0, 80, (2, 200)), axis=0)
    whole = best_truth(box, truth, start, end - start, legacy_pixel=True)
    monkeypatch.setattr(overlap, "ROWS_AT_ONCE", 7)
    parts = best_truth(box, truth, start, end - start, legacy_pixel=True)
    np.testing.assert_array_equal(whole, parts)
    assert (whole[0][start == end] == -1).all()
    assert (whole[0][start < end] >= start[start < end]).all()
