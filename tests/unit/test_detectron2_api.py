"""The project uses only what Detectron2 0.5 and its main branch both have."""

from pathlib import Path

import pytest

from tests.tools.detectron2_api import (
    UNKNOWN,
    VERSIONS,
    Entry,
    Table,
    describe,
    installed_version,
    problems,
    read_table,
    uses,
)

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("sora_det", "configs", "scripts", "projects")
SHIM = "sora_det/detectron2_compat.py"  # may use what one version lacks: that is its purpose


def test_every_name_and_keyword_exists_in_both_versions() -> None:
    table, found = read_table(), []
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        shim = path == ROOT / SHIM
        found += [line for use in uses(path, ROOT) for line in problems(use, table, shim=shim)]
    assert not found, "\n" + "\n".join(dict.fromkeys(found))


def test_the_table_agrees_with_the_installed_version() -> None:
    version = installed_version()
    wrong = {
        name: (entries[version], describe(name))
        for name, entries in read_table().items()
        if entries[version] != describe(name)
    }
    assert not wrong, "refresh with 'python tests/tools/detectron2_api.py' or correct: " + str(
        wrong
    )


def test_the_table_is_complete() -> None:
    table = read_table()
    assert all(set(entries) == set(VERSIONS) for entries in table.values())
    assert not [name for name, entries in table.items() if UNKNOWN in entries.values()]
    assert not [name for name, entries in table.items() if not any_known(entries)]


def any_known(entries: dict[str, Entry]) -> bool:
    return any(entry is not None for entry in entries.values())


# --- that it can fail -------------------------------------------------------------------

LOADER = ["dataset", "*", "mapper"]
SAMPLE: Table = {
    "detectron2.config.LazyCall": {"0.5": ["target"], "main": ["target"]},
    "detectron2.data.load": {"0.5": LOADER, "main": [*LOADER, "batch_size", "**kwargs"]},
    "detectron2.data.transforms": {"0.5": "module", "main": "module"},
    "detectron2.data.transforms.Crop": {"0.5": ["size", "value"], "main": ["size", "pad", "value"]},
    "detectron2.layers": {"0.5": "module", "main": "module"},
    "detectron2.layers.Any": {"0.5": ["*args", "**kwargs"], "main": ["*args", "**kwargs"]},
    "detectron2.layers.New": {"0.5": None, "main": []},
    "detectron2.layers.Odd": {"0.5": [], "main": UNKNOWN},
}


def found_in(text: str, folder: Path, *, shim: bool = False) -> list[str]:
    path = folder / "sample.py"
    path.write_text(text, encoding="utf-8")
    lines = [line for use in uses(path, folder) for line in problems(use, SAMPLE, shim=shim)]
    return list(dict.fromkeys(lines))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("from detectron2.layers import Gone", 1, "is not in detectron2_api.json: run 'python"),
        ("import detectron2.layers as la\nx = la.Gone", 2, "detectron2.layers.Gone is not in"),
        ("from detectron2.layers import New", 1, "Detectron2 0.5 has no detectron2.layers.New"),
        ("from detectron2.layers import Odd", 1, "does not say what"),
        (
            "from detectron2.data import load\nload(d, mapper=m, batch_size=2)",
            2,
            "detectron2.data.load of 0.5 takes no batch_size=",
        ),
        (
            "from detectron2.config import LazyCall as L\nfrom detectron2.data import load as f\n"
            "x = {1: L(f)(mapper=m, batch_size=2)}",
            3,
            "detectron2.data.load of 0.5 takes no batch_size=",
        ),
        (
            "from detectron2.data import transforms as T\ny = T.Crop(size=1, pad=True)",
            2,
            "detectron2.data.transforms.Crop of 0.5 takes no pad=",
        ),
        (
            "from detectron2.data import transforms as T\ny = T.Crop(1, 128)",
            2,
            "orders its arguments differently",
        ),
        ("from detectron2.data import load\nload(d, m)", 2, "takes 1 arguments by place"),
        ("def f():\n    from detectron2.layers import Gone", 2, "detectron2.layers.Gone is not in"),
    ],
)
def test_what_one_version_lacks_is_reported(
    text: str, line: int, message: str, tmp_path: Path
) -> None:
    found = [problem for problem in found_in(text, tmp_path) if message in problem]
    assert len(found) == 1
    assert found[0].startswith(f"sample.py:{line}: ")


@pytest.mark.parametrize(
    "text",
    [
        "from detectron2.data import load\nload(d, mapper=m)",
        "from detectron2.data import load\nload(d, **extra)",
        "from detectron2.data import transforms as T\ny = T.Crop(1, value=2)",
        "from detectron2.data import transforms as T\ny = T.Crop(*sizes)",
        "from detectron2.layers import Any\nAny(1, 2, anything=3)",
        "from torch.layers import Gone\nGone(1)",
        "from .layers import Gone\nGone(1)",
    ],
)
def test_what_both_have_passes(text: str, tmp_path: Path) -> None:
    assert not found_in(text, tmp_path)


def test_the_shim_may_use_what_one_version_has(tmp_path: Path) -> None:
    assert not found_in("from detectron2.layers import New", tmp_path, shim=True)
