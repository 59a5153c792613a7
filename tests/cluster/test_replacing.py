"""Jobs that die are replaced, with dask-jobqueue's own machinery on this machine instead of a batch system."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from distributed import Client

pytest.importorskip("dask_jobqueue")

from dask_jobqueue.local import LocalCluster, LocalJob

from slcluster.cluster.queues import JobState, LocalQueue, State
from slcluster.cluster.replacing import Replacing, job_of_worker, refusal


class Job(LocalJob):
    """Refused, as dask-jobqueue tells it, as long as there are more than ``limit``."""

    limit, n_taken = 1000, 0
    #: Whether the node is broken: a job ends at once.
    is_hole = False

    async def _submit_job(self, script_filename: str) -> Any:
        if Job.is_hole:
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()
            return str(process.pid)
        if Job.n_taken >= Job.limit:
            raise RuntimeError(
                "Command exited\nstdout:\n\nstderr:\nsbatch: error: QOSMaxSubmitJobPerUserLimit\n"
            )
        Job.n_taken += 1
        return await super()._submit_job(script_filename)


class Processes(LocalQueue):
    """The jobs here are processes."""

    def state(self, job: str) -> JobState:
        return JobState(State.RUNNING if psutil.pid_exists(int(job)) else State.GONE)


class Cluster(Replacing, LocalCluster):
    job_cls = Job
    queue = Processes()


def until(true: Callable[[], bool], within_s: float = 180.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Two jobs of as many workers as the test is given."""
    n = request.param
    options = {"cores": n, "processes": n, "memory": "600MB", "interface": "lo"}
    with (
        Cluster(scheduler_options={"dashboard_address": "127.0.0.1:0"}, **options) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(jobs=2)
        client.wait_for_workers(2 * n, timeout=180)
        until(lambda: len(cluster.scheduler_info["workers"]) == 2 * n)  # the cluster hears of them later
        yield client


@pytest.mark.parametrize("client", [1, 2], indirect=True, ids=["one worker a job", "two workers a job"])
def test_a_lost_job_is_submitted_again(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    cluster = client.cluster
    cluster.patience_s = 0.5
    before, n_workers = dict(cluster.workers), len(client.nthreads())
    lost = sorted(before)[0]
    os.kill(int(before[lost].job_id), signal.SIGKILL)  # the job; its workers see that their parent has gone
    until(lambda: cluster.workers.get(lost) not in (None, before[lost]))
    until(lambda: len(client.nthreads()) == n_workers)
    assert {job: cluster.workers[job] is before[job] for job in before} == {
        job: job != lost for job in before
    }
    assert [record.getMessage() for record in caplog.records if record.name == "slcluster"] == [
        f"batch job {before[lost].job_id} ended before its work was done; another is submitted"
    ]
    assert client.submit(sum, [1, 2]).result(timeout=180) == 3


@pytest.mark.parametrize("client", [2], indirect=True, ids=["two workers a job"])
def test_a_job_with_a_worker_left_is_not_lost(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    cluster = client.cluster
    cluster.patience_s = 3600  # the test decides when it is over
    before, workers = dict(cluster.workers), client.nthreads()
    victim = sorted(workers)[0]
    with caplog.at_level(logging.CRITICAL, "distributed"):
        (pid,) = client.run(os.getpid, workers=[victim]).values()
        os.kill(pid, signal.SIGKILL)
        until(lambda: victim not in client.nthreads())
        assert set(workers) - {victim} <= set(client.nthreads()), "more died than the victim"
        assert set(workers) - {victim} <= set(cluster.scheduler_info["workers"])
        patience_ends(cluster)
        assert cluster.workers == before  # the other worker of the job lives
        until(lambda: len(client.nthreads()) == len(workers))
    patience_ends(cluster)
    assert cluster.workers == before  # its nanny has started the worker again


@pytest.mark.parametrize("client", [2], indirect=True, ids=["two workers a job"])
def test_a_worker_that_was_never_heard_of_may_go(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Who waits for workers reads all of them anew, at times before the cluster hears that one went."""
    workers = client.cluster.scheduler_info["workers"]
    victim = sorted(workers)[0]
    with caplog.at_level(logging.CRITICAL, "distributed"):
        (pid,) = client.run(os.getpid, workers=[victim]).values()
        del workers[victim]
        os.kill(pid, signal.SIGKILL)
        until(lambda: len(workers) == 4)  # its nanny started another


def patience_ends(cluster: Any) -> None:
    async def replace() -> None:
        for job in list(cluster.worker_spec):
            cluster._replace(job)

    cluster.sync(replace)


@pytest.mark.parametrize("client", [1], indirect=True, ids=["one worker a job"])
def test_closing_submits_nothing(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    client.cluster.patience_s = 0.0
    client.cluster.close()  # its workers are removed now
    time.sleep(1)
    assert client.cluster.workers == {}
    assert "another is submitted" not in caplog.text


@pytest.mark.parametrize("client", [2], indirect=True, ids=["two workers a job"])
def test_as_many_jobs_as_there_is_work_for(client: Any) -> None:
    """Up while tasks wait, down when none is left; a job goes only with all of its workers."""
    cluster = client.cluster
    cluster.adapt(minimum=2, maximum=6, worker_key=job_of_worker, interval="200ms", target_duration="1s")
    work = client.map(time.sleep, [0.5] * 1000, pure=False)  # more than is done before all workers are there
    until(lambda: len(cluster.worker_spec) == 3)
    until(lambda: len(client.nthreads()) == 6)
    client.cancel(work)
    del work
    until(lambda: len(client.nthreads()) == 2)
    left = {job_of_worker(Named(about["name"])) for about in cluster.scheduler_info["workers"].values()}
    assert left == set(cluster.worker_spec)
    assert client.submit(sum, [1, 2]).result(timeout=180) == 3


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.mark.parametrize("client", [1], indirect=True, ids=["one worker a job"])
def test_a_job_that_is_refused_in_mid_run_is_submitted_again(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = client.cluster
    cluster.retry_s = 0.5
    monkeypatch.setattr(Job, "limit", Job.n_taken + 1)
    cluster.scale(jobs=4)
    until(lambda: cluster.refused is not None)
    assert cluster.refused == "sbatch: error: QOSMaxSubmitJobPerUserLimit"
    monkeypatch.setattr(Job, "limit", 1000)
    until(lambda: len(client.nthreads()) == 4)
    told = [record.getMessage() for record in caplog.records if record.name == "slcluster"]
    assert told[0].startswith("1 of 4 batch jobs were not taken: sbatch: error: QOSMaxSubmitJobPerUserLimit;")
    assert not [record for record in caplog.records if record.name == "tornado.application"]


def test_a_refusal_in_one_line() -> None:
    report = "Exit code: 1\nCommand:\nqsub x\nstdout:\n{}\nstderr:\n{}\n"
    assert refusal(RuntimeError(report.format("", "no\nsuch queue"))) == "no such queue"
    assert refusal(RuntimeError(report.format("denied", ""))) == "denied"
    assert refusal(ValueError("Could not parse job id\nfrom x")) == "Could not parse job id from x"


@pytest.mark.parametrize("client", [1], indirect=True, ids=["one worker a job"])
def test_jobs_that_are_all_refused_in_mid_run_are_told_of(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = client.cluster
    cluster.retry_s = 0.5
    cluster.has_begun = True  # as make_cluster says of the first ones
    cluster.scale(jobs=0)
    until(lambda: not cluster.workers)
    monkeypatch.setattr(Job, "limit", Job.n_taken)
    cluster.scale(jobs=1)
    until(lambda: "1 of 1 batch jobs were not taken: sbatch: error: QOSMax" in caplog.text)
    monkeypatch.setattr(Job, "limit", 1000)
    until(lambda: len(client.nthreads()) == 1)


@pytest.mark.parametrize("client", [1], indirect=True, ids=["one worker a job"])
def test_a_job_that_ends_before_its_worker_comes_is_submitted_again(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = client.cluster
    cluster.look_s = 0.2
    monkeypatch.setattr(Job, "is_hole", True)
    cluster.scale(jobs=3)
    until(lambda: len(cluster.workers) == 3 and all(job.job_id for job in cluster.workers.values()))
    monkeypatch.setattr(Job, "is_hole", False)
    cluster.loop.add_callback(cluster.look)
    until(lambda: len(client.nthreads()) == 3)
