"""The searchlight itself: lazy maps, or a durable result store."""

from __future__ import annotations

import difflib
import inspect
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from slcluster.archive import Status, open_result, status
from slcluster.dispatch import check_client
from slcluster.durable import check_out, drive, resume
from slcluster.errors import InputError, SlclusterError
from slcluster.lazy import lazy_maps
from slcluster.plan import Plan
from slcluster.planner import plan as make_plan
from slcluster.progress import Progress, listener
from slcluster.store import subject_digest, write_array_store
from slcluster.store.result import read_result_attrs

__all__ = ["Status", "open_result", "resume", "searchlight", "status"]

log = logging.getLogger("slcluster")


def searchlight(
    ds: xr.Dataset,
    *,
    overlap: bool = False,
    out: str | Path | None = None,
    resume: bool = True,
    client: Any = None,
    progress: Progress = None,
    **options: Any,
) -> xr.Dataset:
    """Map where in the brain conditions can be told apart: one cross-validated estimator a sphere.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject, as :func:`slcluster.open_store` returns it, selected or changed as you like.
    **options
        Everything that :func:`slcluster.plan` takes: ``radius_mm``, ``n_voxels``, ``estimator``, ``cv``, ``scoring``,
        ``process_mask``, ``standardize`` ...
    overlap : bool
        Lazy maps only: cut slabs with ``dask.array.overlap`` instead of reading the store. Same bytes; for
        tests and comparison.
    out : path, optional
        Result store. With it the maps are computed now, block by block, each kept as it finishes; without
        it they are lazy.
    resume : bool
        Go on with a result that ``out`` already holds, if it is of the same analysis.
    client : distributed.Client, optional
        With ``out``: cluster to compute on. Where not given the active client, else Dask's threaded scheduler.
    progress : None, True or callable
        With ``out``: see :func:`slcluster.progress.listener`.

    Returns
    -------
    xarray.Dataset
        ``score (x, y, z)``, or ``(metric, x, y, z)`` for several metrics: unweighted mean over folds, NaN
        where there is no center. ``score_fold (metric, fold, x, y, z)``. ``sphere_size (x, y, z)`` int32.
        ``attrs`` hold every parameter, versions, chance level and class counts. With ``center_spacing`` also
        ``is_center`` and ``fill_mask`` (bool), from which :func:`slcluster.fill_centers` fills the other voxels.

    Raises
    ------
    InputError, GeometryError, DesignError, PlanError
        As :func:`slcluster.plan`, and where ``out`` holds another analysis.
    StoreError
        ``out`` cannot be written or is being computed elsewhere.
    FailedBlocksError
        With ``out``: the estimator failed in some spheres, or blocks took their workers along; names the blocks. The
        others are done, and going on tries these again.
    BlockError
        The cluster dropped the work.

    Examples
    --------
    >>> from slcluster import simulate
    >>> ds = simulate(shape=(7, 8, 9), n_runs=4, seed=0)
    >>> ds = ds.isel(sample=ds.condition != "rest")
    >>> maps = searchlight(ds, radius_mm=5.6)  # nothing is computed yet
    >>> maps.score.dims
    ('x', 'y', 'z')
    """
    _check_names(options)
    planned = make_plan(ds, **options)
    if out is None:
        check_client(client)
        if client is not None:
            raise InputError(
                "client is for a result with out; lazy maps are computed where you compute them: "
                "with client.as_current(): maps.compute()"
            )
        return lazy_maps(planned, ds, overlap=overlap)
    if overlap:
        raise InputError("overlap=True is for lazy maps; leave out the out argument, or overlap")
    if planned.source_path is not None:
        return drive(planned, out, resume=resume, client=client, progress=progress)
    check_client(client)
    tell = listener(progress)
    path = check_out(out, resume=resume)
    planned, is_new = _keep(planned, ds, path)
    try:
        return drive(planned, path, resume=resume, client=client, progress=tell)
    except SlclusterError:
        if is_new and not _is_begun(path, planned):
            shutil.rmtree(str(planned.source_path), ignore_errors=True)
        raise


def _check_names(options: Mapping[str, Any]) -> None:
    """Refuse an option that :func:`slcluster.plan` does not have, in this function's own name."""
    known = list(inspect.signature(searchlight).parameters)
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known[1:])}"
            raise TypeError(f"searchlight() has no argument {name!r}; {hint}")
    if not {"radius_mm", "n_voxels"} & set(options):
        raise TypeError(
            "searchlight() needs radius_mm, the radius of the spheres in millimetres, or n_voxels, the number of "
            "voxels in each"
        )


def _is_begun(path: Path, planned: Plan) -> bool:
    """Whether a result at ``path`` is computed from the plan's source."""
    try:
        return bool(read_result_attrs(path)["source_path"] == planned.source_path)
    except SlclusterError:
        return False


def _keep(planned: Plan, ds: xr.Dataset, out: Path) -> tuple[Plan, bool]:
    """The plan over a store of its own, for a Dataset that no store holds as it is; and whether that is new.

    The store is named after its content: going on with the same values finds it, other values never harm it.
    """
    # A name that no user's store has: whatever else is beside the result is not ours to replace.
    staging = out.with_name(f".{out.name}.samples.staging")
    write_array_store(ds, staging, overwrite=True)
    digest = subject_digest(staging)
    path = out.with_name(f"{out.stem}.source-{digest[:12]}.zarr")
    is_new = not path.exists()
    if is_new:
        staging.rename(path)
    else:
        shutil.rmtree(staging)
    log.warning(
        "%s: this Dataset differs from its store, or has none; its samples are kept in %s",
        planned.subject,
        path,
    )
    identity = {**planned.identity, "store": digest}
    return replace(planned, source_path=str(path), source_digest=digest, identity=identity), is_new


def _signature() -> inspect.Signature:
    """The options spelled out, so that help() and notebooks complete them."""
    own = inspect.signature(searchlight)
    planning = list(inspect.signature(make_plan).parameters.values())[1:]
    first, *rest = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return own.replace(parameters=[first, *planning, *rest])


searchlight.__signature__ = _signature()  # type: ignore[attr-defined]
