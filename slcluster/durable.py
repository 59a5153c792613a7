"""Durable analyses: blocks written one by one to a result store, resumed after any interruption."""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from dask.callbacks import Callback
from dask.delayed import delayed

from slcluster.archive import as_stored, create, open_result, stored_plan
from slcluster.compute import compute_block
from slcluster.errors import BlockError, SlclusterError, StoreError
from slcluster.plan import Plan
from slcluster.progress import Progress, Step, listener
from slcluster.store import subject_digest
from slcluster.store.digest import DIGEST_NAME
from slcluster.store.lease import Lease
from slcluster.store.result import (
    blocks_done,
    finish_result,
    is_block_done,
    is_result_finished,
    read_result_attrs,
    sweep_result,
    write_block,
)

__all__ = ["drive", "resume"]

log = logging.getLogger("slcluster")

#: Tasks handed to a scheduler at a time, and the number in flight below which more are handed over: a
#: scheduler holds some kB for each task, and a million blocks must not be its memory.
_WINDOW = 512


def drive(plan: Plan, out: str | Path, *, resume: bool, client: Any, progress: Progress) -> xr.Dataset:
    """Compute every block of a plan that is not done in the result store at ``out``, then open it.

    Raises
    ------
    PlanError
        The store holds another analysis; names the fields that differ.
    StoreError
        The store exists and ``resume`` is False, is held by another driver, or cannot be written; or the
        subject store changed meanwhile.
    BlockError
        A block failed. Those done stay done.
    """
    path = Path(out).expanduser().resolve()
    if os.path.lexists(path):
        if not resume:
            raise StoreError(f"{path} exists already; pass resume=True to go on with it, or another out")
        plan = as_stored(plan, path)
    else:
        create(plan, path)
    if _is_complete(path):
        return open_result(path)
    _complete(plan, path, client, progress)
    maps = open_result(path)
    if n_unconverged := maps.attrs["n_unconverged"]:
        log.warning(
            "%s: the estimator stopped before it converged in %d of %d fits; raise its max_iter or standardise",
            plan.subject,
            n_unconverged,
            plan.n_centers * len(plan.design.folds.train),
        )
    return maps


def resume(path: str | Path, *, client: Any = None, progress: Progress = None) -> xr.Dataset:
    """Go on with an unfinished result from its store alone.

    Parameters
    ----------
    path : path
        A result store.
    client : distributed.Client, optional
        As for :func:`slcluster.searchlight`.
    progress : None, True or callable

    Returns
    -------
    xarray.Dataset
        As :func:`open_result`.

    Raises
    ------
    StoreError
        No result there, the subject store has gone or changed, or another driver holds the result.
    InputError
        The analysis used an estimator or scorer of your own, which a store cannot name: call
        :func:`slcluster.searchlight` again with the same arguments instead.
    """
    path = Path(path).expanduser().resolve()
    if _is_complete(path):
        return open_result(path)
    plan = stored_plan(path)
    source = Path(str(plan.source_path))
    if not source.is_dir():
        raise StoreError(
            f"{source}, whose samples {path} is computed from, is gone; bring it back, or open it where it is "
            f"now and call slcluster.searchlight(ds, out={str(path)!r}, ...) with the same arguments"
        )
    _check_source(plan)
    return drive(plan, path, resume=True, client=client, progress=progress)


def _is_complete(path: Path) -> bool:
    """Nothing is left to do. Reads only, so that a finished result opens from where nobody may write."""
    return is_result_finished(path) and bool(blocks_done(path).all())


def _complete(plan: Plan, path: Path, client: Any, progress: Progress) -> None:
    """Hold the store, compute what is missing, mark it finished."""
    with Lease(path) as lease:
        sweep_result(path)
        done = blocks_done(path)
        lease.begin(int(done.sum()))
        try:
            _compute_blocks(plan, path, done, client, progress, lease)
            _check_source(plan)
            finish_result(path)
            sweep_result(path)
        except KeyboardInterrupt as stop:
            stop.add_note(f"Finished blocks are kept; to go on: slcluster resume {path}")
            raise


def _compute_blocks(
    plan: Plan, path: Path, done: np.ndarray, client: Any, progress: Progress, lease: Lease
) -> None:
    tell, n_done = listener(progress), int(done.sum())

    def report() -> None:
        tell(Step(f"searchlight {plan.subject}", n_done, plan.n_blocks, "block"))

    def advance() -> None:
        nonlocal n_done
        n_done += 1
        lease.check()
        report()

    report()
    pending = [number for number in plan.heaviest_first if not done[number]]
    client = client if client is not None else _active_client()
    if not pending:
        return
    if client is None:
        _through_scheduler(plan, path, pending, advance)
    else:
        _through_client(client, plan, path, pending, advance)


