"""Orders centers, cuts them into blocks, and says which voxels each block reads.

Two ways of cutting, one for each way of computing. Durable blocks follow a k-d order of the centers, so
that each is compact and all hold the same number of centers: block ``i`` is chunk ``i`` of the result.
Lazy blocks are the cells of a regular grid, so that each is one Dask chunk of the map.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Window", "block_window", "centers_in", "grid_chunks", "n_blocks", "order_centers", "window_shape"]

#: First and past-the-last voxel along each axis.
Window = tuple[slice, slice, slice]


def n_blocks(n_centers: int, block_centers: int) -> int:
    """How many blocks hold ``n_centers``."""
    return -(-n_centers // block_centers)


def order_centers(centers_ijk: np.ndarray, block_centers: int) -> np.ndarray:
    """Centers in an order whose consecutive runs of ``block_centers`` are compact.

    Recursive bisection across the longest side of the bounding box, where the left side always gets a
    multiple of ``block_centers``: so every block is full but the last.

    Parameters
    ----------
    centers_ijk : array of int, shape (n_centers, 3)
    block_centers : int
        Centers in one block.

    Returns
    -------
    numpy.ndarray
        int64 permutation, shape (n_centers,).

    Examples
    --------
    >>> order_centers(np.array([[0, 0, 0], [9, 0, 0], [1, 0, 0]]), 2).tolist()
    [0, 2, 1]
    """
    # Whatever order the centers come in, the blocks hold the same ones.
    start = np.lexsort(centers_ijk.T[::-1])
    place = np.argsort(start)
    order = np.empty(len(centers_ijk), np.int64)
    pending = [(0, start)]
    while pending:
        position, members = pending.pop()
        count = n_blocks(len(members), block_centers)
        if count <= 1:
            order[position : position + len(members)] = members[np.argsort(place[members])]
            continue
        box = centers_ijk[members]
        axis = int(np.argmax(np.ptp(box, axis=0)))
        members = members[np.argsort(box[:, axis], kind="stable")]
        left = (count // 2) * block_centers
        pending.append((position, members[:left]))
        pending.append((position + left, members[left:]))
    return order


def block_window(centers_ijk: np.ndarray, halo: tuple[int, int, int], shape: tuple[int, int, int]) -> Window:
    """The voxels a block reads: the bounding box of its centers, its halo on every side, cut at the grid."""
    low = np.maximum(centers_ijk.min(axis=0) - halo, 0)
    high = np.minimum(centers_ijk.max(axis=0) + halo + 1, shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def window_shape(window: Window) -> tuple[int, int, int]:
    """Voxels along each axis of a window."""
    i, j, k = (part.stop - part.start for part in window)
    return i, j, k


def grid_chunks(
    shape: tuple[int, int, int],
    centers_ijk: np.ndarray,
    block_centers: int,
    at_least: tuple[int, int, int] = (1, 1, 1),
) -> tuple[tuple[int, ...], ...]:
    """Dask chunks of a map: cubes that hold about ``block_centers`` centers each, evened out along each axis.

    How dense centers lie in their bounding box decides the cube's size, so that a few scattered centers, or
    those of one slice, do not cut the whole grid into thousands of empty cells. ``at_least`` is the smallest
    size wanted along each axis; overlapping chunks cannot be thinner than their overlap.

    Examples
    --------
    >>> grid_chunks((10, 4, 1), np.argwhere(np.ones((10, 4, 1))), 16)
    ((3, 4, 3), (4,), (1,))
    """
    box: np.ndarray = centers_ijk.max(axis=0) - centers_ijk.min(axis=0) + 1
    volume = block_centers * float(np.prod(box)) / len(centers_ijk)
    n_wide = max(1, int(np.count_nonzero(box > 1)))
    side = max(1, round(volume ** (1 / n_wide)))
    chunks = []
    for size, least in zip(shape, at_least, strict=True):
        count = max(1, min(math.ceil(size / side), size // max(1, least)))
        edges = np.linspace(0, size, count + 1).round().astype(int)
        chunks.append(tuple(np.diff(edges).tolist()))
    return tuple(chunks)


def centers_in(mask: np.ndarray, window: Window) -> np.ndarray:
    """Centers inside a window, in C order: int64 (n, 3), positions on the whole grid."""
    return np.argwhere(mask[window]) + [part.start for part in window]
