import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sora_det.adapt import LoRA, SoRA, adapter_parameters
from sora_det.engine.checkpoint import (
    POINTER,
    Checkpoints,
    load_model,
    model_state,
    read_checkpoint,
)
from sora_det.engine.files import checksum_file


def net(width: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width))


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Linear(8, 8) for _ in range(3)))


class Detector(nn.Module):
    """A backbone with blocks and a head."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.backbone, self.head = Blocks(), nn.Linear(8, 2)


def adapted(recipe: Any, seed: int = 0) -> Detector:
    model = Detector(seed)
    recipe(model.backbone)
    return model


@torch.no_grad()
def train(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter += 0.1
    return model


def saved(tmp_path: Path, model: nn.Module) -> Path:
    return Checkpoints(tmp_path).write("model_final", {"model": model.state_dict()})


def test_save_and_load(tmp_path: Path) -> None:
    first, second = net(), net()
    load_model(second, read_checkpoint(saved(tmp_path, first)))
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_plain_state_dict_and_that_of_a_wrapper(tmp_path: Path) -> None:
    first = net()
    for prefix in ("", "module."):
        second = net()
        state = {f"{prefix}{name}": value for name, value in first.state_dict().items()}
        torch.save(state, tmp_path / "plain.pth")
        load_model(second, read_checkpoint(tmp_path / "plain.pth"))
        assert torch.equal(second[0].weight, first[0].weight)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.pth"):
        read_checkpoint(tmp_path / "nowhere.pth")


def test_another_shape(tmp_path: Path) -> None:
    model = net(4)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="does not fit") as caught:
        load_model(model, read_checkpoint(saved(tmp_path, net(2))))
    assert str(caught.value) == (
        "it does not fit the model (4 of another shape: 0.weight, 0.bias, 1.weight, "
        "1.bias); was it made by another config?"
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_other_names(tmp_path: Path) -> None:
    longer = nn.Sequential(*net(), *[nn.Linear(2, 2) for _ in range(3)])
    with pytest.raises(
        ValueError, match=r"\(6 missing: 2\.weight, 2\.bias, .*3\.bias, .* \.\.\.\)"
    ):
        load_model(longer, {"model": net().state_dict()})
    with pytest.raises(ValueError, match=r"\(6 unexpected: 2\.weight"):
        load_model(net(), {"model": longer.state_dict()})


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_no_code_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "was_here"
    torch.save({"model": net().state_dict(), "extra": Evil(mark)}, tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Evil(mark)))
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": Evil(mark)}))
    for name, said in (
        ("evil.pth", "is no checkpoint of tensors and plain values"),
        ("bare.pth", "is no checkpoint of tensors and plain values"),
        ("zoo.pkl", r"can run any code .* train\.allow_pickle=true"),
    ):
        with pytest.raises(ValueError, match=said):
            read_checkpoint(tmp_path / name)
    assert not mark.exists()
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert mark.exists()  # so that the test means something


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list, not a checkpoint"):
        read_checkpoint(tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match="or a damaged one"):
        read_checkpoint(tmp_path / "text.pth")


# What is kept


def test_the_newest_few_are_kept_and_the_last_is_named(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for number in range(4):
        store.write(f"model_{number:07d}", {"model": {}, "n": number})
    store.write("model_final", {"model": {}})
    names = ["model_0000002.pth", "model_0000003.pth", "model_final.pth"]
    assert [path.name for path in store.files()] == names
    assert (tmp_path / POINTER).read_text() == "model_final.pth"
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {*names, *(f"{name}.sha256" for name in names), POINTER}


def test_a_damaged_file_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Checkpoints(tmp_path)
    files = [store.write(f"model_{n:07d}", {"model": {}, "n": n}) for n in range(3)]
    raw = bytearray(files[2].read_bytes())
    raw[len(raw) // 2] ^= 1
    files[2].write_bytes(raw)
    files[1].write_bytes(files[1].read_bytes()[:-10])
    with caplog.at_level(logging.WARNING):
        assert store.read_newest() == (files[0], {"model": {}, "n": 0})
    assert caplog.text.count("is damaged: its checksum differs: going back") == 2
    files[0].write_bytes(b"")
    with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"):
        store.read_newest()


def test_a_damaged_file_that_has_lost_its_checksum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Checkpoints(tmp_path)
    files = [store.write(f"model_{n:07d}", {"model": {}, "n": n}) for n in range(3)]
    checksum_file(files[2]).unlink()
    files[2].write_bytes(files[2].read_bytes()[:-10])
    checksum_file(files[1]).write_text("")
    with caplog.at_level(logging.WARNING):
        assert store.read_newest() == (files[1], {"model": {}, "n": 1})
    assert "model_0000002.pth is no checkpoint of tensors and plain values" in caplog.text


def test_the_checksum_is_what_sha256sum_reads(tmp_path: Path) -> None:
    file = saved(tmp_path, net())
    digest, name = checksum_file(file).read_text().split()
    assert (len(digest), name) == (64, "model_final.pth")


def test_without_files_there_is_no_newest(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).read_newest() is None


# What is left out


@pytest.mark.parametrize("recipe", [SoRA(rank=2), LoRA(rank=2)])
def test_frozen_weights_need_not_be_kept(recipe: Any) -> None:
    trained = train(adapted(recipe))
    state = model_state(trained, whole=False)
    assert "backbone.blocks.0.weight" not in state["model"]
    assert "backbone.blocks.1.residual" not in state["model"]
    assert "head.weight" in state["model"]
    again = adapted(recipe)
    load_model(again, state)
    for name, value in trained.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    whole = model_state(trained, whole=True)
    assert whole["omitted"]["names"] == []
    assert whole["model"].keys() == trained.state_dict().keys()


def test_other_frozen_weights_are_refused() -> None:
    state = model_state(train(adapted(SoRA(rank=2))), whole=False)
    for change in ("blocks.0.weight", "blocks.2.weight"):
        model = Detector()
        model.backbone.get_parameter(change).data[0, 0] += 1e-3
        SoRA(rank=2)(model.backbone)
        before = copy.deepcopy(model.state_dict())
        with pytest.raises(ValueError, match="on other pretrained weights than those loaded here"):
            load_model(model, state, name="a.pth")
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_start_of_another_machine() -> None:
    """Its residual is another one; what the trained layer computes stays the same."""
    trained = train(adapted(SoRA(rank=2)))
    state = model_state(trained, whole=False)
    other = adapted(SoRA(rank=2))
    layer = other.backbone.blocks[1]
    with torch.no_grad():  # the same split with the sign of one component turned, and a little off
        delta = 1e-3 * torch.randn(layer.up0.shape)
        layer.residual -= layer.scale * (delta @ layer.down0).flatten(0, 1)
        layer.up0 += delta
    load_model(other, state)
    for one, two in zip(other.backbone.blocks, trained.backbone.blocks, strict=True):
        torch.testing.assert_close(one.weight, two.weight, rtol=0, atol=1e-6)
    assert list(adapter_parameters(other.backbone))
