"""The result store: a plan, and one checksummed chunk of scores for every finished block.

Data and done-marker are the same file: a block is done when its chunk of every per-block array is present
and its crc32c holds. Chunks are written whole, to a temporary name, then renamed, and each by one writer;
writing one twice is harmless. Everything else is written before the first block and never changes: the plan's
arrays, and metadata that are consolidated and guarded by ``digest.json`` from the start. Once all blocks are
done a last small file says so, and from then on a block that is not there is a loss.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from slcluster.errors import StoreError, StorePathError, cannot_write, may_pass, one_line
from slcluster.schema import RESULT, SCHEMA_VERSION, SUBJECT
from slcluster.store.attempts import sweep_attempts
from slcluster.store.digest import check_digest, write_digest
from slcluster.store.failures import FAILURES_NAME
from slcluster.store.metadata import consolidate, is_ours, plain_attrs, root_attrs
from slcluster.store.staging import Staging

__all__ = [
    "BLOCK_ARRAYS",
    "FINISHED_NAME",
    "BlockReader",
    "block_files",
    "blocks_done",
    "create_result",
    "finish_result",
    "forget_damaged",
    "is_block_done",
    "is_result_finished",
    "read_constants",
    "read_result",
    "read_result_attrs",
    "sweep_result",
    "write_block",
]

#: Present once every block was done.
FINISHED_NAME = "finished.json"

#: Arrays with one chunk a block: dims after the first, dtype, fill value. A block writes its chunk of each.
BLOCK_ARRAYS: dict[str, tuple[tuple[str, ...], str, float | int]] = {
    "score": (("metric", "fold"), "<f8", np.nan),
    "n_unconverged": (("fold",), "<i4", 0),
}

_CRC_BYTES = 4


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
        If the path exists, cannot be written, or another process is creating a store there.
    """
    if os.path.lexists(path):
        raise StorePathError(f"{path} exists already; pass another out, or remove it")
    with Staging(path) as staging:
        about = {"slcluster": RESULT.kind, "schema_version": SCHEMA_VERSION, "store_id": uuid.uuid4().hex}
        attributes = {**plain_attrs(attrs), **about, "constants": list(constants)}
        group = zarr.create_group(staging.folder, zarr_format=3, attributes=attributes)
        for name, (dims, values) in constants.items():
            _create(group, name, values.shape, values.shape, values.dtype, dims, 0)[...] = values
        for name, (dims, dtype, fill) in BLOCK_ARRAYS.items():
            tail = tuple(sizes[dim] for dim in dims)
            chunks = (min(block_centers, n_centers), *tail)
            _create(group, name, (n_centers, *tail), chunks, dtype, ("center", *dims), fill)
        consolidate(staging.folder)
        write_digest(staging.folder)
        staging.publish()


def _create(group: Any, name: str, shape: Any, chunks: Any, dtype: Any, dims: Any, fill: Any) -> Any:
    array = group.create_array(
        name,
        shape=shape,
        chunks=tuple(max(1, size) for size in chunks),
        dtype=dtype,
        fill_value=fill,
        dimension_names=dims,
        serializer=BytesCodec(endian="little"),
        filters=None,
        compressors=[Crc32cCodec()],
    )
    return _keeping_empty(array)


def _keeping_empty(array: Any) -> Any:
    """A handle that writes chunks equal to the fill value. It would drop them, and with them the marker."""
    return array.with_config({"write_empty_chunks": True})


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the operating system says while writing (disk full, read-only) into a StoreError."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, after="; then resume") from error


