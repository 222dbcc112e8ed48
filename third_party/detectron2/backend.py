"""Build backend (PEP 517) that makes a wheel of Detectron2 0.5 without its C++ part.

Fetch the sdist from the package index, verify it, apply `edits.py`, pack.  Everything
happens in a temporary folder.  What can go wrong ends in one sentence, a `BuildError`.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import dedent

from edits import EDITS, NEW_FILES, Edit
from setuptools import build_meta

HERE = Path(__file__).resolve().parent
SDIST = "detectron2-cdo==0.5"
SHA256 = "53c9e79e9cc943e80419c588ea44b5479507a8628ed14a4e06bd093e29311b18"

# pip runs an sdist's setup.py for its metadata, even when it is only to download it.  This
# one wants torch and then declares a dependency by URL, which pip refuses.  So it meets a
# module named torch that answers in its stead.
STAND_IN = """
    from setuptools import setup
    setup(name="detectron2_cdo", version="0.5", packages=[])
    raise SystemExit
    """
# The pip that runs this backend talks to it through these; the inner pip must not listen.
PRIVATE = ("PEP517_", "_PYPROJECT_HOOKS_")
OFFLINE = re.compile(
    "connection broken|Max retries exceeded|Read timed out|ReadTimeoutError|from versions: none",
    re.IGNORECASE,
)


class BuildError(Exception):
    """The wheel cannot be built; the message is one sentence that says what to do."""


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, object] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Write the wheel into `wheel_directory` and return its name (called by pip)."""
    wheel_directory = os.path.abspath(wheel_directory)
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "source")
        try:
            unpack(download(Path(temporary, "download")), source)
            modernise(source, EDITS)
        except BuildError as error:
            raise SystemExit(f"detectron2: {error}") from None  # no traceback: it says it all
        write(source, NEW_FILES)
        shutil.copy(HERE / "pyproject.toml", source)
        with contextlib.chdir(source):
            return build_meta.build_wheel(wheel_directory, config_settings)


def build_sdist(sdist_directory: str, config_settings: Mapping[str, object] | None = None) -> str:
    """Refuse: this folder is the source."""
    raise SystemExit("detectron2: only wheels are built here: pip wheel --no-deps <this folder>")


def download(folder: Path) -> Path:
    """Let the user's pip, with its settings, find, fetch and verify the sdist.

    Raises:
        BuildError: without network, for a file with another hash, or when pip fails otherwise.
    """
    write(folder, {"torch.py": STAND_IN, "wanted.txt": f"{SDIST} --hash=sha256:{SHA256}\n"})
    env = {key: value for key, value in os.environ.items() if not key.startswith(PRIVATE)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), env.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary=:all:"]
    command += ["--no-build-isolation", "--dest", str(folder)]
    command += ["--requirement", str(folder / "wanted.txt")]
    pip = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    print(pip.stdout)
    if pip.returncode:
        raise BuildError(explain(pip.stdout))
    return next(folder.glob("*.tar.gz"))


def explain(output: str) -> str:
    """Turn what a failed pip printed into one sentence."""
    if "DO NOT MATCH THE HASHES" in output:
        return (
            f"the index delivered a {SDIST} with another SHA-256 than {SHA256}: do not use it; "
            "see whether pip's settings name the index that you trust."
        )
    if OFFLINE.search(output):
        return (
            f"no network, or no index that has {SDIST}: check both, or carry a wheel built "
            "elsewhere with 'pip wheel --no-deps ./third_party/detectron2'."
        )
    lines = output.strip().splitlines() or ["nothing"]
    return f"pip could not download {SDIST}, its last words: {lines[-1]}"


def unpack(sdist: Path, folder: Path) -> None:
    """Write the package and its licence, and nothing else of `sdist`, into `folder`."""
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            name = member.name.partition("/")[2]
            if ".." in name.split("/") or not name.startswith(("detectron2/", "LICENSE")):
                continue
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())


def modernise(source: Path, edits: Iterable[Edit]) -> None:
    """Apply `edits` to the files under `source`.

    Raises:
        BuildError: if an expression finds nothing, naming its files and reason.
    """
    for edit in edits:
        paths = sorted(source.glob(edit.files))
        for pattern, replacement in edit.swaps:
            changed = 0
            for path in paths:
                text = path.read_text(encoding="utf-8")
                text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
                if count:
                    path.write_text(text, encoding="utf-8")
                    changed += count
            if not changed:
                raise BuildError(
                    f"edits.py no longer fits the source ({edit.reason}): nothing in "
                    f"{edit.files} matches {pattern!r}; adapt or remove that edit."
                )


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write indented texts to `folder`, by relative name."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
