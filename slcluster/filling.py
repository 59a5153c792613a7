"""Results whose centers are every n-th voxel: which these are, and the voxels between them filled.

Centers lie on a lattice that begins at voxel 0 of the source along each axis. What lies between is no result
but a guess from its neighbours: a filled Dataset says so, and which of its voxels were computed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import xarray as xr

from slcluster.errors import InputError
from slcluster.kernels.spheres import find_spheres, nearest_offsets
from slcluster.schema import RESULT, grid_affine, validate

__all__ = ["METHODS", "Method", "fill_centers", "lattice_remainder", "mark_centers", "on_lattice"]

_XYZ = ("x", "y", "z")

Method = Literal["nearest", "linear"]

#: Numbers of samples, of which there is no half.
_COUNTS = ("confusion", "confusion_fold")

#: How :func:`fill_centers` can fill.
METHODS: tuple[str, ...] = get_args(Method)


def lattice_remainder(indices: np.ndarray, spacing: int) -> np.ndarray:
    """How many voxels each of an axis lies beyond the last one at which centers are.

    Parameters
    ----------
    indices : array of int, shape (n,)
        Voxel indices of the source, evenly spaced, in either direction. Where they are not consecutive, the
        voxels of this coarser grid are counted.
    spacing : int

    Returns
    -------
    numpy.ndarray
        int64, shape (n,); 0 where centers are.

    Examples
    --------
    >>> lattice_remainder(np.arange(3, 8), 3).tolist()
    [0, 1, 2, 0, 1]
    >>> lattice_remainder(np.array([5, 3, 1]), 2).tolist()
    [0, 1, 0]
    """
    indices = np.asarray(indices, np.int64)
    step = abs(int(indices[1] - indices[0])) if len(indices) > 1 else 1
    remainder: np.ndarray = (indices // step) % spacing
    return remainder


def on_lattice(axes: Iterable[np.ndarray], spacing: Iterable[int]) -> np.ndarray:
    """Where centers can be on a grid with these axes: bool (nx, ny, nz)."""
    on_axes = [lattice_remainder(axis, n) == 0 for axis, n in zip(axes, spacing, strict=True)]
    lattice: np.ndarray = functools.reduce(np.logical_and.outer, on_axes)
    return lattice


def mark_centers(maps: xr.Dataset, is_center: np.ndarray, fill_mask: np.ndarray | None) -> xr.Dataset:
    """Maps with what :func:`fill_centers` needs, where not every voxel that was asked for is a center.

    Parameters
    ----------
    maps : xarray.Dataset
    is_center : bool array, shape (nx, ny, nz)
    fill_mask : bool array, shape (nx, ny, nz), or None
        The voxels that were asked for; None where all of them are centers, and nothing is added.
    """
    if fill_mask is None:
        return maps
    marks = {"is_center": is_center, "fill_mask": fill_mask}
    variables = {
        name: (_XYZ, values, {"long_name": RESULT.variables[name].long_name})
        for name, values in marks.items()
    }
    return validate(maps.assign(variables), RESULT)


def fill_centers(result: xr.Dataset, *, method: Method = "linear") -> xr.Dataset:
    """Fill the voxels between the centers of a searchlight with ``center_spacing``.

    What was computed stays bit for bit, NaN included. Other voxels of the process mask get a value from centers
    near them, every map (metric, fold, class, pair, lag) by itself; voxels outside it stay NaN.
    Counts (``confusion``) are not filled: what a classifier did in no sphere has no number.

    Parameters
    ----------
    result : xarray.Dataset
        From :func:`slcluster.searchlight` with ``center_spacing``, or :func:`slcluster.open_result`, finished or
        not. May be cropped. Of a lazy result lazy maps come back; any part of them needs every center.
    method : {"linear", "nearest"}
        ``"nearest"`` takes the value of the center nearest in mm under the affine, of equally near ones the first
        in C order; it is NaN where that center's is. ``"linear"`` interpolates between the 8 centers around a
        voxel along the grid's axes: the mean of those that exist and have a value, weighted trilinearly, which is
        trilinear interpolation inside the mask and leans on fewer centers at its border (normalised convolution:
        Knutsson & Westin 1993). Where none of the 8 counts, it is as ``"nearest"``. It never extrapolates.

    Returns
    -------
    xarray.Dataset
        ``score``, ``score_fold``, ``hit_rate`` and ``hit_rate_fold`` filled. ``sphere_size`` stays 0 where no sphere was. ``is_center`` (bool) says
        which voxels were computed; ``attrs["filled"]``, also of each filled variable, is the method.

    Raises
    ------
    InputError
        An unknown method; no result of a searchlight; every voxel is a center; filled already; or sliced so that
        the centers are no lattice any more. A :class:`~slcluster.errors.SchemaError` where axes were swapped.

    Notes
    -----
    Neighbouring spheres share voxels, so that scores are smooth over about a radius: a spacing well below it
    loses little. Test statistics on centers alone: filled voxels are no observations.

    Examples
    --------
    >>> from slcluster import searchlight, select, simulate
    >>> ds = select(simulate(shape=(7, 8, 9), n_runs=2, seed=0), conditions=["face", "house"])
    >>> thin = searchlight(ds, radius_mm=5.6, center_spacing=2).compute()
    >>> full = fill_centers(thin)
    >>> int(thin.score.notnull().sum()), int(full.score.notnull().sum()) == int(ds.mask.sum())
    (17, True)
    """
    sources = _sources(result, method)
    filled = {}
    for name, da in result.data_vars.items():
        if da.dtype.kind != "f" or da.dims[-3:] != _XYZ or name in _COUNTS:
            continue
        values = xr.apply_ufunc(
            _filled,
            da.chunk(dict.fromkeys(_XYZ, -1)) if da.chunks else da,
            kwargs={"sources": sources},
            input_core_dims=[_XYZ],
            output_core_dims=[_XYZ],
            dask="parallelized",
            output_dtypes=[da.dtype],
            keep_attrs=True,
        )
        filled[name] = values.assign_attrs(filled=method)
    return validate(result.drop_vars("fill_mask").assign(filled).assign_attrs(filled=method), RESULT)


class _Corner(NamedTuple):
    """For each voxel to fill, one of the centers around it.

    Attributes
    ----------
    center : int (n_voxels,)
        Its position on the flat grid.
    weight : float64 (n_voxels,)
        0 where it does not exist.
    """

    center: np.ndarray
    weight: np.ndarray


class _Sources(NamedTuple):
    """Where values come from, as positions on the flat grid in C order.

    Attributes
    ----------
    voxels : int (n_voxels,)
        To be filled.
    nearest : int (n_voxels,)
        The nearest center of each.
    corners : list of _Corner
        Centers to interpolate between; none for ``"nearest"``.
    """

    voxels: np.ndarray
    nearest: np.ndarray
    corners: list[_Corner]


def _sources(result: Any, method: str) -> _Sources:
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    is_center, fill_mask, spacing = _checked(result)
    wanted = np.argwhere(fill_mask & ~is_center)
    flat = np.flatnonzero(fill_mask & ~is_center)
    if not len(flat):
        return _Sources(flat, flat, [])
    # The sphere of one voxel around each, with the centers for a mask.
    offsets = nearest_offsets(grid_affine(result), wanted, is_center, 1)
    nearest = np.flatnonzero(is_center)[find_spheres(wanted, is_center, offsets, 1).indices]
    axes = [result[name].values for name in _XYZ]
    corners = list(_corners(wanted, is_center, axes, spacing)) if method == "linear" else []
    return _Sources(flat, nearest, corners)


def _checked(result: Any) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Centers, voxels to fill, and the spacing of a result that can be filled."""
    if not isinstance(result, xr.Dataset) or "score" not in result:
        raise InputError(
            f"expected the Dataset of slcluster.searchlight, with 'score'; got {type(result).__name__}"
        )
    if "filled" in result.attrs:
        raise InputError(f"the result is filled already ({result.attrs['filled']}); fill the computed one")
    if "fill_mask" not in result or "is_center" not in result:
        raise InputError(
            "there is nothing to fill: the result was not computed with a center_spacing above 1"
        )
    marks = [result[name] for name in ("is_center", "fill_mask")]
    if any(set(mark.dims) != set(_XYZ) for mark in marks):
        raise InputError("fill the result before you take a slice of it: its maps have lost an axis")
    validate(result, RESULT)
    is_center, fill_mask = (np.asarray(mark.values) for mark in marks)
    spacing = [int(n) for n in result.attrs["center_spacing"]]
    lattice = on_lattice([result[name].values for name in _XYZ], spacing)
    if not is_center.any() or (is_center & ~lattice).any():
        raise InputError(
            "fill the result before you take some of its voxels: its centers are no lattice here"
        )
    return is_center, fill_mask, spacing


