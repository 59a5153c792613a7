"""Reading subject stores: as an Xarray Dataset, a selection of its samples, or one window of voxels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from slcluster.errors import DesignError, InputError, StoreError
from slcluster.schema import BRICK_VOXELS, OPEN_CHUNK_BYTES, SCHEMA_VERSION, SUBJECT, validate
from slcluster.store.digest import DIGEST_NAME, check_digest

__all__ = ["check_subject_store", "open_store", "read_window", "select"]

_SMALL = ("mask", "mean", "nonfinite")
Window = tuple[slice, slice, slice]


def open_store(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a subject store.

    Parameters
    ----------
    path : path
        Folder that :func:`slcluster.ingest` wrote.

    Returns
    -------
    xarray.Dataset
        ``bold`` (x, y, z, sample) is lazy, in Dask chunks of all samples times a cube of voxels near 64 MB;
        everything else is in memory. Scaled integers are decoded to float64.

    Raises
    ------
    StoreError
        If the folder is missing, not a subject store, of a newer schema, was cut off in ingest, or its
        metadata or the size of a file changed since it was written.

    Examples
    --------
    >>> import tempfile, slcluster
    >>> ds = slcluster.subject_dataset(np.zeros((4, 3, 2, 5), "f4"), affine=np.eye(4))
    >>> path = slcluster.store.write_array_store(ds, tempfile.mkdtemp() + "/sub-01.zarr")
    >>> dict(open_store(path).sizes)["sample"]
    5
    """
    root = Path(path).expanduser().resolve()
    check_subject_store(root)
    try:
        bold = zarr.open_array(root / "bold", mode="r")
        ds = xr.open_zarr(root, chunks=open_chunks(bold), consolidated=True)
        eager = [name for name in ds.variables if name != "bold"]
        ds = ds.assign({name: ds[name].load() for name in eager if name in ds.data_vars}).assign_coords(
            {name: ds[name].load() for name in eager if name in ds.coords}
        )
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"cannot open {root}: {one_line(error)}") from error
    return validate(ds, SUBJECT)


def check_subject_store(root: Path) -> str:
    """Digest of the finished subject store at ``root``; StoreError where there is none."""
    if not root.is_dir():
        raise StoreError(f"no store at {root}: write one with slcluster.ingest(bold, store, mask=...)")
    attrs = _root_attrs(root)
    kind, version = attrs.get("slcluster"), attrs.get("schema_version", 0)
    if isinstance(version, int) and kind and version > SCHEMA_VERSION:
        raise StoreError(
            f"{root} has schema version {version}, this slcluster knows {SCHEMA_VERSION}; upgrade slcluster"
        )
    if not kind and not (root / DIGEST_NAME).is_file():
        raise StoreError(f"{root} is not a slcluster store; expected a folder that slcluster.ingest wrote")
    digest = check_digest(root)
    if kind != SUBJECT.kind:
        raise StoreError(f"{root} is not a subject store but {kind!r}; expected what slcluster.ingest wrote")
    return digest


def is_ours(root: Path) -> bool:
    """Whether ``root`` is a store of this package, finished or not."""
    return bool(_root_attrs(root).get("slcluster")) or (root / DIGEST_NAME).is_file()


def _root_attrs(root: Path) -> dict[str, Any]:
    """Attributes of the root group; empty where there is no readable group."""
    try:
        return dict(zarr.open_group(root, mode="r", zarr_format=3).attrs)
    except Exception:
        # Whatever zarr makes of a foreign or damaged file, the callers' answer is the same: not ours.
        return {}


def open_chunks(bold: zarr.Array[Any]) -> dict[str, int]:
    """Dask chunks: all samples, times bricks joined axis by axis while they stay near 64 MB."""
    *grid, n_samples = bold.shape
    brick = bold.chunks[:3]
    itemsize = 8 if "scale_factor" in bold.attrs else bold.dtype.itemsize
    size = [min(b, g) for b, g in zip(brick, grid, strict=True)]
    step = True
    while step:
        step = False
        for axis in sorted(range(3), key=lambda a: size[a]):
            wider = min(size[axis] + brick[axis], grid[axis])
            grown = [*size[:axis], wider, *size[axis + 1 :]]
            if wider > size[axis] and np.prod(grown) * n_samples * itemsize <= OPEN_CHUNK_BYTES * 1.1:
                size, step = grown, True
                break
    return {"x": size[0], "y": size[1], "z": size[2], "sample": -1}


