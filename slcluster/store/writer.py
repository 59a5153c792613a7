"""Writing subject stores: shard by shard into a staging folder that takes the store's place when complete."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from slcluster.errors import InputError, StoreError
from slcluster.schema import AFFINE_DIMS, BRICK_VOXELS, SCHEMA_VERSION, SUBJECT
from slcluster.store.digest import write_digest
from slcluster.store.metadata import consolidate
from slcluster.store.shard import CLEVEL, CNAME, Shape4, write_shard
from slcluster.store.staging import Staging

__all__ = ["Shape4", "SubjectWriter", "storable_columns", "subject_writer"]

_XYZ = ("x", "y", "z")
#: Names that a column of the labels cannot have.
_RESERVED = {
    *_XYZ,
    "sample",
    "sample_index",
    "affine",
    "space",
    "zarr.json",
    *AFFINE_DIMS,
    *SUBJECT.variables,
}


@contextmanager
def subject_writer(
    path: str | os.PathLike[str],
    *,
    shape: Shape4,
    dtype: Any,
    shard: Shape4,
    scale: tuple[float, float] | None = None,
    overwrite: bool = False,
) -> Iterator[SubjectWriter]:
    """Write one subject store; nothing is left behind unless :meth:`SubjectWriter.finish` ran.

    Parameters
    ----------
    path : path
        Where the store will be.
    shape : tuple of 4 ints
        (nx, ny, nz, n_samples).
    dtype : dtype
        Of ``bold`` as stored.
    shard : tuple of 4 ints
        Voxels and samples written at once. Along x, y and z a multiple of 8, or the whole axis.
    scale : tuple of 2 floats, optional
        (slope, intercept) that turn stored integers into values.
    overwrite : bool
        Replace a store of ours that is there, once the new one is complete.

    Yields
    ------
    SubjectWriter

    Raises
    ------
    StoreError
        If something is there that must stay, or the folder cannot be written.
    """
    with Staging(path, overwrite=overwrite) as staging:
        yield SubjectWriter(staging, shape, np.dtype(dtype).newbyteorder("="), shard, scale)


class SubjectWriter:
    """The arrays of one subject store that is being written. Made by :func:`subject_writer`."""

    def __init__(
        self,
        staging: Staging,
        shape: Shape4,
        dtype: np.dtype,
        shard: Shape4,
        scale: tuple[float, float] | None,
    ) -> None:
        self._staging = staging
        self._group = zarr.create_group(staging.folder, zarr_format=3)
        bx, by, bz = (min(BRICK_VOXELS, size) for size in shape[:3])
        self._brick: Shape4 = (bx, by, bz, shard[3])
        # Every axis of a shard is a whole number of bricks, also where the grid is not.
        sx, sy, sz = (-(-size // b) * b for size, b in zip(shard[:3], self._brick, strict=False))
        self._bricks: Shape4 = (sx // bx, sy // by, sz // bz, 1)
        self._counts = tuple(-(-size // s) for size, s in zip(shape, (sx, sy, sz, shard[3]), strict=True))
        attrs: dict[str, Any] = {"long_name": SUBJECT.variables["bold"].long_name}
        if scale is not None:
            attrs |= {"scale_factor": float(scale[0]), "add_offset": float(scale[1])}
        self._group.create_array(
            "bold",
            shape=shape,
            dtype=dtype,
            chunks=self._brick,
            shards=(sx, sy, sz, shard[3]),
            compressors=_codecs(dtype),
            fill_value=0,
            dimension_names=SUBJECT.variables["bold"].dims,
            attributes=attrs,
        )
        self._grid = shape[:3]
        self._n_samples = shape[3]

    def write(self, place: Shape4, values: np.ndarray) -> None:
        """Write one shard.

        Parameters
        ----------
        place : tuple of 4 ints
            Which shard, counted along each axis.
        values : array
            Its voxels and samples, in any memory order; at the end of an axis as many as there are.
        """
        write_shard(self._shard_path(place), values, self._brick, self._bricks)

    def _shard_path(self, place: tuple[int, ...]) -> Path:
        return self._staging.folder.joinpath("bold", "c", *map(str, place))

    def finish(
        self,
        *,
        volumes: Mapping[str, np.ndarray],
        affine: np.ndarray,
        columns: Mapping[str, np.ndarray],
        attrs: Mapping[str, Any],
        grid: Mapping[str, np.ndarray] | None = None,
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
        grid : mapping, optional
            Voxel indices ``x``, ``y`` and ``z``; 0, 1, ... where not given.

        Returns
        -------
        Path
            The finished store.
        """
        self._check_complete()
        for name, values in volumes.items():
            self._put(name, values, _XYZ, SUBJECT.variables[name].long_name)
        for name, size in zip(_XYZ, self._grid, strict=True):
            index = np.arange(size) if grid is None else np.asarray(grid[name])
            self._put(name, index.astype(np.int64), (name,), SUBJECT.coords[name].long_name)
        rule = SUBJECT.coords["affine"]
        self._put("affine", np.asarray(affine, np.float64), AFFINE_DIMS, rule.long_name, units=rule.units)
        self._put_columns(columns)
        ours: dict[str, Any] = {"slcluster": SUBJECT.kind, "schema_version": SCHEMA_VERSION}
        # Xarray's own key: what it names are coordinates, not variables.
        coordinates = " ".join(["affine", "sample_index", *columns])
        self._group.update_attributes({**ours, **attrs, **ours, "coordinates": coordinates})
        consolidate(self._staging.folder)
        write_digest(self._staging.folder)
        self._staging.publish()
        return self._staging.target

    def _check_complete(self) -> None:
        """Every shard is there, also where another process tampered with the staging folder."""
        for place in np.ndindex(self._counts):
            if not self._shard_path(place).is_file():
                raise StoreError(
                    f"shard {place} of {self._staging.target} is gone: something removed files of "
                    f"{self._staging.folder.name} while it was written; ingest again"
                )

    def _put_columns(self, columns: Mapping[str, np.ndarray]) -> None:
        index = np.arange(self._n_samples, dtype=np.int64)
        for name, values in {"sample_index": index, **storable_columns(columns)}.items():
            rule = SUBJECT.coords.get(name)
            self._put(name, values, ("sample",), rule.long_name if rule else name)

    def _put(
        self, name: str, values: np.ndarray, dims: tuple[str, ...], long_name: str, **attrs: str
    ) -> None:
        array = self._group.create_array(
            name,
            shape=values.shape,
            dtype="string" if values.dtype.kind == "O" else values.dtype,
            chunks=values.shape,
            compressors=_codecs(values.dtype),
            dimension_names=dims,
            attributes={"long_name": long_name, **attrs},
            # A chunk of zeros must be there to be missed.
            config={"write_empty_chunks": True},
        )
        array[...] = values


