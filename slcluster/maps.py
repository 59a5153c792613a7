"""Scores of centers to labelled maps: Xarray Datasets on the grid, with NaN where nothing was computed."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr

from slcluster.plan import Plan
from slcluster.schema import RESULT, SCHEMA_VERSION, space_coords, validate

__all__ = ["fold_mean", "maps_dataset", "plan_attrs", "scatter", "versions"]

_XYZ = ("x", "y", "z")


def versions() -> dict[str, str]:
    """Versions of what can change a number, and of Python."""
    found = {"python": platform.python_version()}
    for name in ("slcluster", "dask", "nibabel", "numpy", "scikit-learn", "scipy", "xarray", "zarr"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def plan_attrs(plan: Plan) -> dict[str, Any]:
    """What a result says about how it was made: JSON text and plain values, fit for attributes."""
    design = plan.design
    attrs: dict[str, Any] = {
        **plan.attrs,
        "subject": plan.subject,
        "fingerprint": plan.fingerprint,
        "identity": json.dumps(plan.identity, sort_keys=True),
        "estimator": " ".join(repr(plan.estimator).split()),
        "engine": plan.engine,
        "radius_mm": plan.geometry.radius_mm,
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
    metrics: tuple[str, ...],
    axes: Mapping[str, np.ndarray],
    affine: np.ndarray,
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """The maps of a searchlight.

    Parameters
    ----------
    score : NumPy or Dask array, shape (n_metrics, nx, ny, nz)
        Mean over folds.
    score_fold : NumPy or Dask array, shape (n_metrics, n_folds, nx, ny, nz)
    sphere_size : int32 array, shape (nx, ny, nz)
        0 where there is no center.
    metrics : tuple of str
    axes : mapping of "x", "y", "z" to voxel indices of the source
    affine : array (4, 4)
        Voxel indices of the source to mm.
    attrs : mapping

    Returns
    -------
    xarray.Dataset
        ``score (x, y, z)`` for one metric, else ``(metric, x, y, z)``; ``score_fold (metric, fold, x, y, z)``;
        ``sphere_size (x, y, z)``.
    """
    one = len(metrics) == 1
    mean = (_XYZ, score[0]) if one else (("metric", *_XYZ), score)
    ds = xr.Dataset(
        {
            "score": (
                *mean,
                {"long_name": f"cross-validated {metrics[0] if one else 'score'}, mean over folds"},
            ),
            "score_fold": (("metric", "fold", *_XYZ), score_fold, {"long_name": "score of each fold"}),
            "sphere_size": (_XYZ, sphere_size, {"long_name": "mask voxels in the sphere", "units": "voxel"}),
        },
        coords={
            **{name: (name, np.asarray(values)) for name, values in axes.items()},
            **space_coords(affine, attrs),
            "metric": ("metric", np.array(metrics, dtype=object)),
            "fold": ("fold", np.arange(score_fold.shape[1])),
        },
        attrs={"slcluster": RESULT.kind, "schema_version": SCHEMA_VERSION, **attrs},
    )
    return validate(ds, RESULT)
