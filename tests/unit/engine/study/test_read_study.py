from pathlib import Path

import pytest

from sora_det.engine.study.read import Search, read_study
from tests.tools.study_text import STUDY


def written(folder: Path, text: str) -> Path:
    file = folder / "study.yaml"
    file.write_text(text)
    return file


def test_a_study(tmp_path: Path) -> None:
    study = read_study(written(tmp_path, STUDY))
    assert (study.name, study.reference, study.seeds) == ("small", "SoRA", (0, 1))
    assert study.search == Search((1e-4, 3e-4, 1e-3), 5, (9,), 0.3, "ap50")
    assert [method.name for method in study.methods] == ["SoRA", "frozen"]
    assert study.method("SoRA").settings == {"adaptation.rank": "2"}
    assert study.method("SoRA").sets == ("optimizer.params.rates.adapter.lr",)
    assert study.method("frozen").sets == ("optimizer.params.rates.head.lr",)
    assert not study.toy


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: small", "name: small\nsedes: [1]", r"the file must hold .*unknown \[.*sedes"),
        ("seeds: [0, 1]\n", "", r"missing \['seeds'\]"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "seeds must be seeds, each once"),
        ("seeds: [0, 1]", "seeds: [-1]", "seeds must be a whole number from 0"),
        ("reference: SoRA", "reference: sora", r"reference must be one of the methods \['SoRA'"),
        ("[1e-4, 3e-4, 1e-3]", "[1e-4, 1e-3]", "grid must be three ascending rates or more"),
        ("[1e-4, 3e-4, 1e-3]", "[3e-4, 1e-4, 1e-3]", "grid must be three ascending rates"),
        ("[1e-4, 3e-4, 1e-3]", "[0, 1e-4, 1e-3]", "must hold positive rates, got 0"),
        ("[1e-4, 3e-4, 1e-3]", "[a, 1e-4, 1e-3]", "grid must be a number, got 'a'"),
        ("most: 5", "most: 2", "most must be 3, as the grid has, or more"),
        ("held_out: 0.3", "held_out: 0", "held_out must be above 0, at most 0.5"),
        ("metric: ap50", "metric: ap75", "metric must be one of"),
        ("checkpoint: last", "checkpoint: best", "checkpoint can only be last, got best"),
        ("adaptation.rank: 2", "train.max_iter: 9", "move train.max_iter to the study's settings"),
        ("train.max_iter: 4", "train.max_iter: [4]", "must be a text or a number; quote a list"),
        ("sets: [optimizer.params.rates.head.lr]", "sets: []", r"sets must name rates .* got \[\]"),
        ("  frozen:", "  sora:", "methods must differ in letters and digits"),
        ("config: configs", "config: ../configs", "a path must be relative and free of"),
        ("name: small", "name: !!python/name:os.system x", "must have no tags"),
    ],
)
def test_what_is_no_study(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in STUDY
    with pytest.raises(ValueError, match=rf"study\.yaml: .*{message}"):
        read_study(written(tmp_path, STUDY.replace(old, new, 1)))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no study file .*none\.yaml"):
        read_study(tmp_path / "none.yaml")
