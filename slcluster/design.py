"""What is predicted from which samples: targets, groups and folds, checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from slcluster import estimators
from slcluster.errors import DesignError, InputError, warn_caller
from slcluster.kernels.folds import Folds
from slcluster.plan import Design
from slcluster.splits import Parts, check_folds, make_folds
from slcluster.store import Source, open_source

__all__ = ["encode_targets", "make_design", "sample_column", "warn_of_rest"]


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


def _check_classes(name: str, classes: np.ndarray) -> None:
    """Refuse numbers on a scale as classes, as scikit-learn does, which would say so of every block."""
    if classes.dtype.kind == "f" and (classes % 1 != 0).any():
        raise DesignError(
            f"{name!r} holds numbers such as {classes[classes % 1 != 0][0]:g}, which are no classes; "
            "predict them with a regressor, such as estimator='ridge', or give each class a whole number or a name"
        )


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
    train_on: Mapping[str, Any] | None = None,
    test_on: Mapping[str, Any] | None = None,
    sample_weight: str | None = None,
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
    train_on, test_on : mapping of column to value or values, optional
        As in :func:`slcluster.plan`.
    sample_weight : str, optional
        Column that says how much each sample counts in a fit.

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
        _check_classes(target, classes)
        warn_of_rest(target, classes)
    else:
        targets = _numbers(values, target)
    _check_metrics(metrics, is_classes=classes is not None)
    group_of = np.zeros(len(runs), np.int64) if groups is None else sample_column(ds, groups, "groups")
    labels = targets if classes is None else classes[targets]
    parts = None
    if train_on is not None or test_on is not None:
        parts = Parts(_samples_of(ds, train_on, "train_on"), _samples_of(ds, test_on, "test_on"))
    if isinstance(estimator, estimators.Measure) and not estimator.uses_folds:
        if cv is not None or parts is not None:
            raise DesignError(f"{estimator!r} takes all samples at once; leave cv, train_on and test_on out")
        folds = Folds((), ())
    else:
        folds = make_folds(cv, labels, group_of, groups, estimator, classes is not None, parts)
        check_folds(folds, targets, classes, group_of, metrics, estimator)
    return Design(
        chosen=np.asarray(chosen, np.int64),
        all_runs=np.asarray(all_runs, np.int64),
        sample_index=np.asarray(ds["sample_index"].values, np.int64),
        targets=targets,
        classes=classes,
        groups=group_of,
        folds=folds,
        weights=None if sample_weight is None else _weights(ds, sample_weight, estimator),
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
    InputError
        If it is no name.
    """
    if not isinstance(name, str):
        raise InputError(f"{argument} must be the name of a column of the samples, got {name!r}")
    columns = [str(key) for key, coord in ds.coords.items() if coord.dims == ("sample",)]
    if name not in columns:
        raise DesignError(
            f"{argument}={name!r} is not a column of the samples; {estimators.nearest(name, columns)}"
        )
    values = ds[name].values
    # Estimators and splitters know fixed-width text, not NumPy's new variable-width one.
    return np.array([str(item) for item in values]) if values.dtype.kind in "TO" else values


def _samples_of(ds: xr.Dataset, wanted: Mapping[str, Any] | None, argument: str) -> np.ndarray:
    """Which samples have, in every column, one of the values wanted: bool (n_samples,)."""
    chosen = np.ones(ds.sizes["sample"], bool)
    if wanted is None:
        return chosen
    if not isinstance(wanted, Mapping) or not wanted:
        raise InputError(f'{argument} must map columns to values, such as {{"run": [0, 1]}}, got {wanted!r}')
    for name, values in wanted.items():
        column = sample_column(ds, name, argument)
        values = np.atleast_1d(np.asarray(values))
        known = np.unique(column)
        # Text on one side and numbers on the other: what a command line gives.
        absent = [str(value) for value in values if str(value) not in set(map(str, known))]
        if absent or not len(values):
            raise DesignError(
                f"{argument}: no sample has {name} {', '.join(absent) or '(no value given)'}; "
                f"there are {', '.join(map(str, known))}"
            )
        chosen &= np.isin(column.astype(str), values.astype(str))
    if not chosen.any():
        raise DesignError(f"{argument}: no sample has all of {dict(wanted)!r} at once")
    return chosen


def _weights(ds: xr.Dataset, name: str, estimator: Any) -> np.ndarray:
    """A column of weights for ``fit``: float64 (n_samples,), none negative."""
    if isinstance(estimator, estimators.Measure) or estimators.weight_argument(estimator) is None:
        raise InputError(
            f"fit of {' '.join(repr(estimator).split())} takes no sample_weight; use another estimator, or leave it out"
        )
    weights = _numbers(sample_column(ds, name, "sample_weight"), name, "sample_weight")
    if (weights < 0).any() or not weights.any():
        raise DesignError(f"sample_weight={name!r} must hold no negative number, and one above 0")
    return weights


def _numbers(values: np.ndarray, name: str, needing: str = "a regression") -> np.ndarray:
    try:
        numbers = values.astype(np.float64)
    except ValueError:
        raise DesignError(f"{name!r} holds text ({str(values[0])!r}); {needing} needs numbers") from None
    if not np.isfinite(numbers).all():
        raise DesignError(f"{name!r} holds {np.count_nonzero(~np.isfinite(numbers))} non-finite values")
    return numbers
