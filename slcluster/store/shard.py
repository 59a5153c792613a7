"""Writing one shard of ``bold``: a slab of samples over the whole grid, as bricks in one file.

zarr-python can write shards, at 0.3 ms and three copies of every inner chunk; HCP's volumes have 2,000 of
them per slab. The format of a shard is public and short (bricks one behind the other, then an index of their
offsets and lengths), so the bricks go to the file as they are made, and zarr-python reads them.
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import google_crc32c
import numpy as np
from numcodecs.blosc import BITSHUFFLE, Blosc  # type: ignore[import-untyped]

__all__ = ["CLEVEL", "CNAME", "Shape4", "iter_bricks", "write_shard"]

Shape4 = tuple[int, int, int, int]

CNAME: Literal["zstd"] = "zstd"
CLEVEL = 1

_MISSING = np.uint64(2**64 - 1)
_CRC_BYTES = 4


def write_shard(path: Path, slab: np.ndarray, brick: Shape4, counts: Shape4) -> None:
    """Write the voxels and samples of one shard, bricks that are all zero left out.

    Parameters
    ----------
    path : Path
        The shard's file; its folder is made.
    slab : array, shape (nx, ny, nz, n)
        Numbers in any memory order; fastest where x is contiguous, as in NIfTI files. At the end of an axis
        of the array, fewer than a whole shard has.
    brick : tuple of 4 ints
        Shape of a brick; n is at most its last.
    counts : tuple of 4 ints
        Bricks in a whole shard along each axis.
    """
    codec = Blosc(CNAME, CLEVEL, BITSHUFFLE)
    index = np.full((*counts, 2), _MISSING, "<u8")
    path.parent.mkdir(parents=True, exist_ok=True)
    position = 0
    with open(path, "wb") as file:
        for place, values in iter_bricks(slab, brick):
            if _is_zero(values):
                continue
            encoded = codec.encode(values)
            file.write(encoded)
            file.write(_crc32c(encoded))
            index[place] = position, len(encoded) + _CRC_BYTES
            position += len(encoded) + _CRC_BYTES
        file.write(index.tobytes())
        file.write(_crc32c(index.tobytes()))
        file.flush()
        os.fsync(file.fileno())


def iter_bricks(slab: np.ndarray, brick: Shape4) -> Iterator[tuple[Shape4, np.ndarray]]:
    """Bricks of a slab with their places; beyond the slab's end they are zero. The array is reused."""
    nx, ny, nz, _ = slab.shape
    bx, by, bz, _ = brick
    rows = slab.T
    values = np.zeros(brick, slab.dtype.newbyteorder("<"))
    for k in range(0, nz, bz):
        for j in range(0, ny, by):
            # Rows along x are contiguous in NIfTI: taking them whole first touches each cache line once.
            pencil = np.ascontiguousarray(rows[:, k : k + bz, j : j + by, :])
            for i in range(0, nx, bx):
                part = pencil[..., i : i + bx].T
                if part.shape != brick:
                    values[...] = 0
                values[tuple(slice(size) for size in part.shape)] = part
                yield (i // bx, j // by, k // bz, 0), values


def _is_zero(values: np.ndarray) -> bool:
    """Whether every byte is zero (a negative zero is not). The first sample decides for most bricks."""
    bits = values.view(f"u{values.dtype.itemsize}")
    return not (bits[..., 0].any() or bits.any())


def _crc32c(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(_CRC_BYTES, "little")
