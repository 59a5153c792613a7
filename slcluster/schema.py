"""THE CONTRACT: dimensions, variables, dtypes, units and attributes of every Dataset that slcluster passes on.

Two kinds exist. A *subject* holds the samples of one brain; a *result* holds the maps of one analysis.
:func:`validate` raises :class:`~slcluster.errors.SchemaError` where a Dataset departs from its contract, so
that code below a public function never has to check again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from slcluster.errors import GeometryError, SchemaError

__all__ = [
    "RESULT",
    "SCHEMA_VERSION",
    "SUBJECT",
    "Contract",
    "Variable",
    "grid_affine",
    "source_affine",
    "space_coords",
    "subject_dataset",
    "validate",
]

#: Version of the contract, in every store. A store of a newer version is refused.
SCHEMA_VERSION = 1

#: Names of the dimensions of ``affine``.
AFFINE_DIMS = ("affine_row", "affine_column")

#: Attributes of a subject that say how its source wrote the affine; export writes them again.
FORM_ATTRS = ("qform_code", "sform_code", "qform", "sform", "xyzt_units")

#: Inner chunks of ``bold``: a cube of this many voxels a side, times the samples of one slab.
BRICK_VOXELS = 8

#: ``open_store`` gives Dask chunks of all samples times a cube of bricks near this many bytes.
OPEN_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Variable:
    """Rules for one variable.

    Attributes
    ----------
    dims : tuple of str
    kinds : str
        NumPy dtype kinds it may have.
    long_name, units : str
    required : bool
    may_lead : bool
        Whether other dimensions may stand before ``dims``.
    """

    dims: tuple[str, ...]
    kinds: str
    long_name: str
    units: str = ""
    required: bool = True
    may_lead: bool = False


@dataclass(frozen=True)
class Contract:
    """Rules for one kind of Dataset."""

    kind: str
    variables: Mapping[str, Variable]
    coords: Mapping[str, Variable]
    attrs: tuple[str, ...]


_XYZ = ("x", "y", "z")

_GRID_COORDS = {
    "x": Variable(("x",), "i", "voxel index along the first axis of the source"),
    "y": Variable(("y",), "i", "voxel index along the second axis of the source"),
    "z": Variable(("z",), "i", "voxel index along the third axis of the source"),
    "affine": Variable(AFFINE_DIMS, "f", "voxel indices (x, y, z, 1) to world coordinates", "mm"),
}

#: Contract of a subject store.
SUBJECT = Contract(
    kind="subject",
    variables={
        "bold": Variable((*_XYZ, "sample"), "iuf", "samples of every voxel"),
        "mask": Variable(_XYZ, "b", "voxels that may be features"),
        "mean": Variable(_XYZ, "f", "mean over samples, drawn behind maps"),
        "nonfinite": Variable(_XYZ, "b", "voxels with a NaN or an infinity in any sample"),
    },
    coords={
        **_GRID_COORDS,
        "condition": Variable(("sample",), "TUO", "what was shown or done during the sample"),
        "run": Variable(("sample",), "i", "acquisition run of the sample"),
        "sample_index": Variable(("sample",), "i", "position of the sample in the store"),
    },
    attrs=("slcluster", "schema_version", "subject"),
)

#: Contract of the maps that an analysis returns. Which maps are present depends on the analysis.
RESULT = Contract(
    kind="result",
    variables={
        "score": Variable(
            _XYZ, "f", "score, mean over folds, or value of a measure", required=False, may_lead=True
        ),
        "score_fold": Variable(
            ("metric", "fold", *_XYZ), "f", "score of each fold", required=False, may_lead=True
        ),
        "hit_rate": Variable(
            ("class", *_XYZ), "f", "part of a class's test samples that is hit", required=False, may_lead=True
        ),
        "hit_rate_fold": Variable(
            ("class", "fold", *_XYZ), "f", "the same in each fold", required=False, may_lead=True
        ),
        "confusion": Variable(
            ("true", "predicted", *_XYZ),
            "f",
            "test samples predicted as, sum over folds",
            required=False,
            may_lead=True,
        ),
        "confusion_fold": Variable(
            ("true", "predicted", "fold", *_XYZ), "f", "the same in each fold", required=False, may_lead=True
        ),
        "sphere_size": Variable(_XYZ, "i", "mask voxels in the sphere", "voxel", required=False),
        "is_center": Variable(_XYZ, "b", "voxels that were computed", required=False),
        "fill_mask": Variable(_XYZ, "b", "voxels asked for, computed or to be filled", required=False),
        "F": Variable(_XYZ, "f", "one-way ANOVA F between conditions", required=False),
        "p": Variable(_XYZ, "f", "p value of F, uncorrected", required=False),
        "neg_log10_p": Variable(_XYZ, "f", "-log10 p, clipped at 10", required=False),
    },
    coords=_GRID_COORDS,
    attrs=("slcluster", "schema_version"),
)


def validate(ds: xr.Dataset, contract: Contract = SUBJECT) -> xr.Dataset:
    """Hold a Dataset against its contract.

    Parameters
    ----------
    ds : xarray.Dataset
        What to check. No voxel is read.
    contract : Contract
        :data:`SUBJECT` or :data:`RESULT`.

    Returns
    -------
    xarray.Dataset
        ``ds`` itself.

    Raises
    ------
    SchemaError
        Names the variable or attribute, what was expected and what came.
    """
    if not isinstance(ds, xr.Dataset):
        raise SchemaError(
            f"expected an xarray.Dataset as slcluster.open_store returns it, got {type(ds).__name__}"
        )
    kind = ds.attrs.get("slcluster", contract.kind)
    if kind != contract.kind:
        raise SchemaError(f"expected a {contract.kind} Dataset, got a {kind} Dataset")
    version = ds.attrs.get("schema_version", SCHEMA_VERSION)
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"schema version {version} is newer than this slcluster knows ({SCHEMA_VERSION}); upgrade slcluster"
        )
    for name, rule in contract.variables.items():
        _check(ds, name, rule, ds.data_vars)
    for name, rule in contract.coords.items():
        _check(ds, name, rule, ds.coords)
    return ds


def _check(ds: xr.Dataset, name: str, rule: Variable, where: Mapping[Any, xr.DataArray]) -> None:
    if name not in where:
        if rule.required:
            raise SchemaError(
                f"{name!r} ({', '.join(rule.dims)}) is missing; found {', '.join(sorted(map(str, ds.variables)))}"
            )
        return
    found = ds[name]
    dims = found.dims[-len(rule.dims) :] if rule.may_lead else found.dims
    if dims != rule.dims:
        raise SchemaError(f"{name!r} must have dimensions {rule.dims}, got {found.dims}")
    if found.dtype.kind not in rule.kinds:
        raise SchemaError(f"{name!r} must have a dtype of kind {'/'.join(rule.kinds)}, got {found.dtype}")


def space_coords(affine: Any, attrs: Mapping[str, Any]) -> dict[str, xr.Variable]:
    """The coordinates that say where a grid lies.

    ``affine`` (4, 4) is for people and arithmetic, but Xarray drops it from a map taken out of its Dataset,
    which has no such dimensions. ``space`` is a scalar and stays: its attributes hold the affine again, and the
    forms of the source's header.

    Parameters
    ----------
    affine : array, shape (4, 4)
        Voxel indices of the source to mm.
    attrs : mapping
        Attributes of the subject; those of :data:`FORM_ATTRS` are taken.

    Returns
    -------
    dict
        ``affine`` and ``space``.
    """
    rule = SUBJECT.coords["affine"]
    affine = np.array(affine, np.float64)
    forms = {name: attrs[name] for name in FORM_ATTRS if name in attrs}
    return {
        "affine": xr.Variable(AFFINE_DIMS, affine, {"long_name": rule.long_name, "units": rule.units}),
        "space": xr.Variable((), np.int8(0), {"affine": affine.ravel().tolist(), **forms}),
    }


def source_affine(ds: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Affine from voxel indices of the source to mm, float64 (4, 4); of a Dataset or of one map of it.

    Raises
    ------
    GeometryError
        If it has neither ``affine`` nor ``space``.
    """
    if "affine" in ds.coords:
        return np.asarray(ds["affine"].values, dtype=np.float64)
    if "space" in ds.coords:
        return np.reshape(ds["space"].attrs["affine"], (4, 4)).astype(np.float64)
    raise GeometryError("no affine: expected a Dataset or map of slcluster, with its coordinates")