def read_result_attrs(path: str | Path) -> dict[str, Any]:
    """Attributes of a result store: the plan's identity and fingerprint, and what the maps inherit.

    Raises
    ------
    StoreError
        Missing, not a result, of a newer schema, or its metadata or plan changed since they were written.
    """
    path = Path(path)
    attrs = root_attrs(path)
    kind, version = attrs.get("slcluster"), attrs.get("schema_version")
    if not os.path.exists(path):
        raise StorePathError(f"no result at {path}; compute one with slcluster.searchlight(..., out=...)")
    if not is_ours(path):
        raise StorePathError(
            f"{path} is not a result store; expected what was given as out to slcluster.searchlight"
        )
    if kind == SUBJECT.kind:
        raise StorePathError(f"{path} is a subject store, not a result; open it with slcluster.open_store")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema version {version}, this slcluster knows {SCHEMA_VERSION}; upgrade slcluster"
        )
    check_digest(path, fix="restore it from a copy, or compute it again under another name")
    if kind != RESULT.kind:
        raise StoreError(f"{path} is a store of kind {kind!r}, not a result")
    return attrs


def read_constants(path: str | Path) -> dict[str, np.ndarray]:
    """The plan's arrays, which :func:`create_result` wrote.

    Raises
    ------
    StoreError
        As :func:`read_result_attrs`, or an array is damaged.
    """
    names = read_result_attrs(path)["constants"]
    group = _opened(path, "r")
    found: dict[str, np.ndarray] = {}
    for name in names:
        try:
            found[name] = np.asarray(group[name][...])
        except (OSError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"the plan kept in {path} is damaged ({name}: {one_line(error)}); "
                "restore it from a copy, or compute it again under another name"
            ) from error
    return found


