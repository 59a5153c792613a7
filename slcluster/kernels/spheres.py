"""Which voxels belong to a sphere.

A voxel belongs to the sphere of a center when the distance between the two, in mm under the affine, is at
most ``radius_mm`` times ``1 + RIM_TOLERANCE``. Distances are derived once, from integer offsets and the
linear part of the affine, so every center of a grid has the same sphere: where a radius equals a lattice
distance (4.8 mm on 2.4 mm voxels) membership does not depend on how the world coordinates of two voxels
happen to round. The center itself always belongs if the mask has it. Radius 2 on 1 mm voxels is 33 voxels.

A sphere may be a number of voxels instead: the ``n_voxels`` mask voxels nearest to the center, for which the
offsets are put in one order, once, by distance. Offsets whose distances agree within ``RIM_TOLERANCE`` are
equally far (an affine out of a NIfTI header has the digits of a float32, so that the sides of a rotated cube
differ in the eighth), and follow each other in C order. The center itself comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from slcluster.errors import GeometryError

__all__ = [
    "RIM_TOLERANCE",
    "Spheres",
    "find_spheres",
    "nearest_halo",
    "nearest_offsets",
    "sphere_halo",
    "sphere_offsets",
    "sphere_sizes",
]

#: Relative slack of the radius: far above the rounding of a distance, far below any lattice's next shell.
RIM_TOLERANCE = 1e-6

#: Centers looked up at a time; bounds the scratch memory at some tens of MB.
_CENTERS_AT_ONCE = 4096

#: Places (center and offset) looked up at a time for the nearest voxels; bounds the scratch likewise.
_PLACES_AT_ONCE = 2**19


class Spheres(NamedTuple):
    """Spheres of several centers in compressed rows: ``indices[indptr[i]:indptr[i + 1]]`` is sphere ``i``."""

    indptr: np.ndarray
    indices: np.ndarray

    def sizes(self) -> np.ndarray:
        """Voxels in each sphere, int64, shape (n_centers,)."""
        return np.diff(self.indptr)


def sphere_offsets(affine: np.ndarray, radius_mm: float, shape: tuple[int, int, int]) -> np.ndarray:
    """Offsets in voxels from a center to every voxel of its sphere.

    Parameters
    ----------
    affine : array, shape (4, 4)
        Voxel indices to mm; shear, flips and anisotropy are honoured.
    radius_mm : float
        Radius in mm, finite and positive.
    shape : tuple of int
        The grid; offsets that no two of its voxels can have are left out.

    Returns
    -------
    numpy.ndarray
        int64, shape (n_offsets, 3), in C order, (0, 0, 0) among them.

    Raises
    ------
    GeometryError
        If the radius is not a positive number or the affine is singular.

    Examples
    --------
    >>> len(sphere_offsets(np.eye(4), 2.0, (9, 9, 9)))
    33
    """
    if not np.isfinite(radius_mm) or radius_mm <= 0:
        raise GeometryError(f"radius_mm must be a positive number of millimetres, got {radius_mm}")
    linear = _linear_part(affine)
    limit_mm = radius_mm * (1 + RIM_TOLERANCE)
    # The ellipsoid |linear @ offset| <= limit reaches this far along each voxel axis.
    reach = np.floor(limit_mm * np.linalg.norm(np.linalg.inv(linear), axis=1))
    reach = np.minimum(reach, np.array(shape) - 1).astype(np.int64)
    axes = [np.arange(-r, r + 1) for r in reach]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    distance_mm = np.linalg.norm(offsets @ linear.T, axis=1)
    return offsets[distance_mm <= limit_mm]


def _linear_part(affine: np.ndarray) -> np.ndarray:
    linear = np.asarray(affine, np.float64)[:3, :3]
    if not np.isfinite(linear).all() or abs(np.linalg.det(linear)) < 1e-12:
        raise GeometryError(f"the affine cannot be inverted, its linear part is {linear.tolist()}")
    return linear


def sphere_halo(offsets: np.ndarray) -> tuple[int, int, int]:
    """Largest offset along each axis: how far a block reads beyond its own centers, in voxels."""
    i, j, k = np.abs(offsets).max(axis=0).tolist()
    return i, j, k


def nearest_offsets(
    affine: np.ndarray,
    centers_ijk: np.ndarray,
    mask: np.ndarray,
    n_voxels: int,
    radius_mm: float | None = None,
) -> np.ndarray:
    """Offsets from a center to where its nearest voxels may lie, from near to far.

    Parameters
    ----------
    affine : array, shape (4, 4)
        Voxel indices to mm; shear, flips and anisotropy are honoured.
    centers_ijk : array of int, shape (n_centers, 3)
        Positions in ``mask``.
    mask : array of bool, shape (nx, ny, nz)
        Voxels that may be features.
    n_voxels : int
        Voxels in a sphere, at least 1.
    radius_mm : float, optional
        How far, in mm, the voxels may be; then a sphere may hold fewer.

    Returns
    -------
    numpy.ndarray
        int64, shape (n_offsets, 3), as far as the center needs that needs most. Equally far ones are in C order.

    Raises
    ------
    GeometryError
        If the mask has fewer than ``n_voxels`` voxels and there is no radius, which would say that spheres may
        be smaller; and as :func:`sphere_offsets`.

    Examples
    --------
    >>> nearest_offsets(np.diag([3.0, 2, 2, 1]), np.array([[1, 1, 0]]), np.ones((3, 3, 1), bool), 3).tolist()
    [[0, 0, 0], [0, -1, 0], [0, 1, 0]]
    """
    (nx, ny, nz), linear = mask.shape, _linear_part(affine)
    n_inside = np.count_nonzero(mask)
    if radius_mm is None and n_inside < n_voxels:
        raise GeometryError(f"n_voxels={n_voxels}, but the mask has only {n_inside} voxels; pass fewer")
    corners = np.stack(np.meshgrid(*[(1 - size, size - 1) for size in mask.shape]), -1).reshape(-1, 3)
    whole_mm = np.linalg.norm(corners @ linear.T, axis=1).max()
    # A ball of about as many voxels, grown until every center has its own.
    ball_mm = 1.2 * (3 / (4 * np.pi) * n_voxels * abs(np.linalg.det(linear))) ** (1 / 3)
    reach_mm, wanting = ball_mm if radius_mm is None else radius_mm, np.asarray(centers_ijk, np.int64)
    while True:
        is_all = radius_mm is not None or reach_mm > whole_mm
        offsets = _near_first(sphere_offsets(affine, reach_mm, (nx, ny, nz)), linear, is_all=is_all)
        n_needed, n_found = 0, np.zeros(len(wanting), np.int64)
        for rows, places, _, _ in _nearest(wanting, mask, offsets, n_voxels):
            n_needed = max(n_needed, int(places.max(initial=-1)) + 1)
            n_found += np.bincount(rows, minlength=len(wanting))
        wanting = wanting[n_found < n_voxels]
        if is_all or not len(wanting):
            # Centers with nothing in reach need no offset, but a halo has to come from one.
            return offsets[:n_needed] if n_needed else np.zeros((1, 3), np.int64)
        reach_mm *= 1.5


def nearest_halo(
    centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray, n_voxels: int
) -> tuple[int, int, int]:
    """Halo of these centers alone: no more of the offsets than they need for their nearest voxels."""
    parts = _nearest(centers_ijk, mask, offsets, n_voxels)
    n_needed = max((int(places.max(initial=-1)) + 1 for _, places, _, _ in parts), default=0)
    return sphere_halo(offsets[: max(1, n_needed)])


def _near_first(offsets: np.ndarray, linear: np.ndarray, *, is_all: bool) -> np.ndarray:
    """Offsets in C order to those from near to far. The last shell is left out where some of it may be missing."""
    distance_mm = np.linalg.norm(offsets @ linear.T, axis=1)
    order = np.argsort(distance_mm, kind="stable")
    ascending = distance_mm[order]
    # A shell begins at a distance and ends before the first that is larger by more than the tolerance.
    shell, start, ends = (
        np.zeros(len(order), np.int64),
        0,
        np.searchsorted(ascending, ascending * (1 + RIM_TOLERANCE), side="right"),
    )
    while start < len(order):
        shell[start : ends[start]] = start
        start = int(ends[start])
    order = order[np.lexsort((order, shell))]
    return offsets[order if is_all else order[shell < shell[-1]]]


def find_spheres(
    centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray, n_voxels: int | None = None
) -> Spheres:
    """Spheres of some centers, as columns of the mask's voxels in C order.

    Parameters
    ----------
    centers_ijk : array of int, shape (n_centers, 3)
        Positions in ``mask``; a center need not be in the mask.
    mask : array of bool, shape (nx, ny, nz)
        Voxels that may be features.
    offsets : array of int, shape (n_offsets, 3)
        From :func:`sphere_offsets`; with ``n_voxels`` from :func:`nearest_offsets`.
    n_voxels : int, optional
        Take the first so many mask voxels among the offsets, not all.

    Returns
    -------
    Spheres
        ``indices`` ascend within each sphere; int64.

    Examples
    --------
    >>> mask = np.ones((3, 1, 1), bool)
    >>> find_spheres(np.array([[0, 0, 0]]), mask, np.array([[-1, 0, 0], [0, 0, 0], [1, 0, 0]])).indices.tolist()
    [0, 1]
    """
    if n_voxels is not None:
        return _find_nearest(centers_ijk, mask, offsets, n_voxels)
    sizes, parts = [], []
    for columns in _columns(centers_ijk, mask, offsets):
        found = columns >= 0
        sizes.append(found.sum(axis=1))
        # Offsets are in C order, and so are the mask's columns: each row ascends as it stands.
        parts.append(columns[found])
    indptr = np.zeros(len(centers_ijk) + 1, np.int64)
    np.cumsum(np.concatenate([np.zeros(0, np.int64), *sizes]), out=indptr[1:])
    return Spheres(indptr, np.concatenate([np.zeros(0, np.int64), *parts]))


def _find_nearest(centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray, n_voxels: int) -> Spheres:
    missing = np.iinfo(np.int64).max  # sorts behind every column
    columns = np.full((len(centers_ijk), n_voxels), missing)
    for rows, _, ranks, found in _nearest(centers_ijk, mask, offsets, n_voxels):
        columns[rows, ranks] = found
    columns.sort(axis=1)
    is_found = columns < missing
    indptr = np.zeros(len(centers_ijk) + 1, np.int64)
    np.cumsum(is_found.sum(axis=1), out=indptr[1:])
    return Spheres(indptr, columns[is_found])


def sphere_sizes(
    centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray, n_voxels: int | None = None
) -> np.ndarray:
    """Mask voxels in each center's sphere: int32, shape (n_centers,). Arguments as :func:`find_spheres`."""
    if n_voxels is not None:
        counts = np.zeros(len(centers_ijk), np.int32)
        for rows, _, _, _ in _nearest(centers_ijk, mask, offsets, n_voxels):
            counts += np.bincount(rows, minlength=len(counts)).astype(np.int32)
        return counts
    sizes = [(columns >= 0).sum(axis=1) for columns in _columns(centers_ijk, mask, offsets)]
    return np.concatenate([np.zeros(0, np.int64), *sizes]).astype(np.int32)


