"""The report as a user asks for it."""

import subprocess
import sys
from pathlib import Path

from tests.tools.process import ROOT
from tests.tools.report_runs import write_run

SCRIPT = ROOT / "scripts" / "report.py"


def report(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)


def test_a_report_lands_in_the_run_unless_said_otherwise(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    done = report(run)
    assert done.returncode == 0, done.stderr
    assert (run / "report.html").stat().st_size > 20_000
    assert "report.html: " in done.stderr
    done = report(run, "--output", tmp_path / "new" / "page.html", "--title", "Over <there>")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert "<h1>Over &lt;there&gt;</h1>" in text


def test_an_error_is_one_line(tmp_path: Path) -> None:
    done = report(tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "holds no results.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_drawing_a_report_loads_no_framework() -> None:
    code = "import sys, sora_det.report.page; print({'torch', 'detectron2'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