def _corners(
    wanted: np.ndarray, is_center: np.ndarray, axes: list[np.ndarray], spacing: list[int]
) -> Iterator[_Corner]:
    """The 8 centers around each voxel, 0 in weight where they are off the grid or no centers."""
    beyond = [lattice_remainder(axis, n)[at] for axis, n, at in zip(axes, spacing, wanted.T, strict=True)]
    direction = [-1 if len(axis) > 1 and axis[1] < axis[0] else 1 for axis in axes]
    for corner in itertools.product((0, 1), repeat=3):
        weight = np.ones(len(wanted))
        position = np.empty_like(wanted)
        for axis, upper in enumerate(corner):
            to_corner = upper * spacing[axis] - beyond[axis]
            weight *= 1 - np.abs(to_corner) / spacing[axis]
            position[:, axis] = wanted[:, axis] + direction[axis] * to_corner
        is_inside = ((position >= 0) & (position < is_center.shape)).all(axis=1)
        flat = np.ravel_multi_index(tuple(np.where(is_inside, position.T, 0)), is_center.shape)
        exists = is_inside & is_center.ravel()[flat]
        yield _Corner(np.where(exists, flat, 0), np.where(exists, weight, 0.0))


def _filled(values: np.ndarray, sources: _Sources) -> np.ndarray:
    """Maps (..., nx, ny, nz) with values at the voxels to fill; a copy."""
    flat = np.array(values, copy=True, order="C").reshape(*values.shape[:-3], -1)
    found = flat[..., sources.nearest]
    total, weights = np.zeros_like(found), np.zeros_like(found)
    for corner in sources.corners:
        value = flat[..., corner.center]
        counts = (corner.weight > 0) & ~np.isnan(value)
        total += np.where(counts, corner.weight * value, 0)
        weights += np.where(counts, corner.weight, 0)
    is_between = weights > 0
    np.divide(total, weights, out=found, where=is_between)
    flat[..., sources.voxels] = found
    return flat.reshape(values.shape)
