"""Where to cut a map: slice indices, positions in mm, or through what is strongest."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

from slcluster.errors import InputError
from slcluster.io.export import map_image
from slcluster.schema import grid_affine, source_affine

__all__ = ["MODES", "Cut", "choose_cuts", "nearest_slice", "on_world_axes", "slice_mm"]

Cut = float | Sequence[float] | None

_XYZ = ("x", "y", "z")

#: Axes of the world that cuts can stand on.
MODES = (*_XYZ, "ortho")


def on_world_axes(da: xr.DataArray) -> Any:
    """The map as an image whose axes run along the world's, from left, back and bottom."""
    from nilearn.image import reorder_img

    if set(da.dims) - set(_XYZ):
        raise InputError(f"expected a map with dims (x, y, z), got {da.dims}")
    return reorder_img(map_image(da), resample="nearest", copy_header=True)


def choose_cuts(
    values: xr.DataArray, is_shown: xr.DataArray, low: float, cut: Cut, display_mode: str
) -> list[float]:
    """Positions in mm, each at the middle of a slice of the map.

    Parameters
    ----------
    values, is_shown : DataArray, dims (x, y, z)
        The map, and where it is drawn.
    low : float
        Value from which it is drawn.
    cut : int, float, sequence of these, or None
        Slice indices, positions in mm, or nothing: where the map shows most.
    display_mode : str
        One of :data:`MODES`.

    Returns
    -------
    list of float
        Three (x, y, z) for ``"ortho"``.

    Raises
    ------
    InputError
        Not cuts, outside the map, or along the one slice that there is.
    """
    if display_mode not in MODES:
        raise InputError(f"display_mode must be one of {', '.join(MODES)}, got {display_mode!r}")
    image = on_world_axes(values.fillna(0))
    _check_thickness(image.shape, display_mode)
    axes = _XYZ if display_mode == "ortho" else display_mode
    if cut is None:
        strongest = _strongest(
            image, on_world_axes(is_shown), on_world_axes(values.notnull()), low, display_mode
        )
        return [slice_mm(image, axis, index) for axis, index in zip(axes, strongest, strict=True)]
    wanted: list[Any] = list(cut) if isinstance(cut, Sequence | np.ndarray) else [cut]
    if not wanted or not all(isinstance(item, Real) and not isinstance(item, bool) for item in wanted):
        raise InputError(f"cut must be slice indices (int) or positions in mm (float), got {cut!r}")
    if display_mode == "ortho":
        if len(wanted) != 3:
            raise InputError(f'display_mode="ortho" takes three cuts (x, y, z), got {cut!r}')
        return [_cut_mm(values, image, axis, item) for axis, item in zip(_XYZ, wanted, strict=True)]
    return list(dict.fromkeys(_cut_mm(values, image, display_mode, item) for item in wanted))


def _check_thickness(shape: tuple[int, ...], display_mode: str) -> None:
    thin = [name for name, size in zip(_XYZ, shape, strict=True) if size == 1]
    if len(thin) > 1:
        raise InputError(f"the map has {' x '.join(map(str, shape))} voxels: there is no slice to draw")
    if thin and thin != [display_mode]:
        raise InputError(f'the map is one slice across {thin[0]}; draw it with display_mode="{thin[0]}"')


def _strongest(image: Any, is_shown: Any, has_value: Any, low: float, display_mode: str) -> list[int]:
    """The slice, or the voxel, that shows most: what is far over the threshold counts, not how much is just over."""
    shown = np.asarray(is_shown.dataobj) > 0
    strength = np.where(shown, np.asarray(image.dataobj) - low, 0.0) ** 2
    if not strength.any():
        strength = np.asarray(has_value.dataobj).astype(float)
    if display_mode == "ortho":
        blurred = gaussian_filter(strength, 1.5)  # one voxel is no place to go through
        return [int(index) for index in np.unravel_index(blurred.argmax(), blurred.shape)]
    axis = _XYZ.index(display_mode)
    return [int(strength.sum(axis=tuple({0, 1, 2} - {axis})).argmax())]


def nearest_slice(image: Any, axis: str, position_mm: float) -> int | None:
    """The slice of an image on world axes that a position lies in; None outside."""
    number = _XYZ.index(axis)
    nearest = np.rint((position_mm - image.affine[number, 3]) / image.affine[number, number])
    return int(nearest) if 0 <= nearest < image.shape[number] else None


def slice_mm(image: Any, axis: str, index: int) -> float:
    """Position of the middle of a slice of an image on world axes."""
    number = _XYZ.index(axis)
    return float(image.affine[number, 3] + index * image.affine[number, number])


def _cut_mm(values: xr.DataArray, image: Any, axis: str, wanted: float) -> float:
    """A slice index or a position to the position of the slice it means."""
    number = _XYZ.index(axis)
    position = _index_mm(values, number, int(wanted)) if isinstance(wanted, Integral) else float(wanted)
    index = nearest_slice(image, axis, position)
    if index is None:
        ends = slice_mm(image, axis, 0), slice_mm(image, axis, image.shape[number] - 1)
        raise InputError(
            f"cut {axis}={position:g} mm is outside the map, which spans {ends[0]:g} to {ends[1]:g} mm"
        )
    return slice_mm(image, axis, index)


def _index_mm(values: xr.DataArray, number: int, index: int) -> float:
    """Where the middle of a voxel slice lies, along the world axis that its voxel axis is nearest to."""
    linear = grid_affine(values)[:3, :3]
    along = np.abs(linear[number]) / np.linalg.norm(linear, axis=0)
    voxel_axis = int(along.argmax())
    name = _XYZ[voxel_axis]
    known = np.atleast_1d(values[name].values)
    if index not in known:
        raise InputError(f"cut: no slice {name}={index} in the map, which has {known.min()} to {known.max()}")
    middle = [float(np.mean([values[axis].values.min(), values[axis].values.max()])) for axis in _XYZ]
    middle[voxel_axis] = index
    return float((source_affine(values) @ [*middle, 1.0])[number])
