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

__all__ = ["fold_mean", "maps_dataset", "named_scores", "plan_attrs", "scatter", "single_maps", "versions"]

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


def fold_mean(score: np.ndarray) -> np.ndarray:
    """Unweighted mean over the last axis, folds. Contiguous, so that it sums as NumPy sums one vector."""
    return np.mean(np.ascontiguousarray(score), axis=-1)


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
        Mean over folds.
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
        ``sphere_size (x, y, z)``. Of a measure ``score`` with its dimensions before x, y and z.
    """
    if is_measure:
        variables, folds = _measure_variables(score, layout), {}
    else:
        variables = _score_variables(score, score_fold, layout.names)
        folds = {"fold": ("fold", np.arange(score_fold.shape[1]))}
    ds = xr.Dataset(
        {
            **variables,
            "sphere_size": (_XYZ, sphere_size, {"long_name": "mask voxels in the sphere", "units": "voxel"}),
        },
        coords={
            **{name: (name, np.asarray(values)) for name, values in axes.items()},
            **space_coords(affine, attrs),
            **{dim: (dim, _as_coordinate(labels)) for dim, labels in zip(*layout, strict=True)},
            **folds,
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
