"""Whether a Dataset still holds what its store holds, and where.

Attributes and encoding survive arithmetic, so they prove nothing. Dask's name of ``bold`` does: it is the
same on reopening the same store and applying the same selection, and another after any change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slcluster.errors import InputError, StoreError
from slcluster.store.subject import open_store

__all__ = ["Source", "check_whole_runs", "open_source", "source_of", "take_samples"]

_MAX_STEP = 32


@dataclass(frozen=True)
class Source:
    """A finished subject store that a Dataset's samples can be read from.

    Attributes
    ----------
    path : str
        Absolute path of the store.
    digest : str
        SHA-256 of its metadata.
    shape : tuple of 4 ints
        (nx, ny, nz, n_samples) of the whole store.
    dtype : str
        Dtype of the decoded ``bold``.
    n_samples : int
        Samples in the store, selected or not.
    """

    path: str
    digest: str
    shape: tuple[int, int, int, int]
    dtype: str
    n_samples: int


def open_source(source: Source) -> xr.Dataset:
    """Reopen all samples of a source.

    Parameters
    ----------
    source : Source
        From :func:`source_of`.

    Returns
    -------
    xarray.Dataset
        As :func:`slcluster.open_store` gives it.

    Raises
    ------
    StoreError
        If the store cannot be opened, or is another one by now.
    """
    ds = open_store(source.path)
    if ds.encoding["digest"] != source.digest:
        raise StoreError(f"{source.path} was written again since this Dataset was opened; open it again")
    return ds


def source_of(ds: xr.Dataset) -> Source | None:
    """The store whose ``bold``, at ``sample_index``, is exactly the ``bold`` of ``ds``.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject. ``condition`` and ``run`` may have been replaced: they are read from ``ds``.

    Returns
    -------
    Source or None
        None where the voxels or the order of samples were changed, or nothing is on disk.

    Raises
    ------
    StoreError
        If the store was written again since ``ds`` was opened.

    Examples
    --------
    >>> from slcluster import subject_dataset
    >>> source_of(subject_dataset(np.zeros((2, 3, 4, 5)), affine=np.eye(4))) is None
    True
    """
    found = _intact(ds)
    if found is None:
        return None
    reopened = found[0]
    bold = reopened["bold"]
    path, digest = reopened.encoding["source"], reopened.encoding["digest"]
    nx, ny, nz, n_samples = bold.shape
    return Source(path, digest, (nx, ny, nz, n_samples), str(bold.dtype), n_samples)


def check_whole_runs(ds: xr.Dataset) -> None:
    """Refuse to detrend what is left of a run whose other samples cannot be read.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject without a :class:`Source`: changed after opening, or in memory.

    Raises
    ------
    InputError
        Samples of a run are missing; names the run.
    """
    index, runs = np.asarray(ds["sample_index"].values), np.asarray(ds["run"].values)
    before = _runs_on_disk(ds)
    for run in np.unique(runs).tolist():
        own = np.sort(index[runs == run])
        first, last = int(own[0]), int(own[-1])
        is_cut = before is not None and (
            (first > 0 and before[first - 1] == before[first])
            or (last + 1 < len(before) and before[last + 1] == before[last])
        )
        if is_cut or last - first + 1 > len(own):
            raise InputError(
                f"detrend=True fits a line to whole runs, but of run {run} only {len(own)} samples are here, and "
                "this Dataset was changed after opening (or has no store) so that the others cannot be read; "
                "select samples last: detrend an unchanged selection of a store, or the whole runs before you "
                "choose samples of them"
            )


def _runs_on_disk(ds: xr.Dataset) -> np.ndarray | None:
    """The run of every sample of the store that ``ds`` was opened from, where it still fits."""
    path = ds.encoding.get("source")
    if not isinstance(path, str) or not Path(path).is_dir():
        return None
    try:
        runs = np.asarray(open_store(path)["run"].values)
    except StoreError:
        return None
    return runs if len(runs) > int(ds["sample_index"].values.max()) else None


def take_samples(ds: xr.Dataset, positions: np.ndarray) -> xr.Dataset:
    """Samples at ``positions``, so that lineage survives a chain of selections.

    Dask names a selection of a selection after both. Taking the composed positions from the reopened store
    gives the name that :func:`source_of` compares with.
    """
    taken = ds.isel(sample=positions)
    found = _intact(ds)
    if found is None:
        return taken
    reopened, index = found
    bold = reopened["bold"].variable.isel(sample=index[positions])
    # Not the DataArray: assigning one would align coordinates, and those of ds may have been replaced.
    return taken.assign(bold=(bold.dims, bold.data, ds["bold"].attrs, ds["bold"].encoding))


def _intact(ds: xr.Dataset) -> tuple[xr.Dataset, np.ndarray] | None:
    """The reopened store and the positions in it, where ``ds`` holds nothing else."""
    path, name = ds.encoding.get("source"), getattr(ds["bold"].data, "name", None)
    if not isinstance(path, str) or name is None or not Path(path).is_dir():
        return None
    try:
        reopened = open_store(path)
    except StoreError:
        return None
    if ds.encoding.get("digest", reopened.encoding["digest"]) != reopened.encoding["digest"]:
        # Its lazy voxels would be the new store's, its labels the old one's.
        raise StoreError(f"{path} was written again since this Dataset was opened; open it again")
    index = np.asarray(ds["sample_index"].values)
    n_samples = reopened.sizes["sample"]
    if index.dtype.kind != "i" or index.ndim != 1 or (index < 0).any() or (index >= n_samples).any():
        return None
    if any(_name(reopened, candidate) == name for candidate in _candidates(index, n_samples)):
        return reopened, index
    return None


def _name(reopened: xr.Dataset, indexer: Any) -> str:
    bold = reopened["bold"].variable
    return str((bold if indexer is None else bold.isel(sample=indexer)).data.name)


def _candidates(index: np.ndarray, n_samples: int) -> Iterator[Any]:
    """The ways of writing one selection, each of which Dask names differently."""
    if np.array_equal(index, np.arange(n_samples)):
        yield None
    yield index
    steps = np.diff(index)
    step = int(steps[0]) if len(steps) else 1
    if len(index) and 0 < step <= _MAX_STEP and (steps == step).all():
        # Dask keeps the stop as it was written; several select the same samples.
        first, last = int(index[0]), int(index[-1])
        for stop in range(last + 1, min(last + step, n_samples) + 1):
            yield slice(first, stop, step)
