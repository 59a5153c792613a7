"""Every chunk of a store held against its checksum, without decoding any."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import zarr

from slcluster.errors import one_line
from slcluster.store.digest import METADATA, find_damages

__all__ = [
    "ChunkCheck",
    "check_chunks",
    "check_metadata",
    "find_partial",
    "n_chunk_files",
    "samples_of_shard",
]

_CRC_BYTES = 4


@dataclass(frozen=True)
class ChunkCheck:
    """One chunk file that was looked at.

    Attributes
    ----------
    file : str
        Relative to the store.
    n_bytes : int
    damage : str or None
        What is wrong with it, in words.
    """

    file: str
    n_bytes: int
    damage: str | None


def check_metadata(path: Path) -> list[str]:
    """What of a store's metadata, digest and file sizes is not as it was written, in words."""
    found = find_damages(path)
    return [] if isinstance(found, str) else found


def n_chunk_files(path: Path) -> int:
    """How many files :func:`check_chunks` will look at."""
    return sum(1 for array in _arrays(path) for _ in _chunk_files(array))


def check_chunks(path: Path) -> Iterator[ChunkCheck]:
    """Look at every chunk file of a store, one after the other.

    A chunk's last four bytes are the CRC32C of those before. A shard has one behind every brick, and one behind the
    index of its bricks.
    """
    for array in _arrays(path):
        try:
            n_bricks = _bricks_in_shard(array)
        except Exception as error:  # metadata that zarr cannot make sense of
            yield ChunkCheck(f"{array.name}/{METADATA}", 0, f"cannot be read: {one_line(error)}")
            continue
        for file in _chunk_files(array):
            name = file.relative_to(path).as_posix()
            try:
                raw = file.read_bytes()
            except OSError as error:
                yield ChunkCheck(name, 0, f"cannot be read: {one_line(error)}")
                continue
            damage = _chunk_damage(raw) if n_bricks is None else _shard_damage(raw, n_bricks)
            yield ChunkCheck(name, len(raw), damage)


def find_partial(path: Path) -> list[str]:
    """Temporary files that interrupted writers left in a store, and unfinished stores of its name beside it."""
    inside = [file.relative_to(path).as_posix() for file in path.rglob("*.partial")]
    beside = [f"../{folder.name}" for folder in path.parent.glob(f"{path.name}.????????.partial")]
    return sorted(inside) + sorted(beside)


def samples_of_shard(path: Path, file: str) -> tuple[int, int]:
    """First and past-the-last sample of a shard of ``bold``, by its name."""
    bold: Any = zarr.open_array(path / "bold", mode="r", zarr_format=3)
    step, number = bold.shards[3], int(file.rsplit("/", 1)[1])
    return number * step, min((number + 1) * step, bold.shape[3])


def _arrays(path: Path) -> list[Path]:
    return sorted(file.parent for file in path.glob(f"*/{METADATA}"))


def _chunk_files(array: Path) -> Iterator[Path]:
    """Files that may be chunks, by their names: others leave theirs beside them (.nfs..., .DS_Store)."""
    for file in [array / "c", *sorted(array.glob("c/**/*"))]:  # an array without axes has one, c
        if (file.name == "c" or file.name.isdecimal()) and file.is_file():
            yield file


def _bricks_in_shard(array: Path) -> int | None:
    """Inner chunks of a whole shard; None where an array has none."""
    handle: Any = zarr.open_array(array, mode="r", zarr_format=3)
    if handle.shards is None:
        return None
    return int(np.prod([s // c for s, c in zip(handle.shards, handle.chunks, strict=True)]))


def _holds(body: bytes | memoryview, crc: bytes | memoryview) -> bool:
    return int(google_crc32c.value(bytes(body))) == int.from_bytes(crc, "little")


def _chunk_damage(raw: bytes) -> str | None:
    is_sound = len(raw) > _CRC_BYTES and _holds(raw[:-_CRC_BYTES], raw[-_CRC_BYTES:])
    return None if is_sound else "its checksum does not hold"


def _shard_damage(raw: bytes, n_bricks: int) -> str | None:
    size = n_bricks * 16
    index, crc = raw[-size - _CRC_BYTES : -_CRC_BYTES], raw[-_CRC_BYTES:]
    if len(index) != size or not _holds(index, crc):
        return "the checksum of its index does not hold: all bricks are lost"
    view, n_damaged = memoryview(raw), 0
    places = np.frombuffer(index, "<u8").reshape(n_bricks, 2)
    for start, length in places[places[:, 0] != np.iinfo(np.uint64).max].tolist():
        end = start + length
        n_damaged += not _holds(view[start : end - _CRC_BYTES], view[end - _CRC_BYTES : end])
    return f"checksums of {n_damaged} of {n_bricks} bricks do not hold" if n_damaged else None
