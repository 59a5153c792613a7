"""The body of one task: a block computed and written, on whatever worker it came to.

A block that took a worker along is computed alone in its process, and in parts: then another death is its own,
and so is the memory. Parts are the same centers from smaller slabs, which give the same bytes.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from slcluster.compute import compute_block
from slcluster.errors import BlockError, ChunkError, SlclusterError, may_pass, one_line
from slcluster.plan import Plan
from slcluster.store.attempts import attempting, n_lost
from slcluster.store.notes import note_block
from slcluster.store.result import is_block_done, write_block

__all__ = ["MAX_LOST", "Work", "store_block"]

log = logging.getLogger("slcluster")

#: Workers that a block may take along before it is given up: as many as Dask bears.
MAX_LOST = 4

#: Into how many parts a block is cut for each time that it met the memory limit.
_CUT = 4


class Work(NamedTuple):
    """What every task needs; reaches each worker once."""

    plan: Plan
    path: str
    store_id: str


class _Gate:
    """Lets blocks into this process side by side, and one that asks for it alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._n_inside = 0
        self._is_closed = False

    @contextmanager
    def passed(self, *, alone: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            # Closed before the others have left, or those that come after them would never let this one in.
            self._is_closed = alone
            if alone:
                self._changed.wait_for(lambda: self._n_inside == 0)
            self._n_inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._n_inside -= 1
                self._is_closed &= not alone
                self._changed.notify_all()


_GATE = _Gate()


def store_block(work: Work, number: int) -> None:
    """Compute a block and write it. Nothing travels back: a done block is in the store.

    A scheduler repeats tasks whose worker died after they were done; their blocks are not computed again.

    Raises
    ------
    BlockError
        The block cannot be computed; names it. ``may_pass`` where another try may help.
    StoreError
        The subject store was written again, or the result cannot be written: no other block would fare better.
    """
    try:
        _store(work, number)
    except ChunkError as error:
        raise _failed(work.plan, number, error) from error
    except SlclusterError:
        raise
    except Exception as error:
        raise _failed(work.plan, number, error) from error


def _store(work: Work, number: int) -> None:
    plan, path, store_id = work
    if is_block_done(path, number):
        return
    n_centers, lost = len(plan.block(number)), n_lost(path, number)
    if lost >= MAX_LOST:
        n_parts = min(_CUT ** (lost - 1), n_centers)
        raise BlockError(
            f"{plan.subject}, block {number}: the {lost} workers that computed it died, the last one with the "
            f"block in {n_parts} parts: it needs more memory than a worker has, or its estimator ends the process"
        )
    n_parts = min(_CUT**lost, n_centers)
    began = time.monotonic()
    while True:
        try:
            with _GATE.passed(alone=lost > 0 or n_parts > 1), attempting(path, number):
                scores = compute_block(plan, number, n_parts=n_parts)
                write_block(path, number, scores._asdict(), store_id=store_id)
            note_block(path, number, worker=_worker_name(), seconds=time.monotonic() - began)
            return
        except MemoryError:
            if n_parts == n_centers:
                raise
            n_parts = min(_CUT * n_parts, n_centers)
        gc.collect()  # the error and its frames hold each other, and with them the slab
        log.warning("%s, block %d: out of memory; trying again in %d parts", plan.subject, number, n_parts)


def _worker_name() -> str:
    """What the cluster calls the worker that this task runs on; the process where it runs on none."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        with suppress(ValueError):
            return str(get_worker().name)
    return f"process {os.getpid()}"


def _failed(plan: Plan, number: int, error: Exception) -> BlockError:
    kind = "" if isinstance(error, SlclusterError) else f"{type(error).__name__}: "
    failure = BlockError(f"{plan.subject}, block {number}: {kind}{one_line(error)}")
    failure.may_pass = may_pass(error)
    return failure
