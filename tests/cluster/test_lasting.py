"""Local workers that come back."""

from __future__ import annotations

import os
import signal
import time

import pytest
from distributed import Client

from slcluster.cluster import lasting
from slcluster.cluster.lasting import LastingCluster


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "_POLL_S", 0.1)


def _wait_for_another(cluster: LastingCluster, gone: set[str]) -> None:
    give_up = time.monotonic() + 300
    while not set(cluster.scheduler_info["workers"]) - gone:
        assert time.monotonic() < give_up, "no worker came back"
        time.sleep(0.02)


def test_a_worker_that_closes_with_its_nanny_is_replaced() -> None:
    """As one does that loses its connection to the scheduler."""
    with (
        LastingCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for _ in range(2):
            before = set(cluster.scheduler_info["workers"])
            client.run(lambda dask_worker: dask_worker.loop.add_callback(dask_worker.close, nanny=True))
            _wait_for_another(cluster, before)
        assert client.submit(pow, 2, 3).result(timeout=300) == 8


def test_a_worker_that_dies_again_and_again_comes_back() -> None:
    with (
        LastingCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        nanny = cluster.workers[0]
        for _ in range(2):
            ((address, pid),) = client.run(os.getpid).items()
            os.kill(pid, signal.SIGKILL)
            _wait_for_another(cluster, {address})
        assert cluster.workers[0] is nanny, "which started it again itself"


def test_a_worker_that_is_not_wanted_stays_away() -> None:
    with LastingCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        cluster.scale(1)
        give_up = time.monotonic() + 300
        while len(cluster.scheduler_info["workers"]) > 1:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        time.sleep(0.5)  # several looks
        assert len(cluster.scheduler_info["workers"]) == len(cluster.workers) == 1
