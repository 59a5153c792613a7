"""Scores of centers by :func:`slcluster.searchlight`, on samples in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, clone, is_regressor

from slcluster.cluster import connect_processes
from slcluster.dispatch import active_client, check_client, gather, spread
from slcluster.errors import InputError
from slcluster.estimators import split_tables
from slcluster.schema import subject_dataset
from slcluster.searchlight import searchlight

__all__ = ["Given", "Work", "mean_decision", "score_centers", "score_whole"]


class Given(NamedTuple):
    """The samples, and what is to be done with them.

    Attributes
    ----------
    bold : (nx, ny, nz, n_samples); (n_voxels, n_samples) where only the mask's voxels are kept
    target : (n_samples,)
    group : (n_samples,) or None
    mask : bool (nx, ny, nz)
    affine : (4, 4)
    centers : int (n_centers, 3)
    estimator : scikit-learn estimator
    """

    bold: np.ndarray
    target: np.ndarray
    group: np.ndarray | None
    mask: np.ndarray
    affine: np.ndarray
    centers: np.ndarray
    estimator: BaseEstimator


class Work(NamedTuple):
    """How to do it: radius, number of jobs, who asks, and how much to say."""

    radius_mm: float
    n_jobs: Any
    name: str
    verbose: int


def score_centers(given: Given, work: Work, **options: Any) -> np.ndarray:
    """Scores of the centers, in their order; NaN where a sphere is empty.

    Parameters
    ----------
    given : Given
    work : Work
    **options
        ``cv``, ``scoring`` and ``engine`` of :func:`slcluster.searchlight`.
    """
    if not isinstance(work.verbose, Real):
        raise InputError(f"verbose must be a whole number, got {work.verbose!r}")
    if tables := split_tables(options.get("scoring"))[1]:
        raise InputError(
            f"scoring={tables[0]!r} is a table of classes, for which scores_ has no place; "
            "pass a metric, or use slcluster.searchlight"
        )
    columns = {"target": given.target} | ({} if given.group is None else {"group": given.group})
    ds = subject_dataset(given.bold, affine=given.affine, mask=given.mask, subject="SearchLight", **columns)
    where = np.zeros(given.mask.shape, bool)
    where[tuple(given.centers.T)] = True
    with _workers(work.n_jobs) as client:
        if client is not None:
            ds = ds.assign(bold=(ds["bold"].dims, spread(given.bold, client)))
        maps = searchlight(
            ds,
            radius_mm=work.radius_mm,
            estimator=given.estimator,
            target="target",
            groups=None if given.group is None else "group",
            process_mask=where,
            nonfinite="zero",
            **options,
        )
        if maps["score"].ndim != 3:
            raise InputError(
                f"scoring names {maps.sizes['metric']} metrics; pass one, or use slcluster.searchlight, which "
                "maps several at once"
            )
        score = maps["score"].data
        tell = _Voice(work, maps.attrs, score.npartitions)
        values = gather(score, name="SearchLight", client=client, advance=tell.advance)
        tell.end()
    return values[tuple(given.centers.T)]


def score_whole(given: Given, work: Work) -> np.ndarray:
    """Scores of an estimator that validates itself: fitted to all samples, scored on the same."""
    n_samples = len(given.target)
    twice = given._replace(
        bold=np.concatenate([given.bold, given.bold], axis=3),
        target=np.tile(given.target, 2),
        group=None,
        estimator=Whole(given.estimator, given.group),
    )
    cv = [(np.arange(n_samples), np.arange(n_samples, 2 * n_samples))]
    return score_centers(twice, work, cv=cv, scoring=_own_score, engine="sklearn")


class Whole(BaseEstimator):
    """An estimator whose ``fit`` and ``score`` also take the groups of all samples."""

    def __init__(self, estimator: BaseEstimator, groups: np.ndarray | None) -> None:
        self.estimator = estimator
        self.groups = groups

    def fit(self, X: np.ndarray, y: np.ndarray) -> Whole:
        """Fit a clone, with the groups."""
        self.estimator_ = clone(self.estimator)
        self.estimator_.fit(X, y, groups=self.groups)
        return self


def _own_score(fitted: Whole, X: np.ndarray, y: np.ndarray) -> float:
    return float(fitted.estimator_.score(X, y, groups=fitted.groups))


def mean_decision(fitted: BaseEstimator, X: np.ndarray, y: np.ndarray) -> float:
    """Mean decision value of the samples, or mean prediction of a regressor; a scorer that ignores labels."""
    decide = fitted.predict if is_regressor(fitted) else fitted.decision_function
    return float(np.mean(decide(X)))


@contextmanager
def _workers(n_jobs: Any) -> Iterator[Any]:
    """The active client, else one of ``n_jobs`` processes on this machine, else None: this thread."""
    n_workers = _count(n_jobs)
    client = active_client()
    check_client(client)
    if client is not None or n_workers == 1:
        yield client
        return
    with connect_processes(n_workers) as started:
        yield started


def _count(n_jobs: Any) -> int:
    """Processes that ``n_jobs`` means, as in joblib: -1 is all cores, -2 all but one, None is one."""
    is_count = isinstance(n_jobs, Integral) and not isinstance(n_jobs, bool)
    if n_jobs is not None and (not is_count or n_jobs == 0):
        raise InputError(f"n_jobs must be a number of processes, or -1 for one on each core, got {n_jobs!r}")
    if n_jobs is None:
        return 1
    if n_jobs > 0:
        return int(n_jobs)
    from dask.system import CPU_COUNT

    return max(1, CPU_COUNT + 1 + int(n_jobs))


class _Voice:
    """Says on standard output, as nilearn does, what is computed and how far it is."""

    def __init__(self, work: Work, attrs: dict[str, Any], n_blocks: int) -> None:
        self._name, self._verbose = work.name, int(work.verbose)
        self._n_blocks, self._n_done = n_blocks, 0
        self._begun = time.monotonic()
        self._say(1, f"{attrs['n_centers']} centers, {attrs['n_folds']} folds, engine {attrs['engine']}")
        self._say(3, f"{attrs['estimator']}, spheres of {attrs['radius_mm']:g} mm, {n_blocks} blocks")

    def advance(self) -> None:
        """One block is done; a line for about every tenth of them."""
        self._n_done += 1
        if self._n_done * 10 // self._n_blocks > (self._n_done - 1) * 10 // self._n_blocks:
            self._say(2, f"{self._n_done}/{self._n_blocks} blocks")

    def end(self) -> None:
        """All are done."""
        self._say(1, f"done in {time.monotonic() - self._begun:.2f} seconds")

    def _say(self, level: int, text: str) -> None:
        if self._verbose >= level:
            print(f"[SearchLight.{self._name}] {text}", flush=True)
