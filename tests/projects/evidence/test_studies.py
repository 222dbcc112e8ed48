"""The study files name what there is, and their documentation names them."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sora_det.engine.config import load_config, override_config
from sora_det.engine.study import read_study
from tests.tools.process import ROOT

PROJECT = ROOT / "projects" / "evidence"
STUDIES = sorted((PROJECT / "studies").glob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_every_method_has_a_config(file: Path) -> None:
    study = read_study(file)
    assert study.name == file.stem
    base = load_config(ROOT / study.config)
    for method in study.methods:
        axis = load_config(ROOT / method.adaptation)
        base.adaptation, base.hooks = axis.adaptation, axis.hooks
        settings = {**study.settings, **method.settings}
        cfg = override_config(
            base.copy(),
            [f"{key}={value}" for key, value in settings.items()]
            + [f"{key}=1e-3" for key in method.sets],
        )
        assert all(OmegaConf.select(cfg, key) == 1e-3 for key in method.sets)
        assert set(study.search.seeds).isdisjoint(study.seeds)


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_it_has_a_place_in_the_documents(file: Path) -> None:
    assert f"<!-- study {file.stem} -->" in (ROOT / "docs" / "evidence.md").read_text()
    assert f"`{file.stem}`" in (PROJECT / "README.md").read_text()
