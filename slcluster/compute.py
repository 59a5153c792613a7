"""One block, start to end: slab → kernel → scores. Knows nothing of who called it."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import nullcontext, suppress
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import OpenBLASController, ThreadpoolController

from slcluster.blocks import Window
from slcluster.errors import BlockError, may_pass, one_line
from slcluster.estimators import ENGINES, TableScorer, weight_argument
from slcluster.kernels.folds import Folds
from slcluster.kernels.generic import SphereFailure, cross_validate
from slcluster.kernels.preparation import prepare, zscore_by
from slcluster.kernels.scores import needed_outputs, score
from slcluster.kernels.spheres import Spheres, find_spheres
from slcluster.plan import Plan
from slcluster.store import read_window

__all__ = ["BlockScores", "compute_block", "read_slab", "score_centers"]

#: liblinear is not repeatable when several threads of a process fit at once, so the scikit-learn engine
#: computes one block at a time in a process. Processes, not threads, are how it scales.
_SKLEARN_LOCK = threading.Lock()


class _OneThread:
    """Limits BLAS and OpenMP to one thread while any block is computed.

    Threads of BLAS are the process's: the first block to begin limits them, the last to end lifts that. OpenMP
    counts for each thread that calls it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._libraries: Any = None
        self._n_modules = 0
        self._blas: Any = None
        self._here = threading.local()

    def __enter__(self) -> None:
        with self._lock:
            libraries = self._loaded()
            if self._n_inside == 0:
                self._blas = libraries.limit(limits=1, user_api="blas")
                # Or only this thread could lift it, and threadpoolctl ignores all others without a word.
                OpenBLASController.clear_controlling_thread(force=True)
            self._n_inside += 1
        self._here.openmp = libraries.limit(limits=1, user_api="openmp")

    def _loaded(self) -> Any:
        """The libraries of this process. Looking for them takes milliseconds; only an import brings new ones."""
        if self._n_modules != len(sys.modules):
            self._libraries, self._n_modules = ThreadpoolController(), len(sys.modules)
        return self._libraries

    def __exit__(self, *_: object) -> None:
        self._here.openmp.restore_original_limits()
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                self._blas.restore_original_limits()
                OpenBLASController.clear_controlling_thread(force=True)


_ONE_THREAD = _OneThread()

#: Of glibc's mallopt.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

#: Larger arrays go back to the system at once, and so does more free memory than this in one piece.
_KEPT_ARRAY_BYTES, _KEPT_BYTES = 4 * 2**20, 16 * 2**20


