"""Local workers that come back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from distributed import Client

from slcluster.cluster import lasting, start_cluster
from slcluster.cluster.kinds import LocalProfile
from slcluster.cluster.lasting import LastingCluster
from slcluster.errors import InputError


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


def test_a_worker_that_was_never_heard_of_may_go() -> None:
    """Who waits for workers reads all of them anew, at times before the cluster hears that one went."""
    with (
        LastingCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        ((address, pid),) = client.run(os.getpid).items()
        del cluster.scheduler_info["workers"][address]
        os.kill(pid, signal.SIGKILL)
        _wait_for_another(cluster, {address})


def test_a_worker_that_is_not_wanted_stays_away() -> None:
    with LastingCluster(n_workers=2, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        cluster.scale(1)
        give_up = time.monotonic() + 300
        while len(cluster.scheduler_info["workers"]) > 1:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        time.sleep(0.5)  # several looks
        assert len(cluster.scheduler_info["workers"]) == len(cluster.workers) == 1


def test_one_that_lets_nobody_in_has_keys_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLCLUSTER_HOME", str(tmp_path / "home"))
    keys = tmp_path / "home" / "tls"
    with start_cluster(LocalProfile(workers=1, tls=True)) as cluster, cluster.get_client() as client:
        assert cluster.scheduler_address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [1, 2]).result(timeout=300) == 3
        assert len(list(keys.iterdir())) == 1
    assert not list(keys.iterdir())
    with pytest.raises(InputError, match="is not what Dask takes"):
        start_cluster(LocalProfile(workers=1, tls=True, extra={"dashbord": 1}))
    assert not list(keys.iterdir())
