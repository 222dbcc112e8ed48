import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sora_det.engine.config import load_config
from sora_det.engine.study.configure import Configs
from sora_det.engine.study.plan import Run
from sora_det.engine.study.read import Study, read_study
from tests.tools.process import ROOT
from tests.tools.study_text import STUDY

SEARCH, FINAL = Run("SoRA", "search", 3e-4, 9), Run("SoRA", "final", 3e-4, 0)
# Nothing pretrained: the key knows weights by their file.
UNTRAINED = {"backbone.net.weights": "''", "backbone.net.random_init": "true"}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    found = read_study(file)
    return replace(found, settings={**found.settings, **UNTRAINED})


def configs(study: Study, toy: Path, work: Path, *machine: str) -> Configs:
    return Configs(study, root=ROOT, work=work, machine=[f"benchmark.file={toy}", *machine])


def test_what_a_search_and_a_final_run_train(study: Study, toy: Path, tmp_path: Path) -> None:
    made = configs(study, toy, tmp_path / "work")
    search, final = made.config(SEARCH), made.config(FINAL)
    assert search.optimizer.params.rates.adapter.lr == 3e-4
    assert search.optimizer.params.rates.head.lr == 1e-3  # the base config's
    assert (search.benchmark.held_out, search.train.evaluation.split) == (0.3, "val")
    assert (search.train.seed, final.train.seed) == (9, 0)
    assert final.train.evaluation.split == "test"
    assert "held_out" not in final.benchmark
    assert search.adaptation.rank == 2
    frozen = made.config(Run("frozen", "final", 3e-4, 0))
    assert frozen.adaptation._target_.__name__ == "Frozen"
    assert not frozen.hooks
    assert frozen.optimizer.params.rates.head.lr == 3e-4


def test_the_written_config_is_the_same(study: Study, toy: Path, tmp_path: Path) -> None:
    made = configs(study, toy, tmp_path / "work")
    file = made.write(FINAL)
    read = load_config(file)
    assert file.name == "SoRA.yaml"
    assert read.train.output_dir == str(file.parent)
    assert read.adaptation.start_file == str(tmp_path / "work" / "SoRA-start.safetensors")
    assert read.optimizer.params.rates.adapter.lr == 3e-4


def test_keys_know_contents_and_not_places(study: Study, toy: Path, tmp_path: Path) -> None:
    made = configs(study, toy, tmp_path / "work")
    key = made.key(FINAL)
    moved = shutil.copytree(toy.parent, tmp_path / "moved") / toy.name
    elsewhere = configs(study, moved, tmp_path / "w", "dataloader.train.num_workers=5")
    assert elsewhere.key(FINAL) == key
    assert elsewhere.folder(FINAL).name == made.folder(FINAL).name
    assert len({made.key(run).config for run in (FINAL, SEARCH, replace(FINAL, seed=1))}) == 3
    longer = replace(study, settings={**study.settings, "train.max_iter": "5"})
    other = configs(longer, toy, tmp_path / "w").key(FINAL)
    assert (other.data, other.config == key.config) == (key.data, False)


def test_other_boxes_are_other_data(study: Study, toy: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(toy.parent, tmp_path / "changed") / toy.name
    file = next((changed.parent / "daytime_clear/VOC2007/Annotations").glob("*_train_*.xml"))
    file.write_text(file.read_text().replace("<xmin>1<", "<xmin>2<").replace("car", "bus"))
    before = configs(study, toy, tmp_path / "w").key(FINAL)
    after = configs(study, changed, tmp_path / "w").key(FINAL)
    assert (after.config, after.data == before.data) == (before.config, False)


@pytest.mark.parametrize(
    ("change", "machine", "message"),
    [
        ({}, ["train.max_iter=9"], r"'train.max_iter=9' is no matter of the machine"),
        ({"train.max_itr": "9"}, [], r"method 'SoRA' of small: config has no key 'train.max_itr'"),
        ({}, ["backbone.net.weights=no.pth"], r"no weights at no.pth"),
    ],
)
def test_wrong_settings(
    study: Study,
    toy: Path,
    tmp_path: Path,
    change: dict[str, str],
    machine: list[str],
    message: str,
) -> None:
    wrong = replace(study, settings={**study.settings, **change})
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        configs(wrong, toy, tmp_path, *machine)


def test_a_file_without_an_adaptation(study: Study, toy: Path, tmp_path: Path) -> None:
    method = replace(study.methods[0], adaptation="configs/common/optim.py")
    with pytest.raises(ValueError, match=r"optim.py defines no adaptation and no hooks"):
        configs(replace(study, methods=(method,)), toy, tmp_path)