def read_result(path: str | Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every array of a result store, and which blocks are done. Scores of blocks not done are fill values."""
    arrays = read_constants(path)
    blocks = BlockReader(path)
    for name, array in blocks.arrays.items():
        arrays[name] = np.full(array.shape, BLOCK_ARRAYS[name][2], array.dtype)
    done = np.zeros(blocks.n_blocks, bool)
    for number in range(blocks.n_blocks):
        found = blocks.read(number)
        if found is not None:
            done[number] = True
            start = number * blocks.block_centers
            for name, values in found.items():
                rows = arrays[name][start : start + blocks.block_centers]
                rows[...] = values[: len(rows)]
    return arrays, done


def blocks_done(path: str | Path) -> np.ndarray:
    """Which blocks are done: bool, shape (n_blocks,). Reads every chunk, so that checksums are checked.

    Raises
    ------
    StoreError
        As :func:`read_result_attrs`.
    """
    read_result_attrs(path)
    blocks = BlockReader(path)
    return np.array([blocks.read(number) is not None for number in range(blocks.n_blocks)], bool)


def is_block_done(path: str | Path, number: int) -> bool:
    """Whether one block is done, for a task that may be a repetition."""
    return BlockReader(path).read(number) is not None


def block_files(path: str | Path) -> list[list[str]]:
    """The chunk files of every block, relative to the store."""
    blocks = BlockReader(path)
    return [
        [f"{name}/{key}" for name, key in blocks.keys(number).items()] for number in range(blocks.n_blocks)
    ]


class BlockReader:
    """Chunks of the per-block arrays, read as files.

    Zarr gives the fill value for a chunk that is not there and does not tell it from one that is. The bytes
    that are checked here are those returned, also while another process replaces the file.

    Parameters
    ----------
    path : path
        A result store.

    Attributes
    ----------
    n_blocks, block_centers : int
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.arrays: dict[str, Any] = _handles(str(path), *_made(self._path))[0]
        n_centers, self.block_centers = self.arrays["score"].shape[0], self.arrays["score"].chunks[0]
        self.n_blocks = -(-n_centers // self.block_centers)

    def seen(self) -> list[int]:
        """Blocks that are done or about to be, by one listing of a folder: nothing is read or checked.

        Of the array that is written last, so that what is done is among them.
        """
        try:
            names = os.listdir(self._path / list(self.arrays)[-1] / "c")
        except FileNotFoundError:  # no block yet
            return []
        numbers = (int(name) for name in names if name.isdecimal())
        return [number for number in numbers if number < self.n_blocks]

    def keys(self, number: int) -> dict[str, str]:
        """The name of the block's chunk in every array."""
        return {
            name: array.metadata.encode_chunk_key((number,) + (0,) * (array.ndim - 1))
            for name, array in self.arrays.items()
        }

    def read(self, number: int) -> dict[str, np.ndarray] | None:
        """The block's chunk of every array, or None where one is missing or its checksum does not hold."""
        found = {}
        for name, key in self.keys(number).items():
            array = self.arrays[name]
            try:
                raw = (self._path / name / key).read_bytes()
            except OSError:
                return None
            body, crc = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
            if len(body) != np.prod(array.chunks) * array.dtype.itemsize:
                return None
            if google_crc32c.value(body) != int.from_bytes(crc, "little"):
                return None
            found[name] = np.frombuffer(body, BLOCK_ARRAYS[name][1]).reshape(array.chunks)
        return found


def _made(path: Path) -> tuple[int, int]:
    """What tells a store from one made anew under the same name."""
    try:
        about = os.stat(path / "zarr.json")
    except OSError as error:
        failure = StoreError(f"cannot read {path}: {one_line(error)}")
        failure.may_pass = may_pass(error)
        raise failure from error
    return about.st_ino, about.st_mtime_ns


def _opened(path: str | Path, mode: Literal["r", "r+"]) -> Any:
    """The root group. A codec that Zarr does not know (pickles, of old formats) is refused here."""
    try:
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except ValueError as error:
        raise StoreError(f"cannot open {path}: {one_line(error)}") from error


@lru_cache(maxsize=8)
def _handles(path: str, inode: int, mtime_ns: int) -> tuple[dict[str, Any], str]:
    """Writing handles of the per-block arrays and the store's id, opened once a process."""
    group = _opened(path, "r+")
    return {name: _keeping_empty(group[name]) for name in BLOCK_ARRAYS}, str(group.attrs["store_id"])


def write_block(path: str | Path, number: int, arrays: Mapping[str, np.ndarray], *, store_id: str) -> None:
    """Write one block's chunk of every per-block array. The block is then done.

    Parameters
    ----------
    path : path
    number : int
    arrays : mapping
        Values of every array of :data:`BLOCK_ARRAYS`; of the last block as many centers as there are.
    store_id : str
        Of the store that the block was computed for. A task that outlives its driver must not write into
        another analysis that has taken the place.

    Raises
    ------
    StoreError
        If the store cannot be written, or is another one by now.
    """
    path = Path(path)
    handles, found_id = _handles(str(path), *_made(path))
    if found_id != store_id:
        raise StoreError(
            f"{path} was replaced by another result while this block was computed; nothing was written"
        )
    with _writing(path):
        for name, array in handles.items():
            start = number * array.chunks[0]
            array[start : start + len(arrays[name])] = arrays[name]


def is_result_finished(path: str | Path) -> bool:
    """Whether all blocks were done once."""
    return (Path(path) / FINISHED_NAME).is_file()


def finish_result(path: str | Path) -> None:
    """Mark a result whose blocks are all done. The mark appears whole or not at all."""
    path = Path(path)
    fresh = path / f"{FINISHED_NAME}.{uuid.uuid4().hex}.partial"
    with _writing(path):
        try:
            fresh.write_text(json.dumps({"slcluster": "finished"}) + "\n")
            os.replace(fresh, path / FINISHED_NAME)
        finally:
            fresh.unlink(missing_ok=True)


def forget_damaged(path: str | Path, numbers: Iterable[int]) -> None:
    """Remove the chunks of those of some blocks that no reader takes. Only the holder of the lease may."""
    path, blocks = Path(path), BlockReader(path)
    with _writing(path):
        for number in numbers:
            if blocks.read(number) is None:
                for name, key in blocks.keys(number).items():
                    (path / name / key).unlink(missing_ok=True)


def sweep_result(path: str | Path) -> None:
    """Remove temporary files and marks that killed writers left. Only the holder of the lease may."""
    with _writing(Path(path)):
        sweep_attempts(path)
        for name in BLOCK_ARRAYS:
            for leftover in (Path(path) / name).rglob("*.partial"):
                leftover.unlink(missing_ok=True)
        for name in (FINISHED_NAME, FAILURES_NAME):
            for leftover in Path(path).glob(f"{name}.*.partial"):
                leftover.unlink(missing_ok=True)
