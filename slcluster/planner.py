"""From a Dataset and the words of an analysis to a frozen plan. All of an analysis's input is checked here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from slcluster import estimators
from slcluster.design import make_design
from slcluster.errors import GeometryError, InputError
from slcluster.geometry import check_counts, make_geometry
from slcluster.plan import (
    Plan,
    choose_block_centers,
    design_identity,
    fit_memory,
    geometry_identity,
    with_blocks,
)
from slcluster.schema import SCHEMA_VERSION, SUBJECT, validate
from slcluster.sizes import parse_bytes
from slcluster.store import check_whole_runs, open_source, source_of

__all__ = ["check_preparation", "plan", "usable_mask"]

log = logging.getLogger("slcluster")

_NONFINITE = ("error", "zero", "exclude")


def plan(
    ds: xr.Dataset,
    *,
    radius_mm: float | None = None,
    n_voxels: int | None = None,
    estimator: Any = "svc",
    cv: Any = None,
    groups: str | None = "run",
    target: str = "condition",
    train_on: Mapping[str, Any] | None = None,
    test_on: Mapping[str, Any] | None = None,
    sample_weight: str | None = None,
    scoring: Any = "accuracy",
    process_mask: Any = None,
    center_spacing: int | tuple[int, int, int] = 1,
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
    radius_mm : float, optional
        Radius of the spheres in mm. A voxel whose distance equals the radius belongs
        (:mod:`slcluster.kernels.spheres`). Below the smallest voxel spacing spheres are single voxels.
    n_voxels : int, optional
        Voxels in a sphere: the mask voxels nearest to its center, in mm. Of equally far ones those first in C
        order are taken. With ``radius_mm`` too, at most so many within the radius; without, always so many, which
        lie farther out at the rim of the mask. One of the two is needed.
    estimator : str, scikit-learn estimator, measure or function
        A name of :data:`slcluster.estimators.NAMES` or any estimator or pipeline. ``"svc"`` is
        nilearn 0.14's default. A ``random_state`` of None becomes 0. Or a measure of the sphere that is no
        score: :class:`slcluster.Crossnobis`, :class:`slcluster.SplitHalf`, :class:`slcluster.RSA`, or a function of
        ``X`` (samples x voxels), ``y`` (conditions) and ``groups`` that gives a number, an array or a mapping of names to these.
    cv : None, int, splitter or iterable of (train, test)
        None leaves one run out (:class:`slcluster.SplitHalf`: odd against even runs). An integer is scikit-learn's (stratified) k-fold. Train need not be the
        complement of test. A shuffling splitter without a seed gets seed 0.
    groups : str or None
        Sample coordinate whose values a group-wise splitter keeps together.
    target : str
        Sample coordinate to predict: text or integers are classes for a classifier.
    train_on, test_on : mapping of column to value or values, optional
        Cross-decoding: of each fold only samples that have these values are trained on, and tested on. Where
        ``cv`` is None and the two share neither samples nor groups there is one fold; where they share groups
        one group is left out at a time.
    sample_weight : str, optional
        Sample coordinate, a number of at least 0: how much each sample counts in a fit, by the scikit-learn
        engine. Scores count every test sample alike.
    scoring : None, str, callable, sequence or mapping
        scikit-learn metric or metrics. None is the estimator's own score. A measure has none. In a list also
        ``"hit_rate"``, the part of each class's test samples that is hit, and ``"confusion"``, the test samples
        of each class predicted as each: tables of their own in the result.
    process_mask : path, image or array, optional
        Voxels that are centers, on the Dataset's grid: those that are neither 0 nor NaN. All of the mask where
        not given.
    center_spacing : int or three ints
        Make only every n-th voxel of the process mask, along all axes or each, a center. Voxels count from index
        0 of the source, so that a cropped Dataset and the whole one have the same centers. The others are NaN;
        :func:`slcluster.fill_centers` fills them.
    standardize : {None, "run", "fold"}
        Z-score every voxel. ``"run"``: the analysed samples of each run (``ddof=1``), as the reference example
        does for its F map; where folds divide a run, its training samples then enter the scale of those it is
        tested on. ``"fold"``: by mean and spread of each fold's training samples, as a StandardScaler in a
        pipeline, for any engine.
    detrend : bool
        Remove each whole run's line before samples are chosen.
    nonfinite : {"error", "zero", "exclude"}
        What to do with mask voxels that hold NaN or infinities: refuse; set those values to 0, as nilearn;
        or take the voxels out of the mask.
    min_voxels : int
        Spheres of fewer voxels score NaN.
    engine : str
        Code path: ``"auto"`` takes a fast engine where one computes exactly this estimator and its metrics,
        ``"sklearn"`` always exists, others are the keys of :data:`slcluster.estimators.ENGINES`.
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
    check_preparation(standardize, detrend, known=("run", "fold"))
    check_counts(min_voxels=min_voxels, block_centers=block_centers)
    if min_voxels is None or not isinstance(engine, str):
        name, wanted = ("min_voxels", "a number") if min_voxels is None else ("engine", "a name")
        raise InputError(f"{name} must be {wanted}, got {min_voxels if min_voxels is None else engine!r}")
    source = source_of(ds)
    if detrend and source is None:
        check_whole_runs(ds)
    fitted = estimators.resolve(estimator)
    scoring, tables = estimators.split_tables(scoring)
    metrics, scorer, metrics_described = estimators.make_scorer(scoring, fitted)
    is_measure = isinstance(fitted, estimators.Measure)
    geometry = make_geometry(
        ds,
        usable_mask(ds, nonfinite, detrend=detrend),
        radius_mm=radius_mm,
        n_voxels=n_voxels,
        process_mask=process_mask,
        center_spacing=center_spacing,
    )
    design = make_design(
        ds,
        source,
        fitted,
        cv,
        groups,
        target,
        {} if is_measure else estimators.score_functions(scoring),
        train_on,
        test_on,
        sample_weight,
    )
    if not is_measure:
        estimators.check_scorers(scoring, fitted, design.targets, design.classes, design.folds.test)
    engine = estimators.choose_engine(
        engine, fitted, scoring, design.classes, is_weighted=sample_weight is not None
    )
    log.info("%s: engine %s", ds.attrs.get("subject", "subject"), engine)
    largest = int(geometry.sphere_size.max(initial=0))
    if min_voxels > largest:
        raise GeometryError(
            f"min_voxels={min_voxels}, but the largest sphere has {largest} voxels: every score would be NaN; "
            f"lower min_voxels or raise {'radius_mm' if n_voxels is None else 'n_voxels'}"
        )
    if is_measure and standardize == "fold":
        raise InputError(f'{fitted!r} takes all samples at once; use standardize="run" or none')
    if tables and (is_measure or design.classes is None):
        what = "a measure" if is_measure else "a regression"
        raise InputError(
            f"scoring={tables[0]!r} counts predicted classes, which {what} has not; leave it out"
        )
    layout = estimators.Layout.metrics(metrics, tables, design.classes)
    if is_measure:
        layout = fitted.layout(design.targets, design.classes, design.groups, largest)
    identity = {
        "schema_version": SCHEMA_VERSION,
        "store": None if source is None else source.digest,
        **design_identity(design),
        **geometry_identity(geometry),
        "estimator": estimators.describe(fitted),
        "scoring": metrics_described,
        "metrics": list(layout.plain),
        "tables": list(layout.tables),
        "engine": engine,
        "engine_version": estimators.version_of(engine),
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
        layout=layout,
        scorers={} if is_measure or engine == "sklearn" else estimators.fast_scorers(scoring, fitted),
        engine=engine,
        standardize=standardize,
        detrend=bool(detrend),
        nonfinite=nonfinite,
        min_voxels=int(min_voxels),
        block_centers=max(1, len(geometry.centers_ijk)),
        attrs={key: value for key, value in ds.attrs.items() if key not in ("slcluster", "schema_version")},
        identity=identity,
        arguments={
            "cv": estimators.words_of(cv),
            "groups": groups,
            "target": target,
            "train_on": _plain_values(train_on),
            "test_on": _plain_values(test_on),
            "sample_weight": sample_weight,
            "process_mask": estimators.words_of(process_mask),
        },
    )
    chosen = block_centers or choose_block_centers(
        geometry.sphere_size,
        len(design.targets),
        max(1, len(design.folds.train)),
        len(layout.names),
        speed=estimators.speed_of(engine),
    )
    limit = None if memory_limit is None else parse_bytes(memory_limit, "memory_limit")
    return fit_memory(with_blocks(made, chosen), limit, may_shrink=block_centers is None)


def _plain_values(wanted: Mapping[str, Any] | None) -> dict[str, list[Any]] | None:
    if wanted is None:
        return None
    return {str(name): np.atleast_1d(np.asarray(values)).tolist() for name, values in wanted.items()}


def check_preparation(standardize: Any, detrend: Any, *, known: tuple[str, ...] = ("run",)) -> None:
    """Refuse words that :func:`slcluster.kernels.preparation.prepare` would take for something else."""
    if standardize is not None and (not isinstance(standardize, str) or standardize not in known):
        words = " or ".join(f'"{word}"' for word in known)
        raise InputError(f"standardize must be None or {words}, got {standardize!r}")
    if not isinstance(detrend, bool | np.bool_):
        raise InputError(f"detrend must be True or False, got {detrend!r}")


def usable_mask(ds: xr.Dataset, nonfinite: str, *, detrend: bool) -> np.ndarray:
    """The Dataset's mask after the policy on NaN and infinities: bool (nx, ny, nz).

    What counts is the samples that are analysed; all samples of the store where whole runs are detrended.

    Raises
    ------
    GeometryError
        If the mask is empty.
    InputError
        Unknown policy; or it is ``"error"`` and mask voxels hold non-finite values: their count and the first.
    """
    if nonfinite not in _NONFINITE:
        raise InputError(f"nonfinite must be one of {', '.join(_NONFINITE)}, got {nonfinite!r}")
    mask = np.array(ds["mask"].values, bool)
    if not mask.any():
        raise GeometryError("the mask has no voxels; give one that covers the brain")
    if ds["bold"].dtype.kind != "f" or nonfinite == "zero":
        return mask
    source = source_of(ds)
    flagged = mask & (open_source(source)["nonfinite"].values if source else True)
    if not flagged.any():
        return mask
    # The store flags a voxel for any of its samples, and detrending reads them all.
    bad = flagged if source and detrend else mask & ~np.asarray(np.isfinite(ds["bold"].data).all(axis=-1))
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
