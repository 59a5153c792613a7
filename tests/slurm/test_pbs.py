"""A searchlight through PBS's commands, which Debian's slurm-wlm-torque puts before Slurm.

It conflicts with Grid Engine's packages. What is tested is our PBS job script and what we read of qstat, not PBS.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from slcluster.cluster.queues import State, queue_of
from tests.cluster.smoke import same_map_as_here, slcluster

PROFILE = """
kind: pbs
queue: normal
workers: 2
cores: 2
processes: 2
memory: 1600MB
walltime: "00:10:00"
interface: lo
log_directory: logs
start_timeout: 5m
"""


@pytest.fixture
def folder(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    qsub = shutil.which("qsub")
    if qsub is None or "Slurm" not in Path(qsub).read_text(errors="replace"):
        pytest.skip("no qsub of Slurm's: install Debian's slurm-wlm-torque")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pbs.yaml").write_text(PROFILE)
    return tmp_path


def test_a_searchlight(folder: Path) -> None:
    same_map_as_here(folder, folder / "pbs.yaml")
    listed = subprocess.run(
        ["squeue", "-h", "-t", "all", "-n", "slcluster", "-o", "%A %C %m %l"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    (job,) = [line.split()[0] for line in listed if line.split()[1:] == ["2", "1526M", "10:00"]]
    assert queue_of("pbs").state(job).state is State.GONE


def test_a_refused_job(folder: Path) -> None:
    (folder / "pbs.yaml").write_text(PROFILE.replace("normal", "nowhere"))
    tried = slcluster("cluster", "pbs.yaml")
    assert tried.returncode == 2
    assert "PBS refuses the job: " in tried.stderr
    assert "invalid partition specified: nowhere" in tried.stderr
