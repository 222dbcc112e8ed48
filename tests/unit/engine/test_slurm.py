"""One task of a SLURM job; the jobs themselves are in tests/ddp/test_slurm_jobs.py."""

import json
import time
from pathlib import Path
from unittest.mock import MagicMock

import pytest

pytest.importorskip("submitit", reason="needs the extra slurm")

from sora_det.engine.launch import ENVIRONMENT
from sora_det.engine.slurm import Cluster, Training
from sora_det.engine.stop import STOPPED
from sora_det.engine.study.jobs import Ended

# The tenth of sixteen tasks, on the second of two machines.
SLURM = {
    "SUBMITIT_EXECUTOR": "slurm",
    "SLURM_JOB_ID": "12",
    "SLURM_NTASKS": "16",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "gpu[1-2]",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
}
SCRIPT = """
import json, os, sys
json.dump(dict(os.environ), open(sys.argv[1], "w"))
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A script that keeps its environment, and ends with the code that it is given."""
    # All of them are restored, those too that `Training` sets.
    for name in (*ENVIRONMENT, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("MASTER_PORT", "29400")
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return str(path)


def test_what_the_script_is_told(script: str, tmp_path: Path) -> None:
    kept = tmp_path / "environment.json"
    Training(script, [str(kept), "0"], gpus=True)()
    told = json.loads(kept.read_text())
    assert {name: told[name] for name in ENVIRONMENT} == {
        "RANK": "9",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "16",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu1",
        "MASTER_PORT": "29400",
    }
    assert told["CUDA_VISIBLE_DEVICES"] == "1"  # its own; without GPUs, nothing is said of them


def test_the_first_task_alone_tells_of_a_stop(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(script, [str(tmp_path / "kept"), "75"], gpus=False)
    training()
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(RuntimeError, match=r"script.py ended with exit code 75"):
        training()


def test_a_failure_is_told_by_every_task(script: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"script.py ended with exit code 3"):
        Training(script, [str(tmp_path / "kept"), "3"], gpus=False)()


def test_what_is_queued_again_is_the_same(script: str) -> None:
    again = Training(script, ["--resume"], gpus=True).checkpoint().function
    assert vars(again) == vars(Training(script, ["--resume"], gpus=True))


def test_runs_of_a_study_are_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    for name in (*ENVIRONMENT, "CUDA_VISIBLE_DEVICES"):  # those that a job sets are its own
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    start = Cluster(script, folder=tmp_path / "jobs", cluster="local", gpus=0)
    codes = {}
    for code in (0, 65, 1):
        folder = tmp_path / str(code)
        folder.mkdir()
        codes[code] = (start([str(code)], folder), folder)
    for code, (job, folder) in codes.items():
        end = time.monotonic() + 120
        while (ended := job.ended()) is None:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert ended == Ended(code, None)
        assert (folder / "job").read_text() == job.job.job_id


def test_a_job_that_is_under_way_is_not_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Known:
        def __init__(self, folder: Path, job_id: str) -> None:
            self.folder, self.job_id = folder, job_id

        def done(self) -> bool:
            return False

    monkeypatch.setattr("submitit.SlurmJob", Known)
    monkeypatch.setattr("submitit.AutoExecutor", MagicMock())
    (tmp_path / "job").write_text("12")
    start = Cluster(tmp_path / "script.py", folder=tmp_path / "jobs")
    job = start([], tmp_path)
    assert (job.job.job_id, job.ended()) == ("12", None)
    start.executor.submit.assert_not_called()
    job.stop()  # the job goes on, but nobody waits for it
    assert job.ended() == Ended(STOPPED, None)
