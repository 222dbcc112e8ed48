"""The few triplets at either end of the spectrum against a whole float64 SVD."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sora_det.adapt import AdaptationError, svd
from sora_det.adapt.svd import End, Triplets, triplets

REQUIRED = 1e-4  # sine of the largest principal angle
REACHED = 1e-6
ENDS: list[End] = ["minor", "principal"]
SHAPES = [(448, 448), (700, 448), (448, 700), (1024, 480), (480, 1024), (1024, 1024)]
Made = Callable[..., Tensor]


@pytest.fixture
def exact_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes that were handed to the full decomposition."""
    calls: list[tuple[int, ...]] = []
    whole = svd._exact

    def spy(weight: Tensor, rank: int, end: End) -> Triplets:
        calls.append(tuple(weight.shape))
        return whole(weight, rank, end)

    monkeypatch.setattr(svd, "_exact", spy)
    return calls


def matrix(out: int, inner: int, values: Tensor, seed: int = 0) -> Tensor:
    """Random singular vectors around given singular values, in float64."""
    generator = torch.Generator().manual_seed(seed)
    sides = [torch.randn(n, len(values), generator=generator).double() for n in (out, inner)]
    u, v = (torch.linalg.qr(side).Q for side in sides)
    return u * values @ v.T


def decaying(out: int, inner: int, decades: float = 3.0, seed: int = 0) -> Tensor:
    values = torch.logspace(0, -decades, min(out, inner), dtype=torch.float64)
    return matrix(out, inner, values, seed)


def sine(a: Tensor, b: Tensor) -> float:
    """Of the largest principal angle between the columns of two orthonormal bases."""
    return float(torch.linalg.matrix_norm(a - b @ (b.mT @ a), 2).max())


def reference(weight: Tensor, rank: int, end: End) -> Triplets:
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    part = slice(-rank, None) if end == "minor" else slice(rank)
    return Triplets(u[..., part], s[..., part], vh[..., part, :])


def angles(found: Triplets, want: Triplets) -> tuple[float, float]:
    return sine(found.u, want.u), sine(found.vh.mT, want.vh.mT)


def assert_triplets(found: Triplets, weight: Tensor, *, atol: float) -> None:
    """Orthonormal, descending, and what the matrix does to them."""
    eye = torch.eye(found.s.shape[-1], dtype=torch.float64).expand(*found.s.shape, -1)
    assert_close(found.u.mT @ found.u, eye, rtol=0, atol=1e-10)
    assert_close(found.vh @ found.vh.mT, eye, rtol=0, atol=1e-10)
    assert (found.s.diff(dim=-1) <= 0).all()
    assert (found.s >= 0).all()
    assert_close(weight.double() @ found.vh.mT, found.u * found.s[..., None, :], rtol=0, atol=atol)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_subspaces_without_a_full_svd(
    shape: tuple[int, int], end: End, exact_calls: list[tuple[int, ...]]
) -> None:
    weight = decaying(*shape)
    found = triplets(weight, 16, end=end)
    assert not exact_calls, "the Krylov path was not taken"
    want = reference(weight, 16, end)
    assert max(angles(found, want)) < REACHED < REQUIRED
    assert_close(found.s, want.s, rtol=1e-9, atol=0)
    assert_triplets(found, weight, atol=1e-9)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_types_are_decomposed_in_float64(
    dtype: torch.dtype, end: End, exact_calls: list[tuple[int, ...]]
) -> None:
    weight = decaying(480, 448).to(dtype)
    found = triplets(weight, 16, end=end)
    assert not exact_calls
    assert {t.dtype for t in found} == {torch.float64}
    assert max(angles(found, reference(weight, 16, end))) < REACHED


@pytest.mark.parametrize("rank", [1, 4, 8])
@pytest.mark.parametrize("end", ENDS)
def test_other_ranks(rank: int, end: End, exact_calls: list[tuple[int, ...]]) -> None:
    weight = decaying(300, 512)
    assert max(angles(triplets(weight, rank, end=end), reference(weight, rank, end))) < REACHED
    assert not exact_calls


@pytest.mark.parametrize("decades", [4, 6, 8])
def test_badly_conditioned(decades: float, exact_calls: list[tuple[int, ...]]) -> None:
    weight = decaying(480, 448, decades)
    found, want = triplets(weight, 16, end="minor"), reference(weight, 16, "minor")
    assert not exact_calls
    assert max(angles(found, want)) < REACHED
    assert_close(found.s, want.s, rtol=1e-7, atol=0)


@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("end", ENDS)
def test_small_gap_at_the_boundary(end: End, gap: float) -> None:
    """Whichever path is taken, a direction that is nearly as weak must not be mistaken for one."""
    values = torch.logspace(0, -2, 320, dtype=torch.float64)
    if end == "minor":
        values[-40:] = 0.005 * (1 + gap * torch.arange(40.0).double().flip(0))
    else:
        values[:40] = 2 * (1 + gap * torch.arange(40.0).double().flip(0))
    weight = matrix(320, 320, values)
    assert max(angles(triplets(weight, 16, end=end), reference(weight, 16, end))) < REACHED


@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("end", ENDS)
def test_size_of_the_values_does_not_matter(end: End, size: float) -> None:
    weight = (decaying(480, 448) * size).float()
    assert max(angles(triplets(weight, 16, end=end), reference(weight, 16, end))) < REACHED


@pytest.mark.parametrize("end", ENDS)
def test_batches(end: End, exact_calls: list[tuple[int, ...]]) -> None:
    weights = torch.stack([decaying(320, 300, seed=seed) for seed in range(6)]).view(2, 3, 320, 300)
    found = triplets(weights, 5, end=end)
    assert not exact_calls
    assert [t.shape for t in found] == [(2, 3, 320, 5), (2, 3, 5), (2, 3, 5, 300)]
    assert max(angles(found, reference(weights, 5, end))) < REACHED
    alone = triplets(weights[1, 2], 5, end=end)
    assert max(angles(Triplets(*(t[1, 2] for t in found)), alone)) < REACHED