def _nearest(
    centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray, n_voxels: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Go outwards until each center has its voxels. Yield, of some of them: center, offset, how many it had, column.

    Few centers are left for the far offsets, and those reach beyond any slab: bounds are checked, since a border
    as wide as the farthest offset could be larger than the grid.
    """
    columns, centers = _mask_columns(mask), np.asarray(centers_ijk, np.int64)
    n_found = np.zeros(len(centers), np.int64)
    step = min(max(64, 2 * n_voxels), _PLACES_AT_ONCE)
    for first in range(0, len(offsets), step):
        part = offsets[first : first + step]
        wanting = np.flatnonzero(n_found < n_voxels)
        at_once = max(1, _PLACES_AT_ONCE // len(part))
        for start in range(0, len(wanting), at_once):
            some = wanting[start : start + at_once]
            found = _look_up(columns, centers[some], part)
            rank = n_found[some, None] + np.cumsum(found >= 0, axis=1)
            rows, places = np.nonzero((found >= 0) & (rank <= n_voxels))
            n_found[some] = rank[:, -1]
            yield some[rows], first + places, rank[rows, places] - 1, found[rows, places]


def _look_up(columns: np.ndarray, centers: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Mask column at every offset of every center, or -1: (n_centers, n_offsets)."""
    flat, is_inside = np.zeros((len(centers), len(offsets)), np.int64), np.True_
    for axis, size in enumerate(columns.shape):
        position = centers[:, axis, None] + offsets[None, :, axis]
        is_inside = is_inside & (position >= 0) & (position < size)
        flat = flat * size + position
    return np.where(is_inside, columns.ravel()[np.where(is_inside, flat, 0)], -1)


def _mask_columns(mask: np.ndarray) -> np.ndarray:
    """The column of every mask voxel, -1 elsewhere: int64, the mask's shape."""
    columns = np.full(mask.shape, -1, np.int64)
    columns[mask] = np.arange(np.count_nonzero(mask))
    return columns


def _columns(centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray):  # type: ignore[no-untyped-def]
    """Yield, for a few thousand centers at a time, the mask column at every offset, or -1."""
    halo = sphere_halo(offsets)
    columns = _mask_columns(mask)
    # A border as wide as the halo spares every bounds check.
    padded = np.pad(columns, [(h, h) for h in halo], constant_values=-1)
    steps = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    shift = offsets @ steps
    origin = (np.asarray(centers_ijk, np.int64) + halo) @ steps
    flat = padded.ravel()
    for start in range(0, len(origin), _CENTERS_AT_ONCE):
        yield flat[origin[start : start + _CENTERS_AT_ONCE, None] + shift]
