"""Datasets of any origin to a subject store: what a durable analysis of a changed array reads."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slcluster.schema import BRICK_VOXELS, OPEN_CHUNK_BYTES, SUBJECT, validate
from slcluster.store.metadata import plain_attrs
from slcluster.store.shard import Shape4
from slcluster.store.writer import subject_writer

__all__ = ["write_array_store"]


def write_array_store(ds: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a subject Dataset as it is now, whatever its origin, to a store of its own.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject with NumPy or Dask ``bold``. It is computed shard by shard, about 64 MB at a time (or what
        Dask needs to make that).
    path : path
        Where the store will be.
    overwrite : bool
        Replace a store of ours that is there.

    Returns
    -------
    Path
        The finished store. Its ``sample_index`` counts from 0, its ``nonfinite`` is that of the values
        written, its attribute ``content_sha256`` their digest; the rest is as in ``ds``.

    Raises
    ------
    StoreError
        If the store exists or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from slcluster import subject_dataset
    >>> ds = subject_dataset(np.zeros((4, 3, 2, 5), "f4"), affine=np.eye(4))
    >>> write_array_store(ds, tempfile.mkdtemp() + "/changed.zarr").name
    'changed.zarr'
    """
    validate(ds, SUBJECT)
    bold = ds["bold"]
    shape: Shape4 = bold.shape  # type: ignore[assignment]
    shard = _shard_shape(bold)
    content = hashlib.sha256(f"{shape} {bold.dtype} {shard}".encode())
    nonfinite = np.zeros(shape[:3], bool)
    with subject_writer(path, shape=shape, dtype=bold.dtype, shard=shard, overwrite=overwrite) as writer:
        for place, box in _boxes(shape, shard):
            values = np.ascontiguousarray(np.asarray(bold.data[box]))
            content.update(values.data)
            if values.dtype.kind == "f":
                nonfinite[box[:3]] |= ~np.isfinite(values).all(axis=-1)
            writer.write(place, values)
        return writer.finish(
            volumes={"mask": ds["mask"].values, "mean": ds["mean"].values, "nonfinite": nonfinite},
            affine=ds["affine"].values,
            columns={
                str(name): coord.values
                for name, coord in ds.coords.items()
                if coord.dims == ("sample",) and name not in ("sample", "sample_index")
            },
            attrs={**plain_attrs(ds.attrs), "content_sha256": content.hexdigest()},
            grid={name: ds[name].values for name in "xyz"},
        )


def _boxes(shape: Shape4, shard: Shape4) -> Iterator[tuple[Shape4, tuple[slice, ...]]]:
    counts = [range(math.ceil(size / step)) for size, step in zip(shape, shard, strict=True)]
    for place in product(*counts):
        box = tuple(slice(p * s, (p + 1) * s) for p, s in zip(place, shard, strict=True))
        yield (place[0], place[1], place[2], place[3]), box


def _shard_shape(bold: xr.DataArray) -> Shape4:
    """Shards along which computing costs least.

    Dask chunks of all samples are computed once each if shards are cubes of them, chunks of few samples if
    shards are slabs of the whole grid; the other way round every chunk would be computed many times.
    """
    nx, ny, nz, n_samples = bold.shape
    voxel_bytes = n_samples * bold.dtype.itemsize
    if bold.chunks is None or len(bold.chunks[3]) > 1:
        step = 1 if bold.chunks is None else max(bold.chunks[3])
        n_steps = OPEN_CHUNK_BYTES * n_samples // max(1, nx * ny * nz * voxel_bytes * step)
        return nx, ny, nz, min(n_samples, max(1, n_steps) * step)
    chunks = [max(sizes) for sizes in bold.chunks[:3]]
    if all(c == g or c % BRICK_VOXELS == 0 for c, g in zip(chunks, bold.shape, strict=False)) and (
        math.prod(chunks) * voxel_bytes <= 2 * OPEN_CHUNK_BYTES
    ):
        sizes: Any = chunks
    else:
        n_bricks = max(1, int((OPEN_CHUNK_BYTES / (voxel_bytes * BRICK_VOXELS**3)) ** (1 / 3)))
        sizes = [min(g, n_bricks * BRICK_VOXELS) for g in (nx, ny, nz)]
    return sizes[0], sizes[1], sizes[2], n_samples
