"""Every run config loads, survives YAML, and builds with a tiny backbone and trains a step."""

import ast
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import FPN
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from sora_det.adapt import AdaptationError, LowRankLinear, SoRA, save_adapter
from sora_det.backbones import SimplePyramid, ViTPyramid, resnet_fpn, vit
from sora_det.data import Benchmark, load_benchmark
from sora_det.engine.config import load_config
from sora_det.engine.optim import roles

ROOT = Path(__file__).parents[2]
RUNS = sorted((ROOT / "configs").glob("*.py"))
BACKBONES = ["dinov2_base", "dinov2_base_simple", "resnet101"]
HEADS = ["faster_rcnn", "cascade_rcnn", "retinanet"]
LOW_RANK = ["sora", "milora", "pissa", "lora", "rslora", "dora"]
METHODS = [*LOW_RANK, "bitfit", "full", "frozen"]
BENCHMARKS = sorted((ROOT / "configs" / "benchmarks").glob("*.yaml"))


def tiny_net() -> DictConfig:
    return L(vit)(
        name="vit_tiny_patch16_224",
        random_init=True,
        img_size=64,
        depth=6,
        embed_dim=48,
        num_heads=3,
    )


def shrink(cfg: DictConfig) -> DictConfig:
    """Swap the pretrained network for a tiny untrained one of the same kind."""
    if "net" in cfg.backbone:
        cfg.backbone.net = tiny_net()
    else:
        cfg.backbone = L(resnet_fpn)(
            depth=18, random_init=True, out_channels=32, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3
        )
    if "rank" in cfg.adaptation:
        cfg.adaptation.rank = 2
    if "start_file" in cfg.adaptation:  # nothing is to be written into the checkout
        cfg.adaptation.start_file = None
    if cfg.benchmark.file.startswith("datasets"):  # the toy benchmark is written on first use
        cfg.benchmark.file = str(ROOT / "configs" / "benchmarks" / "diverse_weather.yaml")
    return cfg


def batch() -> list[dict[str, Any]]:
    from detectron2.structures import Boxes, Instances

    generator = torch.Generator().manual_seed(0)
    instances = Instances((64, 96))
    instances.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 56.0]]))
    instances.gt_classes = torch.tensor([1])
    image = torch.randint(0, 256, (3, 64, 96), generator=generator, dtype=torch.uint8)
    return [{"image": image, "instances": instances}]


def step(model: nn.Module) -> None:
    model.train()
    with EventStorage():
        losses = model(batch())
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()


