"""No malicious file gets further than an exception of ours, in little time and memory."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    *("pickle", "memory", "zip bomb", "safetensors", "XML", "YAML", "JSON", "pattern", "path"),
    *("command", "markup", "image"),
}


@pytest.mark.timeout(1600)  # some of them take seconds, and many on a busy machine
def test_none_does_harm() -> None:
    """In a process of its own, of which the memory is limited."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.security.tally"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-2000:]}"
    rows = [line.split() for line in done.stdout.splitlines()]
    (total,) = (row for row in rows if row[:1] == ["all"])
    assert int(total[1]) == int(total[2]) + int(total[3]) > 600
    assert all(any(line.startswith(kind) for line in done.stdout.splitlines()) for kind in KINDS)


def test_harm_is_noticed() -> None:
    """A case for each of what a reader must not do."""
    harm = {
        "runs": "open(CANARY, 'w'); raise ValueError('no')",
        "reads": "pass",
        "leaks": "raise KeyError('no')",
        "waits": "time.sleep(9)",
        "hoards": "bytes(10**10)",
        "commands": "load_benchmark('none\\x1b[2J')",
    }
    readers = "".join(f"def {name}(path):\n    {code}\n" for name, code in harm.items())
    script = (
        "import time\n"
        "from sora_det.data import load_benchmark\n"
        "from tests.security import tally\n"
        "from tests.security.case import CANARY, Case\n"
        f"{readers}"
        "def cases():\n"
        f"    for read in ({', '.join(harm)}):\n"
        "        yield Case('kind', read.__name__, lambda folder: folder, read,\n"
        "                   (ValueError, FileNotFoundError))\n"
        "tally.every, tally.SECONDS = cases, 1\n"
        "raise SystemExit(tally.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == len(harm), f"{done.stdout}\n{done.stderr}"
    assert all(f"kind: {name}\n" in done.stdout for name in harm)
