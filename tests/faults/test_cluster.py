"""Errors, interruptions and dead workers on a Dask cluster: clear words, nothing left behind, blocks kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import slcluster as slc
from slcluster.cluster.lasting import LastingCluster
from slcluster.errors import BlockError, FailedBlocksError, InputError
from slcluster.progress import Step
from slcluster.searchlight import resume
from slcluster.store import open_store
from slcluster.store.lease import read_lease
from slcluster.task import MAX_LOST
from tests.faults.driving import N_BLOCKS, OPTIONS, analyse, count_done, same, wait_for
from tests.faults.slow import Failing, Slow, fits

pytestmark = pytest.mark.filterwarnings("ignore:Port 8787 is already in use")

#: Voxels of the largest sphere: there is one such, and its block is computed first.
LARGEST = 17


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two worker processes of one thread, each with a nanny, as users have them."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0, "distributed.admin.log-length": 0}),
        LastingCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _tasks(client: Client) -> list[str]:
    states: list[str] = client.run_on_scheduler(
        lambda dask_scheduler: [task.state for task in dask_scheduler.tasks.values()]
    )
    return states


def _allow(client: Client, n_failures: int) -> None:
    """Deaths of workers that the scheduler lets a task live through."""
    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", n_failures))


def test_the_same_bytes_as_without_a_cluster(
    client: Client, store: Path, undisturbed: xr.Dataset, tmp_path: Path
) -> None:
    found = analyse(store, tmp_path / "out.zarr", tmp_path / "log", client=client)
    assert same(found, undisturbed)
    wait_for(lambda: not _tasks(client))


def test_a_failing_estimator(client: Client, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    failing = Failing(LARGEST, pause_s=0.05)
    with pytest.raises(FailedBlocksError) as caught:
        slc.searchlight(open_store(store), out=out, estimator=failing, client=client, **OPTIONS)
    sizes = slc.open_result(out)["sphere_size"]
    voxel = tuple(int(index[0]) for index in (sizes.values == LARGEST).nonzero())
    (failure,) = slc.status(out).failures
    assert failure.error == (
        f"array, block {failure.block}, center at voxel {voxel}, fold 0: ArithmeticError: this sphere is impossible"
    )
    assert failure.n_tries == 1, "it would fail again"
    assert str(caught.value) == (
        f"array: 1 of 24 blocks failed, the others are done: {failure.error}; "
        f"to try them again: slcluster resume {out}"
    )
    assert slc.status(out).n_done == N_BLOCKS - 1
    assert read_lease(out) is None
    wait_for(lambda: not _tasks(client))


def test_interrupted(client: Client, store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    out, log = tmp_path / "out.zarr", tmp_path / "log"

    def stop(step: Step) -> None:
        if step.done >= 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        analyse(store, out, log, client=client, progress=stop)
    assert caught.value.__notes__ == [f"Finished blocks are kept; to go on: slcluster resume {out}"]
    assert 5 <= slc.status(out).n_done < N_BLOCKS
    assert read_lease(out) is None
    wait_for(lambda: not _tasks(client))
    assert same(analyse(store, out, log, client=client), undisturbed)


def test_only_a_window_of_tasks_is_submitted(
    client: Client, store: Path, undisturbed: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slcluster.dispatch.WINDOW", 4)
    seen = []

    def look(step: Step) -> None:
        seen.append(len(_tasks(client)))

    found = analyse(store, tmp_path / "out.zarr", tmp_path / "log", client=client, progress=look)
    assert same(found, undisturbed)
    assert 1 < max(seen) <= 1 + 4 + 4 // 2, "the plan, and blocks in flight"


def test_a_worker_that_lacks_the_estimator(client: Client, store: Path, tmp_path: Path) -> None:
    class Absent(Slow):
        def __reduce__(self) -> Any:
            return __import__, ("a_module_that_workers_lack",)

    with pytest.raises(BlockError, match=r"^array, its plan, on the cluster: .*different environments"):
        slc.searchlight(
            open_store(store), out=tmp_path / "out.zarr", estimator=Absent(), client=client, **OPTIONS
        )


def test_a_sphere_that_kills_its_worker(client: Client, store: Path, tmp_path: Path) -> None:
    """It alone is given up, whatever the scheduler says of the blocks that waited beside it."""
    out, began = tmp_path / "out.zarr", tmp_path / "began"
    deadly = Failing(LARGEST, is_deadly=True, log=str(began))
    _allow(client, 1)  # so that some of its deaths are its own business, and of others we hear
    try:
        with pytest.raises(FailedBlocksError) as caught:
            slc.searchlight(open_store(store), out=out, estimator=deadly, client=client, **OPTIONS)
    finally:
        _allow(client, 0)
    (failure,) = slc.status(out).failures
    assert failure.error in str(caught.value)
    assert failure.error.startswith(
        f"array, block {failure.block}: the 4 workers that computed it died, the last one with the block in 2 parts"
    )
    assert slc.status(out).n_done == N_BLOCKS - 1
    assert len(began.read_text().split()) == MAX_LOST, "deaths of workers"
    assert read_lease(out) is None
    wait_for(lambda: not _tasks(client))
    # Another run begins with a clean sheet.
    Path(f"{began}.cure").touch()
    found = slc.searchlight(open_store(store), out=out, estimator=deadly, client=client, **OPTIONS)
    assert slc.status(out).is_finished
    assert found.attrs["n_blocks_failed"] == 0


def test_a_nanny_replaces_its_worker(
    client: Client, store: Path, undisturbed: xr.Dataset, tmp_path: Path
) -> None:
    """With both workers killed one after the other, restarted ones finish the work."""
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    client.wait_for_workers(2)
    victims = {*client.run(os.getpid).values()}

    def kill(step: Step) -> None:
        if victims and step.done in (5, 10):
            os.kill(victims.pop(), signal.SIGKILL)

    found = analyse(store, out, log, client=client, progress=kill)
    assert not victims
    assert same(found, undisturbed)
    assert fits(log).total() <= 141 + 2 * 6


def test_a_client_that_is_closed(store: Path, tmp_path: Path) -> None:
    with Client(n_workers=0, processes=False, dashboard_address=None, set_as_default=False) as client:
        pass
    with pytest.raises(
        InputError, match="^the client is closed; pass a distributed.Client that is connected"
    ):
        analyse(store, tmp_path / "out.zarr", tmp_path / "log", client=client)
    assert read_lease(tmp_path / "out.zarr") is None


def test_the_scheduler_goes(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),  # how long the client looks for it
        LocalCluster(
            n_workers=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):

        def close(step: Step) -> None:
            if step.done == 3:
                cluster.sync(cluster.scheduler.close)

        with pytest.raises(
            BlockError, match=r"dropped by the cluster \(.*connection-lost.*\); .* resume when it runs"
        ):
            analyse(store, out, log, client=client, progress=close)
    assert 3 <= count_done(out) < N_BLOCKS
    assert same(analyse(store, out, log), undisturbed)
    assert same(resume(out), undisturbed)


def test_the_workers_go_for_good(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    """No block is blamed for that."""
    out, log = tmp_path / "out.zarr", tmp_path / "log"
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "1s"}),
        LocalCluster(
            n_workers=1, processes=False, protocol="tcp://", host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):

        def retire(step: Step) -> None:
            if step.done == 3:
                cluster.scale(0)

        with pytest.raises(
            BlockError, match="no worker that takes work, all are lost .*; finished blocks are kept, resume"
        ) as caught:
            analyse(store, out, log, client=client, progress=retire)
    assert not isinstance(caught.value, FailedBlocksError)
    assert slc.status(out).failures == ()
    assert 3 <= count_done(out) < N_BLOCKS
    assert same(analyse(store, out, log), undisturbed)
