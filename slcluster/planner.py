"""From a Dataset and the words of an analysis to a frozen plan. All of an analysis's input is checked here."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr
from dask.utils import parse_bytes
from sklearn.base import is_regressor
from sklearn.model_selection import LeaveOneGroupOut, check_cv

from slcluster import estimators
from slcluster.errors import DesignError, GeometryError, InputError
from slcluster.io import read_mask
from slcluster.kernels.folds import Folds, MissingClassError, validate_folds
from slcluster.kernels.spheres import sphere_halo, sphere_offsets, sphere_sizes
from slcluster.plan import (
    Design,
    Geometry,
    Plan,
    choose_block_centers,
    design_identity,
    fit_memory,
    geometry_identity,
    with_blocks,
)
from slcluster.schema import SCHEMA_VERSION, SUBJECT, grid_affine, validate
from slcluster.store import open_source, source_of

__all__ = ["encode_targets", "plan", "usable_mask"]

log = logging.getLogger("slcluster")

#: Metrics that are undefined where a test part lacks a class.
_NEED_ALL_CLASSES = {
    "average_precision",
    "neg_log_loss",
    "roc_auc",
    "roc_auc_ovo",
    "roc_auc_ovo_weighted",
    "roc_auc_ovr",
    "roc_auc_ovr_weighted",
}

_NONFINITE = ("error", "zero", "exclude")


def plan(
    ds: xr.Dataset,
    *,
    radius_mm: float,
    estimator: Any = "svc",
    cv: Any = None,
    groups: str | None = "run",
    target: str = "condition",
    scoring: Any = "accuracy",
    process_mask: Any = None,
    standardize: str | None = None,
    detrend: bool = False,
    nonfinite: str = "error",
    min_voxels: int = 1,
    engine: str = "auto",
    block_centers: int | None = None,
    memory_limit: str | int | None = None,
) -> Plan:
    """Plan a searchlight: check everything, decide spheres, folds and blocks, project memory. No fit is run.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject: from :func:`slcluster.open_store`, :func:`slcluster.select`,
        :func:`slcluster.subject_dataset` or :func:`slcluster.simulate`.
    radius_mm : float
        Radius of the spheres in mm. A voxel whose distance equals the radius belongs
        (:mod:`slcluster.kernels.spheres`). Below the smallest voxel spacing spheres are single voxels.
    estimator : str or scikit-learn estimator
        A name of :data:`slcluster.estimators.NAMES` or any estimator or pipeline. ``"svc"`` is
        nilearn 0.14's default. A ``random_state`` of None becomes 0.
    cv : None, int, splitter or iterable of (train, test)
        None leaves one run out. An integer is scikit-learn's (stratified) k-fold. Train need not be the
        complement of test. A shuffling splitter without a seed gets seed 0.
    groups : str or None
        Sample coordinate whose values a group-wise splitter keeps together.
    target : str
        Sample coordinate to predict: text or integers are classes for a classifier.
    scoring : None, str, callable, sequence or mapping
        scikit-learn metric or metrics. None is the estimator's own score.
    process_mask : path, image or array, optional
        Voxels that are centers, on the Dataset's grid; all of the mask where not given.
    standardize : {None, "run"}
        Z-score the analysed samples of each run (``ddof=1``), as the reference example does for its F map.
    detrend : bool
        Remove each whole run's line before samples are chosen.
    nonfinite : {"error", "zero", "exclude"}
        What to do with mask voxels that hold NaN or infinities: refuse; set those values to 0, as nilearn;
        or take the voxels out of the mask.
    min_voxels : int
        Spheres of fewer voxels score NaN.
    engine : {"auto", "sklearn"}
        Code path; ``"auto"`` takes a fast engine where one computes exactly this estimator.
    block_centers : int, optional
        Centers in a block; from a table of costs where not given. Does not change the result.
    memory_limit : str or int, optional
        Bytes (or ``"2GB"``) that a worker may use. Blocks shrink to fit it where their size is not given.

    Returns
    -------
    Plan
        Printable, in text and in notebooks.

    Raises
    ------
    GeometryError
        Radius, masks or grids do not fit.
    DesignError
        Labels, runs or folds cannot be analysed.
    PlanError
        The memory limit is too low.
    InputError
        Anything else about an argument.

    Examples
    --------
    >>> from slcluster import simulate
    >>> ds = simulate(shape=(7, 8, 9), n_runs=4, seed=0)
    >>> p = plan(ds.isel(sample=ds.condition != "rest"), radius_mm=5.6)
    >>> len(p.design.folds.train)
    4
    """
    validate(ds, SUBJECT)
    _check_words(standardize, nonfinite, min_voxels, block_centers)
    source = source_of(ds)
    fitted = estimators.resolve(estimator)
    metrics, scorer, metrics_described = estimators.make_scorer(scoring, fitted)
    geometry = _geometry(ds, radius_mm, process_mask, nonfinite)
    design = _design(ds, source, fitted, cv, groups, target, metrics)
    engine = estimators.choose_engine(engine, fitted)
    log.info("%s: engine %s", ds.attrs.get("subject", "subject"), engine)
    identity = {
        "schema_version": SCHEMA_VERSION,
        "store": None if source is None else source.digest,
        **design_identity(design),
        **geometry_identity(geometry),
        "estimator": estimators.describe(fitted),
        "scoring": metrics_described,
        "metrics": list(metrics),
        "engine": engine,
        "engine_version": estimators.ENGINES[engine],
        "standardize": standardize,
        "detrend": bool(detrend),
        "nonfinite": nonfinite,
        "min_voxels": int(min_voxels),
    }
    made = Plan(
        subject=str(ds.attrs.get("subject", "subject")),
        source_path=None if source is None else source.path,
        source_digest=None if source is None else source.digest,
        value_bytes=ds["bold"].dtype.itemsize,
        geometry=geometry,
        design=design,
        estimator=fitted,
        scorer=scorer,
        metrics=metrics,
        engine=engine,
        standardize=standardize,
        detrend=bool(detrend),
        nonfinite=nonfinite,
        min_voxels=int(min_voxels),
        block_centers=max(1, len(geometry.centers_ijk)),
        attrs={key: value for key, value in ds.attrs.items() if key not in ("slcluster", "schema_version")},
        identity=identity,
    )
    chosen = block_centers or choose_block_centers(
        geometry.sphere_size, len(design.targets), len(design.folds.train), len(metrics)
    )
    limit = None if memory_limit is None else _bytes(memory_limit)
    return fit_memory(with_blocks(made, chosen), limit, may_shrink=block_centers is None)


def _check_words(standardize: Any, nonfinite: Any, min_voxels: Any, block_centers: Any) -> None:
    if standardize not in (None, "run"):
        raise InputError(f'standardize must be None or "run", got {standardize!r}')
    if nonfinite not in _NONFINITE:
        raise InputError(f"nonfinite must be one of {', '.join(_NONFINITE)}, got {nonfinite!r}")
    for name, value in (("min_voxels", min_voxels), ("block_centers", block_centers)):
        if value is not None and (not isinstance(value, int | np.integer) or value < 1):
            raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")


def _bytes(memory_limit: str | int) -> int:
    try:
        n_bytes = parse_bytes(memory_limit)
    except (ValueError, AttributeError, TypeError):
        n_bytes = 0
    if n_bytes <= 0:
        raise InputError(f'memory_limit must be bytes, or text such as "2GB", got {memory_limit!r}')
    return n_bytes


def usable_mask(ds: xr.Dataset, nonfinite: str) -> np.ndarray:
    """The Dataset's mask after the policy on NaN and infinities: bool (nx, ny, nz).

    Raises
    ------
    GeometryError
        If the mask is empty.
    InputError
        If the policy is ``"error"`` and mask voxels hold non-finite values: their count and the first.
    """
    mask = np.array(ds["mask"].values, bool)
    if not mask.any():
        raise GeometryError("the mask has no voxels; give one that covers the brain")
    if ds["bold"].dtype.kind != "f" or nonfinite == "zero":
        return mask
    source = source_of(ds)
    flagged = mask & (open_source(source)["nonfinite"].values if source else True)
    if not flagged.any():
        return mask
    # The store flags a voxel for any of its samples; what counts is the samples that are left.
    bad = mask & ~np.asarray(np.isfinite(ds["bold"].data).all(axis=-1))
    if nonfinite == "exclude":
        mask &= ~bad
        if not mask.any():
            raise GeometryError("every mask voxel holds a non-finite value; nothing is left to analyse")
        return mask
    if bad.any():
        first = tuple(np.argwhere(bad)[0].tolist())
        raise InputError(
            f"{np.count_nonzero(bad)} mask voxels hold NaN or infinite values, the first at voxel {first}; "
            'pass nonfinite="exclude" to leave them out or nonfinite="zero" to set the values to 0'
        )
    return mask


def _geometry(ds: xr.Dataset, radius_mm: float, process_mask: Any, nonfinite: str) -> Geometry:
    affine = grid_affine(ds)
    mask = usable_mask(ds, nonfinite)
    nx, ny, nz = mask.shape
    try:
        radius_mm = float(radius_mm)
    except (TypeError, ValueError):
        raise GeometryError(f"radius_mm must be a number of millimetres, got {radius_mm!r}") from None
    offsets = sphere_offsets(affine, radius_mm, (nx, ny, nz))
    spacing_mm = np.linalg.norm(affine[:3, :3], axis=0).min()
    if radius_mm < spacing_mm:
        warnings.warn(
            f"radius_mm={radius_mm:g} is below the smallest voxel spacing ({spacing_mm:g} mm): "
            "every sphere is a single voxel",
            stacklevel=4,
        )
    wanted = (
        mask if process_mask is None else read_mask(process_mask, mask.shape, affine, name="process mask")
    )
    centers = np.argwhere(wanted).astype(np.int32)
    outside = np.count_nonzero(wanted & ~mask)
    if outside:
        warnings.warn(
            f"{outside} of {len(centers)} centers lie outside the mask; they are scored from their neighbours in it",
            stacklevel=4,
        )
    return Geometry(
        affine=affine,
        axes=(ds["x"].values, ds["y"].values, ds["z"].values),
        mask=mask,
        process_mask=wanted,
        radius_mm=radius_mm,
        offsets=offsets,
        halo=sphere_halo(offsets),
        centers_ijk=centers,
        sphere_size=sphere_sizes(centers, mask, offsets),
    )


def encode_targets(values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Class codes (int64) and the sorted classes they stand for.

    Raises
    ------
    DesignError
        If there are fewer than two classes.
    """
    classes, codes = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise DesignError(
            f"{name!r} has only one class in the selected samples ({classes[0]}); select at least two conditions"
        )
    return codes.astype(np.int64), classes


