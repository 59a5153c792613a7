"""The result store: a plan, and one checksummed chunk of scores for every finished block.

Data and done-marker are the same file: a block is done when its chunk of every per-block array is present
and its crc32c holds. Chunks are written whole, to a temporary name, then renamed, and each by one writer;
writing one twice is harmless. Metadata are not consolidated while blocks are written.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from slcluster.errors import SchemaError, StoreError
from slcluster.schema import SCHEMA_VERSION
from slcluster.store.digest import DIGEST_NAME, check_digest, write_digest

__all__ = [
    "BLOCK_ARRAYS",
    "blocks_done",
    "create_result",
    "finish_result",
    "is_result_finished",
    "read_result",
    "read_result_attrs",
    "sweep_result",
    "write_block",
]

#: Arrays with one chunk a block: dims after the first, fill value. A block writes its chunk of each.
BLOCK_ARRAYS: dict[str, tuple[tuple[str, ...], float | int]] = {
    "score": (("metric", "fold"), np.nan),
    "n_unconverged": (("fold",), 0),
}

_DTYPES = {"score": "float64", "n_unconverged": "int32"}


def create_result(
    path: str | Path,
    *,
    n_centers: int,
    block_centers: int,
    sizes: Mapping[str, int],
    constants: Mapping[str, tuple[tuple[str, ...], np.ndarray]],
    attrs: Mapping[str, Any],
) -> None:
    """Create a result store with its plan and no block done. It appears whole or not at all.

    Parameters
    ----------
    path : path
        Must not exist.
    n_centers, block_centers : int
    sizes : mapping
        Length of ``metric`` and ``fold``.
    constants : mapping of name to (dims, array)
        Arrays of the plan, written now.
    attrs : mapping
        JSON-able attributes of the root group.

    Raises
    ------
    StoreError
        If the path exists or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise StoreError(f"{path} exists already; pass another out, or remove it")
    staging = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.open_group(
                staging,
                mode="w-",
                zarr_format=3,
                attributes={
                    "slcluster": "result",
                    "schema_version": SCHEMA_VERSION,
                    "constants": json.dumps(list(constants)),
                    **attrs,
                },
            )
            for name, (dims, values) in constants.items():
                _create(group, name, values.shape, values.shape, values.dtype, dims, 0)[...] = values
            for name, (dims, fill) in BLOCK_ARRAYS.items():
                tail = tuple(sizes[dim] for dim in dims)
                chunks = (min(block_centers, n_centers), *tail)
                _create(group, name, (n_centers, *tail), chunks, _DTYPES[name], ("center", *dims), fill)
            os.rename(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _create(group: Any, name: str, shape: Any, chunks: Any, dtype: Any, dims: Any, fill: Any) -> Any:
    array = group.create_array(
        name,
        shape=shape,
        chunks=tuple(max(1, size) for size in chunks),
        dtype=dtype,
        fill_value=fill,
        dimension_names=dims,
        serializer=BytesCodec(),
        filters=None,
        compressors=[Crc32cCodec()],
    )
    return _keeping_empty(array)


def _keeping_empty(array: Any) -> Any:
    """A handle that writes chunks equal to the fill value. It would drop them, and with them the marker."""
    return array.with_config({"write_empty_chunks": True})


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says while writing (disk full, read-only) into a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another place, then resume"
        ) from error


@lru_cache(maxsize=8)
def _handles(path: str, made: tuple[int, int]) -> dict[str, Any]:
    group = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
    return {name: _keeping_empty(group[name]) for name in BLOCK_ARRAYS}


