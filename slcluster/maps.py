"""Scores of centers to labelled maps: Xarray Datasets on the grid, with NaN where nothing was computed."""

from __future__ import annotations

import itertools
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr

from slcluster.estimators import Layout
from slcluster.plan import Plan
from slcluster.schema import RESULT, SCHEMA_VERSION, space_coords, validate

__all__ = [
    "chance_of",
    "map_names",
    "maps_dataset",
    "named_maps",
    "named_scores",
    "over_folds",
    "plan_attrs",
    "scatter",
    "single_maps",
    "versions",
]

_XYZ = ("x", "y", "z")


def versions() -> dict[str, str]:
    """Versions of what can change a number, and of Python."""
    found = {"python": platform.python_version()}
    for name in ("slcluster", "dask", "nibabel", "numba", "numpy", "scikit-learn", "scipy", "xarray", "zarr"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def plan_attrs(plan: Plan) -> dict[str, Any]:
    """What a result says about how it was made: JSON text and plain values, fit for attributes."""
    design, geometry = plan.design, plan.geometry
    attrs: dict[str, Any] = {
        **plan.attrs,
        "subject": plan.subject,
        "fingerprint": plan.fingerprint,
        "identity": json.dumps(plan.identity, sort_keys=True),
        "estimator": " ".join(repr(plan.estimator).split()),
        "engine": plan.engine,
        "center_spacing": list(geometry.center_spacing),
        "n_centers": plan.n_centers,
        "n_samples": len(design.targets),
        "n_folds": len(design.folds.train),
        "class_counts": json.dumps(design.class_counts),
        "standardize": plan.standardize or "none",
        "detrend": int(plan.detrend),
        "nonfinite": plan.nonfinite,
        "min_voxels": plan.min_voxels,
        "arguments": json.dumps(plan.arguments, sort_keys=True, default=str),
        "versions": json.dumps(versions()),
    }
    for name, size in (("radius_mm", geometry.radius_mm), ("n_voxels", geometry.n_voxels)):
        if size is not None:
            attrs[name] = size
    if plan.chance is not None:
        attrs["chance"] = plan.chance
    return attrs


def scatter(
    centers_ijk: np.ndarray, values: np.ndarray, shape: tuple[int, int, int], fill: float
) -> np.ndarray:
    """Values of centers, shape (n_centers, ...), onto a grid of shape (..., nx, ny, nz)."""
    full = np.full((*values.shape[1:], *shape), fill, values.dtype)
    i, j, k = centers_ijk.T
    full[..., i, j, k] = np.moveaxis(values, 0, -1)
    return full


def over_folds(values: np.ndarray, layout: Layout) -> np.ndarray:
    """What stands for all folds, the last axis: the unweighted mean of metrics, the sum of counts.

    Hit rates are averaged over the folds that test on the class. Contiguous, so that each value's folds are
    summed as NumPy sums one vector.

    Parameters
    ----------
    values : float64 array, shape (..., n_values, n_folds)
    layout : Layout
    """
    values = np.ascontiguousarray(values)
    found = np.mean(values, axis=-1)
    for table, part in layout.parts.items():
        folds = values[..., part, :]
        found[..., part] = _mean_of_defined(folds) if table == "hit_rate" else folds.sum(axis=-1)
    return found


def _mean_of_defined(folds: np.ndarray) -> np.ndarray:
    is_defined = ~np.isnan(folds)
    n_defined = is_defined.sum(axis=-1)
    total = np.where(is_defined, folds, 0).sum(axis=-1)
    # Not 0 / 0, whose NaN has another bit pattern than the NaN of voxels that are no centers.
    return np.divide(total, n_defined, out=np.full(total.shape, np.nan), where=n_defined > 0)


def maps_dataset(
    score: Any,
    score_fold: Any,
    sphere_size: np.ndarray,
    *,
    layout: Layout,
    is_measure: bool,
    axes: Mapping[str, np.ndarray],
    affine: np.ndarray,
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """The maps of a searchlight.

    Parameters
    ----------
    score : NumPy or Dask array, shape (n_values, nx, ny, nz)
        From :func:`over_folds`.
    score_fold : NumPy or Dask array, shape (n_values, n_folds, nx, ny, nz)
    sphere_size : int32 array, shape (nx, ny, nz)
        0 where there is no center.
    layout : Layout
        Of the values.
    is_measure : bool
        A measure has no folds, and keeps its own dimensions.
    axes : mapping of "x", "y", "z" to voxel indices of the source
    affine : array (4, 4)
        Voxel indices of the source to mm.
    attrs : mapping

    Returns
    -------
    xarray.Dataset
        ``score (x, y, z)`` for one metric, else ``(metric, x, y, z)``; ``score_fold (metric, fold, x, y, z)``;
        ``sphere_size (x, y, z)``. Of a measure ``score`` with its dimensions before x, y and z. Tables of
        classes as ``hit_rate (class, x, y, z)`` and ``confusion (true, predicted, x, y, z)``, with ``fold`` after
        these dimensions in ``hit_rate_fold`` and ``confusion_fold``.
    """
    if is_measure:
        variables, coords = _measure_variables(score, layout), {}
    else:
        n = len(layout.plain)
        variables = _score_variables(score[:n], score_fold[:n], layout.plain)
        variables |= _table_variables(score, score_fold, layout)
        coords = {"fold": ("fold", np.arange(score_fold.shape[1])), **_table_coords(layout)}
    ds = xr.Dataset(
        {
            **variables,
            "sphere_size": (_XYZ, sphere_size, {"long_name": "mask voxels in the sphere", "units": "voxel"}),
        },
        coords={
            **{name: (name, np.asarray(values)) for name, values in axes.items()},
            **space_coords(affine, attrs),
            **{
                dim: (dim, _as_coordinate(labels))
                for dim, labels in zip(layout.dims, layout.labels, strict=True)
            },
            **coords,
        },
        attrs={"slcluster": RESULT.kind, "schema_version": SCHEMA_VERSION, **attrs},
    )
    return validate(ds, RESULT)


def _as_coordinate(labels: tuple[Any, ...]) -> np.ndarray:
    return np.array(labels, dtype=object if isinstance(labels[0], str) else None)


def _score_variables(score: Any, score_fold: Any, metrics: tuple[str, ...]) -> dict[str, Any]:
    one = len(metrics) == 1
    dims, mean = (_XYZ, score[0]) if one else (("metric", *_XYZ), score)
    about = {"long_name": f"cross-validated {metrics[0] if one else 'score'}, mean over folds"}
    of_fold = (("metric", "fold", *_XYZ), score_fold, {"long_name": "score of each fold"})
    return {"score": (dims, mean, about), "score_fold": of_fold}


#: Dimensions of a table of classes.
_TABLE_DIMS = {"hit_rate": ("class",), "confusion": ("true", "predicted")}

_TABLE_NAMES = {
    "hit_rate": "part of a class's test samples that is hit",
    "confusion": "test samples predicted as",
}


def _table_variables(score: Any, score_fold: Any, layout: Layout) -> dict[str, Any]:
    found, n_classes = {}, len(layout.classes)
    for table, part in layout.parts.items():
        dims, about = _TABLE_DIMS[table], _TABLE_NAMES[table]
        shape = (n_classes,) * len(dims)
        total, folds = score[part], score_fold[part]
        over = "mean over folds" if table == "hit_rate" else "sum over folds"
        found[table] = (
            (*dims, *_XYZ),
            total.reshape((*shape, *total.shape[1:])),
            {"long_name": f"{about}, {over}"},
        )
        found[f"{table}_fold"] = (
            (*dims, "fold", *_XYZ),
            folds.reshape((*shape, *folds.shape[1:])),
            {"long_name": f"{about}, in each fold"},
        )
    return found


def _table_coords(layout: Layout) -> dict[str, Any]:
    dims = [dim for table in layout.tables for dim in _TABLE_DIMS[table]]
    return {dim: (dim, _as_coordinate(layout.classes)) for dim in dims}


def _measure_variables(score: Any, layout: Layout) -> dict[str, Any]:
    values = score.reshape((*layout.shape, *score.shape[1:]))
    return {"score": ((*layout.dims, *_XYZ), values, {"long_name": "measure of the sphere"})}


def single_maps(da: xr.DataArray) -> Iterator[tuple[str, xr.DataArray]]:
    """Every map of a variable with dimensions before x, y and z, folds kept together, and what stands along them."""
    leading = [dim for dim in da.dims if dim not in ("fold", *_XYZ)]
    for at in itertools.product(*(range(da.sizes[dim]) for dim in leading)):
        one = da.isel(dict(zip(leading, at, strict=True)))
        yield ",".join(str(one[dim].values) for dim in leading), one


def named_scores(result: xr.Dataset) -> dict[str, xr.DataArray]:
    """Maps (x, y, z) of a result's scores or values, by what each is called: a metric, a pair, ``"value"``."""
    only = str(result["metric"].values.item(0)) if "metric" in result.coords else "value"
    return {name or only: one for name, one in single_maps(result["score"])}


def named_maps(result: xr.Dataset) -> dict[str, xr.DataArray]:
    """The maps of :func:`named_scores`, and those of tables: ``"hit_rate-face"``, ``"confusion-face,house"``."""
    tables = [name for name in _TABLE_DIMS if name in result]
    return named_scores(result) | {
        f"{table}-{name}": one for table in tables for name, one in single_maps(result[table])
    }


def chance_of(attrs: Mapping[str, Any], name: str) -> float | None:
    """What guessing scores, for metrics where that does not depend on the data or on how one guesses.

    Parameters
    ----------
    attrs : mapping
        Attributes of a result.
    name : str
        Of a map, as :func:`named_maps` calls it.
    """
    if name in ("accuracy", "balanced_accuracy") or name.startswith("hit_rate-"):
        return attrs.get("chance")
    return 0.5 if name.startswith("roc_auc") else None


def map_names(layout: Layout) -> tuple[str, ...]:
    """What :func:`named_maps` calls the maps of a result, in the order that its values are stored in.

    Examples
    --------
    >>> map_names(Layout(("metric",), (("accuracy",),), ("hit_rate",), ("face", "house")))
    ('accuracy', 'hit_rate-face', 'hit_rate-house')
    """
    tables = layout.names[len(layout.plain) :]
    return (*layout.plain, *(name.replace("[", "-", 1).removesuffix("]") for name in tables))
