"""Which voxels belong to a sphere.

A voxel belongs to the sphere of a center when the distance between the two, in mm under the affine, is at
most ``radius_mm`` times ``1 + RIM_TOLERANCE``. Distances are derived once, from integer offsets and the
linear part of the affine, so every center of a grid has the same sphere: where a radius equals a lattice
distance (4.8 mm on 2.4 mm voxels) membership does not depend on how the world coordinates of two voxels
happen to round. The center itself always belongs if the mask has it. Radius 2 on 1 mm voxels is 33 voxels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from slcluster.errors import GeometryError

__all__ = ["RIM_TOLERANCE", "Spheres", "find_spheres", "sphere_halo", "sphere_offsets", "sphere_sizes"]

#: Relative slack of the radius: far above the rounding of a distance, far below any lattice's next shell.
RIM_TOLERANCE = 1e-6

#: Centers looked up at a time; bounds the scratch memory at some tens of MB.
_CENTERS_AT_ONCE = 4096


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
    linear = np.asarray(affine, np.float64)[:3, :3]
    if not np.isfinite(linear).all() or abs(np.linalg.det(linear)) < 1e-12:
        raise GeometryError(f"the affine cannot be inverted, its linear part is {linear.tolist()}")
    limit_mm = radius_mm * (1 + RIM_TOLERANCE)
    # The ellipsoid |linear @ offset| <= limit reaches this far along each voxel axis.
    reach = np.floor(limit_mm * np.linalg.norm(np.linalg.inv(linear), axis=1))
    reach = np.minimum(reach, np.array(shape) - 1).astype(np.int64)
    axes = [np.arange(-r, r + 1) for r in reach]
    offsets = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    distance_mm = np.linalg.norm(offsets @ linear.T, axis=1)
    return offsets[distance_mm <= limit_mm]


def sphere_halo(offsets: np.ndarray) -> tuple[int, int, int]:
    """Largest offset along each axis: how far a block reads beyond its own centers, in voxels."""
    i, j, k = np.abs(offsets).max(axis=0).tolist()
    return i, j, k


def find_spheres(centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray) -> Spheres:
    """Spheres of some centers, as columns of the mask's voxels in C order.

    Parameters
    ----------
    centers_ijk : array of int, shape (n_centers, 3)
        Positions in ``mask``; a center need not be in the mask.
    mask : array of bool, shape (nx, ny, nz)
        Voxels that may be features.
    offsets : array of int, shape (n_offsets, 3)
        From :func:`sphere_offsets`.

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
    sizes, parts = [], []
    for columns in _columns(centers_ijk, mask, offsets):
        found = columns >= 0
        sizes.append(found.sum(axis=1))
        # Offsets are in C order, and so are the mask's columns: each row ascends as it stands.
        parts.append(columns[found])
    indptr = np.zeros(len(centers_ijk) + 1, np.int64)
    np.cumsum(np.concatenate([np.zeros(0, np.int64), *sizes]), out=indptr[1:])
    return Spheres(indptr, np.concatenate([np.zeros(0, np.int64), *parts]))


def sphere_sizes(centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Mask voxels in each center's sphere: int32, shape (n_centers,)."""
    sizes = [(columns >= 0).sum(axis=1) for columns in _columns(centers_ijk, mask, offsets)]
    return np.concatenate([np.zeros(0, np.int64), *sizes]).astype(np.int32)


def _columns(centers_ijk: np.ndarray, mask: np.ndarray, offsets: np.ndarray):  # type: ignore[no-untyped-def]
    """Yield, for a few thousand centers at a time, the mask column at every offset, or -1."""
    halo = sphere_halo(offsets)
    columns = np.full(mask.shape, -1, np.int64)
    columns[mask] = np.arange(np.count_nonzero(mask))
    # A border as wide as the halo spares every bounds check.
    padded = np.pad(columns, [(h, h) for h in halo], constant_values=-1)
    steps = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    shift = offsets @ steps
    origin = (np.asarray(centers_ijk, np.int64) + halo) @ steps
    flat = padded.ravel()
    for start in range(0, len(origin), _CENTERS_AT_ONCE):
        yield flat[origin[start : start + _CENTERS_AT_ONCE, None] + shift]
