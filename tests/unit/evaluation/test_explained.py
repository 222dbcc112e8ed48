"""What is said of a study's backbones is what was measured of them."""

import pytest

from sora_det.evaluation.explained import (
    BlockMovement,
    DomainDrift,
    Explained,
    explained_text,
    from_json,
    rank_correlation,
    to_json,
)

STILL = BlockMovement(norm=3.0, change=0.0, minor=None, principal=None, chance=None)
MOVED = (
    STILL,
    BlockMovement(norm=4.0, change=0.3, minor=0.5, principal=0.2, chance=0.1),
    BlockMovement(norm=12.0, change=0.4, minor=1.0, principal=0.0, chance=0.1),
)


def run(method: str, seed: int, kept: float, moved: tuple[BlockMovement, ...] = MOVED) -> Explained:
    drifts = (
        DomainDrift("clear", (1.0, 0.9, 0.8)),
        DomainDrift("fog", (1.0, None, kept)),
        DomainDrift("night", (1.0, 0.7, kept - 0.2)),
    )
    return Explained(method, seed, "abc", 50, drifts, moved)


def test_written_and_read() -> None:
    found = (run("SoRA", 0, 0.6), run("frozen", 1, 1.0, (STILL,) * 3))
    assert from_json(to_json(found)) == found


@pytest.mark.parametrize("text", ["{}", "[]", to_json(()).replace('"version": 1', '"version": 2')])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        from_json(text)


def test_similarity_is_that_of_the_source_or_the_mean_over_targets() -> None:
    one = run("SoRA", 0, 0.6)
    assert one.similarity(targets=False) == (1.0, 0.9, 0.8)
    assert one.similarity(targets=True) == pytest.approx((1.0, 0.7, 0.5))


def test_movement_of_all_blocks_together() -> None:
    one = run("SoRA", 0, 0.6)
    assert one.relative == pytest.approx(0.5 / 13)
    assert one.share("minor") == pytest.approx((0.09 * 0.5 + 0.16 * 1.0) / 0.25)
    frozen = run("frozen", 0, 0.6, (STILL,) * 3)
    assert frozen.relative == 0
    assert frozen.share("minor") is None


def test_ranks() -> None:
    assert rank_correlation([(1, 10), (2, 20), (3, 1000)]) == pytest.approx(1)
    assert rank_correlation([(1, 3), (2, 2), (3, 1)]) == pytest.approx(-1)
    # Equal values share a rank: 0, 1.5, 1.5, 3 against 0, 1, 2, 3.
    assert rank_correlation([(1, 1), (2, 2), (2, 3), (3, 4)]) == pytest.approx(0.94868, abs=1e-5)
    assert rank_correlation([(1, 1), (2, 2)]) is None
    assert rank_correlation([(1, 1), (1, 2), (1, 3)]) is None


def test_the_table_has_a_row_per_method() -> None:
    found = [run("SoRA", 0, 0.6), run("SoRA", 1, 0.8), run("frozen", 0, 1.0, (STILL,) * 3)]
    scores: dict[tuple[str, int | None], float] = {
        ("SoRA", 0): 30.0,
        ("SoRA", 1): 31.0,
        ("frozen", 0): 32.0,
    }
    lines = explained_text(found, scores).splitlines()
    row, frozen = (
        next(line for line in lines if line.startswith(f"| {m}")) for m in ("SoRA", "fr")
    )
    assert row.split() == "| SoRA | 2 | 0.800 | 0.600 | 3.8% | 82.0% | 7.2% | 10.0% |".split()
    assert frozen.split()[-8:] == "0.0% | - | - | - |".split()
    assert "Over these 3 runs" in lines[-1]
    assert lines[-1].endswith("is +1.00.")
