"""The build of Detectron2 from PyPI, on small sources of our own making.

pip itself runs, on a folder instead of an index; only the test marked `network` downloads.
"""

import hashlib
import importlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "third_party" / "detectron2"
SETUP = """\
from setuptools import setup
import torch
setup(name="detectron2_cdo", version="0.5", install_requires=["x @ file:///nowhere"])
"""

# For every entry of EDITS: a file it names, that file's old text and its new text.
EXAMPLES = {
    "detectron2/**/*.py": (
        "detectron2/structures/a.py",
        "x = np.float(1) + np.float32(1); y = np.bool; z = my_np.int",
        "x = float(1) + np.float32(1); y = bool; z = my_np.int",
    ),
    "detectron2/layers/mask_ops.py": (
        "detectron2/layers/mask_ops.py",
        "m = torch.from_numpy(np.array(mask, copy=False))",
        "m = torch.from_numpy(np.asarray(mask))",
    ),
    "detectron2/data/transforms/transform.py": (
        "detectron2/data/transforms/transform.py",
        "interp = Image.LINEAR",
        "interp = Image.BILINEAR",
    ),
    "detectron2/data/common.py": (
        "detectron2/data/common.py",
        "i = self._rng.sample(self._fallback_candidates, k=1)[0]",
        "i = self._rng.sample(sorted(self._fallback_candidates), k=1)[0]",
    ),
    "detectron2/model_zoo/model_zoo.py": (
        "detectron2/model_zoo/model_zoo.py",
        "import os\nimport pkg_resources\ndef f(config_path):\n"
        "    return pkg_resources.resource_filename(\n"
        '        "detectron2.model_zoo", os.path.join("configs", config_path)\n    )',
        "import os\ndef f(config_path):\n"
        '    return os.path.join(os.path.dirname(__file__), "configs", config_path)',
    ),
    "detectron2/config/lazy.py": (
        "detectron2/config/lazy.py",
        "def to_py():\n    if 1:\n        import black\n\n        text = ''\n"
        "        try:\n            return black.format_str(text, mode=1)\n"
        "        except black.InvalidInput:\n            return text",
        "def to_py():\n    if 1:\n        text = ''\n"
        "        try:\n            import black\n\n"
        "            return black.format_str(text, mode=1)\n"
        "        except Exception:\n            return text",
    ),
    "detectron2/engine/hooks.py": (
        "detectron2/engine/hooks.py",
        "ok = isinstance(s, torch.optim.lr_scheduler._LRScheduler)",
        "ok = isinstance(s, torch.optim.lr_scheduler.LRScheduler)",
    ),
    "detectron2/solver/*.py": (
        "detectron2/solver/lr_scheduler.py",
        "class LRMultiplier(torch.optim.lr_scheduler._LRScheduler): pass",
        "class LRMultiplier(torch.optim.lr_scheduler.LRScheduler): pass",
    ),
    "detectron2/modeling/anchor_generator.py": (
        "detectron2/modeling/anchor_generator.py",
        "y, x = torch.meshgrid(shifts_y, shifts_x)",
        'y, x = torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
    ),
    "detectron2/data/detection_utils.py": (
        "detectron2/data/detection_utils.py",
        "t = target.gt_boxes = Boxes(boxes)",
        "t = target.gt_boxes = Boxes(np.array(boxes).reshape(-1, 4))",
    ),
    "detectron2/utils/comm.py": (
        "detectron2/utils/comm.py",
        "def f(buffer):\n    storage = torch.ByteStorage.from_buffer(buffer)\n"
        "    return torch.ByteTensor(storage).to(device=d)",
        "def f(buffer):\n"
        "    return torch.frombuffer(bytearray(buffer), dtype=torch.uint8).to(device=d)",
    ),
    "detectron2/layers/wrappers.py": (
        "detectron2/layers/wrappers.py",
        "loss = F.cross_entropy(input, target, **kwargs)",
        "loss = F.cross_entropy(input, target, reduction=reduction, **kwargs)",
    ),
    "detectron2/engine/launch.py": (
        "detectron2/engine/launch.py",
        'def f():\n    assert torch.cuda.is_available(), "no GPU"\n    init(backend="NCCL")\n'
        "    assert num_gpus_per_machine <= torch.cuda.device_count()\n"
        "    torch.cuda.set_device(local_rank)\n",
        'def f():\n    init(backend="NCCL" if torch.cuda.is_available() else "GLOO")\n'
        "    if torch.cuda.is_available():\n"
        "        assert num_gpus_per_machine <= torch.cuda.device_count()\n"
        "        torch.cuda.set_device(local_rank)\n",
    ),
    "detectron2/evaluation/coco_evaluation.py": (
        "detectron2/evaluation/coco_evaluation.py",
        "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n",
        "try:\n    from faster_coco_eval import COCOeval_faster as COCOeval_opt\n"
        "except ImportError:\n    COCOeval_opt = COCOeval\n",
    ),
    "detectron2/export/__init__.py": (
        "detectron2/export/__init__.py",
        "from .api import *\n",
        "try:\n    from .api import *\nexcept ImportError:\n    pass\n",
    ),
}


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The backend as pip imports it: with its folder on the path."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("backend", "edits"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("backend")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that pip takes for its only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_sdist(folder: Path, files: dict[str, str] | None = None) -> str:
    """Write a stand-in for the sdist, with all that the edits expect; return its SHA-256."""
    files = files or {name: old for name, old, _ in EXAMPLES.values()}
    files = {"setup.py": SETUP, "PKG-INFO": "", "LICENSE": "Apache", "README.md": "", **files}
    for package in {Path(name).parent for name in files if name.startswith("detectron2/")}:
        files.setdefault(f"{package}/__init__.py", "")
    files.setdefault("detectron2/__init__.py", "")
    path = folder / "detectron2-cdo-0.5.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"detectron2-cdo-0.5/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- edits ------------------------------------------------------------------------------