@pytest.mark.parametrize("end", ENDS)
def test_one_stack_at_once(end: End, exact_calls: list[tuple[int, ...]]) -> None:
    """What a GPU gets: several matrices in every operation."""
    weights = torch.stack([decaying(320, 300, decades) for decades in (2, 3, 5)])
    found = svd._krylov(weights, 4, end)
    assert not exact_calls
    assert max(angles(found, reference(weights, 4, end))) < REACHED


def test_one_deficient_matrix_in_a_stack(exact_calls: list[tuple[int, ...]]) -> None:
    weights = torch.stack([decaying(320, 300), decaying(320, 300)])
    weights[1, :, 7] = 0
    found = svd._krylov(weights, 8, "minor")
    assert exact_calls == [(2, 320, 300)]
    assert max(angles(found, reference(weights, 8, "minor"))) < REACHED


def deficient() -> Tensor:
    weight = decaying(320, 300)
    weight[:, 10] = weight[:, 20]
    return weight


def twins() -> Tensor:
    """The rank boundary falls among 200 equal singular values."""
    values = torch.linspace(2, 1, 320, dtype=torch.float64)
    values[-200:] = 1
    return matrix(320, 320, values)


@pytest.mark.parametrize(
    "weight",
    [
        decaying(64, 48),
        torch.zeros(300, 320),
        deficient(),
        torch.eye(300),
        twins(),
        torch.ones(300, 300),
    ],
    ids=["small", "zero", "deficient", "identity", "twins", "ones"],
)
def test_full_svd_where_nothing_can_be_saved(
    weight: Tensor, exact_calls: list[tuple[int, ...]]
) -> None:
    found = triplets(weight, 16, end="minor")
    assert len(exact_calls) == 1
    assert_close(found.s, reference(weight, 16, "minor").s, rtol=1e-9, atol=1e-12)
    assert_triplets(found, weight, atol=1e-12)


@pytest.mark.parametrize("weight", [torch.zeros(300, 320), torch.eye(300), twins().mT, deficient()])
def test_principal_of_degenerate_weights(weight: Tensor) -> None:
    found = triplets(weight, 16, end="principal")
    assert_close(found.s, reference(weight, 16, "principal").s, rtol=1e-9, atol=1e-12)
    assert_triplets(found, weight, atol=1e-9)


def test_rank_at_its_bound(exact_calls: list[tuple[int, ...]]) -> None:
    weight = decaying(40, 300)
    found = triplets(weight, 40, end="minor")
    assert_close((found.u * found.s) @ found.vh, weight)
    assert len(exact_calls) == 1


def test_exact_solver_is_the_svd_itself() -> None:
    weight = decaying(320, 300)
    for found, want in zip(
        triplets(weight, 16, end="minor", solver="exact"),
        reference(weight, 16, "minor"),
        strict=True,
    ):
        assert torch.equal(found, want)


def test_same_answer_again_and_no_draw_from_the_global_generator() -> None:
    weight = decaying(320, 300)
    state = torch.get_rng_state()
    first = triplets(weight, 16, end="minor")
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    for one, other in zip(first, triplets(weight, 16, end="minor"), strict=True):
        assert torch.equal(one, other)


def test_weight_is_neither_changed_nor_shared() -> None:
    weight = decaying(320, 300)
    before = weight.clone()
    for found in triplets(weight, 16, end="minor"):
        found.fill_(7)
    assert torch.equal(weight, before)


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = decaying(40, 30)
    places = []

    def note(piece: Tensor, rank: int, end: End) -> Triplets:
        places.append(piece.device)
        return svd._exact(piece, rank, end)

    monkeypatch.setitem(svd._FIND, "krylov", note)
    found = triplets(weight, 4, end="minor", device="cpu")
    assert places == [torch.device("cpu")]
    assert {t.device for t in found} == {weight.device}


@pytest.mark.gpu
@pytest.mark.parametrize("end", ENDS)
def test_gpu_serves_weights_of_the_cpu(end: End, exact_calls: list[tuple[int, ...]]) -> None:
    weights = torch.stack([decaying(320, 300, seed=seed) for seed in range(20)]).float()
    found = triplets(weights, 8, end=end)
    assert not exact_calls
    assert {t.device.type for t in found} == {"cpu"}
    assert max(angles(found, reference(weights, 8, end))) < REACHED


def test_randomized_is_for_the_principal_end_only() -> None:
    weight = decaying(320, 300)
    with pytest.raises(AdaptationError, match=r"randomized SVD .* never the minor ones: use"):
        triplets(weight, 16, end="minor", solver="randomized")
    found = triplets(weight, 16, end="principal", solver="randomized")
    assert max(angles(found, reference(weight, 16, "principal"))) < 0.05  # what it is good for


def test_unknown_solver() -> None:
    with pytest.raises(AdaptationError, match=r"solver must be one of .*'krylov'.*got 'fast'"):
        triplets(torch.eye(4), 1, end="minor", solver="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("rank", [0, -1, 5])
def test_rank_out_of_range(rank: int) -> None:
    with pytest.raises(AdaptationError, match=r"rank must be 1\.\.4 for shape \(4, 6\), got"):
        triplets(torch.ones(4, 6), rank, end="minor")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("end", ENDS)
def test_values_that_are_not_finite(end: End, bad: float) -> None:
    weight = torch.ones(2, 4, 6)
    weight[1, 2, 3] = bad
    with pytest.raises(AdaptationError, match="not finite"):
        triplets(weight, 1, end=end)
