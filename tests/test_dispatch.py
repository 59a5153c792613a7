"""Numbers handed out, in order, again, and what a future ended with."""

from __future__ import annotations

import time

import dask
import pytest
from distributed import Client, LocalCluster

from slcluster import dispatch
from slcluster.dispatch import _failure, _Queue


def _close(dask_worker: object) -> None:
    dask_worker.loop.add_callback(dask_worker.close)  # type: ignore[attr-defined]


def test_a_result_that_is_lost_with_its_worker_is_no_failure() -> None:
    with (
        LocalCluster(
            n_workers=2, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        first = next(iter(cluster.scheduler_info["workers"]))
        future = client.submit(pow, 2, 3, workers=[first], allow_other_workers=True)
        assert future.result(timeout=300) == 8
        client.run(_close, workers=[first])
        give_up = time.monotonic() + 300
        while first in client.scheduler_info()["workers"]:
            assert time.monotonic() < give_up
            time.sleep(0.02)
        assert _failure("a block", future) is None


def test_a_queue_is_in_order_and_gives_back_what_it_got_back() -> None:
    queue = _Queue([5, 3, 9])
    assert queue.take(2) == [5, 3]
    assert queue.key("blocks", 5) > queue.key("blocks", 3), "Dask begins at the end of the alphabet"
    first = queue.key("blocks", 3)
    queue.put_back(3, 0.0)
    queue.put_back(5, 60.0)
    assert queue.take(9) == [3, 9]
    assert queue.key("blocks", 3) != first
    assert queue.key("blocks", 3)[-1] == 3
    assert queue, "one still waits"
    assert queue.take(9) == []


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_numbers_are_tried_again_when_their_time_has_come(scheduler: str) -> None:
    tries: list[int] = []
    done: list[int] = []

    def work(shared: list[int], number: int) -> None:
        tries.append(number)
        if number == 2 and tries.count(2) < 3:
            raise OSError("not yet")
        if number == 4:
            raise ValueError("never")

    def failed(number: int, error: Exception) -> float | None:
        return 0.01 if isinstance(error, OSError) else None

    with dask.config.set(scheduler=scheduler, num_workers=2):
        dispatch.dispatch(
            work, [], [1, 2, 3, 4, 5], name="it", client=None, advance=done.append, failed=failed
        )
    assert sorted(done) == [1, 2, 3, 5]
    assert sorted(tries) == [1, 2, 2, 2, 3, 4, 5]


def _nothing(shared: None, number: int) -> None:
    pass


def test_no_more_than_a_window_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "WINDOW", 40)
    counts: list[int] = []
    with (
        LocalCluster(
            n_workers=1, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        dispatch.dispatch(
            _nothing,
            None,
            list(range(120)),
            name="it",
            client=client,
            advance=lambda _: counts.append(len(client.futures)),
            failed=lambda *_: None,
        )
    assert len(counts) == 120
    assert max(counts) <= 40 + 2, "the plan, and the one that is being looked at"
