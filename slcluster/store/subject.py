"""Reading subject stores: as an Xarray Dataset, a selection of its samples, or one window of voxels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from slcluster.errors import ChunkError, DesignError, InputError, StoreError, may_pass, one_line
from slcluster.schema import OPEN_CHUNK_BYTES, SUBJECT, space_coords, validate
from slcluster.store.digest import DIGEST_NAME, check_files
from slcluster.store.metadata import check_subject_store

__all__ = ["check_unchanged", "open_store", "read_window", "select"]

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
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"expected the path of a subject store, got {path!r}")
    root = Path(path).expanduser().resolve()
    digest = check_subject_store(root)
    try:
        # The old format would bring codecs that nobody has looked at.
        bold = zarr.open_array(root / "bold", mode="r", zarr_format=3)
        small = xr.open_zarr(root, chunks=None, drop_variables=["bold"], zarr_format=3).load()
        # The other variables have chunks of their own, which those of bold would cut.
        lazy = xr.open_zarr(
            root, chunks=_open_chunks(bold), drop_variables=list(small.variables), zarr_format=3
        )
        ds = xr.Dataset({"bold": lazy["bold"].variable, **small.data_vars}, small.coords, small.attrs)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise StoreError(f"cannot open {root}: {one_line(error)}") from error
    # Fixed width: what users hand on (scikit-learn, astype) does not know NumPy's variable-width text.
    text = {name: column for name, column in ds.coords.items() if column.dtype.kind == "T"}
    ds = ds.assign_coords(
        {name: column.copy(data=np.array(column.values.tolist(), str)) for name, column in text.items()}
    )
    # The digest tells a store that was written again, at the same path, from the one opened here.
    ds.encoding = {**lazy.encoding, "digest": digest}
    ds = ds.assign_coords(space_coords(ds["affine"].values, ds.attrs))
    return validate(ds, SUBJECT)


def _open_chunks(bold: zarr.Array[Any]) -> dict[str, int]:
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
    if name == "condition":  # kept as text, also where the labels were numbers
        wanted = [str(item) for item in wanted]
    unknown = [item for item in wanted if item not in there]
    if not len(wanted):
        raise DesignError(f"{name}s is empty; name some of {', '.join(map(repr, there))}, or leave it out")
    if unknown:
        asked = ", ".join(map(repr, unknown))
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
    path: str | os.PathLike[str],
    window: Window,
    samples: slice | None = None,
    *,
    digest: str | None = None,
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
    digest : str, optional
        Of the store that is meant (:func:`slcluster.store.subject_digest`).

    Returns
    -------
    numpy.ndarray
        Shape (nx, ny, nz, n_samples). Raw integers where the store is unscaled, float64 where it is scaled,
        else the store's float dtype.

    Raises
    ------
    StoreError
        If the store is another one than was meant, or has gone; ChunkError if a chunk is damaged or lost, or
        cannot be read. ``may_pass`` where it is the disk or the network that failed.
    """
    name = os.fspath(path)
    try:
        made = _made(path)
        bold, scale, offset = _bold(name, *made)
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable(StoreError, path, window, error) from error
    try:
        values = np.asarray(bold[(*window, samples if samples is not None else slice(None))])
    except MemoryError:
        raise
    except Exception as error:
        # zarr raises ValueError, RuntimeError or OSError, as the codec that notices the damage pleases.
        raise _unreadable(ChunkError, path, window, error) from error
    try:
        # Written again while it was read: voxels of two stores, or zeros in between.
        is_meant = (digest is None or _digest(name, *made) == digest) and _made(path) == made
    except MemoryError:
        raise
    except Exception as error:
        raise _unreadable(StoreError, path, window, error) from error
    if not is_meant:
        raise StoreError(
            f"{path} is not the store this analysis began with (its digest differs): it was written again; "
            "bring that one back and resume, or begin again"
        )
    check_files(path, "bold/")  # to zarr a lost shard is zeros
    if scale is None:
        return values
    decoded = values.astype(np.float64)
    decoded *= scale
    decoded += offset
    return decoded


def _unreadable(
    kind: type[StoreError], path: str | os.PathLike[str], window: Window, error: Exception
) -> StoreError:
    failure = kind(f"cannot read voxels {window} of {path}: {one_line(error)}")
    failure.may_pass = may_pass(error)
    return failure


def check_unchanged(path: str | os.PathLike[str], digest: str) -> None:
    """Make sure that a store is the one that was opened.

    Raises
    ------
    StoreError
        It was written again since, or is gone.
    """
    try:
        is_same = _digest(os.fspath(path), *_made(path)) == digest
    except OSError as error:
        raise StoreError(f"cannot read {path}: {one_line(error)}") from error
    if not is_same:
        raise StoreError(f"{path} was written again since this Dataset was opened; open it again")


def _made(path: str | os.PathLike[str]) -> tuple[int, int]:
    """What tells a store from one written again at its place: inode and time of its last file."""
    status = os.stat(Path(path) / DIGEST_NAME)
    return status.st_ino, status.st_mtime_ns


@lru_cache(maxsize=64)
def _digest(path: str, inode: int, mtime_ns: int) -> str:
    return check_subject_store(Path(path))


@lru_cache(maxsize=64)
def _bold(path: str, inode: int, mtime_ns: int) -> tuple[zarr.Array[Any], float | None, float]:
    """The array and its scale, opened once a process. A store written again has another inode and time."""
    bold = zarr.open_array(Path(path) / "bold", mode="r", zarr_format=3)
    attrs: dict[str, Any] = dict(bold.attrs)
    return bold, attrs.get("scale_factor"), attrs.get("add_offset", 0.0)
