"""Jobs that die are replaced, with dask-jobqueue's own machinery on this machine instead of a batch system."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import Client

pytest.importorskip("dask_jobqueue")

from dask_jobqueue.local import LocalCluster

from slcluster.cluster.replacing import Replacing


class Cluster(Replacing, LocalCluster):
    pass


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
        patience_ends(cluster)
        assert cluster.workers == before  # the other worker of the job lives
        until(lambda: len(client.nthreads()) == len(workers))
    patience_ends(cluster)
    assert cluster.workers == before  # its nanny has started the worker again


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
