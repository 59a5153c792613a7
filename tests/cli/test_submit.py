"""Runs that are left to this machine: what outlives the command that started them, and what they say."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import slcluster as slc
from slcluster.jobs.folder import RunFolder
from tests.cli.conftest import Invoke, called

#: Slow on purpose: 20 blocks a second, so that a busy machine's run is not finished before it is cancelled.
ANALYSIS = [
    "--conditions",
    "face,house",
    "--radius-mm",
    "5.6",
    "--cv",
    "2",
    "--estimator",
    "{class: sklearn.ensemble.RandomForestClassifier, params: {n_estimators: 20, random_state: 0}}",
    "--engine",
    "sklearn",
    "--block-centers",
    "1",
]
NOBODY = ["--cluster", "tcp://127.0.0.1:9"]
SUBMIT = ["submit", "sub-03.zarr", *ANALYSIS, "--out", "out.zarr", "--workers", "1"]


@pytest.fixture
def run(store: Path) -> Iterator[RunFolder]:
    """The folder of the run to come; its coordinator is gone at the end."""
    kept = RunFolder.beside("out.zarr")
    yield kept
    pid = kept.coordinator().get("pid")
    if pid is not None and psutil.pid_exists(pid):
        os.kill(pid, signal.SIGKILL)


def await_that(condition: Callable[[], bool], run: RunFolder) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, run.coordinator_log.read_text()
        time.sleep(0.1)


def n_done(out: str = "out.zarr") -> int:
    return slc.status(out).n_done if Path(out).exists() else 0


def test_it_outlives_its_command_is_killed_cancelled_and_resumed(run: RunFolder, invoke: Invoke) -> None:
    left = called(*SUBMIT)
    assert left.returncode == 0, left.stderr
    job = re.match(r"submitted to this machine: job (\S+)\n", left.stdout)[1]
    await_that(lambda: n_done() >= 2, run)
    during = invoke("status", "out.zarr").stdout
    assert "sub-03: running, " in during
    assert f"job {job}: running" in during
    assert re.search(r"dashboard: ssh -N -L 8787:127\.0\.0\.1:\d+ \S+@\S+\n", during)
    again = invoke(*SUBMIT)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "was submitted already" in again.stderr or "is being computed by" in again.stderr
    os.kill(run.coordinator()["pid"], signal.SIGKILL)
    await_that(lambda: slc.status("out.zarr").holder is None, run)
    after = invoke("status", "out.zarr").stdout
    assert "its coordinator was killed; the log ends: " in after
    assert "to go on: slcluster resume" in after
    resumed = invoke("resume", "out.zarr", "--submit")
    assert resumed.exit_code == 0
    before = n_done()
    await_that(lambda: n_done() >= before + 2, run)
    assert invoke("cancel", "out.zarr").stdout.startswith("out.zarr: cancelled job ")
    stopped = slc.status("out.zarr")
    assert stopped.holder is None
    assert not stopped.is_finished
    assert run.coordinator()["outcome"] == "cancelled"
    assert "no job was seen in the queue" in invoke("cancel", "out.zarr").stdout
    assert invoke("resume", "out.zarr", "--submit").exit_code == 0
    followed = invoke("logs", "out.zarr", "--follow")
    assert followed.stdout.count("coordinator ") >= 3
    assert "sub-03: " in followed.stdout.splitlines()[-1]
    assert slc.status("out.zarr").is_finished
    assert invoke("resume", "out.zarr", "--workers", 1).exit_code == 0  # in the foreground: nothing to do
    found = [json.loads(line) for line in invoke("status", "out.zarr", "--json").stdout.splitlines()]
    assert found[0]["is_finished"]
    assert found[1]["coordinator"]["outcome"] == "finished"
    assert "it has finished; nothing is cancelled" in invoke("cancel", "out.zarr").stdout
    assert not run.is_cancelled
    # Nothing is left to do, and so nobody is asked for workers.
    assert "sub-03: " in invoke("searchlight", "sub-03.zarr", *ANALYSIS, *NOBODY, "--out", "out.zarr").stdout
    assert "sub-03: " in invoke("resume", ".", *NOBODY).stdout
    assert found[1]["jobs"][run.jobs()[-1]["job"]]["state"] == "gone"


def test_what_is_refused_before_anything_is_left(
    store: Path, files: dict[str, Path], tmp_path: Path, invoke: Invoke
) -> None:
    def refused(*words: object) -> str:
        result = invoke("submit", *words)
        assert (result.exit_code, result.stdout) == (2, ""), result.stdout
        assert sorted(path.name for path in tmp_path.iterdir()) == ["sub-03.zarr"]
        return result.stderr

    place = ["--out", "out.zarr"]
    assert "--out is missing" in refused("sub-03.zarr", *ANALYSIS)
    assert "no store at" in refused("gone.zarr", *ANALYSIS, *place)
    assert "takes no jobs" in refused("sub-03.zarr", *ANALYSIS, *place, "--cluster", "tcp://node7:8786")
    assert "a submitted run makes its own" in refused("sub-03.zarr", *ANALYSIS, *place, "--credentials", "x")
    assert "unknown cluster 'slrum'" in refused("sub-03.zarr", *ANALYSIS, *place, "--cluster", "slrum")
    images = ["--bold", files["bold"], "--mask", files["mask"], "--labels", files["labels"]]
    # Nothing has been ingested, and yet it shows that the analysis cannot be.
    assert "condition" in refused(
        "new.zarr", "--conditions", "fase,house", "--radius-mm", "5", *place, *images
    )
    assert "memory_limit is 1 MB" in refused("new.zarr", *ANALYSIS, *place, *images, "--memory-limit", "1MB")
    wrong = ["--bold", files["bold"], "--mask", files["labels"], "--labels", files["labels"]]
    assert files["labels"].name in refused("new.zarr", *ANALYSIS, *place, *wrong)


def test_a_dry_run_leaves_nothing(
    store: Path, files: dict[str, Path], tmp_path: Path, invoke: Invoke
) -> None:
    images = ["--bold", files["bold"], "--mask", files["mask"], "--labels", files["labels"]]
    shown = invoke("submit", "new.zarr", *ANALYSIS, *images, "--out", "out.zarr", "--dry-run")
    assert shown.exit_code == 0
    assert shown.stdout.startswith("Searchlight plan\n")
    assert f"-m slcluster coordinate {tmp_path / 'out.zarr.run'}" in shown.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["sub-03.zarr"]


def test_a_run_that_was_never_submitted(store: Path, invoke: Invoke) -> None:
    for words in (["logs", "out.zarr"], ["cancel", "out.zarr"], ["resume", "out.zarr", "--submit"]):
        result = invoke(*words)
        assert result.exit_code == 2
        assert "slcluster submit" in result.stderr
    assert invoke("status", "out.zarr").exit_code == 2


def test_a_failure_is_told(run: RunFolder, files: dict[str, Path], tmp_path: Path, invoke: Invoke) -> None:
    images = ["--bold", files["bold"], "--mask", files["mask"], "--labels", tmp_path / "labels.txt"]
    (tmp_path / "labels.txt").write_text(files["labels"].read_text())
    assert (
        invoke("submit", "new.zarr", *ANALYSIS, *images, "--out", "out.zarr", "--workers", 1).exit_code == 0
    )
    (tmp_path / "labels.txt").unlink()  # while the coordinator starts
    await_that(lambda: "ended" in run.coordinator(), run)
    assert run.coordinator()["outcome"] == "failed"
    assert "labels.txt" in invoke("status", "out.zarr").stdout
    assert "slcluster: error: " in invoke("logs", "out.zarr", "--coordinator").stdout
