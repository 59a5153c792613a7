"""Whether two grids are one, and masks on a known grid."""

from __future__ import annotations

import os
from itertools import product
from typing import Any

import nibabel as nib
import numpy as np

from slcluster.errors import GeometryError, InputError
from slcluster.io.volumes import read_volume

__all__ = ["GRID_TOLERANCE", "check_same_grid", "nearest_axes", "read_mask"]

#: Two grids are one where no corner of one lies farther from its twin than this part of the smallest voxel
#: spacing: headers keep float32, and qform and sform of one image differ by their rounding.
GRID_TOLERANCE = 0.01


def check_same_grid(
    name: str, shape: tuple[int, ...], affine: np.ndarray, wanted_shape: tuple[int, ...], wanted: np.ndarray
) -> None:
    """Refuse a grid that is not the wanted one, in voxels and in mm.

    Parameters
    ----------
    name : str
        What errors call it.
    shape, affine
        The grid: a tuple of 3 ints, and an array (4, 4) from voxel indices to mm.
    wanted_shape, wanted
        The grid of the samples, likewise.

    Raises
    ------
    GeometryError
        If shapes differ, or a corner lies farther from its twin than 1 % of the smallest voxel spacing.
    """
    fix = "bring it to their grid with nilearn.image.resample_to_img"
    if tuple(shape) != tuple(wanted_shape):
        raise GeometryError(f"{name} has shape {tuple(shape)}, the samples have {tuple(wanted_shape)}; {fix}")
    corners = np.array([[*at, 1] for at in product(*((0, size - 1) for size in shape))], np.float64)
    apart_mm = float(np.linalg.norm((corners @ (affine - wanted).T)[:, :3], axis=1).max())
    allowed_mm = GRID_TOLERANCE * float(np.linalg.norm(wanted[:3, :3], axis=0).min())
    if not apart_mm <= allowed_mm:
        raise GeometryError(
            f"{name} lies up to {apart_mm:.3g} mm off the grid of the samples (allowed: {allowed_mm:.2g} mm); {fix}"
        )


def read_mask(mask: Any, shape: tuple[int, ...], affine: np.ndarray, name: str = "mask") -> np.ndarray:
    """A mask as booleans on a known grid.

    Parameters
    ----------
    mask : path, nibabel image or array
        Voxels other than 0 and NaN are in the mask. An array is taken to be on the grid.
    shape : tuple of 3 ints
        The grid that it must be on.
    affine : array, shape (4, 4)
        The grid's affine, voxel indices to mm.
    name : str
        What errors call it.

    Returns
    -------
    numpy.ndarray
        bool, shape ``shape``.

    Raises
    ------
    GeometryError
        If the grid is another one, in voxels or in mm.
    InputError
        If the file cannot be read, or no voxel is in the mask.

    Examples
    --------
    >>> read_mask(np.array([[[0.0, 2.0, np.nan]]]), (1, 1, 3), np.eye(4)).tolist()
    [[[False, True, False]]]
    """
    wanted = np.asarray(affine, np.float64)
    values, own = _values(mask, name)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    check_same_grid(name, values.shape, wanted if own is None else own, shape, wanted)
    inside = (values != 0) & ~np.isnan(values)
    if not inside.any():
        raise InputError(f"{name} is empty: none of its {inside.size} voxels differs from 0")
    return np.ascontiguousarray(inside)


def _values(mask: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Voxels, and the affine where the mask brings one."""
    if isinstance(mask, str | os.PathLike):
        values, header = read_volume(mask)
        return values, header.affine
    if hasattr(mask, "dataobj") and hasattr(mask, "affine"):
        return np.asarray(mask.dataobj), np.asarray(mask.affine, np.float64)
    if set(getattr(mask, "dims", ())) == {"x", "y", "z"}:
        mask = mask.transpose("x", "y", "z")
    values = np.asarray(mask)
    if values.dtype.kind not in "biuf":
        raise InputError(
            f"{name} must be a path, an image or an array of booleans or numbers, got {mask!r:.60}"
        )
    return values, None


def nearest_axes(affine: np.ndarray) -> list[tuple[int, bool]]:
    """The axis of a grid that runs nearest to each axis of the world, and whether it runs the other way.

    Parameters
    ----------
    affine : array, shape (4, 4)
        Voxel indices to mm.

    Returns
    -------
    list of three (int, bool)
        For left to right, back to front and bottom to top.

    Examples
    --------
    >>> nearest_axes(np.array([[0, 0, 4, 0], [-3, 0.2, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]]))
    [(2, False), (0, True), (1, False)]
    """
    of_grid = nib.orientations.io_orientation(affine)
    found = {int(world): (axis, bool(sign < 0)) for axis, (world, sign) in enumerate(of_grid)}
    return [found[world] for world in range(3)]
