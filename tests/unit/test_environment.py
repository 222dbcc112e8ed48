"""scripts/environment.py and setup.py agree on what an environment must hold."""

import importlib.metadata
import re
import runpy
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from scripts import environment
from tests.unit.test_imports import imports

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def build_file() -> dict[str, object]:
    return runpy.run_path(str(ROOT / "setup.py"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with the least that fingerprint() and requirements() read."""
    (tmp_path / "third_party" / "detectron2").mkdir(parents=True)
    for name in ("pyproject.toml", "third_party/detectron2/edits.py"):
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "third_party" / "detectron2" / "pyproject.toml").write_text("")
    (tmp_path / "setup.py").write_text(
        'import nothing\nDEPENDENCIES = ["torch>=2.6", "torchvision>=0.21", "numpy>=1"]\n'
        'EXTRAS = {"dev": ["pytest"]}\n'
    )
    return tmp_path


def test_requirements_are_those_of_setup_py(build_file: dict[str, object]) -> None:
    assert environment.requirements() == build_file["DEPENDENCIES"]
    extras = build_file["EXTRAS"]
    assert isinstance(extras, dict)
    assert environment.requirements(extra="dev") == environment.requirements() + extras["dev"]


def test_supported_pythons_are_those_of_setup_py() -> None:
    (text,) = re.findall(r'python_requires="(.*)"', (ROOT / "setup.py").read_text())
    for minor in range(8, 20):
        wanted = environment.OLDEST <= (3, minor) <= environment.NEWEST
        assert SpecifierSet(text).contains(f"3.{minor}") == wanted


def test_version_is_the_package_s(build_file: dict[str, object]) -> None:
    version = build_file["version"]
    assert callable(version)
    text = (ROOT / "sora_det" / "__init__.py").read_text()
    assert f'__version__ = "{version()}"' in text
    assert f"\nversion: {version()}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_dependency_is_a_range_with_a_reason(build_file: dict[str, object]) -> None:
    """A comment stands above each line of DEPENDENCIES, and no line pins a version."""
    lines = (ROOT / "setup.py").read_text().splitlines()
    for text in environment.requirements():
        assert any(bound.operator == ">=" for bound in Requirement(text).specifier), text
        above = lines[lines.index(f'    "{text}",') - 1]
        assert above.startswith("    # "), f"{text} lacks its reason"


def test_whatever_the_package_imports_is_a_dependency() -> None:
    extras = ("slurm", "export")  # imported by what launches on SLURM, or writes ONNX, alone
    wanted = [text for extra in extras for text in environment.requirements(extra=extra)]
    declared = {canonicalize_name(Requirement(text).name) for text in wanted}
    providers = importlib.metadata.packages_distributions()
    files = (ROOT / "sora_det").rglob("*.py")
    names = {name.partition(".")[0] for file in files for _, name in imports(file, ROOT)}
    for name in names - sys.stdlib_module_names - {"sora_det"}:
        # Several distributions may hold a module, as cv2: one of them must be declared.
        assert declared & {canonicalize_name(found) for found in providers[name]}, name


def test_oldest_pins_the_matched_pair(tree: Path) -> None:
    assert environment.oldest(tree) == ["torch==2.6.*", "torchvision==0.21.*"]
    assert len(environment.oldest()) == 2


def test_lacking_names_what_is_absent_or_of_another_version() -> None:
    pytest_version = importlib.metadata.version("pytest")
    wanted = ["pytest>=1", "pytest<1", "no-such-package>=2"]
    assert environment.lacking(wanted) == [
        f"pytest<1 (has {pytest_version})",
        "no-such-package>=2",
    ]


def test_fingerprint_changes_with_what_is_installed_only(tree: Path) -> None:
    before = environment.fingerprint(tree)
    (tree / "README.md").write_text("more")
    (tree / "third_party" / "detectron2" / "README.md").write_text("more")
    assert environment.fingerprint(tree) == before
    seen = {before}
    for name in ("setup.py", "pyproject.toml", "third_party/detectron2/edits.py"):
        (tree / name).write_text((tree / name).read_text() + "# more\n")
        seen.add(environment.fingerprint(tree))
    assert len(seen) == 4


def test_this_python_is_supported(capsys: pytest.CaptureFixture[str]) -> None:
    assert environment.main(["supported"]) == 0
    assert environment.main(["nonsense"]) == 2
    assert "fingerprint" in capsys.readouterr().err


def test_another_python_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ((3, 10, 14), (3, 14, 0)):
        monkeypatch.setattr(sys, "version_info", version)
        assert environment.main(["supported"]) == 1
