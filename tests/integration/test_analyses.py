"""The analyses of a tiny trained detector, from its config to the figures."""

import copy
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from omegaconf import DictConfig
from PIL import Image

from sora_det.adapt import read_adapter
from sora_det.engine.analysis import (
    ForgettingReport,
    SpectrumReport,
    analyze_adapter,
    analyze_forgetting,
    analyze_network,
    analyze_spectrum,
)
from sora_det.engine.train import fit
from sora_det.report.analysis import draw
from tests.tools.tiny_run import MANY_BOXES, tiny

DOMAINS = ["daytime-clear", "Night-Sunny", "dusk-rainy", "night-rainy", "daytime-foggy"]
DEPTH, IMAGES = 6, 2
COUNTS = (1, 4)


@pytest.fixture(scope="module")
def cfg(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """A run of a few iterations on blocks 2 to 5."""
    output = tmp_path_factory.mktemp("run")
    cfg = tiny(toy, output, "train.max_iter=4", "adaptation.start_block=2", *MANY_BOXES)
    fit(cfg)
    return cfg


@pytest.fixture(scope="module")
def spectrum(cfg: DictConfig) -> SpectrumReport:
    return analyze_spectrum(cfg, name="tiny", max_images=IMAGES, counts=COUNTS, score=True)


@pytest.fixture(scope="module")
def forgetting(cfg: DictConfig) -> ForgettingReport:
    return analyze_forgetting(cfg, name="tiny", max_images=IMAGES)


def test_spectra_of_every_matrix(spectrum: SpectrumReport) -> None:
    names = [s.name for s in spectrum.spectra]
    kinds = ("attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert names == [f"blocks.{i}.{kind}" for i in range(DEPTH) for kind in kinds]
    for found in spectrum.spectra:
        assert len(found.values) == min(found.shape)
        assert list(found.values) == sorted(found.values, reverse=True)


def test_movement_of_what_was_trained(spectrum: SpectrumReport) -> None:
    assert {m.name.split(".")[1] for m in spectrum.movements} == {"2", "3", "4", "5"}
    assert len(spectrum.movements) == 4 * 6
    for found in spectrum.movements:
        assert found.rank == spectrum.rank == 2
        assert found.change > 0
        assert found.effective_rank < 4.01  # [B, -B0]
        assert found.minor is not None
        assert found.principal is not None
        # A few steps hardly turn the minor directions: the change stays near them.
        assert found.minor.right > found.chance.right


def test_removal_changes_features_behind_the_first_adapted_block(spectrum: SpectrumReport) -> None:
    assert [s.domain for s in spectrum.samples] == DOMAINS
    for sample in spectrum.samples:
        assert (sample.images, sample.available) == (IMAGES, 3)
        assert sample.role == ("source" if sample.domain == "daytime-clear" else "target")
        assert sample.tokens == IMAGES * 4 * 4
    assert len(spectrum.removals) == len(DOMAINS) * 2 * len(COUNTS)
    found = {(r.domain, r.end, r.count): r.change for r in spectrum.removals}
    for domain in DOMAINS:
        for end in ("minor", "principal"):
            for count in COUNTS:
                change = found[domain, end, count]
                assert change[:2] == (0, 0)
                assert all(value is not None and value > 0 for value in change[2:])
        # The weakest components matter least.
        weak, strong = found[domain, "minor", 4][-1], found[domain, "principal", 4][-1]
        assert weak is not None
        assert strong is not None
        assert weak < strong


def test_scores_without_components(spectrum: SpectrumReport, cfg: DictConfig) -> None:
    found = {(s.domain, s.end, s.count): s.ap50 for s in spectrum.scores}
    assert set(found) == {(d, e, c) for d in DOMAINS for e in ("minor", "principal")
                          for c in (0, *COUNTS)}  # fmt: skip
    results = json.loads((Path(cfg.train.output_dir) / "results.json").read_text())
    for score in results["scores"]:
        for end in ("minor", "principal"):
            assert found[score["domain"], end, 0] == pytest.approx(score["ap50"])
    assert spectrum.protocol is not None
    assert spectrum.source == "daytime-clear"


def test_model_is_scored_as_it_is_afterwards(cfg: DictConfig, spectrum: SpectrumReport) -> None:
    again = analyze_spectrum(cfg, name="tiny", max_images=IMAGES, counts=COUNTS)
    assert again.removals == spectrum.removals
    assert again.movements == spectrum.movements


def test_similarity_is_1_before_and_less_behind_the_first_adapted_block(
    forgetting: ForgettingReport,
) -> None:
    assert (forgetting.first_block, forgetting.source) == (2, "daytime-clear")
    assert [d.domain for d in forgetting.drifts] == DOMAINS
    for drift in forgetting.drifts:
        for values in (drift.cka, drift.raw):
            assert len(values) == DEPTH
            for block, value in enumerate(values):
                assert value is not None
                assert value == pytest.approx(1, abs=1e-6) if block < 2 else value < 1 - 1e-9
    assert [s.images for s in forgetting.samples] == [IMAGES] * 5


Make = Callable[[SpectrumReport, ForgettingReport], SpectrumReport | ForgettingReport]


@pytest.mark.parametrize(
    ("pick", "names"),
    [
        (lambda s, f: s, ["spectra", "movement", "features", "scores"]),
        (lambda s, f: f, ["forgetting"]),
    ],
    ids=["spectrum", "forgetting"],
)
def test_figures_from_json_alone(
    pick: Make,
    names: list[str],
    spectrum: SpectrumReport,
    forgetting: ForgettingReport,
    tmp_path: Path,
) -> None:
    text = pick(spectrum, forgetting).to_json()
    document = json.loads(text, parse_constant=pytest.fail)  # no NaN, no Infinity
    assert document["version"] == 1
    assert document["run"]["config"] == "tiny"
    assert "linear CKA" in document["conventions"]["similarity"]
    files = draw(text, tmp_path / "one")
    assert sorted(f.name for f in files) == sorted(
        f"{name}.{kind}" for name in names for kind in ("svg", "png")
    )
    again = draw(text, tmp_path / "two")
    for file, other in zip(files, again, strict=True):
        assert file.read_bytes() == other.read_bytes()
        if file.suffix == ".svg":
            assert ElementTree.parse(file).getroot().tag.endswith("svg")
        else:
            assert np.asarray(Image.open(file).convert("L")).std() > 1


def test_adapter_file_alone(cfg: DictConfig, spectrum: SpectrumReport) -> None:
    torch.manual_seed(0)
    net = instantiate(cfg.backbone).net
    before = copy.deepcopy(net.state_dict())
    adapter = read_adapter(Path(cfg.train.output_dir) / "adapter.safetensors")
    report = analyze_adapter(net, adapter, network="tiny")
    for one, other in zip(report.movements, spectrum.movements, strict=True):
        assert one.name == other.name
        assert one.change == pytest.approx(other.change, rel=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_network_that_is_no_transformer() -> None:
    report = analyze_network(torch.nn.Sequential(torch.nn.Linear(3, 2)), network="one layer")
    assert [s.name for s in report.spectra] == ["0"]


# What cannot be done


def changed(cfg: DictConfig, **values: Any) -> DictConfig:
    cfg = copy.deepcopy(cfg)
    for name, value in values.items():
        setattr(cfg.train, name, value)
    return cfg


def test_nothing_trained_yet(cfg: DictConfig, tmp_path: Path) -> None:
    fresh = changed(cfg, output_dir=str(tmp_path))
    report = analyze_spectrum(fresh)
    assert report.movements == ()
    with pytest.raises(ValueError, match="scores need a trained detector: pass --checkpoint"):
        analyze_spectrum(fresh, score=True)
    with pytest.raises(ValueError, match=r"has forgotten nothing: pass --checkpoint, .* holds no"):
        analyze_forgetting(fresh, max_images=1)


def test_checkpoint_of_another_backbone(cfg: DictConfig) -> None:
    with pytest.raises(ValueError, match=r"trained from another backbone .*: .* differs\. Pass"):
        analyze_forgetting(changed(cfg, seed=1), max_images=1)


def test_missing_checkpoint(cfg: DictConfig, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        analyze_spectrum(cfg, checkpoint=str(tmp_path / "none.pth"))


@pytest.mark.parametrize("counts", [(0,), (1, 49)])
def test_counts_out_of_range(cfg: DictConfig, counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"counts must be 1\.\.48 for these matrices, got"):
        analyze_spectrum(cfg, counts=counts, max_images=1)


def test_counts_that_nothing_is_removed_for(cfg: DictConfig) -> None:
    with pytest.raises(ValueError, match="ask for images or scores as well"):
        analyze_spectrum(cfg, counts=(1,))


def test_no_images(cfg: DictConfig) -> None:
    with pytest.raises(ValueError, match="at least 1 image per domain is needed, got -1"):
        analyze_forgetting(cfg, max_images=-1)


def test_other_documents(tmp_path: Path) -> None:
    for text in ('{"format": "novel", "version": 1}', "[]", '{"format": "sora_det.spectrum"}'):
        with pytest.raises(ValueError, match="a report of format"):
            draw(text, tmp_path)


def test_every_method_can_be_analysed(toy: Path, tmp_path: Path) -> None:
    """Full fine-tuning keeps no original weights: they are built again, from the same seed."""
    target = {"_target_": "sora_det.adapt.Full"}
    cfg = tiny(toy, tmp_path, "train.max_iter=2")
    cfg.adaptation, cfg.hooks = target, {}
    fit(cfg)
    report = analyze_spectrum(cfg)
    assert len(report.movements) == DEPTH * 6
    assert all(m.change > 0 for m in report.movements)
    assert not (tmp_path / "adapter.safetensors").exists()
    drifts = analyze_forgetting(cfg, max_images=1).drifts
    assert all(value is not None and value < 1 for value in drifts[0].cka)