def storable_columns(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns as a store keeps them: int64, float64, bool or text.

    Raises
    ------
    InputError
        If a name is one of the store's own or no name for an array, or a column holds something else.
    """
    return {name: _storable(name, np.asarray(values)) for name, values in columns.items()}


def _codecs(dtype: np.dtype) -> list[Any]:
    size = 1 if dtype.kind == "O" else dtype.itemsize
    return [BloscCodec(cname=CNAME, clevel=CLEVEL, shuffle="bitshuffle", typesize=size), Crc32cCodec()]


def _storable(name: str, values: np.ndarray) -> np.ndarray:
    if name in _RESERVED or not name or set(name) & set("/ \\\0") or name[0] in "._":
        raise InputError(
            f"a column of the labels is called {name!r}, which a store cannot use; rename or drop it"
        )
    if values.dtype.kind in "iu":
        if values.size and values.max() > np.iinfo(np.int64).max:
            raise InputError(f"column {name!r} holds {values.max()}, more than a store's int64; make it text")
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if values.dtype.kind in "UTO":
        return np.array([str(value) for value in values.tolist()], dtype=object)
    if values.dtype.kind == "b":
        return values
    raise InputError(
        f"column {name!r} holds {values.dtype}, which no store can keep; drop it or make it text"
    )
