"""A searchlight on a real Grid Engine, through the command line.

    unshare --net sh -c "ip link set lo up && python -m pytest -n 0 tests/cluster/sge"

as root, for Debian's packages named in throwaway.py; unshare keeps its daemons from the network.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import slcluster as slc
from slcluster.cluster.queues import State, queue_of
from slcluster.io.export import write_images
from tests.cluster.sge.throwaway import PACKAGES, missing_programs, running_sge

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


def slcluster(*words: object) -> subprocess.CompletedProcess[str]:
    """The command as a user gives it. What a job inherits of the current folder is no part of the environment."""
    return subprocess.run(
        [sys.executable, "-m", "slcluster", *map(str, words)], capture_output=True, text=True, check=False
    )


def test_a_searchlight(folder: Path) -> None:
    ds = slc.simulate(shape=(9, 10, 11), zooms_mm=(3.5, 3.75, 4.0), n_runs=4, n_informative=1, seed=3)
    files = write_images(ds, folder / "files")
    slc.ingest(files["bold"], folder / "sub.zarr", mask=files["mask"], labels=files["labels"])
    request = [
        "searchlight",
        "sub.zarr",
        "--conditions",
        "face,house",
        "--radius-mm",
        5,
        "--block-centers",
        32,
    ]
    done = slcluster(*request, "--cluster", "sge.yaml", "--out", "maps.zarr")
    assert done.returncode == 0, done.stderr
    here = slcluster(*request, "--out", "here.zarr")
    assert here.returncode == 0, here.stderr
    ours, expected = slc.open_result(folder / "maps.zarr"), slc.open_result(folder / "here.zarr")
    np.testing.assert_array_equal(ours["score"].values, expected["score"].values)
    logs = list((folder / "logs").iterdir())
    jobs = {re.search(r"\d+$", log.name)[0] for log in logs if log.name.startswith("slcluster.o")}
    assert len(jobs) == 2  # of two workers each
    queue = queue_of("sge")
    assert all(queue.state(job).state is State.GONE for job in jobs)


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
