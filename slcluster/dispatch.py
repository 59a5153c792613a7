"""Blocks handed to Dask, on a cluster or without one. Knows nothing of what a block is."""

from __future__ import annotations

import math
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.array.core import slices_from_chunks
from dask.callbacks import Callback
from dask.core import flatten
from dask.delayed import delayed

from slcluster.errors import BlockError, InputError, SlclusterError, one_line

__all__ = ["WINDOW", "active_client", "check_client", "dispatch", "gather", "runs_on", "spread"]

#: Tasks handed to a scheduler at a time; more are handed over when half of them are done. A scheduler holds some
#: kB for each task, and a million blocks must not be its memory.
WINDOW = 512

#: Pieces of about this size travel to the workers.
PIECE_BYTES = 32 * 2**20

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
    advance: Callable[[], None],
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
        Called in this thread after each. What it raises stops the work, and so does Ctrl-C: nothing stays on a
        cluster's scheduler then.

    Raises
    ------
    InputError
        The client is closed.
    SlclusterError
        What the function raised.
    BlockError
        A worker died, or the cluster dropped the work; names the number.
    """
    client = client if client is not None else active_client()
    if client is None:
        _through_scheduler(function, shared, numbers, advance)
    else:
        check_client(client)
        _through_client(client, function, shared, numbers, name, advance)


def active_client() -> Any:
    """The distributed client that is active here, if anybody imported distributed at all."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def _through_client(
    client: Any,
    function: Callable[..., None],
    shared: Any,
    numbers: list[int],
    name: str,
    advance: Callable[[], None],
) -> None:
    from distributed import as_completed

    tag = uuid.uuid4().hex[:8]  # keys of earlier, cancelled work must not be mistaken for these
    kept = client.persist(delayed(shared, name=f"plan-{tag}", traverse=False))
    keys = _keys(f"{_NAME}-{tag}", numbers)
    waiting = list(reversed(numbers))
    flying = as_completed([], loop=client.loop)
    turn = 0

    def submit() -> None:
        nonlocal turn
        batch = [waiting.pop() for _ in range(min(WINDOW, len(waiting)))]
        tasks = [_task(function, kept, number, keys[number]) for number in batch]
        turn = max(turn, client.run_on_scheduler(_turn_now))
        priority = {keys[number]: -(turn + place) for place, number in enumerate(batch)}
        turn += len(batch)
        with dask.annotate(priority={kept.key: 0, **priority}.__getitem__, slcluster_run=name):
            flying.update(client.compute(tasks))

    try:
        flying.update(client.futures_of(kept))
        _raise_failure(f"{name}, its plan", next(flying))  # clearer than what blocks without it say
        submit()
        for future in flying:
            _raise_failure(f"{name}, block {future.key[-1]}", future)
            advance()
            if waiting and flying.count() < WINDOW // 2:
                submit()
    finally:
        client.cancel([*flying.futures, kept], force=True)


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


def _raise_failure(name: str, future: Any) -> None:
    """Raise what a future ended with, where it did not end well."""
    from distributed import CancelledError, KilledWorker

    if future.status == "finished":
        return
    try:
        future.result()
    except SlclusterError:
        raise
    except KilledWorker as error:
        raise BlockError(
            f"{name}: the worker at {error.last_worker.address}, and any before it, died computing it, most likely "
            "out of memory; give workers more memory or pass smaller block_centers"
        ) from error
    except CancelledError as error:
        raise BlockError(
            f"{name} was dropped by the cluster ({one_line(error)}); finished blocks are kept, resume when it runs"
        ) from error
    except Exception as error:  # most likely a package that workers lack
        raise BlockError(f"{name}, on the cluster: {type(error).__name__}: {one_line(error)}") from error


def _through_scheduler(
    function: Callable[..., None], shared: Any, numbers: list[int], advance: Callable[[], None]
) -> None:
    kept = delayed(shared, name="plan", traverse=False)
    keys = _keys("searchlight", numbers)

    def posttask(key: Any, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] == "searchlight":
            advance()

    with Callback(posttask=posttask):
        dask.compute(*(_task(function, kept, number, keys[number]) for number in numbers))


def _keys(name: str, numbers: list[int]) -> dict[int, Key]:
    """A key for every block. Dask takes independent tasks from the end of the alphabet: that is the first."""
    return {number: (name, f"{left:09d}", number) for left, number in enumerate(reversed(numbers))}


def _task(function: Callable[..., None], kept: Any, number: int, key: Key) -> Any:
    return delayed(function, name="searchlight", pure=False)(kept, number, dask_key_name=key)


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
            _raise_failure(name, future)
            advance()
        chunks = client.gather(futures)
    finally:
        client.cancel(futures, force=True)
    whole = np.empty(array.shape, array.dtype)
    for part, chunk in zip(slices_from_chunks(array.chunks), chunks, strict=True):
        whole[part] = chunk
    return whole
