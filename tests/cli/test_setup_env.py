"""scripts/setup_env.sh with stand-ins for python3, df and pip: nothing is installed.

The stand-ins are found first on the PATH; they note their calls and say what a real one
says in that situation.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands for python3, and for the python of the environment that it "makes".
PYTHON = """#!/bin/bash
here={here}
echo "$*" >> $here/calls
case "$*" in
    *"environment.py supported") [ -e $here/supported ] ;;
    *"environment.py satisfied"*) cat $here/lacking; [ ! -s $here/lacking ] ;;
    *"environment.py "*) exec {python} "$@" ;;
    "-m venv"*) mkdir -p "${{!#}}/bin" && cp $here/bin/python3 "${{!#}}/bin/python" ;;
    "-m pip install"*) cat $here/pip; [ ! -s $here/pip ] ;;
    "-c "*) echo 3.9 ;;
esac
"""

NO_NETWORK = """\
WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after \
connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection \
object>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/torch/
ERROR: Could not find a version that satisfies the requirement torch>=2.6 (from versions: none)
ERROR: No matching distribution found for torch>=2.6
"""
FULL_DISK = (
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
)


@dataclass
class Machine:
    """A copy of the checkout and a PATH on which the stand-ins come first."""

    folder: Path
    free_gigabytes: int = 100

    @property
    def root(self) -> Path:
        return self.folder / "checkout"

    def says(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def calls(self, start: str) -> list[str]:
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(start)]

    def prepare(self, extra: str = '""', **variables: str) -> subprocess.CompletedProcess[str]:
        kilobytes = self.free_gigabytes * 1024**2
        self.stub("df", f"echo Filesystem; echo /dev/disk 0 0 {kilobytes} 0% /")
        code = "source scripts/setup_env.sh; "
        code += f'prepare_environment .venv {extra}; echo "$python ${{PYTHONPATH:-}}"'
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        return subprocess.run(
            ["bash", "-c", code],
            cwd=self.root,
            env={"PATH": path, "HOME": str(self.folder), **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def stub(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(body if body.startswith("#!") else f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Python is new enough, nothing is installed yet, and pip works."""
    made = Machine(tmp_path)
    (tmp_path / "bin").mkdir()
    made.root.mkdir()
    for name in ("scripts", "third_party"):
        shutil.copytree(ROOT / name, made.root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, made.root)
    for name, text in {"supported": "", "lacking": "torch>=2.6", "pip": ""}.items():
        made.says(name, text)
    made.stub("python3", PYTHON.format(here=tmp_path, python=sys.executable))
    for name in ("python3.11", "python3.12", "python3.13"):
        made.stub(name, "exit 127")
    return made