def grid_affine(ds: xr.Dataset | xr.DataArray) -> np.ndarray:
    """Affine from array positions of this (perhaps cropped) grid to millimetres.

    The ``affine`` coordinate maps the voxel indices of the source, which ``x``, ``y`` and ``z`` hold; a
    spatial subset starts elsewhere or takes every n-th voxel, so its own affine is shifted and scaled.

    Parameters
    ----------
    ds : Dataset or DataArray
        With coordinates ``x``, ``y``, ``z`` and ``affine`` or ``space``.

    Returns
    -------
    numpy.ndarray
        float64, shape (4, 4).

    Raises
    ------
    GeometryError
        If an axis is not evenly spaced (the subset is no regular grid).

    Examples
    --------
    >>> ds = subject_dataset(np.zeros((4, 3, 2, 5), "f4"), affine=np.diag([2.0, 3.0, 4.0, 1.0]))
    >>> grid_affine(ds.isel(x=slice(1, None)))[0].tolist()
    [2.0, 0.0, 0.0, 2.0]
    """
    affine = source_affine(ds)
    local = np.eye(4)
    for axis, name in enumerate(_XYZ):
        index = np.atleast_1d(ds[name].values)
        steps = np.diff(index)
        if len(steps) and (steps != steps[0]).any():
            raise GeometryError(
                f"axis {name!r} is not evenly spaced ({index[:5].tolist()}...); take a slice of voxels with one step"
            )
        local[axis, axis] = steps[0] if len(steps) else 1
        local[axis, 3] = index[0]
    return affine @ local


