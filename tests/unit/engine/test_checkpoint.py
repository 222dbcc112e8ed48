from pathlib import Path

import pytest
import torch
from torch import nn

from sora_det.engine.checkpoint import StrictCheckpointer


def net(width: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width))


def saved(tmp_path: Path, model: nn.Module) -> str:
    StrictCheckpointer(model, str(tmp_path)).save("model")
    return str(tmp_path / "model.pth")


def test_save_and_load(tmp_path: Path) -> None:
    first, second = net(), net()
    StrictCheckpointer(second).load(saved(tmp_path, first))
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=0, atol=0)


def test_plain_state_dict(tmp_path: Path) -> None:
    first, second = net(), net()
    torch.save(first.state_dict(), tmp_path / "plain.pth")
    StrictCheckpointer(second).load(str(tmp_path / "plain.pth"))
    torch.testing.assert_close(second[0].weight, first[0].weight)


def test_no_file_named() -> None:
    assert StrictCheckpointer(net()).load("") == {}


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.pth"):
        StrictCheckpointer(net()).load(str(tmp_path / "nowhere.pth"))


def test_last_checkpoint_has_been_deleted(tmp_path: Path) -> None:
    Path(saved(tmp_path, net())).unlink()
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*model\.pth"):
        StrictCheckpointer(net(), str(tmp_path)).resume_or_load("", resume=True)


def test_another_shape(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit") as caught:
        StrictCheckpointer(net(4)).load(saved(tmp_path, net(2)))
    assert str(caught.value) == (
        "the checkpoint does not fit the model (4 of another shape: 0.weight, 0.bias, 1.weight, "
        "1.bias); was it made by another config?"
    )


def test_other_names(tmp_path: Path) -> None:
    longer = nn.Sequential(*net(), *[nn.Linear(2, 2) for _ in range(3)])
    with pytest.raises(
        ValueError, match=r"\(6 missing: 2\.weight, 2\.bias, .*3\.bias, .* \.\.\.\)"
    ):
        StrictCheckpointer(longer).load(saved(tmp_path, net()))
    with pytest.raises(ValueError, match=r"\(6 unexpected: 2\.weight"):
        StrictCheckpointer(net()).load(saved(tmp_path, longer))
