"""Blocks handed to Dask, on a cluster or without one. Knows nothing of what a block is."""

from __future__ import annotations

import heapq
import math
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.array.core import slices_from_chunks
from dask.callbacks import Callback
from dask.core import flatten
from dask.delayed import delayed

from slcluster.errors import BlockError, InputError, SlclusterError, WorkerLostError, may_pass, one_line

__all__ = [
    "WINDOW",
    "active_client",
    "announce",
    "announced",
    "check_client",
    "dispatch",
    "gather",
    "runs_on",
    "spread",
]

#: Tasks handed to a scheduler at a time; more are handed over when half of them are done. A scheduler holds some
#: kB for each task, and a million blocks must not be its memory.
WINDOW = 512

#: Pieces of about this size travel to the workers.
PIECE_BYTES = 32 * 2**20

#: Where a scheduler keeps, among its metadata, what it was told of results.
_ANNOUNCED = "slcluster-results"

#: What the keys of blocks begin with.
_NAME = "searchlight"

#: States of tasks that wait for a worker.
_WAITING = ("queued", "no-worker", "waiting")

Key = tuple[str, str, int]


def check_client(client: Any) -> None:
    """Refuse what no work could be handed to.

    Raises
    ------
    InputError
        It is no client of Dask's, or a closed one.
    """
    if client is None:
        return
    if not (hasattr(client, "compute") and hasattr(client, "scheduler_info")):
        raise InputError(f"client must be a distributed.Client, got {client!r}")
    if client.status != "running":
        raise InputError(
            f"the client is {client.status}; pass a distributed.Client that is connected to a cluster"
        )


def dispatch(
    function: Callable[..., None],
    shared: Any,
    numbers: list[int],
    *,
    name: str,
    client: Any,
    advance: Callable[[int], None],
    failed: Callable[[int, Exception], float | None],
) -> None:
    """Call ``function(shared, number)`` for every number, in this order as far as workers are free.

    Parameters
    ----------
    function : callable
        Its result is thrown away: what it makes is in a store.
    shared : object
        Reaches each worker once.
    numbers : list of int
    name : str
        What the work is called in errors: the subject.
    client : distributed.Client or None
        Where None the active client, else Dask's own scheduler (threads unless configured otherwise).
    advance : callable
        Called in this thread with each number that is done. What it raises stops the work, and so does Ctrl-C:
        nothing stays on a cluster's scheduler then.
    failed : callable
        Called in this thread with a number and its error, which is a WorkerLostError where the worker went. Says
        after how many seconds the number is handed out again, or None; what it raises stops the work.

    Raises
    ------
    InputError
        The client is closed.
    BlockError
        The cluster dropped the work, or its workers cannot take it.
    """
    client = client if client is not None else active_client()
    queue = _Queue(numbers)
    if client is None:
        _through_scheduler(function, shared, queue, advance, failed)
    else:
        check_client(client)
        _Flight(client, function, shared, queue, name).land_all(advance, failed)


class _Queue:
    """Numbers that wait for their turn: in order, and those that failed when their time has come."""

    def __init__(self, numbers: list[int]) -> None:
        self._fresh = list(reversed(numbers))
        self._again: list[tuple[float, int]] = []
        # Dask takes independent tasks from the end of the alphabet: that is the first.
        self._rank = {number: rank for rank, number in enumerate(self._fresh)}
        self._tries: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._fresh or self._again)

    def put_back(self, number: int, pause_s: float) -> None:
        heapq.heappush(self._again, (time.monotonic() + pause_s, number))

    def take(self, most: int) -> list[int]:
        """Up to so many numbers whose turn it is."""
        taken: list[int] = []
        while len(taken) < most and self._again and self._again[0][0] <= time.monotonic():
            taken.append(heapq.heappop(self._again)[1])
        while len(taken) < most and self._fresh:
            taken.append(self._fresh.pop())
        self._tries.update(taken)
        return taken

    def wait(self) -> None:
        """Return when there is something to take."""
        if not self._fresh and self._again:
            time.sleep(max(0.0, self._again[0][0] - time.monotonic()))

    def key(self, name: str, number: int) -> Key:
        """A key that no other try of this number has had."""
        return name, f"{self._rank[number]:09d}.{self._tries[number]}", number


