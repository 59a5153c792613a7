"""Lazy maps: Dask arrays whose chunks are blocks of a regular grid. A slice computes only its blocks."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed

from slcluster.blocks import Window, centers_in, grid_chunks
from slcluster.compute import read_slab, score_centers
from slcluster.filling import mark_centers
from slcluster.maps import maps_dataset, over_folds, plan_attrs, scatter
from slcluster.plan import Plan
from slcluster.store import open_store

__all__ = ["lazy_maps"]

Chunks = tuple[tuple[int, ...], ...]


def lazy_maps(plan: Plan, ds: xr.Dataset, *, overlap: bool) -> xr.Dataset:
    """The maps of a plan, computed when asked for.

    Parameters
    ----------
    plan : Plan
    ds : xarray.Dataset
        What was planned. Its ``bold`` is used only where it is not, or not only, in a store.
    overlap : bool
        Cut slabs with ``dask.array.overlap`` from the array of ``ds``, even where the store could be read.

    Returns
    -------
    xarray.Dataset
        Dask-backed ``score`` and ``score_fold``; ``sphere_size`` is in memory.
    """
    # One key holds the plan; every block depends on it, so it reaches each worker once.
    shared = delayed(plan, name=f"plan-{plan.fingerprint[:16]}", traverse=False)
    if overlap or plan.source_path is None:
        folds = _from_array(plan, shared, ds)
    else:
        folds = _from_store(plan, shared)
    mean = da.map_blocks(
        over_folds, folds, plan.layout, drop_axis=4, dtype=np.float64, token="searchlight-mean"
    )
    size = scatter(plan.geometry.centers_ijk, plan.geometry.sphere_size, plan.geometry.shape, 0)
    maps = maps_dataset(
        mean.transpose(3, 0, 1, 2),
        folds.transpose(3, 4, 0, 1, 2),
        size,
        layout=plan.layout,
        is_measure=plan.is_measure,
        axes=dict(zip("xyz", plan.geometry.axes, strict=True)),
        affine=ds["affine"].values,
        attrs=plan_attrs(plan),
    )
    return mark_centers(maps, plan.geometry.process_mask, plan.geometry.fill_mask)


def _from_store(plan: Plan, shared: Any) -> da.Array:
    """(x, y, z, metric, fold), one task a grid block; each reads its own slab from the store."""
    chunks = grid_chunks(plan.geometry.shape, plan.geometry.centers_ijk, plan.block_centers)
    return da.map_blocks(
        _block_from_store,
        shared,
        chunks,
        chunks=(*chunks, *((size,) for size in plan.score_shape)),
        dtype=np.float64,
        meta=np.empty((0,) * 5),
        name=f"searchlight-{plan.fingerprint[:16]}-{'-'.join(str(len(c)) for c in chunks)}",
    )


def _block_from_store(plan: Plan, chunks: Chunks, block_id: tuple[int, ...]) -> np.ndarray:
    cell = _cell(chunks, block_id)
    centers = centers_in(plan.geometry.process_mask, cell)
    if not len(centers):
        return _score_cell(plan, centers, None, cell, cell)
    window = plan.geometry.window(centers)
    return _score_cell(plan, centers, read_slab(plan, window), window, cell)


def _from_array(plan: Plan, shared: Any, ds: xr.Dataset) -> da.Array:
    """The same array by another road: Dask moves the halo between chunks of the Dataset's own array."""
    shape = plan.geometry.shape
    i, j, k = (min(halo, size - 1) for halo, size in zip(plan.geometry.halo, shape, strict=True))
    depth = (i, j, k)
    chunks = grid_chunks(shape, plan.geometry.centers_ijk, plan.block_centers, at_least=depth)
    bold = ds["bold"].data if plan.source_path is None else open_store(plan.source_path)["bold"].data
    bold = da.asarray(bold)[..., plan.design.read_span(plan.detrend)].rechunk((*chunks, -1))
    padded = da.overlap.overlap(bold, depth={0: i, 1: j, 2: k, 3: 0}, boundary="none", allow_rechunk=False)
    return da.map_blocks(
        _block_from_overlap,
        padded,
        shared,
        chunks,
        depth,
        drop_axis=3,
        new_axis=[3, 4],
        chunks=(*chunks, *((size,) for size in plan.score_shape)),
        dtype=np.float64,
        meta=np.empty((0,) * 5),
        token="searchlight-overlap",
    )


def _block_from_overlap(
    slab: np.ndarray, plan: Plan, chunks: Chunks, depth: tuple[int, int, int], block_id: tuple[int, ...]
) -> np.ndarray:
    cell = _cell(chunks, block_id)
    i, j, k = (
        slice(max(0, part.start - d), min(size, part.stop + d))
        for part, d, size in zip(cell, depth, plan.geometry.shape, strict=True)
    )
    return _score_cell(plan, centers_in(plan.geometry.process_mask, cell), slab, (i, j, k), cell)


def _score_cell(
    plan: Plan, centers: np.ndarray, slab: np.ndarray | None, window: Window, cell: Window
) -> np.ndarray:
    """Scores of one grid cell: float64 (x, y, z, metric, fold), NaN where there is no center."""
    shape = tuple(part.stop - part.start for part in cell)
    full = np.full((*shape, *plan.score_shape), np.nan)
    if slab is None or not len(centers):
        return full
    found = score_centers(plan, centers, slab, window, name=f"block at {[part.start for part in cell]}")
    i, j, k = (centers - [part.start for part in cell]).T
    full[i, j, k] = found.score
    return full


def _cell(chunks: Chunks, block_id: tuple[int, ...]) -> Window:
    edges = [np.cumsum((0, *sizes)) for sizes in chunks]
    i, j, k = (slice(int(edge[n]), int(edge[n + 1])) for edge, n in zip(edges, block_id, strict=False))
    return i, j, k
