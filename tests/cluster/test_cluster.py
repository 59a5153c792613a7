"""Real local clusters, and what a client may count on."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client, LocalCluster
from distributed.scheduler import NoValidWorkerError, NoWorkerError

import slcluster as slc
from slcluster.cluster import check_sees, connect, connect_processes
from slcluster.errors import InputError, SlclusterError


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with connect("local", workers=2, memory="400MB") as client:
        yield client


def on_worker() -> tuple[dict[str, str], Any]:
    return dict(os.environ), signal.getsignal(signal.SIGINT)


def test_workers_are_as_asked(client: Any) -> None:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    assert [(about["nthreads"], about["memory_limit"]) for about in workers] == [(1, 400_000_000)] * 2


def test_nothing_listens_beyond_loopback(client: Any) -> None:
    here = psutil.Process()
    listening = [
        ipaddress.ip_address(connection.laddr.ip)
        for process in (here, *here.children(recursive=True))
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 4  # scheduler, dashboard, two workers
    assert all(address.is_loopback for address in listening)
    assert client.dashboard_link.startswith("http://127.0.0.1:")


def test_workers_run_one_blas_thread_and_leave_ctrl_c_to_the_driver(client: Any) -> None:
    for environment, on_interrupt in client.run(on_worker).values():
        assert {environment[f"{name}_NUM_THREADS"] for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")} == {"1"}
        assert on_interrupt == signal.SIG_IGN


def test_processes_listen_on_loopback_and_end() -> None:
    here = psutil.Process()
    before = set(here.children(recursive=True))
    with connect_processes(2) as client:
        client.wait_for_workers(2, timeout=60)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert [about["nthreads"] for about in workers] == [1, 1]
        started = set(here.children(recursive=True)) - before
        listening = [
            ipaddress.ip_address(connection.laddr.ip)
            for process in (here, *started)
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        ]
        assert len(listening) >= 3  # scheduler, two workers
        assert all(address.is_loopback for address in listening)
    assert not psutil.wait_procs(started, timeout=10)[1]


def test_every_worker_sees_the_file(client: Any, tmp_path: Path) -> None:
    check_sees(client, tmp_path)
    with pytest.raises(
        SlclusterError, match=r"worker tcp://127.* does not see .*gone; put it on a file system"
    ):
        check_sees(client, tmp_path / "gone")


def test_work_without_any_worker_ends(tmp_path: Path) -> None:
    profile = tmp_path / "hasty.yaml"
    profile.write_text("kind: local\nworkers: 1\nstart_timeout: 1s\n")
    with connect(profile) as client:
        client.cluster.scale(0)
        with pytest.raises((NoValidWorkerError, NoWorkerError), match="timed out after"):
            client.submit(sum, [1, 2]).result(timeout=30)


def _fill(share: float, dask_worker: Any) -> None:
    """Fill what is left of a worker's memory limit."""
    n_bytes = share * dask_worker.memory_manager.memory_limit - psutil.Process().memory_info().rss
    dask_worker.filling = b"x" * int(n_bytes)


def test_workers_that_are_short_of_memory_take_work() -> None:
    """Also those that came later. Dask would pause them from 80 % on, whatever fills them."""
    with slc.make_cluster("local", workers=1, memory="400MB") as cluster, Client(cluster) as client:
        cluster.scale(2)
        client.wait_for_workers(2, timeout=60)
        client.run(_fill, 0.88)
        time.sleep(1)  # ten looks of Dask's at the memory
        for worker in client.scheduler_info(n_workers=-1)["workers"]:
            assert client.submit(sum, [1, 2], workers=[worker], pure=False).result(timeout=30) == 3


def test_make_cluster_is_the_dask_cluster() -> None:
    with slc.make_cluster("local", workers=1, threads=2) as cluster:
        assert isinstance(cluster, LocalCluster)
        with Client(cluster) as client:
            assert sum(client.nthreads().values()) == 2


def test_a_running_scheduler_by_its_address(client: Any) -> None:
    address = client.scheduler.address
    with connect(address) as second:
        assert second.submit(sum, [1, 2]).result() == 3
    assert client.submit(sum, [1, 3]).result() == 4  # it was not ours to stop
    with (
        pytest.raises(InputError, match="runs already; workers, threads and memory are its own"),
        connect(address, workers=2),
    ):
        pass
    with pytest.raises(InputError, match=r"runs already; use slcluster.attach"):
        slc.make_cluster(address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tpc://127.0.0.1:9"])
def test_no_scheduler_answers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slcluster.cluster.ANSWER_TIMEOUT", "1s")
    with pytest.raises(InputError, match=f"no Dask scheduler answers at {address}"), connect(address):
        pass


#: For workers whose package metadata are not ours.
OTHER_VERSION = """
import importlib.metadata as m
if m.version.__module__ == m.__name__:  # Dask loads a preload twice
    real = m.version
    def version(name):
        if name != "slcluster":
            return real(name)
        ANSWER
    m.version = version
"""

#: For workers that end at once, as those do whose memory limit is about what Python itself needs.
SHORT_LIVED = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "slcluster.compute":
            os._exit(1)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize(
    ("preload", "message"),
    [
        (
            OTHER_VERSION.replace("ANSWER", "raise m.PackageNotFoundError(name)"),
            "has no slcluster, this process",
        ),
        (OTHER_VERSION.replace("ANSWER", "return '0.0.1'"), "has slcluster 0.0.1, this process"),
        (SHORT_LIVED, "ended while it imported slcluster, most likely out of memory; give workers more"),
    ],
    ids=["none", "another version", "short-lived"],
)
def test_workers_that_could_not_compute_are_refused(tmp_path: Path, preload: str, message: str) -> None:
    """A worker started by hand."""
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__PRELOAD": repr([preload])}
        worker = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "distributed.cli.dask_worker",
                cluster.scheduler_address,
                "--no-nanny",
                "--host",
                "127.0.0.1",
            ],
            env=environment,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        try:
            with pytest.raises(SlclusterError, match=message), connect(cluster.scheduler_address):
                pass
        finally:
            worker.terminate()
            worker.wait()


def test_keywords_dask_does_not_know_are_named(tmp_path: Path) -> None:
    profile = tmp_path / "odd.yaml"
    profile.write_text("kind: local\nworkers: 1\nextra: {dashbord: 1}\n")
    with pytest.raises(InputError, match=r"extra \(dashbord\) is not what Dask takes"):
        slc.make_cluster(profile)
