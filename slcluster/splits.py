"""From a ``cv`` argument to folds: splitters, training on some samples and testing on others, and the checks."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import is_regressor
from sklearn.model_selection import LeaveOneGroupOut, check_cv

from slcluster import estimators
from slcluster.errors import DesignError
from slcluster.kernels.folds import Folds, MissingClassError, validate_folds

__all__ = ["Parts", "check_folds", "make_folds"]

#: scikit-learn's functions that are undefined where a test part lacks a class.
_NEED_ALL_CLASSES = {"average_precision_score", "log_loss", "roc_auc_score"}


class Parts(NamedTuple):
    """Samples that may be trained on, and those that may be tested on: bool (n_samples,) each."""

    train: np.ndarray
    test: np.ndarray


def make_folds(
    cv: Any,
    labels: np.ndarray,
    group_of: np.ndarray,
    groups: str | None,
    estimator: Any,
    is_classification: bool,
    parts: Parts | None = None,
) -> Folds:
    """Folds of a splitter, of pairs of indices, or of the groups.

    Parameters
    ----------
    cv, groups
        As in :func:`slcluster.plan`.
    labels, group_of : arrays, shape (n_samples,)
        What splitters may stratify by, and what they keep together.
    estimator : scikit-learn estimator or Measure
    is_classification : bool
    parts : Parts, optional
        Where only some samples may be trained on or tested on, each fold keeps those of its own. Folds that
        test on none are left out. With ``cv=None`` and parts that share neither a sample nor a group there is
        one fold, of all of both; where they share groups one is left out at a time, since samples of a run
        are not independent of each other.

    Raises
    ------
    DesignError
        No folds can be made of it.
    """
    if parts is not None and cv is None and not _share_groups(parts, group_of):
        pairs: Any = [(np.flatnonzero(parts.train), np.flatnonzero(parts.test))]
    else:
        pairs = _pairs(cv, labels, group_of, groups, estimator, is_classification)
    folds = _as_folds(pairs, len(labels))
    return folds if parts is None else _within(folds, parts)


def _share_groups(parts: Parts, group_of: np.ndarray) -> bool:
    return bool(np.intersect1d(group_of[parts.train], group_of[parts.test]).size)


def _within(folds: Folds, parts: Parts) -> Folds:
    kept = [(train[parts.train[train]], test[parts.test[test]]) for train, test in zip(*folds, strict=True)]
    kept = [(train, test) for train, test in kept if len(test)]
    if not kept:
        raise DesignError("no fold of cv tests on a sample of test_on; change cv or test_on")
    return Folds(tuple(train for train, _ in kept), tuple(test for _, test in kept))


def _pairs(
    cv: Any,
    labels: np.ndarray,
    group_of: np.ndarray,
    groups: str | None,
    estimator: Any,
    is_classification: bool,
) -> list[Any]:
    """What a splitter or the caller gives: (train, test) of each fold."""
    if cv is None and isinstance(estimator, estimators.Measure):
        cv = estimator.default_folds(group_of)
    if cv is None:
        if len(np.unique(group_of)) < 2:
            raise DesignError(
                f"cv=None leaves one {groups or 'group'} out, but "
                f"{'groups=None puts all samples in one' if groups is None else 'there is only one'}; "
                "pass cv= (for example cv=5)" + (' or groups="run"' if groups is None else "")
            )
        cv = LeaveOneGroupOut()
    if isinstance(cv, Iterable) and not hasattr(cv, "split"):
        return list(cv)
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
            return list(splitter.split(np.zeros((len(labels), 1)), labels, group_of))
    except ValueError as error:
        raise DesignError(f"{splitter!r} cannot split the selected samples: {error}") from None


def _as_folds(pairs: list[Any], n_samples: int) -> Folds:
    try:
        parts = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
        indices = [tuple(_indices(part, n_samples, n) for part in pair) for n, pair in enumerate(parts)]
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


def check_folds(
    folds: Folds,
    targets: np.ndarray,
    classes: np.ndarray | None,
    group_of: np.ndarray,
    metrics: Mapping[str, Callable[..., Any]],
    estimator: Any = None,
) -> None:
    """Refuse folds that cannot be trained on, tested on or scored.

    Raises
    ------
    DesignError
        Names the fold, the classes that are missing and what needs them.
    """
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
    if isinstance(estimator, estimators.Measure) and estimator.tests_every_class:
        needing.append(repr(estimator))
    if classes is None or not needing:
        return
    for number, test in enumerate(folds.test):
        missing = np.setdiff1d(np.arange(len(classes)), targets[test])
        if len(missing):
            names = ", ".join(map(str, classes[missing]))
            raise DesignError(
                f"the test part of fold {number} has no sample of {names}, which {needing[0]} needs; "
                f"change cv or {'the selection of samples' if not metrics else 'use another scorer'}"
            )