def active_client() -> Any:
    """The distributed client that is active here, if anybody imported distributed at all."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def announce(client: Any, key: str, about: dict[str, str]) -> None:
    """Tell a cluster's scheduler of a result, for as long as it runs. Without a cluster nobody is told.

    The scheduler keeps plain data and runs nothing. What goes wrong is left to the work that follows.

    Parameters
    ----------
    client : distributed.Client or None
        As for :func:`dispatch`.
    key : str
        What is told of an earlier result of this key is replaced.
    about : dict of str
    """
    client = client if client is not None else active_client()
    if client is not None:
        with suppress(Exception):
            client.set_metadata([_ANNOUNCED, key], about)


def announced(scheduler: Any) -> dict[str, dict[str, str]]:
    """What was announced to a scheduler, by key. For what runs in its process."""
    return dict(scheduler.get_metadata([_ANNOUNCED], default={}))


class _Flight:
    """Numbers on a cluster, a window of them at a time."""

    def __init__(
        self, client: Any, function: Callable[..., None], shared: Any, queue: _Queue, name: str
    ) -> None:
        from distributed import as_completed

        self._client, self._function, self._shared = client, function, shared
        self._queue, self._name = queue, name
        self._flying = as_completed([], loop=client.loop)
        self._plans: list[Any] = []
        self._turn = 0

    def land_all(
        self, advance: Callable[[int], None], failed: Callable[[int, Exception], float | None]
    ) -> None:
        try:
            self._send_plan()
            while self._queue:
                self._queue.wait()
                self._submit()
                for future in self._flying:
                    number = future.key[-1]
                    error = _failure(f"{self._name}, block {number}", future)
                    if error is None:
                        advance(number)
                    elif (pause_s := failed(number, error)) is not None:
                        self._queue.put_back(number, pause_s)
                    if self._flying.count() < WINDOW // 2:
                        self._submit()
        finally:
            self._client.cancel([*self._flying.futures, *self._plans], force=True)

    def _send_plan(self) -> None:
        from distributed import as_completed

        # Keys of earlier, cancelled work must not be mistaken for these.
        self._tag = uuid.uuid4().hex[:8]
        self._plans.append(
            self._client.persist(delayed(self._shared, name=f"plan-{self._tag}", traverse=False))
        )
        (self._sent,) = self._client.futures_of(self._plans[-1])
        next(as_completed([self._sent], loop=self._client.loop))  # its value need not travel back
        error = _failure(f"{self._name}, its plan", self._sent)  # clearer than what blocks without it say
        if error is not None:
            raise error

    def _submit(self) -> None:
        batch = self._queue.take(WINDOW - self._flying.count())
        if not batch:
            return
        if self._sent.status == "error":  # lost with its workers more often than the scheduler bears
            self._send_plan()
        keys = [self._queue.key(f"{_NAME}-{self._tag}", number) for number in batch]
        tasks = [_task(self._function, key, self._plans[-1]) for key in keys]
        with dask.annotate(priority=self._priorities(keys).__getitem__, slcluster_run=self._name):
            self._flying.update(self._client.compute(tasks))

    def _priorities(self, keys: list[Key]) -> dict[Any, int]:
        """Of tasks, so that runs which share a cluster take turns; the plan goes first."""
        turn = self._turn
        with suppress(OSError):  # a scheduler that has gone shows in what is sent to it
            turn = max(turn, self._client.run_on_scheduler(_turn_now))
        self._turn = turn + len(keys)
        return {
            self._plans[-1].key: 0,
            **{key: -(turn + place) for place, key in enumerate(keys)},
        }


def _turn_now(dask_scheduler: Any) -> int:
    """The turn that blocks are at, on a scheduler that several runs may share.

    A block's turn is its place in its run, counted from the turn that others were at when the run came. Blocks
    are taken in the order of their turns, so that runs go on side by side, block for block: by arrival alone, a
    run would wait for the whole window of those before it. Work of turn 0, which has no place, goes first.
    """
    ours = _blocks_on(dask_scheduler)
    begun = [task.priority[0] for task in ours if task.state == "processing"]
    if begun:
        return int(max(begun))  # the lowest may be a straggler, or a block whose worker died
    return int(min((task.priority[0] for task in ours if task.state in _WAITING), default=0))


def _blocks_on(scheduler: Any) -> list[Any]:
    """Dask's states of the blocks that a scheduler knows, of all runs."""
    return [task for task in scheduler.tasks.values() if task.group_key.startswith(f"{_NAME}-")]


def runs_on(scheduler: Any) -> list[tuple[str, int]]:
    """Runs that a scheduler has blocks of, for what is in its process.

    Returns
    -------
    list of tuple
        What the work is called, and the number of its blocks that were handed over and are not done.
    """
    left = Counter(
        (task.group_key, (task.annotations or {}).get("slcluster_run", "unnamed"))
        for task in _blocks_on(scheduler)
        if task.state in ("processing", *_WAITING)
    )
    return [(name, n_left) for (_, name), n_left in left.items()]


