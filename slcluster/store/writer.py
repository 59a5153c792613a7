"""Writing subject stores: slab by slab into a staging folder that takes the store's place when complete."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from slcluster.errors import InputError, StoreError
from slcluster.schema import AFFINE_DIMS, BRICK_VOXELS, SCHEMA_VERSION, SUBJECT, validate
from slcluster.store.digest import write_digest
from slcluster.store.subject import consolidate, is_ours, one_line

__all__ = ["SubjectWriter", "write_array_store"]

_XYZ = ("x", "y", "z")


class SubjectWriter:
    """Writes one subject store; a context manager that leaves nothing behind unless :meth:`finish` ran.

    Parameters
    ----------
    path : path
        Where the store will be.
    shape : tuple of 4 ints
        (nx, ny, nz, n_samples).
    dtype : dtype
        Of ``bold`` as stored.
    slab_samples : int
        Samples in one slab: one shard, written at once.
    scale : tuple of 2 floats, optional
        (slope, intercept) that turn stored integers into values.
    overwrite : bool
        Replace a store of ours that is there, once the new one is complete.

    Raises
    ------
    StoreError
        If something is there that must stay, or the folder cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        shape: tuple[int, int, int, int],
        dtype: Any,
        slab_samples: int,
        scale: tuple[float, float] | None = None,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path).expanduser().resolve()
        self.shape, self.dtype, self.slab_samples = shape, np.dtype(dtype), slab_samples
        self._scale, self._overwrite = scale, overwrite
        self._staging = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}.partial")
        check_target(self.path, overwrite)

    def __enter__(self) -> SubjectWriter:
        _sweep(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._group = zarr.create_group(self._staging, zarr_format=3)
            self._bold = self._create_bold()
        except OSError as error:
            shutil.rmtree(self._staging, ignore_errors=True)
            raise StoreError(f"cannot write {self.path}: {one_line(error)}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
        if isinstance(error, OSError):
            raise StoreError(f"cannot write {self.path}: {one_line(error)}") from error

    def _create_bold(self) -> zarr.Array[Any]:
        brick = tuple(min(BRICK_VOXELS, size) for size in self.shape[:3])
        whole = tuple(-(-size // b) * b for size, b in zip(self.shape, brick, strict=False))
        attrs: dict[str, Any] = {"long_name": SUBJECT.variables["bold"].long_name}
        if self._scale is not None:
            attrs |= {"scale_factor": float(self._scale[0]), "add_offset": float(self._scale[1])}
        return self._group.create_array(
            "bold",
            shape=self.shape,
            dtype=self.dtype,
            chunks=(*brick, self.slab_samples),
            shards=(*whole, self.slab_samples),
            compressors=_codecs(self.dtype),
            fill_value=0,
            dimension_names=SUBJECT.variables["bold"].dims,
            attributes=attrs,
        )

    def write_slab(self, number: int, slab: np.ndarray) -> None:
        """Write slab ``number``: shape (nx, ny, nz, n), any memory order, n <= ``slab_samples``."""
        start = number * self.slab_samples
        self._bold[..., start : start + slab.shape[-1]] = slab

    def finish(
        self,
        *,
        volumes: Mapping[str, np.ndarray],
        affine: np.ndarray,
        columns: Mapping[str, np.ndarray],
        attrs: Mapping[str, Any],
    ) -> Path:
        """Write everything small, consolidate, digest, and move the store into place.

        Parameters
        ----------
        volumes : mapping
            ``mask``, ``mean`` and ``nonfinite``, each (nx, ny, nz).
        affine : array, shape (4, 4)
            Voxel indices to millimetres.
        columns : mapping
            ``condition``, ``run`` and any further column, each (n_samples,).
        attrs : mapping
            Attributes of the store: names to text, numbers or lists of them.

        Returns
        -------
        Path
            The finished store.
        """
        columns = {"sample_index": np.arange(self.shape[3], dtype=np.int64), **columns}
        for name, values in volumes.items():
            self._put(name, values, _XYZ, SUBJECT.variables[name].long_name)
        for name, size in zip(_XYZ, self.shape, strict=False):
            self._put(name, np.arange(size, dtype=np.int64), (name,), SUBJECT.coords[name].long_name)
        self._put("affine", np.asarray(affine, np.float64), AFFINE_DIMS, SUBJECT.coords["affine"].long_name)
        self._group["affine"].attrs["units"] = SUBJECT.coords["affine"].units
        for name, values in columns.items():
            rule = SUBJECT.coords.get(name)
            self._put(name, _storable(name, values), ("sample",), rule.long_name if rule else name)
        self._group.attrs.update(
            {"slcluster": SUBJECT.kind, "schema_version": SCHEMA_VERSION, **attrs}
            # Xarray's own key: what it names are coordinates, not variables.
            | {"coordinates": " ".join(["affine", *columns])}
        )
        consolidate(self._staging)
        write_digest(self._staging)
        _publish(self._staging, self.path, self._overwrite)
        return self.path

    def _put(self, name: str, values: np.ndarray, dims: tuple[str, ...], long_name: str) -> None:
        array = self._group.create_array(
            name,
            shape=values.shape,
            dtype="string" if values.dtype == object else values.dtype,
            chunks=values.shape,
            compressors=_codecs(values.dtype),
            dimension_names=dims,
            attributes={"long_name": long_name},
        )
        array[...] = values


def _codecs(dtype: np.dtype) -> list[Any]:
    size = 1 if dtype == object else dtype.itemsize
    return [BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=size), Crc32cCodec()]


def _storable(name: str, values: Any) -> np.ndarray:
    """A column as int64, float64, bool or text; anything else is refused by name."""
    values = np.asarray(values)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.kind in "UTO":
        return np.array([str(value) for value in values.tolist()], dtype=object)
    if values.dtype.kind == "b":
        return values
    raise InputError(f"column {name!r} holds {values.dtype}, which a store cannot keep; drop it or make it text")


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a path that holds something not to be replaced."""
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir() or not is_ours(path):
        raise StoreError(f"{path} exists and is not a slcluster store; choose another path (it is left alone)")
    if not overwrite:
        raise StoreError(f"{path} exists; pass overwrite=True to replace it, or open it with open_store")


def _sweep(path: Path) -> None:
    """Remove what interrupted writers of this store left."""
    for stale in path.parent.glob(f"{path.name}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)


def _publish(staging: Path, path: Path, overwrite: bool) -> None:
    check_target(path, overwrite)
    if not path.exists():
        staging.rename(path)
        return
    old = path.with_name(f"{staging.name}.old")
    path.rename(old)
    staging.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def write_array_store(ds: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a subject Dataset of any origin, NumPy or Dask, to a store of its own.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject, as it is now: changed arrays are written as changed.
    path : path
        Where the store will be.
    overwrite : bool
        Replace a store of ours that is there.

    Returns
    -------
    Path
        The finished store.

    Raises
    ------
    StoreError
        If the store exists or cannot be written.
    """
    validate(ds, SUBJECT)
    nx, ny, nz, n_samples = ds["bold"].shape
    dtype = ds["bold"].dtype
    slab = max(1, min(n_samples, (64 << 20) // (nx * ny * nz * dtype.itemsize)))
    with SubjectWriter(
        path, shape=(nx, ny, nz, n_samples), dtype=dtype, slab_samples=slab, overwrite=overwrite
    ) as writer:
        for number, start in enumerate(range(0, n_samples, slab)):
            writer.write_slab(number, np.asarray(ds["bold"].data[..., start : start + slab]))
        return writer.finish(
            volumes={name: np.asarray(ds[name].values) for name in ("mask", "mean", "nonfinite")},
            affine=ds["affine"].values,
            columns={
                str(name): coord.values
                for name, coord in ds.coords.items()
                if coord.dims == ("sample",) and name not in ("sample", "sample_index")
            },
            attrs={"subject": str(ds.attrs.get("subject", "array"))},
        )