@pytest.mark.parametrize("file", RUNS, ids=lambda file: file.stem)
def test_run(file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    cfg = load_config(file)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = load_config(tmp_path / "config.yaml")
    assert again.train == cfg.train
    model = instantiate(shrink(again).model)
    step(model)
    again.optimizer.params.model = model
    optimizer = instantiate(again.optimizer)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == sum(
        parameter.requires_grad for parameter in model.parameters()
    )
    optimizer.step()
    for name, hook in again.hooks.items():
        assert hasattr(instantiate(hook), "before_step"), name


def swapped(
    folder: Path, *, backbone: str = "dinov2_small", head: str = HEADS[0], method: str = METHODS[0]
) -> nn.Module:
    """Change import lines of a run, build it small and train a step in which nothing is idle."""
    text = (ROOT / "configs" / "dinov2_s_sora_frcnn_weather.py").read_text()
    text = text.replace("backbones.dinov2_small", f"backbones.{backbone}")
    text = text.replace("heads.faster_rcnn", f"heads.{head}")
    text = text.replace("adaptation.sora", f"adaptation.{method}")
    (folder / "common").symlink_to(ROOT / "configs" / "common")
    (folder / "run.py").write_text(text)
    torch.manual_seed(0)
    model = instantiate(shrink(load_config(folder / "run.py")).model)
    step(model)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    return model


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", HEADS)
def test_swapping_the_backbone_is_one_line(tmp_path: Path, backbone: str, head: str) -> None:
    method = "full" if backbone == "resnet101" else "sora"
    model = swapped(tmp_path, backbone=backbone, head=head, method=method)
    kinds = {"dinov2_base": ViTPyramid, "dinov2_base_simple": SimplePyramid, "resnet101": FPN}
    assert type(model.backbone) is kinds[backbone]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
def test_axes_combine(tmp_path: Path, head: str, method: str) -> None:
    """Swapping the head or the method is one line."""
    model = swapped(tmp_path, head=head, method=method)
    found = set(roles(model, trunk=["backbone.net"]).values())
    want: dict[str, set[str]] = {name: {"adapter", "backbone_bias"} for name in LOW_RANK}
    want |= {"bitfit": {"backbone_bias"}, "full": {"backbone", "backbone_bias"}, "frozen": set()}
    assert found - {"head", "no_decay"} == want[method]


def test_every_method_is_swapped_in() -> None:
    files = (ROOT / "configs" / "common" / "adaptation").glob("*.py")
    assert {file.stem for file in files} == {*METHODS, "saved"}


@pytest.mark.parametrize("method", METHODS)
def test_only_sora_anneals(tmp_path: Path, method: str) -> None:
    text = (ROOT / "configs" / "dinov2_s_sora_frcnn_weather.py").read_text()
    (tmp_path / "common").symlink_to(ROOT / "configs" / "common")
    (tmp_path / "run.py").write_text(text.replace("adaptation.sora", f"adaptation.{method}"))
    cfg = load_config(tmp_path / "run.py", ["train.seed=3", "train.output_dir=somewhere"])
    recipe = instantiate(cfg.adaptation)
    assert type(recipe).__name__.lower() == method
    assert set(cfg.hooks) == ({"anneal"} if method == "sora" else set())
    if "start_file" in cfg.adaptation:
        assert (recipe.start_file, recipe.seed) == ("somewhere/start.safetensors", 3)


def test_saved_adapter(tmp_path: Path) -> None:
    (tmp_path / "common").symlink_to(ROOT / "configs" / "common")
    text = (ROOT / "configs" / "dinov2_s_sora_frcnn_weather.py").read_text()
    (tmp_path / "run.py").write_text(text.replace("adaptation.sora", "adaptation.saved"))
    file = tmp_path / "adapter.safetensors"
    torch.manual_seed(0)
    net = SoRA(rank=2)(instantiate(tiny_net()))
    save_adapter(net, file)
    torch.manual_seed(0)  # the same untrained network again
    cfg = shrink(load_config(tmp_path / "run.py", [f"adaptation.file={file}"]))
    model = instantiate(cfg.model)
    step(model)
    assert set(roles(model, trunk=["backbone.net"]).values()) >= {"adapter", "backbone_bias"}
    cfg.adaptation.file = ""
    with pytest.raises(AdaptationError, match="no adapter file is given: set `file`"):
        instantiate(cfg.model)


def test_override_of_an_axis_reaches_the_model() -> None:
    file = ROOT / "configs" / "dinov2_l_sora_frcnn_weather.py"
    cfg = shrink(load_config(file, ["adaptation.start_block=4", "backbone.out_channels=32"]))
    model = instantiate(cfg.model)
    adapted = [n for n, m in model.named_modules() if isinstance(m, LowRankLinear)]
    assert {int(name.split("blocks.")[1].split(".")[0]) for name in adapted} == {4, 5}
    assert model.backbone.output_shape()["p2"].channels == 32


@pytest.mark.parametrize("name", [file.stem for file in BENCHMARKS if file.stem != "template"])
def test_benchmark_axis(name: str) -> None:
    cfg = LazyConfig.load(str(ROOT / "configs" / "common" / "benchmarks" / f"{name}.py"))
    assert instantiate(cfg.benchmark).name == name
    assert "dataloader" in cfg


def test_no_branches_and_no_loops() -> None:
    for file in (ROOT / "configs").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            assert not isinstance(node, ast.For | ast.While | ast.If | ast.IfExp | ast.Try), file


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.stem)
def test_benchmark(file: Path) -> None:
    assert isinstance(load_benchmark(file), Benchmark)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("adaptation.rnak=8", "no key 'adaptation.rnak'; the nearest is 'adaptation.rank'"),
        ("train.max_itre=8", "the nearest is 'train.max_iter'"),
        ("optimizer.params.rates.adaptor.lr=1", "nearest is 'optimizer.params.rates.adapter.lr'"),
        ("train.max_iter", "not of the form key=value"),
        ("train.amp.enabled=1", "no key 'train.amp.enabled'"),
    ],
)
def test_wrong_override(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        load_config(ROOT / "configs" / "toy_sora_frcnn.py", [override])


def test_override_of_an_argument_that_the_config_does_not_mention() -> None:
    cfg = load_config(ROOT / "configs" / "toy_sora_frcnn.py", ["optimizer.eps=1e-6"])
    assert cfg.optimizer.eps == 1e-6


def test_annealing_every_group_is_a_switch() -> None:
    file = ROOT / "configs" / "dinov2_l_sora_frcnn_weather.py"
    assert instantiate(load_config(file).hooks.anneal).roles == ("adapter",)
    assert instantiate(load_config(file, ["hooks.anneal.roles=null"]).hooks.anneal).roles is None


def test_override_through_a_list() -> None:
    cfg = load_config(
        ROOT / "configs" / "toy_sora_frcnn.py", ["dataloader.train.augmentations.1.prob=0.25"]
    )
    assert cfg.dataloader.train.augmentations[1].prob == 0.25


def test_missing_file() -> None:
    with pytest.raises(FileNotFoundError, match=r"no config file nowhere\.py"):
        load_config("nowhere.py")


@pytest.mark.parametrize("backbone", ["dinov2_large", "toy_vit", "vit_tiny"])
def test_blocks_are_recomputed_and_compiled_by_one_line_each(backbone: str) -> None:
    options = ("recompute_blocks", "compile_blocks")
    cfg = LazyConfig.load(str(ROOT / "configs" / "common" / "backbones" / f"{backbone}.py"))
    cfg = LazyConfig.apply_overrides(cfg, [f"backbone.net.{name}=true" for name in options])
    cfg.backbone.net.update(depth=2, embed_dim=48, num_heads=3, random_init=True, img_size=64)
    net = instantiate(cfg.backbone.net)
    assert net.grad_checkpointing
    assert all(block._compiled_call_impl is not None for block in net.blocks)