def only_error(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that says what to do: the last, and the only one of its kind."""
    lines = done.stderr.splitlines()
    assert done.returncode == 1
    assert [line for line in lines if line.startswith("error: ")] == [lines[-1]]
    return lines[-1]


def test_the_first_start_installs_and_the_second_does_not(machine: Machine) -> None:
    done = machine.prepare()
    assert done.returncode == 0, done.stderr
    environment = machine.root / ".venv"
    assert done.stdout.split() == [f"{environment}/bin/python"]
    (install,) = machine.calls("-m pip install")
    assert install.endswith(f"--editable {machine.root} {machine.root}/third_party/detectron2")

    again = machine.prepare()
    assert (again.returncode, again.stdout, again.stderr) == (0, done.stdout, "")
    assert len(machine.calls("-m pip install")) == 1


def test_an_extra_is_installed_when_asked_for(machine: Machine) -> None:
    machine.prepare()
    machine.prepare(extra="dev")
    _, install = machine.calls("-m pip install")
    assert install.endswith(f"--editable {machine.root}[dev] {machine.root}/third_party/detectron2")
    assert len(machine.calls("-m venv")) == 1

    for extra in ('""', "dev"):
        again = machine.prepare(extra=extra)
        assert (again.returncode, again.stderr) == (0, "")
    assert len(machine.calls("-m pip install")) == 2


@pytest.mark.parametrize("name", ["setup.py", "third_party/detectron2/edits.py"])
def test_a_changed_build_file_installs_again(name: str, machine: Machine) -> None:
    machine.prepare()
    path = machine.root / name
    path.write_text(path.read_text() + "# changed\n")
    machine.prepare()
    assert len(machine.calls("-m pip install")) == 2
    assert len(machine.calls("-m venv")) == 1


def test_a_failed_installation_is_tried_again(machine: Machine) -> None:
    machine.says("pip", "ERROR: something else\n")
    assert "for the reason above" in only_error(machine.prepare())
    machine.says("pip", "")
    assert machine.prepare().returncode == 0
    assert len(machine.calls("-m pip install")) == 2


def test_a_suitable_environment_is_used_as_it_is(machine: Machine) -> None:
    machine.says("lacking", "")
    done = machine.prepare(extra="dev", VIRTUAL_ENV="/somewhere", PYTHONPATH="/other")
    assert done.stdout.split() == [f"{machine.folder}/bin/python3", f"{machine.root}:/other"]
    assert machine.calls(str(machine.root))[-1].endswith("environment.py satisfied dev")
    assert not machine.calls("-m")


def test_an_unsuitable_environment_is_told_what_it_lacks(machine: Machine) -> None:
    done = machine.prepare(VIRTUAL_ENV="/somewhere")
    assert done.returncode == 0
    assert "The active environment lacks torch>=2.6; using" in done.stderr
    assert machine.calls("-m venv")


def test_pins_get_an_environment_of_their_own(machine: Machine) -> None:
    machine.says("lacking", "")  # an active environment has everything, but not the pins
    done = machine.prepare(extra='dev "torch==2.6.*"')
    assert done.stdout.split() == [f"{machine.root}/.venv/bin/python"]
    assert "torch==2.6.* --editable" in machine.calls("-m pip install")[0]
    machine.prepare(extra='dev "torch==2.6.*"')
    assert len(machine.calls("-m pip install")) == 1
    machine.prepare(extra='dev "torch==2.7.*"')
    assert len(machine.calls("-m pip install")) == 2


def test_too_old_a_python_is_one_sentence(machine: Machine) -> None:
    (machine.folder / "supported").unlink()
    assert only_error(machine.prepare()) == (
        "error: Python 3.11, 3.12 or 3.13 is needed and here python3 is 3.9: install one of them "
        "(Debian, Ubuntu: apt-get install python3.11 python3.11-venv) and start again."
    )


def test_no_python_is_one_sentence(machine: Machine) -> None:
    machine.stub("python3", "exit 127")
    assert "here there is no python3: install" in only_error(machine.prepare())


def test_a_newer_python_beside_an_old_one_is_found(machine: Machine) -> None:
    shutil.move(machine.folder / "bin" / "python3", machine.folder / "bin" / "python3.12")
    machine.stub("python3", "echo 3.9; exit 1")
    shutil.copy(machine.folder / "bin" / "python3.12", machine.folder / "bin" / "copy")
    text = (machine.folder / "bin" / "python3.12").read_text()
    own = "$here/bin/python3"  # not the real one, whose path may end alike
    assert f"{own} " in text
    machine.stub("python3.12", text.replace(f"{own} ", f"{own}.12 "))
    done = machine.prepare()
    assert done.returncode == 0, done.stderr
    assert machine.calls("-m venv")


def test_too_little_disk_is_one_sentence(machine: Machine) -> None:
    machine.free_gigabytes = 7
    error = only_error(machine.prepare())
    assert error.startswith("error: too little disk: the installation needs 8 GB and ")
    assert error.endswith(
        "has 7 GB left; make room or move the checkout to another disk, and start again."
    )
    assert not machine.calls("-m")


def test_a_full_disk_during_the_installation_is_one_sentence(machine: Machine) -> None:
    machine.says("pip", FULL_DISK)
    assert only_error(machine.prepare()).startswith(
        "error: too little disk: the installation needs"
    )


def test_disk_does_not_matter_once_installed(machine: Machine) -> None:
    machine.prepare()
    machine.free_gigabytes = 0
    assert machine.prepare().returncode == 0


def test_no_network_is_one_sentence(machine: Machine) -> None:
    machine.says("pip", NO_NETWORK)
    assert only_error(machine.prepare()) == (
        "error: no network: pip does not reach its package index; check the connection and pip's "
        "settings ('pip config list'), and start again."
    )


def test_no_venv_module_is_one_sentence(machine: Machine) -> None:
    text = (machine.folder / "bin" / "python3").read_text()
    machine.stub("python3", text.replace("mkdir -p", "echo ensurepip is missing; false"))
    done = machine.prepare()
    assert "ensurepip is missing" in done.stderr
    assert "install its venv module" in only_error(done)


def test_ci_runs_the_test_script() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "bash scripts/test.sh" in run.read_text()


@pytest.mark.parametrize("name", ["setup_env.sh", "test.sh", "quickstart.sh"])
def test_scripts_parse(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / "scripts" / name)], check=True)