def write_block(path: str | Path, number: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one block's chunk of every per-block array. The block is then done.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    with writing(Path(path)):
        about = os.stat(Path(path) / "zarr.json")  # a store made anew under the same name gets new handles
        for name, array in _handles(str(path), (about.st_ino, about.st_mtime_ns)).items():
            size = array.chunks[0]
            start = number * size
            array[start : start + len(arrays[name])] = arrays[name]


def blocks_done(path: str | Path) -> np.ndarray:
    """Which blocks are done: bool, shape (n_blocks,). Reads every chunk, so that checksums are checked."""
    group = _open(path)
    done = None
    for name in BLOCK_ARRAYS:
        array = group[name]
        size = array.chunks[0]
        good = np.array(
            [_chunk_holds(Path(path), name, array, i, size) for i in range(-(-array.shape[0] // size))], bool
        )
        done = good if done is None else done & good
    assert done is not None
    return done


def _chunk_holds(path: Path, name: str, array: Any, number: int, size: int) -> bool:
    key = array.metadata.encode_chunk_key((number,) + (0,) * (array.ndim - 1))
    if not (path / name / key).is_file():
        return False
    try:
        array[number * size : (number + 1) * size]
    except (ValueError, OSError, RuntimeError):
        return False
    return True


def _open(path: str | Path) -> Any:
    path = Path(path)
    if not path.exists():
        raise StoreError(f"no result at {path}")
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
        attrs: dict[str, Any] = group.attrs.asdict()
    except (FileNotFoundError, KeyError, ValueError, OSError) as error:
        raise StoreError(f"{path} is not a result store: {error}") from error
    if attrs.get("slcluster") != "result":
        found = attrs.get("slcluster")
        raise StoreError(
            f"{path} is a subject store, not a result; open it with slc.open_store"
            if found == "subject"
            else f"{path} is a Zarr group, but not one of slcluster's results"
        )
    if attrs["schema_version"] > SCHEMA_VERSION:
        raise SchemaError(
            f"{path} has schema version {attrs['schema_version']}, this slcluster knows {SCHEMA_VERSION}; upgrade slcluster"
        )
    return group


def read_result_attrs(path: str | Path) -> dict[str, Any]:
    """Attributes of a result store: the plan's identity and fingerprint, and what the maps inherit.

    Raises
    ------
    StoreError
        Missing, not a result, or a finished result whose metadata changed since they were written.
    """
    group = _open(path)
    if is_result_finished(path):
        check_digest(path)
    attrs: dict[str, Any] = group.attrs.asdict()
    return attrs


def read_result(path: str | Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every array of a result store, and which blocks are done. Scores of blocks not done are fill values."""
    group = _open(path)
    done = blocks_done(path)
    arrays = {}
    for name in _array_names(group):
        array = group[name]
        if name not in BLOCK_ARRAYS:
            arrays[name] = array[...]
            continue
        size = array.chunks[0]
        values = np.full(array.shape, BLOCK_ARRAYS[name][1], array.dtype)
        for number in np.flatnonzero(done):
            part = slice(number * size, (number + 1) * size)
            values[part] = array[part]
        arrays[name] = values
    return arrays, done


def _array_names(group: Any) -> list[str]:
    """Names written down at creation: listing the folder would trip over the lease and partial files."""
    return [*json.loads(group.attrs["constants"]), *BLOCK_ARRAYS]


def is_result_finished(path: str | Path) -> bool:
    """Whether all blocks were done and the store was closed."""
    return (Path(path) / DIGEST_NAME).is_file()


def finish_result(path: str | Path) -> None:
    """Close a result whose blocks are all done: consolidate its metadata and write their digest, last."""
    with writing(Path(path)), warnings.catch_warnings():
        # Zarr reminds that consolidated metadata are not yet in the v3 specification; every reader here is ours
        # or xarray, which knows them.
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        warnings.filterwarnings("ignore", message="Object at .* is not recognized")
        zarr.consolidate_metadata(path, zarr_format=3)
        write_digest(path)


def sweep_result(path: str | Path) -> None:
    """Remove temporary files that killed writers left. Only the holder of the lease may."""
    for name in BLOCK_ARRAYS:
        for leftover in (Path(path) / name).rglob("*.partial"):
            leftover.unlink(missing_ok=True)
