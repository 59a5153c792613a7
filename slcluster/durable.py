"""Durable analyses: blocks written one by one to a result store, resumed after any interruption."""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
from dask.callbacks import Callback
from dask.delayed import delayed

from slcluster.archive import as_stored, create, open_result, stored_plan
from slcluster.compute import compute_block
from slcluster.errors import BlockError, StoreError
from slcluster.plan import Plan
from slcluster.progress import Progress, Step, listener
from slcluster.store import subject_digest
from slcluster.store.lease import Lease
from slcluster.store.result import blocks_done, finish_result, is_result_finished, sweep_result, write_block

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
        The store exists and ``resume`` is False, is held by another driver, or cannot be written.
    BlockError
        A block failed. Those done stay done.
    """
    path = Path(out).expanduser().resolve()
    if path.exists():
        if not resume:
            raise StoreError(f"{path} exists already; pass resume=True to go on with it, or another out")
        plan = as_stored(plan, path)
    else:
        create(plan, path)
    done = blocks_done(path)
    with Lease(path, int(done.sum())):
        sweep_result(path)
        done = blocks_done(path)  # again: another driver may have worked until the lease was ours
        try:
            _compute_blocks(plan, path, done, client, progress)
        except KeyboardInterrupt as stop:
            stop.add_note(f"Finished blocks are kept; to go on: slcluster resume {path}")
            raise
    if not is_result_finished(path):
        finish_result(path)
    return open_result(path)


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
    plan = stored_plan(path)
    assert plan.source_path is not None
    if subject_digest(plan.source_path) != plan.source_digest:
        raise StoreError(f"{plan.source_path} is not the store this analysis began with; its digest differs")
    return drive(plan, path, resume=True, client=client, progress=progress)


def _store_block(plan: Plan, path: str, number: int) -> tuple[int, int]:
    """The body of one task. Returns the block's number and its count of convergence warnings, no voxels."""
    scores = compute_block(plan, number)
    write_block(path, number, scores._asdict())
    return number, int(scores.n_unconverged.sum())


def _compute_blocks(plan: Plan, path: Path, done: np.ndarray, client: Any, progress: Progress) -> None:
    tell = listener(progress)
    stage = f"searchlight {plan.subject}"
    n_done, n_warned = int(done.sum()), 0
    tell(Step(stage, n_done, plan.n_blocks, "block"))
    pending = [number for number in plan.heaviest_first if not done[number]]
    client = client if client is not None else _active_client()
    finished = (
        _through_client(client, plan, path, pending)
        if client
        else _through_scheduler(plan, path, pending, tell)
    )
    for _, warned in finished:
        n_done, n_warned = n_done + 1, n_warned + warned
        tell(Step(stage, n_done, plan.n_blocks, "block"))
    if n_warned:
        log.warning(
            "%s: the estimator stopped before it converged in %d of %d fits; raise its max_iter or standardise",
            plan.subject,
            n_warned,
            plan.n_centers * len(plan.design.folds.train),
        )


def _active_client() -> Any:
    """The distributed client that is active here, if anybody imported distributed at all."""
    if "distributed" not in sys.modules:
        return None
    from distributed import default_client

    try:
        return default_client()
    except ValueError:
        return None


def _through_client(client: Any, plan: Plan, path: Path, pending: list[int]) -> Iterator[tuple[int, int]]:
    """Blocks as they finish on a cluster, submitted in windows."""
    from distributed import KilledWorker, as_completed

    tag = uuid.uuid4().hex[:8]  # keys of an earlier, cancelled drive must not be mistaken for these
    shared = client.persist(delayed(plan, name=f"plan-{plan.fingerprint[:16]}-{tag}", traverse=False))
    waiting = list(reversed(pending))
    flying = as_completed([])

    def submit() -> None:
        numbers = [waiting.pop() for _ in range(min(_WINDOW, len(waiting)))]
        flying.update(
            client.compute(
                [
                    delayed(_store_block, name="searchlight", pure=False)(
                        shared, str(path), number, dask_key_name=(f"searchlight-{tag}", number)
                    )
                    for number in numbers
                ]
            )
        )

    try:
        if waiting:
            submit()
        for future in flying:
            try:
                result = future.result()
            except KilledWorker as error:
                raise BlockError(
                    f"{plan.subject}, block {future.key[1]}: {error.last_worker} and the workers before it died "
                    "computing it, most likely out of memory; give workers more memory or pass smaller block_centers"
                ) from error
            yield result
            if waiting and flying.count() < _WINDOW // 2:
                submit()
    finally:
        client.cancel(list(flying.futures), force=True)


def _through_scheduler(plan: Plan, path: Path, pending: list[int], tell: Any) -> Iterator[tuple[int, int]]:
    """All blocks through Dask's own scheduler (threads unless configured otherwise), without a cluster."""
    shared = delayed(plan, name=f"plan-{plan.fingerprint[:16]}", traverse=False)
    tasks = [
        delayed(_store_block, name="searchlight", pure=False)(
            shared, str(path), number, dask_key_name=("searchlight", number)
        )
        for number in pending
    ]
    n_before = plan.n_blocks - len(pending)
    seen: list[int] = []

    def posttask(key: Any, result: Any, *_: Any) -> None:
        if isinstance(key, tuple) and key[0] == "searchlight" and len(seen) < len(pending) - 1:
            seen.append(key[1])
            tell(Step(f"searchlight {plan.subject}", n_before + len(seen), plan.n_blocks, "block"))

    with Callback(posttask=posttask):
        yield from dask.compute(*tasks)
