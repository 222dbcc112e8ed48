import pytest
import timm
import torch

from projects.evidence.components import RandomComponents, split_random
from sora_det.adapt import AdaptationError, split_minor


def drawn(weight: torch.Tensor, rank: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    residual, up, down = split_random(weight, rank, scale=scale, generator=generator)
    torch.testing.assert_close(residual + scale * up @ down, weight)
    return scale * up @ down


@pytest.mark.parametrize(("shape", "scale"), [((8, 5), 1.0), ((3, 4, 6), 0.5)])
def test_they_are_singular_components(shape: tuple[int, ...], scale: float) -> None:
    weight = torch.randn(shape, dtype=torch.float64)
    part = drawn(weight, 2, scale=scale)
    rest = weight - part
    zero = torch.zeros(())
    torch.testing.assert_close((rest.mT @ part).abs().max(), zero.double(), atol=1e-10, rtol=0)
    strengths = torch.linalg.svdvals(weight)
    for found, all_of_it in zip(
        torch.linalg.svdvals(part).reshape(-1, min(shape[-2:])),
        strengths.reshape(-1, min(shape[-2:])),
        strict=True,
    ):
        assert all((all_of_it - value).abs().min() < 1e-10 for value in found[:2])


def test_other_seeds_draw_others() -> None:
    weight = torch.randn(16, 16)
    assert torch.equal(drawn(weight, 3), drawn(weight, 3))
    assert not torch.allclose(drawn(weight, 3), drawn(weight, 3, seed=1), atol=1e-3)
    _, up, down = split_minor(weight, 3)
    assert not torch.allclose(drawn(weight, 3), up @ down, atol=1e-3)


def test_the_whole_rank_is_the_whole_matrix() -> None:
    weight = torch.randn(5, 7)
    torch.testing.assert_close(drawn(weight, 5), weight)
    with pytest.raises(AdaptationError, match=r"rank must be 1\.\.5"):
        drawn(weight, 6)


def test_an_adapted_net_computes_the_same() -> None:
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=3, num_classes=0)
    x = torch.randn(1, 3, 32, 32)
    before = net.eval()(x)
    adapted = RandomComponents(rank=4, start_block=1, seed=3)(net)
    torch.testing.assert_close(adapted(x), before, atol=1e-4, rtol=1e-4)
    assert any("up" in name or "down" in name for name, _ in adapted.named_parameters())
    assert RandomComponents(seed=3).options()["seed"] == 3
