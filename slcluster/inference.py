"""Statistics of single voxels beside the searchlight: the F map, lazy from the same store."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from slcluster.design import encode_targets, sample_column, warn_of_rest
from slcluster.errors import DesignError
from slcluster.kernels.anova import anova
from slcluster.kernels.preparation import prepare
from slcluster.planner import check_preparation, usable_mask
from slcluster.schema import RESULT, SCHEMA_VERSION, SUBJECT, space_coords, validate
from slcluster.store import Source, check_whole_runs, open_source, source_of
from slcluster.store.subject import check_unchanged

__all__ = ["f_score"]

_NAMES = {
    "F": "one-way ANOVA F between conditions",
    "p": "p value of F, uncorrected",
    "neg_log10_p": "-log10 p, clipped at 10",
}


def f_score(
    ds: xr.Dataset,
    *,
    standardize: str | None = "run",
    detrend: bool = False,
    target: str = "condition",
    nonfinite: str = "error",
) -> xr.Dataset:
    """Map of one-way ANOVA F between conditions, its p value and -log10 p, voxel by voxel. Lazy.

    The reference example's map beside the searchlight: each voxel's analysed samples are z-scored within
    their run, then compared between conditions as scikit-learn's ``f_classif`` does, all in float64.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject, usually with conditions selected (:func:`slcluster.select`).
    standardize : {"run", None}
        Z-score within each run (``ddof=1``) before the comparison.
    detrend : bool
        Remove each whole run's line first, before samples are chosen.
    target : str
        Sample coordinate whose classes are compared.
    nonfinite : {"error", "zero", "exclude"}
        What to do with mask voxels that hold NaN or infinities, as in :func:`slcluster.plan`.

    Returns
    -------
    xarray.Dataset
        ``F``, ``p`` and ``neg_log10_p`` (clipped at 10, also where p underflows), float64, dims (x, y, z).
        NaN outside the mask and for constant voxels. p values are per voxel and not corrected. Samples that
        follow each other are not independent, so F is a description rather than a test.

    Raises
    ------
    InputError, DesignError
        Unknown option, fewer than two classes, or no more samples than classes.

    Examples
    --------
    >>> from slcluster import simulate
    >>> ds = simulate(shape=(7, 8, 9), n_runs=2, seed=0)
    >>> maps = f_score(ds.isel(sample=ds.condition != "rest"))
    >>> float(maps.neg_log10_p.max()) <= 10
    True
    """
    validate(ds, SUBJECT)
    check_preparation(standardize, detrend)
    codes, classes = encode_targets(sample_column(ds, target, "target"), target)
    warn_of_rest(target, classes)
    if len(codes) <= len(classes):
        raise DesignError(
            f"F needs more samples than classes, got {len(codes)} samples of {len(classes)} classes"
        )
    mask = usable_mask(ds, nonfinite, detrend=detrend)
    bold, runs, chosen = _samples(ds, detrend)
    options = {"detrend": detrend, "standardize": standardize, "zero_nonfinite": nonfinite == "zero"}
    source = source_of(ds)
    maps = da.map_blocks(
        _block,
        bold,
        da.from_array(mask[..., None], chunks=(*bold.chunks[:3], (1,))),
        runs,
        chosen,
        codes,
        options,
        source,
        chunks=(*bold.chunks[:3], (3,)),
        dtype=np.float64,
        meta=np.empty((0,) * 4),
        token="f-score",
    )
    attrs = {key: value for key, value in ds.attrs.items() if key not in ("slcluster", "schema_version")}
    result = xr.Dataset(
        {
            name: (("x", "y", "z"), maps[..., i], {"long_name": text})
            for i, (name, text) in enumerate(_NAMES.items())
        },
        coords={
            **{name: (name, ds[name].values) for name in "xyz"},
            **space_coords(ds["affine"].values, ds.attrs),
        },
        attrs={
            "slcluster": RESULT.kind,
            "schema_version": SCHEMA_VERSION,
            **attrs,
            "target": target,
            "classes": [str(name) for name in classes],
            "n_samples": len(codes),
            "standardize": standardize or "none",
            "detrend": int(detrend),
            "nonfinite": nonfinite,
        },
    )
    return validate(result, RESULT)


def _samples(ds: xr.Dataset, detrend: bool) -> tuple[da.Array, np.ndarray, np.ndarray]:
    """The array to read, the run of each of its samples, and which of them are analysed.

    Whole runs are needed only to detrend; then the store that ``ds`` is a selection of is read.
    """
    source = source_of(ds) if detrend else None
    runs = ds["run"].values
    if source is None:
        if detrend:
            check_whole_runs(ds)
        bold, chosen = da.asarray(ds["bold"].data), np.arange(len(runs))
    else:
        whole = open_source(source)
        bold, chosen = whole["bold"].data, ds["sample_index"].values
        all_runs = whole["run"].values.copy()
        all_runs[chosen] = runs
        runs = all_runs
    return bold.rechunk({3: -1}), runs, chosen


def _block(
    bold: np.ndarray,
    mask: np.ndarray,
    runs: np.ndarray,
    chosen: np.ndarray,
    codes: np.ndarray,
    options: dict[str, Any],
    source: Source | None,
) -> np.ndarray:
    """F, p and -log10 p of one chunk: (x, y, z, 3), NaN outside the mask."""
    if source is not None:
        check_unchanged(source.path, source.digest)
    inside = mask[..., 0]
    out = np.full((*inside.shape, 3), np.nan)
    if inside.any():
        # Here float64 also for integers, which estimators get as float32.
        values = prepare(bold[inside].astype(np.float64), runs, chosen, **options)
        out[inside] = np.stack(anova(values, codes), axis=-1)
    return out