def _design(
    ds: xr.Dataset,
    source: Any,
    estimator: Any,
    cv: Any,
    groups: str | None,
    target: str,
    metrics: tuple[str, ...],
) -> Design:
    if not ds.sizes["sample"]:
        raise DesignError("the selection has no samples")
    values = _column(ds, target, "target")
    runs = ds["run"].values
    if source is None:
        chosen, all_runs = np.arange(len(runs)), runs.copy()
    else:
        chosen = ds["sample_index"].values
        all_runs = open_source(source)["run"].values.copy()
        all_runs[chosen] = runs  # a run replaced after opening counts
    classes = None
    if estimators.is_classification(estimator, values):
        targets, classes = encode_targets(values, target)
        if target == "condition" and "rest" in classes:
            warnings.warn(
                "'rest' is one of the classes; select conditions first if it should not be decoded "
                '(slc.select(ds, conditions=["face", "house"]))',
                stacklevel=4,
            )
    else:
        targets = _numbers(values, target)
        if "accuracy" in metrics:
            raise InputError(
                "scoring='accuracy' is for classifiers; pass scoring='r2' (or None for the estimator's own)"
            )
    group_of = np.zeros(len(runs), np.int64) if groups is None else _column(ds, groups, "groups")
    labels = targets if classes is None else classes[targets]
    folds = _folds(cv, labels, group_of, groups, estimator, classes is not None)
    _validate(folds, targets, classes, group_of, metrics)
    return Design(
        chosen=np.asarray(chosen, np.int64),
        all_runs=np.asarray(all_runs, np.int64),
        sample_index=np.asarray(ds["sample_index"].values, np.int64),
        targets=targets,
        classes=classes,
        groups=group_of,
        folds=folds,
    )


