"""Who may import whom, and that importing does nothing.

`RULES` is the list of the style guide in CONTRIBUTING.md.  Everything is read from the
syntax tree, so that a package with a missing dependency or half a change is checked too.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORK = {"detectron2", "fvcore", "torch", "torchvision", "numpy"}
CHECKS = {"sora_det.untrusted.text", "sora_det.untrusted.archive"}  # need nothing themselves

# Module -> what it may import beside the standard library.  The longest match counts;
# a name allows all below it, and of ours, only names listed here (or its own package).
RULES: dict[str, set[str]] = {
    "sora_det": set(),
    "sora_det.detectron2_compat": FRAMEWORK,
    "sora_det.untrusted": {"torch", "PIL", "sora_det.untrusted"},
    "sora_det.untrusted.text": set(),
    "sora_det.untrusted.archive": set(),
    "sora_det.adapt": {"torch", "safetensors", "sora_det.adapt"},
    "sora_det.backbones": FRAMEWORK
    | {"timm", "safetensors", "tqdm", "sora_det.backbones", "sora_det.detectron2_compat"}
    | {"sora_det.untrusted"},
    "sora_det.data": FRAMEWORK
    | {"timm", "cv2", "PIL", "yaml", "tqdm"}
    | {"sora_det.data", "sora_det.detectron2_compat", "sora_det.untrusted"},
    "sora_det.data.benchmark": {"sora_det.data.benchmark"},
    # Whatever evaluation holds is plain data and NumPy, but for the modules named below.
    "sora_det.evaluation": {"numpy", "sora_det.evaluation", *CHECKS},
    "sora_det.evaluation.scoring": {"numpy", "sora_det.evaluation", "sora_det.__version__"},
    "sora_det.evaluation.truth": {"numpy", "sora_det.data", "sora_det.evaluation"},
    "sora_det.evaluation.external": {"numpy", "sora_det.data", "sora_det.evaluation"},
    "sora_det.evaluation.share": {"detectron2"},
    "sora_det.evaluation.run": FRAMEWORK
    | {"tqdm", "sora_det.data", "sora_det.evaluation"}
    | {"sora_det.detectron2_compat"},
    "sora_det.engine": FRAMEWORK
    | {"omegaconf", "hydra", "yaml", "tqdm", "tensorboard"}
    | {"sora_det.adapt", "sora_det.data", "sora_det.evaluation", "sora_det.engine"}
    | {"sora_det.detectron2_compat", "sora_det.untrusted"},
    "sora_det.engine.export": {"numpy", "torch", "onnxruntime", "sora_det.adapt"},
    "sora_det.engine.slurm": {"submitit", "sora_det.engine.stop", "sora_det.engine.study.jobs"},
    "sora_det.report": {"numpy", "matplotlib", "cv2"}
    | {f"sora_det.evaluation.{name}" for name in ("table", "ap", "boxes", "scores", "convention")}
    | {
        f"sora_det.evaluation.{name}"
        for name in ("protocol", "saved", "compare", "study", "explained")
    }
    | {"sora_det.report", "sora_det.untrusted.pictures", *CHECKS},
}
# Even where their package is allowed.
PURE = ("sora_det.evaluation.table", "sora_det.evaluation.ap")
IMPURE = {
    f"sora_det.evaluation.{name}" for name in ("run", "scoring", "share", "truth", "external")
}


def test_every_import_is_allowed() -> None:
    problems = [line for path in sources("sora_det") for line in check_imports(path, ROOT)]
    assert not problems, "\n" + "\n".join(problems)


def test_projects_do_not_import_each_other() -> None:
    problems = [line for path in sources("projects") for line in check_project(path, ROOT)]
    assert not problems, "\n" + "\n".join(problems)


def test_importing_does_nothing() -> None:
    problems = [line for path in sources("sora_det") for line in check_effects(path, ROOT)]
    assert not problems, "\n" + "\n".join(problems)


def test_importing_sora_det_loads_no_framework() -> None:
    code = (
        "import sys, sora_det; print(sorted({'torch', 'numpy', 'detectron2'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- the checks -------------------------------------------------------------------------


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything imported anywhere in a file.

    `from a import b` yields a.b, because b may be a module; relative imports become absolute.
    """
    package = list(path.relative_to(root).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def within(name: str, allowed: set[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed)


def check_imports(path: Path, root: Path) -> Iterator[str]:
    module, place = module_name(path, root), path.relative_to(root)
    rule = max((name for name in RULES if within(module, {name})), key=len)
    if rule == "sora_det" and module != "sora_det":
        yield f"{place}:1: {module} has no rule: add one to RULES in tests/unit/test_imports.py"
        return
    for line, name in imports(path, root):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == "__future__":
            continue
        if not within(name, RULES[rule]):
            known = ", ".join(sorted(RULES[rule])) or "nothing"
            yield f"{place}:{line}: {module} imports {name}; {rule} may import {known}"
        elif module in PURE and within(name, IMPURE):
            yield f"{place}:{line}: {module} imports {name}, which needs more than NumPy"


def check_project(path: Path, root: Path) -> Iterator[str]:
    own = ".".join(path.relative_to(root).parts[:2])
    for line, name in imports(path, root):
        if within(name, {"projects"}) and not within(name, {own}):
            yield f"{path.relative_to(root)}:{line}: {own} imports another project, {name}"


def check_effects(path: Path, root: Path) -> Iterator[str]:
    """Report what a module does while it is imported, and any print."""
    place = path.relative_to(root)
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"{place}:{node.lineno}: print() in the library: use the module's logger"
    for node in at_import(tree.body):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield f"{place}:{node.lineno}: calls {ast.unparse(node.value)} when imported"
        elif isinstance(node, ast.For | ast.While | ast.With):
            yield f"{place}:{node.lineno}: runs a loop or block when imported"
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                if "register" in ast.unparse(decorator):
                    yield f"{place}:{node.lineno}: registers {node.name} when imported"
        elif any(
            text in ast.unparse(node) for text in ("os.environ", "getenv(", "sys.path", "open(")
        ):
            yield f"{place}:{node.lineno}: touches the environment when imported"


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that importing runs, those in classes, `if` and `try` included."""
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            if isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
                continue
            inner = [*node.body, *node.orelse, *getattr(node, "finalbody", [])]
            inner += [line for h in getattr(node, "handlers", []) for line in h.body]
            yield from at_import(inner)
        else:
            yield node
            if isinstance(node, ast.ClassDef):
                yield from at_import(node.body)


# --- that the checks can fail -----------------------------------------------------------


def written(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sora_det/__init__.py", "import torch"),
        ("sora_det/adapt/sora.py", "import numpy"),
        ("sora_det/adapt/sora.py", "from detectron2.layers import Conv2d"),
        ("sora_det/adapt/sora.py", "def f():\n    import timm"),
        ("sora_det/backbones/vit.py", "from sora_det.data import load"),
        ("sora_det/backbones/vit.py", "from ..data.load import load_benchmark"),
        ("sora_det/backbones/vit.py", "from .. import data"),
        ("sora_det/data/load.py", "import sora_det.backbones.timm_vit"),
        ("sora_det/data/toy/canvas.py", "from ...engine import fit"),
        ("sora_det/data/benchmark.py", "import yaml"),
        ("sora_det/evaluation/table.py", "import torch"),
        ("sora_det/evaluation/table.py", "from .run import evaluate"),
        ("sora_det/evaluation/ap.py", "from . import run"),
        ("sora_det/evaluation/run.py", "from ..engine import fit"),
        ("sora_det/engine/train.py", "from sora_det.backbones import timm_vit"),
        ("sora_det/engine/train.py", "import configs.common.optim"),
        ("sora_det/engine/train.py", "from projects.study import model"),
        ("sora_det/engine/train.py", "import scripts"),
        ("sora_det/report/plots.py", "from ..evaluation.run import evaluate"),
        ("sora_det/novel/thing.py", "import math"),
    ],
)
def test_a_forbidden_import_is_reported_with_its_place(
    name: str, text: str, tmp_path: Path
) -> None:
    problems = list(check_imports(written(tmp_path, name, f'"""Doc."""\n{text}\n'), tmp_path))
    assert len(problems) == 1
    line = 1 if "novel" in name else 1 + len(text.splitlines())
    assert problems[0].startswith(f"{name}:{line}: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sora_det/__init__.py", '__version__ = "1"'),
        ("sora_det/adapt/__init__.py", "from .sora import split_minor"),
        ("sora_det/adapt/state.py", "import json\nfrom safetensors.torch import save_file"),
        ("sora_det/backbones/vit.py", "import timm\nfrom detectron2.modeling import Backbone"),
        ("sora_det/evaluation/table.py", "import numpy as np\nfrom .ap import Detections"),
        ("sora_det/engine/train.py", "from ..data import load\nfrom ..adapt import SoRA"),
    ],
)
def test_an_allowed_import_passes(name: str, text: str, tmp_path: Path) -> None:
    assert not list(check_imports(written(tmp_path, name, text), tmp_path))


def test_a_project_that_imports_another_is_reported(tmp_path: Path) -> None:
    text = "from projects.one.model import A\nfrom projects.two.model import B\n"
    path = written(tmp_path, "projects/one/net.py", text)
    (problem,) = check_project(path, tmp_path)
    assert problem.startswith("projects/one/net.py:2: ")


@pytest.mark.parametrize(
    "text",
    [
        "register_all()",
        'ROOT = os.environ["DATA"]',
        'ROOT = os.getenv("DATA")',
        "if True:\n    torch.set_num_threads(1)",
        "try:\n    import a\nexcept ImportError:\n    warn()",
        "for name in names:\n    register(name)",
        "@REGISTRY.register()\nclass Net:\n    pass",
        "class Net:\n    DATA = os.environ",
        "def f():\n    print(1)",
    ],
)
def test_an_effect_of_importing_is_reported(text: str, tmp_path: Path) -> None:
    problems = list(check_effects(written(tmp_path, "sora_det/a.py", text), tmp_path))
    assert len(problems) == 1
    assert problems[0].startswith("sora_det/a.py:")


@pytest.mark.parametrize(
    "text",
    [
        '"""Doc."""\nlogger = logging.getLogger(__name__)\nSIZE = max(1, 2)',
        "def root():\n    return os.environ['DATA']",
        "@dataclass(frozen=True)\nclass A:\n    x: int = field(default=1)",
        'if __name__ == "__main__":\n    main()',
    ],
)
def test_definitions_are_no_effect(text: str, tmp_path: Path) -> None:
    assert not list(check_effects(written(tmp_path, "sora_det/a.py", text), tmp_path))