@lru_cache(maxsize=1)
def _keep_freed_memory() -> None:
    """Let this process keep some MB that it freed, where Dask's nanny told it to keep 64 kB.

    Every sphere needs the same arrays again. From 128 kB on each would be new pages from the system, for which
    kernels of large spheres then wait as long as for the arithmetic.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ and sys.platform == "linux":
        with suppress(AttributeError, OSError):  # another C library than glibc
            allocator = ctypes.CDLL(None)
            allocator.mallopt(_M_MMAP_THRESHOLD, _KEPT_ARRAY_BYTES)
            allocator.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


class BlockScores(NamedTuple):
    """What a block writes: ``score`` float64 (n_centers, n_metrics, n_folds), ``n_unconverged`` int32
    (n_centers, n_folds). Measures have one fold."""

    score: np.ndarray
    n_unconverged: np.ndarray


def compute_block(plan: Plan, number: int, *, n_parts: int = 1) -> BlockScores:
    """Read one durable block's slab from the store and score its centers.

    Parameters
    ----------
    plan : Plan
    number : int
    n_parts : int
        Parts of the centers, one after the other, each from a slab of its own: less memory, the same bytes.

    Raises
    ------
    BlockError
        Names the subject, the block and the center, with the estimator's own error.
    MemoryError
        The slab, or what a sphere needs, does not fit.
    StoreError
        If the slab cannot be read.
    """
    parts = []
    for centers in np.array_split(plan.block(number), n_parts):
        window = plan.geometry.window(centers)
        parts.append(score_centers(plan, centers, read_slab(plan, window), window, name=f"block {number}"))
    return BlockScores(*map(np.concatenate, zip(*parts, strict=True)))


def read_slab(plan: Plan, window: Window) -> np.ndarray:
    """The window of the plan's store, for the samples that a block has to read: (x, y, z, sample).

    A plan over a store covers its whole grid: a cropped Dataset counts as changed.
    """
    assert plan.source_path is not None, "only plans over a store can read it"
    samples = plan.design.read_span(plan.detrend)
    return read_window(plan.source_path, window, samples, digest=plan.source_digest)


def score_centers(
    plan: Plan, centers: np.ndarray, slab: np.ndarray, window: Window, *, name: str
) -> BlockScores:
    """Score some centers from a slab that covers their spheres.

    Parameters
    ----------
    plan : Plan
    centers : array of int, shape (n_centers, 3)
        Positions on the plan's grid.
    slab : array, shape of the window and the samples of ``plan.design.read_span``
    window : Window
        Where the slab lies on the grid.
    name : str
        What to call these centers in an error.

    Raises
    ------
    BlockError
        An estimator or measure failed; ``may_pass`` where its error is of a disk or a network.
    MemoryError
    """
    _keep_freed_memory()
    design, geometry = plan.design, plan.geometry
    mask = geometry.mask[window]
    span = design.read_span(plan.detrend)
    origin = np.array([part.start for part in window])
    spheres = find_spheres(centers - origin, mask, geometry.offsets, geometry.n_voxels)
    bold = prepare(
        slab[mask],
        design.all_runs[span],
        design.chosen - span.start,
        detrend=plan.detrend,
        standardize=plan.standardize,
        zero_nonfinite=plan.nonfinite == "zero",
    )
    try:
        if plan.is_measure:
            return _measure(plan, bold, spheres)
        if plan.standardize == "fold":
            return _fold_by_fold(plan, bold, spheres)
        return _score(plan, bold, spheres, design.folds)
    except SphereFailure as failure:
        voxel = tuple(int(axis[i]) for axis, i in zip(geometry.axes, centers[failure.center], strict=True))
        cause = failure.__cause__
        if isinstance(cause, MemoryError):
            raise cause from failure
        fold = "" if failure.fold is None else f", fold {failure.fold}"
        error = BlockError(
            f"{plan.subject}, {name}, center at voxel {voxel}{fold}: "
            f"{type(cause).__name__}: {one_line(cause or failure)}"
        )
        error.may_pass = may_pass(cause)
        raise error from cause


def _fold_by_fold(plan: Plan, bold: np.ndarray, spheres: Spheres) -> BlockScores:
    """A block whose voxels each fold standardises by its own training samples."""
    parts = []
    for number, (train, test) in enumerate(zip(*plan.design.folds, strict=True)):
        try:
            parts.append(_score(plan, zscore_by(bold, train), spheres, Folds((train,), (test,))))
        except SphereFailure as failure:
            failure.fold = number
            raise
    return BlockScores(*(np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)))


def _score(plan: Plan, bold: np.ndarray, spheres: Spheres, folds: Folds) -> BlockScores:
    return (_generic if plan.engine == "sklearn" else _fast)(plan, bold, spheres, folds)


def _generic(plan: Plan, bold: np.ndarray, spheres: Spheres, folds: Folds) -> BlockScores:
    """A block of any scikit-learn estimator."""
    with _SKLEARN_LOCK, _ONE_THREAD:
        found = cross_validate(
            bold,
            plan.design.targets[None],
            folds.train,
            folds.test,
            spheres,
            outputs=plan.metrics,
            estimator=plan.estimator,
            scorer=_with_tables(plan),
            labels=plan.design.classes,
            min_voxels=plan.min_voxels,
            weights=_weights(plan),
        )
    # One set of targets: (center, fold, metric) to (center, metric, fold).
    return BlockScores(
        np.ascontiguousarray(found["score"][:, 0].swapaxes(1, 2)),
        np.ascontiguousarray(found["n_unconverged"][:, 0]),
    )


def _with_tables(plan: Plan) -> Any:
    layout, classes = plan.layout, plan.design.classes
    if not layout.tables or classes is None:
        return plan.scorer
    return TableScorer(plan.scorer, layout.plain, layout.tables, classes)


def _weights(plan: Plan) -> dict[str, np.ndarray] | None:
    name, weights = weight_argument(plan.estimator), plan.design.weights
    return None if name is None or weights is None else {name: weights}


def _measure(plan: Plan, bold: np.ndarray, spheres: Spheres) -> BlockScores:
    """A block of a measure. Functions are the user's, and need not bear several threads."""
    design = plan.design
    with _SKLEARN_LOCK if plan.engine == "function" else nullcontext(), _ONE_THREAD:
        values = plan.estimator.compute(
            bold, design.targets, design.classes, design.groups, design.folds, spheres, len(plan.metrics)
        )
    values[spheres.sizes() < plan.min_voxels] = np.nan
    return BlockScores(np.ascontiguousarray(values[..., None]), np.zeros((len(values), 1), np.int32))


def _fast(plan: Plan, bold: np.ndarray, spheres: Spheres, folds: Folds) -> BlockScores:
    """A block by the plan's fast engine. Needs no lock: kernels keep nothing and are repeatable under threads."""
    design, engine = plan.design, ENGINES[plan.engine]
    params = engine.params(plan.estimator, design.classes)
    assert params is not None, "engines are chosen by what they compute"
    if design.classes is not None:
        params["n_classes"] = len(design.classes)
    targets = design.targets[None]
    # Closed forms have no such output.
    counts = [name for name in engine.outputs if name == "n_unconverged"]
    with _ONE_THREAD:
        found = engine.load()(
            bold,
            targets,
            folds.train,
            folds.test,
            spheres,
            outputs=(*needed_outputs(plan.scorers, engine.outputs, plan.layout.tables), *counts),
            **params,
        )
        unconverged = [found.pop(name)[:, 0] for name in counts]
        scores = score(
            found,
            plan.scorers,
            targets,
            folds.test,
            design.classes,
            plan.layout.tables,
            is_scored=spheres.sizes() >= max(plan.min_voxels, 1),
        )[:, 0]
    n_unconverged = unconverged[0] if counts else np.zeros((len(scores), len(folds.test)), np.int32)
    return BlockScores(np.ascontiguousarray(scores.swapaxes(1, 2)), np.ascontiguousarray(n_unconverged))