def on_axes(volume: Any, axes: Mapping[str, np.ndarray], name: str) -> Any:
    """A volume as an array on the grid with these axes, if it says where its voxels are.

    Parameters
    ----------
    volume : object
        Anything but an :class:`xarray.DataArray` is returned as it is.
    axes : mapping of ``x``, ``y``, ``z`` to voxel indices
    name : str
        What the error calls it.

    Raises
    ------
    SchemaError
        If dimensions or voxel indices are others: a cropped or flipped volume would lie elsewhere.
    """
    if not isinstance(volume, xr.DataArray):
        return volume
    if set(volume.dims) != set(_XYZ):
        raise SchemaError(f"{name} must have the dimensions x, y and z, got {volume.dims}")
    for axis, wanted in axes.items():
        if axis in volume.coords and not np.array_equal(volume[axis].values, wanted):
            raise SchemaError(
                f"{name} has other voxel indices along {axis} than the Dataset: cropped, flipped or in another "
                "order; bring it to them with reindex_like(ds['mask'], fill_value=False)"
            )
    return volume.transpose(*_XYZ).values


def subject_dataset(
    bold: Any,
    *,
    affine: Any,
    mask: Any = None,
    condition: Any = None,
    run: Any = None,
    subject: str = "array",
    **columns: Any,
) -> xr.Dataset:
    """A subject Dataset from arrays already in memory, or from a Dask array.

    Parameters
    ----------
    bold : array, shape (nx, ny, nz, n_samples)
        Integers or floats; NumPy or Dask.
    affine : array, shape (4, 4)
        Voxel indices to millimetres.
    mask : array of bool, shape (nx, ny, nz), optional
        All voxels where not given.
    condition : sequence of str, length n_samples, optional
        ``"rest"`` where not given.
    run : sequence of int, length n_samples, optional
        One run where not given.
    subject : str
        Name used in messages and results.
    **columns
        Further columns, each of length n_samples.

    Returns
    -------
    xarray.Dataset
        Satisfies :data:`SUBJECT`. ``mean`` and ``nonfinite`` are computed as ``bold`` is: at once for NumPy,
        lazily for Dask.

    Raises
    ------
    SchemaError
        If shapes disagree.

    Examples
    --------
    >>> ds = subject_dataset(np.zeros((4, 3, 2, 5), "f4"), affine=np.eye(4), run=[0, 0, 0, 1, 1])
    >>> dict(ds.sizes)["sample"]
    5
    """
    if np.ndim(bold) != 4:
        raise SchemaError(f"bold must have dimensions (x, y, z, sample), got shape {np.shape(bold)}")
    *grid, n_samples = bold.shape
    condition = ["rest"] * n_samples if condition is None else condition
    columns = {
        "condition": np.array([str(name) for name in condition], dtype=str),
        "run": np.zeros(n_samples, np.int64) if run is None else np.asarray(run, np.int64),
        "sample_index": np.arange(n_samples, dtype=np.int64),
        **{name: np.asarray(values) for name, values in columns.items()},
    }
    for name, values in columns.items():
        if values.shape != (n_samples,):
            came = f"{len(values)} values" if values.ndim == 1 else f"shape {values.shape}"
            raise SchemaError(f"{name!r} has {came} for {n_samples} samples; give one value a sample")
    mask = np.ones(grid, bool) if mask is None else np.asarray(mask, bool)
    if mask.shape != tuple(grid):
        raise SchemaError(f"mask has shape {mask.shape}, bold has {tuple(grid)}")
    is_float = np.dtype(bold.dtype).kind == "f"
    nonfinite = ~np.isfinite(bold).all(axis=-1) if is_float else np.zeros(grid, bool)
    ds = xr.Dataset(
        {
            "bold": ((*_XYZ, "sample"), bold),
            "mask": (_XYZ, mask),
            "mean": (_XYZ, bold.mean(axis=-1, dtype=np.float64).astype(np.float32)),
            "nonfinite": (_XYZ, nonfinite),
        },
        coords={
            **{name: np.arange(size) for name, size in zip(_XYZ, grid, strict=True)},
            **space_coords(affine, {}),
            **{name: ("sample", values) for name, values in columns.items()},
        },
        attrs={"slcluster": SUBJECT.kind, "schema_version": SCHEMA_VERSION, "subject": subject},
    )
    return validate(ds)
