"""What is predicted from which samples: targets, groups and folds, checked before anything runs."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import is_regressor
from sklearn.model_selection import LeaveOneGroupOut, check_cv

from slcluster import estimators
from slcluster.errors import DesignError, InputError, warn_caller
from slcluster.kernels.folds import Folds, MissingClassError, validate_folds
from slcluster.plan import Design
from slcluster.store import Source, open_source

__all__ = ["encode_targets", "make_design", "sample_column", "warn_of_rest"]

#: scikit-learn's functions that are undefined where a test part lacks a class.
_NEED_ALL_CLASSES = {"average_precision_score", "log_loss", "roc_auc_score"}


def encode_targets(values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Class codes (int64) and the sorted classes they stand for.

    Raises
    ------
    DesignError
        If there are no samples, or fewer than two classes.
    """
    if not len(values):
        raise DesignError("the selection has no samples")
    classes, codes = np.unique(values, return_inverse=True)
    if len(classes) < 2:
        raise DesignError(
            f"{name!r} has only one class in the selected samples ({classes[0]}); select at least two conditions"
        )
    return codes.astype(np.int64), classes


def warn_of_rest(target: str, classes: np.ndarray) -> None:
    """Say that rest is compared with the conditions, which is rarely meant."""
    if target == "condition" and "rest" in classes:
        warn_caller(
            "'rest' is one of the classes; select conditions first if it should not be one "
            '(slc.select(ds, conditions=["face", "house"]))'
        )


def make_design(
    ds: xr.Dataset,
    source: Source | None,
    estimator: Any,
    cv: Any,
    groups: str | None,
    target: str,
    metrics: Mapping[str, Callable[..., Any]],
) -> Design:
    """Targets, groups and folds of an analysis.

    Parameters
    ----------
    ds : xarray.Dataset
        The analysed samples; its coordinates are what counts, also where they were replaced after opening.
    source : Source or None
        The store that ``ds`` is a selection of, if blocks will read it.
    estimator : scikit-learn estimator or Measure
        Decides between classification and regression.
    cv, groups, target
        As in :func:`slcluster.plan`.
    metrics : mapping of str to callable
        From :func:`slcluster.estimators.score_functions`.

    Returns
    -------
    Design

    Raises
    ------
    DesignError
        Names the column, class or fold, what was expected and what came.
    InputError
        A metric does not fit the estimator.
    """
    if not ds.sizes["sample"]:
        raise DesignError("the selection has no samples")
    values = sample_column(ds, target, "target")
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
        warn_of_rest(target, classes)
    else:
        targets = _numbers(values, target)
    _check_metrics(metrics, is_classes=classes is not None)
    group_of = np.zeros(len(runs), np.int64) if groups is None else sample_column(ds, groups, "groups")
    labels = targets if classes is None else classes[targets]
    if isinstance(estimator, estimators.Measure) and not estimator.uses_folds:
        if cv is not None:
            raise DesignError(f"{estimator!r} takes all samples at once; leave cv out")
        folds = Folds((), ())
    else:
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


def _check_metrics(metrics: Mapping[str, Callable[..., Any]], *, is_classes: bool) -> None:
    """Refuse scikit-learn's metrics of the other kind of target; scorers of the user's own know what they do."""
    other = {"_regression"} if is_classes else {"_classification", "_ranking"}
    for name, function in metrics.items():
        package, _, module = getattr(function, "__module__", "").rpartition(".")
        if package == "sklearn.metrics" and module in other:
            wanted = ("numbers", "accuracy") if is_classes else ("classes", "r2")
            raise InputError(
                f"scoring={name!r} is for predicted {wanted[0]}; pass scoring={wanted[1]!r}, or None for the "
                "estimator's own"
            )


def sample_column(ds: xr.Dataset, name: str, argument: str) -> np.ndarray:
    """Values of a column of the samples; text in NumPy's fixed width.

    Raises
    ------
    DesignError
        If there is no such column; ``argument`` is what asked for it.
    """
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
        raise DesignError(f"{name!r} holds text ({str(values[0])!r}); a regression needs numbers") from None
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
                f"cv=None leaves one {groups or 'group'} out, but "
                f"{'groups=None puts all samples in one' if groups is None else 'there is only one'}; "
                "pass cv= (for example cv=5)" + (' or groups="run"' if groups is None else "")
            )
        cv = LeaveOneGroupOut()
    if isinstance(cv, Iterable) and not hasattr(cv, "split"):
        pairs = list(cv)
    else:
        try:
            splitter = check_cv(cv, labels, classifier=is_classification and not _is_regressor(estimator))
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
        parts = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
        indices = [tuple(_indices(part, len(labels), n) for part in pair) for n, pair in enumerate(parts)]
    except DesignError:
        raise
    except (TypeError, ValueError):
        raise DesignError("cv must yield pairs (train, test) of sample indices or booleans") from None
    return Folds(tuple(train for train, _ in indices), tuple(test for _, test in indices))


def _is_regressor(estimator: Any) -> bool:
    return not isinstance(estimator, estimators.Measure) and is_regressor(estimator)


def _indices(part: np.ndarray, n_samples: int, fold: int) -> np.ndarray:
    if part.ndim != 1:
        raise TypeError
    if part.dtype == bool:
        if len(part) != n_samples:
            raise DesignError(
                f"fold {fold} has {len(part)} booleans for {n_samples} samples; give one a sample"
            )
        return np.flatnonzero(part)
    return part.astype(np.int64, casting="same_kind" if len(part) else "unsafe")


def _validate(
    folds: Folds,
    targets: np.ndarray,
    classes: np.ndarray | None,
    group_of: np.ndarray,
    metrics: Mapping[str, Callable[..., Any]],
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
    needing = [name for name, f in metrics.items() if getattr(f, "__name__", "") in _NEED_ALL_CLASSES]
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
