"""Durable analyses: blocks written one by one to a result store, resumed after any interruption."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slcluster.archive import as_stored, create, open_result, stored_plan
from slcluster.dispatch import announce, check_client, dispatch
from slcluster.errors import StoreError, StorePathError, cannot_write
from slcluster.plan import Plan
from slcluster.progress import Listener, Progress, Step, listener
from slcluster.quarantine import Quarantine
from slcluster.store import subject_digest
from slcluster.store.lease import Lease, check_free
from slcluster.store.result import (
    blocks_done,
    finish_result,
    is_result_finished,
    read_result_attrs,
    sweep_result,
)
from slcluster.store.staging import as_path, refuse_inside_store
from slcluster.task import Work, store_block

__all__ = ["check_out", "drive", "resume"]

log = logging.getLogger("slcluster")

#: How long a network file system may hide from one host what another wrote (NFS: a minute by default).
_VISIBLE_S = 90.0


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
        The cluster dropped the work. Blocks that are done stay done.
    FailedBlocksError
        Blocks failed; names them. The others are done, and going on tries those again.
    """
    check_client(client)
    tell = listener(progress)
    path = check_out(out, resume=resume)
    if os.path.lexists(path):
        plan = as_stored(plan, path)
    else:
        create(plan, path)
    if _is_complete(path):
        return open_result(path)
    _complete(plan, path, client, tell)
    maps = open_result(path)
    if n_unconverged := maps.attrs["n_unconverged"]:
        log.warning(
            "%s: the estimator stopped before it converged in %d of %d fits; %s or standardise",
            plan.subject,
            n_unconverged,
            plan.n_centers * plan.score_shape[1],
            "raise its max_iter" if plan.engine == "sklearn" else "lower its C",
        )
    return maps


def check_out(out: str | Path, *, resume: bool = True, plan: Plan | None = None) -> Path:
    """Refuse a place where no result can be or go on, before anything is made or started for it.

    Parameters
    ----------
    out : path
    resume : bool
        Whether a result that is there may go on.
    plan : Plan, optional
        The analysis that a result there must be of.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    StoreError
        Something else is there, another driver holds it, or nothing can be written there.
    PlanError
        It is of another analysis; names the fields that differ.
    """
    path = as_path(out, "a result store, as out")
    refuse_inside_store(path)
    if not os.path.lexists(path):
        parent = next(folder for folder in path.parents if folder.exists())
        if not parent.is_dir():
            raise cannot_write(path, _os_error(errno.ENOTDIR))
        if not os.access(parent, os.W_OK | os.X_OK):
            is_read_only = os.statvfs(parent).f_flag & os.ST_RDONLY
            raise cannot_write(path, _os_error(errno.EROFS if is_read_only else errno.EACCES))
        return path
    if not resume:
        raise StorePathError(f"{path} exists already; pass resume=True to go on with it, or another out")
    read_result_attrs(path)
    if plan is not None:
        as_stored(plan, path)
    if not _is_complete(path):
        check_free(path)
    return path


def _os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


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

    Examples
    --------
    >>> import tempfile
    >>> from slcluster import searchlight, select, simulate
    >>> ds = select(simulate(shape=(5, 6, 7), n_runs=2, seed=0), conditions=["face", "house"])
    >>> out = tempfile.mkdtemp() + "/out.zarr"
    >>> maps = searchlight(ds, radius_mm=5.6, estimator="gnb", out=out)
    >>> resume(out).identical(maps)  # nothing is left to do
    True
    """
    path = as_path(path, "a result store")
    if _is_complete(path):
        return open_result(path)
    plan = stored_plan(path)
    source = Path(str(plan.source_path))
    if not source.is_dir():
        raise StoreError(
            f"{source}, whose samples {path} is computed from, is gone; bring it back, or open it where it is "
            f"now and call slcluster.searchlight(ds, out={str(path)!r}, ...) with the same arguments"
        )
    if subject_digest(source) != plan.source_digest:
        raise StoreError(
            f"{source} is not the store this analysis began with (its digest differs): it was written again; "
            "bring that one back and resume, or begin again with another out"
        )
    return drive(plan, path, resume=True, client=client, progress=progress)


def _is_complete(path: Path) -> bool:
    """Nothing is left to do. Reads only, so that a finished result opens from where nobody may write."""
    return is_result_finished(path) and bool(blocks_done(path).all())


def _complete(plan: Plan, path: Path, client: Any, tell: Listener) -> None:
    """Hold the store, compute what is missing, mark it finished."""
    with Lease(path) as lease:
        sweep_result(path)
        done = blocks_done(path)
        lease.begin(int(done.sum()))
        store_id = read_result_attrs(path)["store_id"]
        announce(client, store_id, {"path": str(path), "subject": plan.subject})
        try:
            _compute_blocks(plan, path, done, client, tell, lease)
            _see_all_blocks(path)
            finish_result(path)
            sweep_result(path)
        except KeyboardInterrupt as stop:
            stop.add_note(f"Finished blocks are kept; to go on: slcluster resume {path}")
            raise


def _see_all_blocks(path: Path) -> None:
    """Return once every block is seen in the store. Shared file systems show other hosts' files late."""
    deadline = time.monotonic() + _VISIBLE_S
    while not (done := blocks_done(path)).all():
        if time.monotonic() > deadline:
            raise StoreError(
                f"{np.count_nonzero(~done)} blocks were computed but are not in {path}: do all workers see "
                "this folder under this name? Put out on a file system that they share, then resume"
            )
        time.sleep(1.0)


def _compute_blocks(
    plan: Plan, path: Path, done: np.ndarray, client: Any, tell: Listener, lease: Lease
) -> None:
    n_done = int(done.sum())
    quarantine = Quarantine(path, plan.subject, n_blocks=plan.n_blocks, n_done=n_done)

    def report() -> None:
        lease.check()
        note = f"{quarantine.n_failed} failed" if quarantine.n_failed else ""
        tell(Step(f"searchlight {plan.subject}", n_done, plan.n_blocks, "block", note))

    def advance(number: int) -> None:
        nonlocal n_done
        n_done += 1
        quarantine.passed(number)
        report()

    def failed(number: int, error: Exception) -> float | None:
        pause_s = quarantine.failed(number, error)
        report()
        return pause_s

    report()
    pending = [number for number in plan.heaviest_first if not done[number]]
    if pending:
        work = Work(plan, str(path), read_result_attrs(path)["store_id"])
        dispatch(store_block, work, pending, name=plan.subject, client=client, advance=advance, failed=failed)
    quarantine.check()
