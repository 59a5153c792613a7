"""Where spheres lie: from a Dataset's grid and the words of an analysis to centers, offsets and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from slcluster.errors import GeometryError, InputError, warn_caller
from slcluster.filling import on_lattice
from slcluster.io import read_mask
from slcluster.kernels.spheres import nearest_offsets, sphere_halo, sphere_offsets, sphere_sizes
from slcluster.plan import Geometry
from slcluster.schema import grid_affine, on_axes

__all__ = ["check_counts", "make_geometry", "offsets_of"]


def make_geometry(
    ds: xr.Dataset,
    mask: np.ndarray,
    *,
    radius_mm: Any,
    n_voxels: Any,
    process_mask: Any,
    center_spacing: Any,
) -> Geometry:
    """Centers and spheres of an analysis, all input checked.

    Parameters
    ----------
    ds : xarray.Dataset
        A valid subject.
    mask : bool array, shape (nx, ny, nz)
        Voxels that may be features, at least one.
    radius_mm, n_voxels, process_mask, center_spacing
        As for :func:`slcluster.plan`.

    Returns
    -------
    Geometry
        Centers in C order: the planner cuts them into blocks.

    Raises
    ------
    GeometryError
        No size of the spheres or a bad one, a mask that is empty or elsewhere, a spacing that leaves no center.
    InputError
        Counts that are none.
    """
    check_counts(n_voxels=n_voxels)
    spacing = _three_counts(center_spacing)
    affine, axes = grid_affine(ds), (ds["x"].values, ds["y"].values, ds["z"].values)
    radius_mm = _radius(radius_mm, n_voxels, affine)
    process_mask = on_axes(process_mask, dict(zip("xyz", axes, strict=True)), "process mask")
    wanted = (
        mask if process_mask is None else read_mask(process_mask, mask.shape, affine, name="process mask")
    )
    thinned = _thinned(wanted, axes, spacing)
    centers = np.argwhere(thinned).astype(np.int32)
    outside = np.count_nonzero(thinned & ~mask)
    if outside:
        warn_caller(
            f"{outside} of {len(centers)} centers lie outside the mask; they are scored from their neighbours in it"
        )
    offsets = offsets_of(affine, centers, mask, radius_mm, n_voxels)
    return Geometry(
        affine=affine,
        axes=axes,
        mask=mask,
        process_mask=thinned,
        radius_mm=radius_mm,
        offsets=offsets,
        halo=sphere_halo(offsets),
        centers_ijk=centers,
        sphere_size=sphere_sizes(centers, mask, offsets, n_voxels),
        n_voxels=None if n_voxels is None else int(n_voxels),
        center_spacing=spacing,
        fill_mask=None if spacing == (1, 1, 1) else wanted,
    )


def offsets_of(
    affine: np.ndarray,
    centers_ijk: np.ndarray,
    mask: np.ndarray,
    radius_mm: float | None,
    n_voxels: int | None,
) -> np.ndarray:
    """Offsets of spheres of a radius, a number of voxels, or both: int64 (n_offsets, 3)."""
    if n_voxels is not None:
        return nearest_offsets(affine, centers_ijk, mask, n_voxels, radius_mm)
    assert radius_mm is not None, "spheres have a radius or a number of voxels"
    nx, ny, nz = mask.shape
    return sphere_offsets(affine, radius_mm, (nx, ny, nz))


def check_counts(**counts: Any) -> None:
    """Refuse what is neither None nor a whole number of at least 1."""
    for name, value in counts.items():
        if value is not None and not _is_count(value):
            raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def _three_counts(center_spacing: Any) -> tuple[int, int, int]:
    if _is_count(center_spacing):
        return (int(center_spacing),) * 3
    is_listed = isinstance(center_spacing, Sequence | np.ndarray) and len(center_spacing) == 3
    if not is_listed or not all(map(_is_count, center_spacing)):
        raise InputError(
            "center_spacing must be a whole number of at least 1, or three of them for x, y and z, "
            f"got {center_spacing!r}"
        )
    i, j, k = map(int, center_spacing)
    return i, j, k


def _radius(radius_mm: Any, n_voxels: int | None, affine: np.ndarray) -> float | None:
    """The radius as a number; None where spheres are a number of voxels alone."""
    if radius_mm is None and n_voxels is not None:
        return None
    try:
        radius = float("nothing" if isinstance(radius_mm, bool) else radius_mm)
    except (TypeError, ValueError):
        other = "; or pass n_voxels, the number of voxels in a sphere" if radius_mm is None else ""
        raise GeometryError(f"radius_mm must be a number of millimetres, got {radius_mm!r}{other}") from None
    if not np.isfinite(radius) or radius <= 0:
        raise GeometryError(f"radius_mm must be a positive number of millimetres, got {radius}")
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0).min()
    if radius < spacing_mm:
        warn_caller(
            f"radius_mm={radius:g} is below the smallest voxel spacing ({spacing_mm:g} mm): "
            "every sphere is a single voxel"
        )
    return radius


def _thinned(wanted: np.ndarray, axes: tuple[np.ndarray, ...], spacing: tuple[int, int, int]) -> np.ndarray:
    """Of the voxels that are wanted those on the lattice of centers, which begins at the source's first voxel."""
    if spacing == (1, 1, 1):
        return wanted
    thinned: np.ndarray = wanted & on_lattice(axes, spacing)
    if not thinned.any():
        raise GeometryError(
            f"center_spacing={spacing} leaves no center: none of the {np.count_nonzero(wanted)} voxels has indices "
            "that it divides; for few slices pass 1 along their axis, such as center_spacing=(2, 2, 1)"
        )
    return thinned