def select(
    ds: xr.Dataset,
    *,
    conditions: Sequence[str] | None = None,
    runs: Sequence[int] | None = None,
    where: Any = None,
) -> xr.Dataset:
    """Keep some samples of a subject.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject, from :func:`open_store` or :func:`slcluster.subject_dataset`.
    conditions : sequence of str, optional
        Conditions to keep.
    runs : sequence of int, optional
        Runs to keep.
    where : array of bool, shape (n_samples,), optional
        Samples to keep. All that is given must hold.

    Returns
    -------
    xarray.Dataset
        The samples in their old order.

    Raises
    ------
    DesignError
        If a condition or a run does not occur, or no sample is left.

    Examples
    --------
    >>> from slcluster import subject_dataset
    >>> ds = subject_dataset(np.zeros((2, 3, 4, 3)), affine=np.eye(4), condition=["face", "rest", "house"])
    >>> select(ds, conditions=["face", "house"])["sample_index"].values.tolist()
    [0, 2]
    """
    from slcluster.store.lineage import take_samples

    validate(ds, SUBJECT)
    keep = np.ones(ds.sizes["sample"], bool)
    if conditions is not None:
        keep &= _occurring(ds, "condition", [conditions] if isinstance(conditions, str) else conditions)
    if runs is not None:
        keep &= _occurring(ds, "run", [runs] if np.ndim(runs) == 0 else runs)
    if where is not None:
        keep &= _as_keep(where, len(keep))
    if not keep.any():
        raise DesignError("no sample is left: conditions, runs and where exclude each other")
    return take_samples(ds, np.flatnonzero(keep))


def _occurring(ds: xr.Dataset, name: str, wanted: Sequence[Any]) -> np.ndarray:
    values = np.asarray(ds[name].values)
    values = values.astype(object) if name == "condition" else values
    there = sorted(set(values.tolist()))
    unknown = [item for item in wanted if item not in there]
    if unknown or not len(wanted):
        asked = ", ".join(map(repr, unknown)) or "an empty list"
        raise DesignError(f"{name} {asked} does not occur; those that do: {', '.join(map(repr, there))}")
    return np.isin(values, np.array(list(wanted), dtype=values.dtype))


def _as_keep(where: Any, n_samples: int) -> np.ndarray:
    keep = np.asarray(where)
    if keep.dtype != bool or keep.shape != (n_samples,):
        raise InputError(
            f"where must be {n_samples} booleans, one per sample; got dtype {keep.dtype}, shape {keep.shape}"
        )
    return keep


def read_window(
    path: str | os.PathLike[str], window: Window, samples: slice | None = None
) -> np.ndarray:
    """Read the voxels of one box straight from a store, without Xarray or Dask.

    Parameters
    ----------
    path : path
        A finished subject store. It is not checked again: :func:`open_store` did.
    window : tuple of 3 slices
        Voxel ranges along x, y and z.
    samples : slice, optional
        Range of samples; all where not given.

    Returns
    -------
    numpy.ndarray
        Shape (nx, ny, nz, n_samples). Raw integers where the store is unscaled, float64 where it is scaled,
        else the store's float dtype.

    Raises
    ------
    StoreError
        If a chunk is damaged or cannot be read.
    """
    try:
        bold, scale, offset = _bold(os.fspath(path))
        values = np.asarray(bold[(*window, samples if samples is not None else slice(None))])
    except Exception as error:
        # zarr raises ValueError, RuntimeError or OSError, as the codec that notices the damage pleases.
        raise StoreError(f"cannot read voxels {window} of {path}: {one_line(error)}") from error
    if scale is None:
        return values
    decoded = values.astype(np.float64)
    decoded *= scale
    decoded += offset
    return decoded


@lru_cache(maxsize=64)
def _bold(path: str) -> tuple[zarr.Array[Any], float | None, float]:
    bold = zarr.open_array(Path(path) / "bold", mode="r")
    scale = bold.attrs.get("scale_factor")
    return bold, scale if scale is None else float(scale), float(bold.attrs.get("add_offset", 0.0))


def one_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def consolidate(root: Path) -> None:
    """Consolidate metadata; zarr warns that format 3 does not standardise it yet, xarray reads it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(root, zarr_format=3)
