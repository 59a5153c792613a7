"""Folds as index arrays, and the checks that need nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slcluster.errors import DesignError

__all__ = ["Folds", "MissingClassError", "as_masks", "from_ranks", "to_ranks", "validate_folds"]


class Folds(NamedTuple):
    """Samples to train and to test on, one index array (int64) a fold, in the splitter's own order."""

    train: tuple[np.ndarray, ...]
    test: tuple[np.ndarray, ...]


def validate_folds(folds: Folds, n_samples: int, classes: np.ndarray | None) -> None:
    """Refuse folds that no estimator could be trained or tested on.

    Parameters
    ----------
    folds : Folds
        What a splitter gave.
    n_samples : int
        Samples in all.
    classes : array of int, shape (n_samples,), optional
        Class codes, for a classification: every training part must then have every class.

    Raises
    ------
    DesignError
        Names the fold (from 0), what was expected and what came.
    """
    if not folds.train:
        raise DesignError("cv gave no folds; pass a splitter that yields at least one (train, test) pair")
    for number, (train, test) in enumerate(zip(folds.train, folds.test, strict=True)):
        for part, index in (("train", train), ("test", test)):
            if not len(index):
                raise DesignError(
                    f"fold {number} has an empty {part} part; change cv or the selection of samples"
                )
            if index.min() < 0 or index.max() >= n_samples:
                raise DesignError(
                    f"fold {number} has {part} samples outside 0 to {n_samples - 1}; cv must index the selected samples"
                )
            if len(np.unique(index)) != len(index):
                raise DesignError(f"fold {number} names a {part} sample twice; each may occur once")
        shared = np.intersect1d(train, test)
        if len(shared):
            raise DesignError(
                f"fold {number} tests on {len(shared)} samples it was trained on (first: {shared[0]}); "
                "scores would be too high"
            )
        if classes is not None:
            missing = np.setdiff1d(np.unique(classes), np.unique(classes[train]))
            if len(missing):
                raise MissingClassError(number, missing.tolist())


class MissingClassError(DesignError):
    """A training part lacks classes; the planner, which knows their names, says which."""

    def __init__(self, fold: int, codes: list[int]) -> None:
        super().__init__(f"the training part of fold {fold} has no sample of class code {codes}")
        self.fold = fold
        self.codes = codes


def as_masks(index: Sequence[np.ndarray], n_samples: int) -> np.ndarray:
    """Index arrays to booleans of shape (n_folds, n_samples), for kernels to which order means nothing."""
    return to_ranks(index, n_samples) > 0


def to_ranks(index: Sequence[np.ndarray], n_samples: int) -> np.ndarray:
    """Index arrays to one rectangular array that keeps their order.

    Returns
    -------
    numpy.ndarray
        int32, shape (n_folds, n_samples): 0 where a sample is not in the fold, else its place, from 1.

    Examples
    --------
    >>> to_ranks([np.array([2, 0])], 4).tolist()
    [[2, 0, 1, 0]]
    """
    ranks = np.zeros((len(index), n_samples), np.int32)
    for row, members in zip(ranks, index, strict=True):
        row[members] = np.arange(1, len(members) + 1)
    return ranks


def from_ranks(ranks: np.ndarray) -> tuple[np.ndarray, ...]:
    """The inverse of :func:`to_ranks`."""
    return tuple(
        np.argsort(row, kind="stable")[len(row) - np.count_nonzero(row) :].astype(np.int64) for row in ranks
    )