def _failure(name: str, future: Any) -> Exception | None:
    """What a future ended with, where it did not end well.

    Raises
    ------
    BlockError
        The cluster dropped it, or has no workers: nothing else will fare better.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.scheduler import NoValidWorkerError, NoWorkerError

    if future.status == "finished":
        return None
    try:
        # One that was finished and then lost with its worker is done again, in no time where its block is in the
        # store; what counts is how that ends.
        future.result()
        return None
    except SlclusterError as error:
        return error
    except KilledWorker as error:
        return WorkerLostError(
            f"{name}: the worker at {error.last_worker.address}, and any before it, died computing it, most likely "
            "out of memory; give workers more memory, or begin again with smaller block_centers"
        )
    except CancelledError as error:
        raise BlockError(
            f"{name} was dropped by the cluster ({one_line(error)}); finished blocks are kept, resume when it runs"
        ) from error
    except (NoValidWorkerError, NoWorkerError) as error:
        raise BlockError(
            f"{name}: the cluster has no worker that takes work, all are lost or paused for memory "
            f"({one_line(error)}); finished blocks are kept, resume when it has some"
        ) from error
    except Exception as error:  # most likely a package that workers lack
        failure = BlockError(f"{name}, on the cluster: {type(error).__name__}: {one_line(error)}")
        failure.may_pass = may_pass(error)
        failure.__cause__ = error
        return failure


def _through_scheduler(
    function: Callable[..., None],
    shared: Any,
    queue: _Queue,
    advance: Callable[[int], None],
    failed: Callable[[int, Exception], float | None],
) -> None:
    """Round after round: what failed and may pass makes the next one."""

    def posttask(key: Any, error: Exception | None, *_: Any) -> None:
        if not (isinstance(key, tuple) and key[0] == _NAME):
            return
        number = key[-1]
        if error is None:
            advance(number)
        elif (pause_s := failed(number, error)) is not None:
            queue.put_back(number, pause_s)

    kept = delayed(shared, name="plan", traverse=False)
    while queue:
        queue.wait()
        keys = [queue.key(_NAME, number) for number in queue.take(sys.maxsize)]
        with Callback(posttask=posttask):
            dask.compute(*(_task(_caught, key, function, kept) for key in keys))


def _caught(function: Callable[..., None], shared: Any, number: int) -> Exception | None:
    """An error as a result: raised, it would end the other tasks of this scheduler."""
    try:
        function(shared, number)
    except Exception as error:
        return error
    return None


def _task(function: Callable[..., Any], key: Key, *arguments: Any) -> Any:
    return delayed(function, name=_NAME, pure=False)(*arguments, key[-1], dask_key_name=key)


def spread(values: np.ndarray, client: Any) -> da.Array:
    """An array of this process as one whose pieces, cut along the first axis, lie on the workers.

    So that graphs carry keys, not voxels.
    """
    n_pieces = max(math.ceil(values.nbytes / PIECE_BYTES), len(client.nthreads()), 1)
    pieces = np.array_split(values, min(n_pieces, len(values)))
    futures = client.scatter(pieces, hash=False)
    return da.concatenate(
        [
            da.from_delayed(future, piece.shape, piece.dtype)
            for future, piece in zip(futures, pieces, strict=True)
        ]
    )


def gather(array: da.Array, *, name: str, client: Any, advance: Callable[[], None]) -> np.ndarray:
    """A lazy array, computed chunk by chunk: on a client's cluster, or in this thread where there is none.

    Parameters
    ----------
    array : dask.array.Array
    name : str
        What the work is called in errors.
    client : distributed.Client or None
    advance : callable
        Called in this thread after each chunk. What it raises stops the work, and so does Ctrl-C.

    Raises
    ------
    SlclusterError
        What computing a chunk raised.
    BlockError
        A worker died, or the cluster dropped the work.
    """
    if client is None:
        wanted = set(flatten(array.__dask_keys__()))

        def posttask(key: Any, *_: Any) -> None:
            if key in wanted:
                advance()

        with Callback(posttask=posttask):
            return np.asarray(array.compute(scheduler="synchronous"))
    from distributed import as_completed

    futures = client.compute(array.to_delayed().ravel().tolist())
    try:
        for future in as_completed(futures):
            if (error := _failure(name, future)) is not None:
                raise error
            advance()
        chunks = client.gather(futures)
    finally:
        client.cancel(futures, force=True)
    whole = np.empty(array.shape, array.dtype)
    for part, chunk in zip(slices_from_chunks(array.chunks), chunks, strict=True):
        whole[part] = chunk
    return whole
