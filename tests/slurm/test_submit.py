"""Searchlights on the real slice that are left to a real Slurm: jobs lost, cancelled, out of time, and the map."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import yaml

import slcluster as slc
from tests.slurm.runs import Run, call, in_queue

MakeRun = Callable[..., Run]


def test_a_worker_lost_then_cancelled_then_resumed(left_run: MakeRun, expected: dict[str, bytes]) -> None:
    run = left_run(pause_s=0.04)
    first = run.submit()
    run.await_blocks(5)
    during = run.call("status", "maps.zarr")
    assert re.search(r"bold: running, \d+ of 133 blocks done\n  computed by process \d+ on ", during)
    assert f"job {first}: running (RUNNING n" in during
    assert re.search(r"job \d+: waiting \(PENDING \(Dependency\)\)", during)
    assert re.search(r"ssh -N -L 8787:127\.0\.0\.1:\d+ ", during)
    lost = run.coordinator["workers"][0]
    call("scancel", lost)
    run.await_that(lambda: lost not in in_queue(), "the loss")
    run.await_blocks(5)  # by the other one; another job would come after a while
    jobs = run.jobs
    assert f"cancelled job {first}" in run.call("cancel", "maps.zarr")
    assert not {*jobs, *run.jobs} & in_queue()
    left = slc.status(run.out)
    assert left.holder is None
    assert 10 <= left.n_done < left.n_blocks
    assert "then cancelled" in run.call("status", "maps.zarr")
    assert run.call("resume", "maps.zarr", "--submit").startswith("submitted to Slurm: job ")
    run.await_end()
    assert run.blocks() == expected
    said = run.call("logs", "maps.zarr", "--follow")
    assert "==> coordinator.log <==\n" in said
    assert "==> slcluster-" in said
    result, left_to = map(json.loads, run.call("status", "maps.zarr", "--json").splitlines())
    assert result["is_finished"]
    assert left_to["coordinator"]["outcome"] == "finished"


def test_a_coordinator_killed_without_notice_and_one_cancelled(
    left_run: MakeRun, expected: dict[str, bytes]
) -> None:
    run = left_run(pause_s=0.04, workers=None, adapt={"minimum": 1, "maximum": 3})
    first = run.submit()
    run.await_blocks(5)
    run.await_that(lambda: len(run.coordinator.get("workers", ())) > 1, "more workers than the minimum")
    os.kill(run.coordinator["pid"], signal.SIGKILL)
    run.await_that(lambda: run.coordinator["job"] != first, "a follow-up")
    run.await_blocks(5)
    second = run.coordinator["job"]
    call("scancel", second)
    run.await_end()
    assert run.blocks() == expected
    assert run.coordinator["job"] not in (first, second)
    assert run.coordinator["outcome"] == "finished"


def test_a_walltime_shorter_than_the_run(left_run: MakeRun, expected: dict[str, bytes]) -> None:
    """40 s of pauses. Slurm counts whole minutes; the reserve makes a coordinator leave after 35 s.

    Its worker, too, retires before the run is over.
    """
    run = left_run(pause_s=0.02, walltime="00:01:00", workers=1, coordinator={"reserve": "25s"})
    run.submit()
    run.await_end()
    assert run.blocks() == expected
    went_on = re.findall(r"coordinator (\d+) stops; job (\d+) goes on", run.log)
    assert went_on
    assert went_on[-1][1] == run.coordinator["job"]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(went_on))


def test_one_job_does_it_all_and_a_failure_is_told(left_run: MakeRun, expected: dict[str, bytes]) -> None:
    run = left_run(cores=2, processes=2, memory="2GB")
    job = yaml.safe_load((run.folder / "job.yaml").read_text())
    bold, mask, labels = (job.pop(name) for name in ("bold", "mask", "labels"))
    run.call("ingest", bold, "subject.zarr", "--mask", mask, "--labels", labels, "--subject", "bold")
    (run.folder / "job.yaml").write_text(yaml.safe_dump(job))
    shutil.move(run.folder / "subject.zarr", run.folder / "away.zarr")
    assert "no store at" in run.call("submit", "job.yaml", "--cluster", "slurm.yaml", expected=2)
    assert not run.kept.path.exists()
    shutil.move(run.folder / "away.zarr", run.folder / "subject.zarr")
    assert "invalid partition" in run.call(
        "submit", "job.yaml", "--cluster", _with_queue(run, "nosuch"), expected=2
    )
    first = run.submit("--single-job")
    again = run.call("submit", "job.yaml", "--cluster", "slurm.yaml", expected=1)
    assert f"{run.out} was submitted already: job {first}" in again or "is being computed by" in again
    run.await_end()
    assert run.blocks() == expected
    assert run.coordinator["workers"] == []


def test_a_run_that_fails_says_so_and_ends(left_run: MakeRun) -> None:
    run = left_run()
    run.submit()
    # What is checked when it is submitted may have gone when it starts.
    kept = run.kept.job_file
    kept.write_text(kept.read_text().replace("bold.nii.gz", "gone.nii.gz"))
    run.await_that(lambda: "error" in run.coordinator, "the failure")
    run.await_that(lambda: not in_queue() & set(run.jobs), "an empty queue")
    said = run.call("status", "maps.zarr")
    assert ": failed " in said
    assert "gone.nii.gz" in said


def _with_queue(run: Run, queue: str) -> Path:
    path = run.folder / "other.yaml"
    path.write_text((run.folder / "slurm.yaml").read_text().replace("queue: normal", f"queue: {queue}"))
    return path