def test_every_edit_has_an_example_and_a_reason(backend: ModuleType) -> None:
    assert {edit.files for edit in backend.EDITS} == set(EXAMPLES)
    assert all(edit.reason and edit.swaps for edit in backend.EDITS)


@pytest.mark.parametrize("files", EXAMPLES)
def test_an_edit_changes_what_it_means_to(files: str, backend: ModuleType, tmp_path: Path) -> None:
    name, old, new = EXAMPLES[files]
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(old)
    backend.modernise(tmp_path, [edit for edit in backend.EDITS if edit.files == files])
    assert path.read_text() == new
    compile(new, name, "exec")


def test_an_edit_that_finds_nothing_is_an_error(backend: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    edit = backend.Edit("*.py", "y went away", ((r"x", "z"), (r"\by\b", "z")))
    with pytest.raises(backend.BuildError, match=r"\(y went away\).* \*\.py matches"):
        backend.modernise(tmp_path, [edit])


def test_an_edit_of_a_missing_file_is_an_error(backend: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(backend.BuildError, match="adapt or remove that edit"):
        backend.modernise(tmp_path, backend.EDITS)


def test_the_stub_answers_questions_and_refuses_work(
    backend: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.write(tmp_path, {"stub_for_c.py": backend.NEW_FILES["detectron2/_C.py"]})
    monkeypatch.syspath_prepend(tmp_path)
    stub = importlib.import_module("stub_for_c")
    assert stub.has_cuda() is False
    assert "pure-Python" in stub.get_compiler_version()
    assert not hasattr(stub, "__wrapped__")  # tools ask for such names and expect none
    with pytest.raises(RuntimeError, match=r"_C\.nms_rotated is C\+\+ .* has none"):
        stub.nms_rotated  # noqa: B018  the look-up itself raises


# --- download and unpack ----------------------------------------------------------------


def test_download_returns_the_verified_file(
    backend: ModuleType, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "SHA256", write_sdist(index))
    monkeypatch.setenv("PEP517_BUILD_BACKEND", "nonsense")  # the outer pip leaves such
    sdist = backend.download(tmp_path / "download")
    assert sdist.read_bytes() == (index / sdist.name).read_bytes()


def test_a_wrong_hash_is_refused_in_one_sentence(
    backend: ModuleType, index: Path, tmp_path: Path
) -> None:
    write_sdist(index)
    with pytest.raises(backend.BuildError, match=r"another SHA-256 than 53c9e79e.* do not use it"):
        backend.download(tmp_path / "download")


def test_an_index_out_of_reach_is_one_sentence(
    backend: ModuleType, index: Path, tmp_path: Path
) -> None:
    with pytest.raises(backend.BuildError, match=r"no network, or no index .* carry a wheel"):
        backend.download(tmp_path / "download")


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("WARNING: Retrying (...) after connection broken by 'NewConnectionError'", "no network"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM ...", "another SHA-256"),
        ("Collecting\nERROR: disk quota exceeded\n", "last words: ERROR: disk quota exceeded"),
        ("", "last words: nothing"),
    ],
)
def test_what_pip_says_becomes_a_sentence(output: str, sentence: str, backend: ModuleType) -> None:
    assert sentence in backend.explain(output)
    assert "\n" not in backend.explain(output)


def test_unpack_takes_the_package_and_its_licence_only(backend: ModuleType, tmp_path: Path) -> None:
    write_sdist(tmp_path, {"detectron2/a.py": "1", "detectron2/../../out.py": "2", "b.py": "3"})
    backend.unpack(tmp_path / "detectron2-cdo-0.5.tar.gz", tmp_path / "source")
    found = [path for path in (tmp_path / "source").rglob("*") if path.is_file()]
    assert {path.relative_to(tmp_path / "source").as_posix() for path in found} == {
        "LICENSE",
        "detectron2/__init__.py",
        "detectron2/a.py",
    }
    assert not list(tmp_path.glob("**/out.py"))


# --- the whole build --------------------------------------------------------------------


def build(folder: Path, sha256: str) -> subprocess.CompletedProcess[str]:
    code = f"import backend; backend.SHA256 = {sha256!r}; backend.build_wheel({str(folder)!r})"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=False
    )


def test_a_wheel_holds_the_edited_files(index: Path, tmp_path: Path) -> None:
    done = build(tmp_path, write_sdist(index))
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "detectron2-0.5+pure-py3-none-any.whl") as wheel:
        for name, _, new in EXAMPLES.values():
            assert wheel.read(name).decode() == new
        assert "detectron2/_C.py" in wheel.namelist()
        assert "detectron2-0.5+pure.dist-info/licenses/LICENSE" in wheel.namelist()


def test_a_failed_build_says_one_sentence_and_no_traceback(index: Path, tmp_path: Path) -> None:
    write_sdist(index)
    done = build(tmp_path, "0" * 64)
    assert done.returncode == 1
    assert done.stderr.startswith("detectron2: the index delivered a detectron2-cdo==0.5")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*.whl"))


@pytest.mark.network
def test_the_real_wheel_builds_and_compiles(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path)]
    subprocess.run([*command, str(FOLDER)], check=True)
    (path,) = tmp_path.glob("*.whl")
    assert path.name == "detectron2-0.5+pure-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        for name in names:
            if name.endswith(".py"):
                compile(wheel.read(name), name, "exec")
        metadata = wheel.read("detectron2-0.5+pure.dist-info/METADATA").decode()
    assert sum(name.startswith("detectron2/model_zoo/configs/") for name in names) == 126
    assert "Requires-Dist: iopath<0.1.10" in metadata
