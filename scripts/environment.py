"""What setup_env.sh asks about an environment; needs nothing but Python's own library.

python scripts/environment.py supported        exit 0 if this Python's version will do
python scripts/environment.py satisfied [dev]  exit 0, or print what this environment lacks
python scripts/environment.py fingerprint      print a hash of all that an installation depends on
python scripts/environment.py oldest           print the oldest supported torch and torchvision
"""

import ast
import hashlib
import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 11), (3, 13)  # as python_requires in setup.py


def supported() -> bool:
    return OLDEST <= sys.version_info[:2] <= NEWEST


def requirements(root: Path = ROOT, extra: str | None = None) -> list[str]:
    """Read the requirement strings of setup.py, those of `extra` included, without running it."""
    lists = {}
    for node in ast.parse((root / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id in ("DEPENDENCIES", "EXTRAS"):
                lists[node.targets[0].id] = ast.literal_eval(node.value)
    return lists["DEPENDENCIES"] + (lists["EXTRAS"][extra] if extra else [])


def lacking(wanted: list[str]) -> list[str]:
    """Return those of `wanted` that are not installed here, or in another version."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # not yet installed: nor is anything else that we need
        return wanted
    missing = []
    for text in wanted:
        requirement = Requirement(text)
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(text)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            missing.append(f"{text} (has {found})")
    return missing


def fingerprint(root: Path = ROOT) -> str:
    """Hash the build files, this Python and the place of the checkout (it is in .venv/bin)."""
    files = [root / "setup.py", root / "pyproject.toml"]
    folder = root / "third_party" / "detectron2"
    files += [folder / "pyproject.toml", *sorted(folder.glob("*.py"))]
    digest = hashlib.sha256(f"{root} {sys.version}".encode())
    for file in files:
        digest.update(f"\n{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def oldest(root: Path = ROOT) -> list[str]:
    """Turn the lower bounds of torch and torchvision into pins, "torch==2.6.*"."""
    found = [re.fullmatch(r"(torch|torchvision)>=([\d.]+)", text) for text in requirements(root)]
    return [f"{match[1]}=={match[2]}.*" for match in found if match]


def main(arguments: list[str]) -> int:
    match arguments:
        case ["supported"]:
            return 0 if supported() else 1
        case ["satisfied", *extra]:
            missing = lacking(requirements(extra=extra[0] if extra else None))
            print(", ".join(missing))
            return 1 if missing else 0
        case ["fingerprint"]:
            print(fingerprint())
        case ["oldest"]:
            print(*oldest())
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
