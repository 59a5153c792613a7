"""A searchlight on a real Grid Engine, through the command line.

    unshare --net sh -c "ip link set lo up && python -m pytest -n 0 tests/cluster/sge"

as root, for Debian's packages named in throwaway.py; unshare keeps its daemons from the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from slcluster.cluster.queues import State, queue_of
from tests.cluster.sge.throwaway import PACKAGES, missing_programs, running_sge
from tests.cluster.smoke import job_numbers, same_map_as_here, slcluster

PROFILE = """
kind: sge
queue: all.q
parallel_environment: smp
workers: 4
cores: 2
processes: 2
memory: 1600MB
walltime: "00:10:00"
interface: lo
log_directory: logs
start_timeout: 5m
"""


@pytest.fixture(scope="module")
def grid_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)}: install Debian's {PACKAGES}")
    if os.getuid():
        pytest.skip("Grid Engine's daemons start jobs as root alone")
    pytest.importorskip("dask_jobqueue")
    with running_sge(tmp_path_factory.mktemp("sge") / "root") as variables:
        yield variables


@pytest.fixture
def folder(grid_engine: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, from which the commands of Grid Engine reach it."""
    monkeypatch.chdir(tmp_path)
    for name, value in grid_engine.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "sge.yaml").write_text(PROFILE)
    return tmp_path


def test_a_searchlight(folder: Path) -> None:
    same_map_as_here(folder, folder / "sge.yaml")
    jobs = job_numbers(folder / "logs")
    assert len(jobs) == 2  # of two workers each
    assert all(queue_of("sge").state(job).state is State.GONE for job in jobs)


def test_a_refused_job(folder: Path) -> None:
    (folder / "sge.yaml").write_text(PROFILE.replace("all.q", "nowhere"))
    tried = slcluster("cluster", "sge.yaml")
    assert tried.returncode == 2
    assert "Grid Engine refuses the job: Unable to run job: " in tried.stderr
    assert "nowhere" in tried.stderr
    assert "Traceback" not in tried.stderr


def test_a_queue_without_place(folder: Path) -> None:
    (folder / "sge.yaml").write_text(
        PROFILE.replace("cores: 2", "cores: 16").replace("start_timeout: 5m", "start_timeout: 4s")
    )
    tried = slcluster("cluster", "sge.yaml")
    assert tried.returncode == 1
    assert re.search(
        r"no worker started \(waited 4s\); Grid Engine says: job \d+ waiting \(qw\): ", tried.stderr
    )


def test_a_node_without_the_interpreter(folder: Path) -> None:
    (folder / "sge.yaml").write_text(PROFILE + "python: /nowhere/bin/python\n")
    tried = slcluster("cluster", "sge.yaml")
    assert tried.returncode == 1
    assert re.search(
        r"batch jobs ended before a worker came .* ends with: .*/nowhere/bin/python: No such file",
        tried.stderr,
    )
