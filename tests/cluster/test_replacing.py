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
    patience_s = 0.5


def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.1)


@pytest.fixture(params=[1, 2], ids=["one worker a job", "two workers a job"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    n = request.param
    with (
        Cluster(
            cores=n,
            processes=n,
            memory="600MB",
            interface="lo",
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(jobs=2)
        client.wait_for_workers(2 * n, timeout=60)
        client.per_job = n
        yield client


def test_a_lost_job_is_submitted_again(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    before = dict(client.cluster.workers)
    lost = sorted(before)[0]
    os.kill(int(before[lost].job_id), signal.SIGKILL)  # the job; its workers see that their parent has gone
    until(lambda: client.cluster.workers.get(lost) not in (None, before[lost]))
    client.wait_for_workers(2 * client.per_job, timeout=60)
    assert {job: client.cluster.workers[job] is before[job] for job in before} == {
        job: job != lost for job in before
    }
    assert [record.getMessage() for record in caplog.records if record.name == "slcluster"] == [
        f"batch job {before[lost].job_id} ended before its work was done; another is submitted"
    ]
    assert client.submit(sum, [1, 2]).result(timeout=30) == 3


def test_a_worker_that_its_nanny_starts_again_is_no_lost_job(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client.cluster.patience_s = 8.0
    before = dict(client.cluster.workers)
    victim = sorted(client.nthreads())[0]
    with caplog.at_level(logging.CRITICAL, "distributed"):
        (pid,) = client.run(os.getpid, workers=[victim]).values()
        os.kill(pid, signal.SIGKILL)
        until(lambda: victim not in client.nthreads())
        client.wait_for_workers(2 * client.per_job, timeout=60)
        time.sleep(9)
    assert client.cluster.workers == before


def test_closing_submits_nothing(client: Any) -> None:
    n_made = client.cluster._i
    client.cluster.close()  # its workers are removed now
    time.sleep(Cluster.patience_s + 1)
    assert client.cluster.workers == {}
    assert client.cluster._i == n_made