def _active_client() -> Any:
    """The distributed client that is active here, if anybody imported distributed at all."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def _store_block(plan: Plan, path: str, store_id: str, number: int) -> None:
    """The body of one task. Nothing travels back: a done block is in the store.

    A scheduler repeats tasks whose worker died after they were done; their blocks are not computed again.
    """
    if is_block_done(path, number):
        return
    try:
        scores = compute_block(plan, number)
    except SlclusterError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise BlockError(f"{plan.subject}, block {number}: {type(error).__name__}: {text}") from error
    _check_source(plan)
    write_block(path, number, scores._asdict(), store_id=store_id)


def _check_source(plan: Plan) -> None:
    """Refuse to go on with a subject store that is another one by now."""
    assert plan.source_path is not None
    path = Path(plan.source_path)
    try:
        about = os.stat(path / DIGEST_NAME)
    except OSError:
        raise StoreError(
            f"the subject store {path} has gone while it was analysed; bring it back and resume"
        ) from None
    if _source_digest(str(path), about.st_ino, about.st_mtime_ns) != plan.source_digest:
        raise StoreError(
            f"the subject store {path} is not the one this analysis began with (its digest differs); "
            "bring that one back and resume, or begin again with another out"
        )


@lru_cache(maxsize=8)
def _source_digest(path: str, inode: int, mtime_ns: int) -> str:
    return subject_digest(path)


def _through_client(
    client: Any, plan: Plan, path: Path, pending: list[int], advance: Callable[[], None]
) -> None:
    """Blocks on a cluster, submitted in windows. Whatever happens, nothing of them stays on the scheduler."""
    from distributed import as_completed

    tag = uuid.uuid4().hex[:8]  # keys of an earlier, cancelled drive must not be mistaken for these
    store_id = read_result_attrs(path)["store_id"]
    shared = client.persist(delayed(plan, name=f"plan-{plan.fingerprint[:16]}-{tag}", traverse=False))
    keys = _keys(f"searchlight-{tag}", pending)
    waiting = list(reversed(pending))
    flying = as_completed([])

    def submit() -> None:
        numbers = [waiting.pop() for _ in range(min(_WINDOW, len(waiting)))]
        tasks = [_task(shared, path, store_id, number, keys[number]) for number in numbers]
        flying.update(client.compute(tasks))

    try:
        submit()
        for future in flying:
            _hold_result(plan, future)
            advance()
            if waiting and flying.count() < _WINDOW // 2:
                submit()
    finally:
        client.cancel([*flying.futures, shared], force=True)


def _hold_result(plan: Plan, future: Any) -> None:
    """Raise what a future ended with, where it did not end well."""
    from distributed import CancelledError, KilledWorker

    try:
        future.result()
    except KilledWorker as error:
        raise BlockError(
            f"{plan.subject}, block {future.key[-1]}: {error.last_worker} and the workers before it died "
            "computing it, most likely out of memory; give workers more memory or pass smaller block_centers"
        ) from error
    except CancelledError as error:
        raise BlockError(
            f"{plan.subject}, block {future.key[-1]}: the cluster dropped it (its scheduler has stopped, or somebody "
            "cancelled it); finished blocks are kept, resume on a running cluster"
        ) from error


def _through_scheduler(plan: Plan, path: Path, pending: list[int], advance: Callable[[], None]) -> None:
    """All blocks through Dask's own scheduler (threads unless configured otherwise), without a cluster."""
    store_id = read_result_attrs(path)["store_id"]
    shared = delayed(plan, name=f"plan-{plan.fingerprint[:16]}", traverse=False)
    keys = _keys("searchlight", pending)
    tasks = [_task(shared, path, store_id, number, keys[number]) for number in pending]

    def posttask(key: Any, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] == "searchlight":
            advance()

    with Callback(posttask=posttask):
        dask.compute(*tasks)


def _keys(name: str, pending: list[int]) -> dict[int, tuple[str, str, int]]:
    """A key for every block. Dask takes independent tasks from the end of the alphabet: that is the first."""
    return {number: (name, f"{left:09d}", number) for left, number in enumerate(reversed(pending))}


def _task(shared: Any, path: Path, store_id: str, number: int, key: tuple[str, str, int]) -> Any:
    make = delayed(_store_block, name="searchlight", pure=False)
    return make(shared, str(path), store_id, number, dask_key_name=key)