def _column(ds: xr.Dataset, name: str, argument: str) -> np.ndarray:
    columns = [str(key) for key, coord in ds.coords.items() if coord.dims == ("sample",)]
    if name not in columns:
        raise DesignError(
            f"{argument}={name!r} is not a column of the samples; {estimators.nearest(name, columns)}"
        )
    values = ds[name].values
    # Estimators and splitters know fixed-width text, not NumPy's new variable-width one.
    return np.array([str(item) for item in values]) if values.dtype.kind in "TO" else values


def _numbers(values: np.ndarray, name: str) -> np.ndarray:
    try:
        numbers = values.astype(np.float64)
    except ValueError:
        raise DesignError(f"{name!r} holds text ({values[0]!r}); a regression needs numbers") from None
    if not np.isfinite(numbers).all():
        raise DesignError(f"{name!r} holds {np.count_nonzero(~np.isfinite(numbers))} non-finite values")
    return numbers


def _folds(
    cv: Any,
    labels: np.ndarray,
    group_of: np.ndarray,
    groups: str | None,
    estimator: Any,
    is_classification: bool,
) -> Folds:
    if cv is None:
        if len(np.unique(group_of)) < 2:
            raise DesignError(
                f"cv=None leaves one {groups or 'run'} out, but there is only one; pass cv= (for example cv=5)"
            )
        cv = LeaveOneGroupOut()
    if isinstance(cv, Iterable) and not hasattr(cv, "split"):
        pairs = list(cv)
    else:
        try:
            splitter = check_cv(cv, labels, classifier=is_classification and not is_regressor(estimator))
        except (ValueError, TypeError) as error:
            raise DesignError(
                f"cv={cv!r} is not a number of folds, a splitter or pairs of indices: {error}"
            ) from None
        splitter = copy.copy(splitter)
        if getattr(splitter, "random_state", 0) is None:
            splitter.random_state = estimators.DEFAULT_SEED
        try:
            with warnings.catch_warnings():
                # The run is offered to every splitter; those that have no use for it say so.
                warnings.filterwarnings("ignore", message="The groups parameter is ignored")
                pairs = list(splitter.split(np.zeros((len(labels), 1)), labels, group_of))
        except ValueError as error:
            raise DesignError(f"{splitter!r} cannot split the selected samples: {error}") from None
    try:
        parts = [(_indices(train), _indices(test)) for train, test in pairs]
    except (TypeError, ValueError):
        raise DesignError("cv must yield pairs (train, test) of sample indices or booleans") from None
    return Folds(tuple(train for train, _ in parts), tuple(test for _, test in parts))


def _indices(part: Any) -> np.ndarray:
    part = np.asarray(part)
    return np.flatnonzero(part) if part.dtype == bool else part.astype(np.int64, casting="same_kind")


def _validate(
    folds: Folds,
    targets: np.ndarray,
    classes: np.ndarray | None,
    group_of: np.ndarray,
    metrics: tuple[str, ...],
) -> None:
    try:
        validate_folds(folds, len(targets), None if classes is None else targets)
    except MissingClassError as error:
        names = ", ".join(str(classes[code]) for code in error.codes) if classes is not None else ""
        held_out = np.unique(group_of[folds.test[error.fold]]).tolist()
        raise DesignError(
            f"fold {error.fold} (testing on group {held_out}) trains without any sample of {names}; "
            "change cv or the selection of samples"
        ) from None
    needing = sorted(_NEED_ALL_CLASSES & set(metrics))
    if classes is None or not needing:
        return
    for number, test in enumerate(folds.test):
        missing = np.setdiff1d(np.arange(len(classes)), targets[test])
        if len(missing):
            names = ", ".join(map(str, classes[missing]))
            raise DesignError(
                f"the test part of fold {number} has no sample of {names}, which {needing[0]} needs; "
                "change cv or use another scorer"
            )
