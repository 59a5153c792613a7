"""Blocks handed to Dask, on a cluster or without one. Knows nothing of what a block is."""

from __future__ import annotations

import math
import os
import sys
import uuid
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

from slcluster.errors import BlockError, InputError, SlclusterError, one_line

__all__ = [
    "WINDOW",
    "active_client",
    "announce",
    "announced",
    "check_client",
    "dispatch",
    "gather",
    "spread",
    "worker_name",
]

#: Tasks handed to a scheduler at a time; more are handed over when half of them are done. A scheduler holds some
#: kB for each task, and a million blocks must not be its memory.
WINDOW = 512

#: Pieces of about this size travel to the workers.
PIECE_BYTES = 32 * 2**20

#: Where a scheduler keeps, among its metadata, what it was told of results.
_ANNOUNCED = "slcluster-results"

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


def worker_name() -> str:
    """What the cluster calls the worker that this task runs on; the process where it runs on none."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        with suppress(ValueError):
            return str(get_worker().name)
    return f"process {os.getpid()}"


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
    keys = _keys(f"searchlight-{tag}", numbers)
    waiting = list(reversed(numbers))
    flying = as_completed([], loop=client.loop)

    def submit() -> None:
        batch = [waiting.pop() for _ in range(min(WINDOW, len(waiting)))]
        flying.update(client.compute([_task(function, kept, number, keys[number]) for number in batch]))

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
