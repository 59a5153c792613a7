"""Cleaning the samples of voxels: non-finite values, trends, z-scores. Rows are voxels, columns samples.

No voxel's numbers depend, to the last bit, on which others are cleaned with it: blocks cut them differently.
"""

from __future__ import annotations

import numpy as np

__all__ = ["as_features", "detrend_runs", "prepare", "zscore_by", "zscore_runs"]


def as_features(bold: np.ndarray) -> np.ndarray:
    """Values as estimators get them: integers become float32, floats keep their dtype (nilearn's rule)."""
    return bold.astype(np.float32) if bold.dtype.kind in "iub" else bold


def detrend_runs(bold: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Remove each run's least-squares line from every voxel.

    Parameters
    ----------
    bold : array, shape (n_voxels, n_samples)
    runs : array of int, shape (n_samples,)
        Run of each sample. A run of fewer than three samples becomes zero, as a line fits it exactly.

    Returns
    -------
    numpy.ndarray
        float64. A voxel constant in a run is exactly 0 there, where the fit would leave rounding that a
        later z-score blows up.
    """
    out = np.array(bold, np.float64)
    for run in np.unique(runs):
        columns = np.flatnonzero(runs == run)
        part = _rows(out, columns)
        if len(columns) < 3:
            part[:] = 0
        else:
            flat = np.ptp(part, axis=1) == 0
            time = np.arange(len(columns)) - (len(columns) - 1) / 2
            part -= part.mean(axis=1, keepdims=True)
            # Not a matrix product, whose rounding depends on how many voxels there are.
            part -= ((part * time).sum(axis=1, keepdims=True) / (time**2).sum()) * time
            part[flat] = 0
        out[:, columns] = part
    return out


def _rows(bold: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A copy of some columns, C order: so each voxel's sums round alike, alone or among others."""
    return np.array(bold[:, columns], order="C")


def zscore_runs(bold: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Z-score every voxel within each run, with ``ddof=1`` as nilearn's ``zscore_sample``.

    Parameters
    ----------
    bold : array, shape (n_voxels, n_samples)
    runs : array of int, shape (n_samples,)

    Returns
    -------
    numpy.ndarray
        float64; a voxel that is constant in a run is 0 there.

    Examples
    --------
    >>> zscore_runs(np.array([[1.0, 3.0, 5.0, 5.0]]), np.array([0, 0, 1, 1])).round(3).tolist()
    [[-0.707, 0.707, 0.0, 0.0]]
    """
    out = np.array(bold, np.float64)
    for run in np.unique(runs):
        columns = np.flatnonzero(runs == run)
        part = _rows(out, columns)
        flat = np.ptp(part, axis=1) == 0
        part -= part.mean(axis=1, keepdims=True)
        if len(columns) > 1:
            spread = part.std(axis=1, ddof=1, keepdims=True)
            part /= np.where(spread > 0, spread, 1.0)
        part[flat] = 0
        out[:, columns] = part
    return out


def zscore_by(bold: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Z-score every voxel by the mean and spread (``ddof=0``) of some samples, as scikit-learn's StandardScaler.

    Parameters
    ----------
    bold : array, shape (n_voxels, n_samples)
    train : array of int
        Samples that a fold trains on: what it tests on has no part in the scale.

    Returns
    -------
    numpy.ndarray
        float64, C order. A voxel that is constant over ``train`` is shifted only.

    Examples
    --------
    >>> zscore_by(np.array([[1.0, 3.0, 4.0]]), np.array([0, 1])).tolist()
    [[-1.0, 1.0, 2.0]]
    """
    part = np.array(bold[:, train], np.float64, order="C")
    is_flat = np.ptp(part, axis=1, keepdims=True) == 0
    # The value itself: the mean of equal numbers may round.
    mean = np.where(is_flat, part[:, :1], part.mean(axis=1, keepdims=True))
    spread = np.where(is_flat, 1.0, part.std(axis=1, keepdims=True))
    return (bold - mean) / spread


def prepare(
    bold: np.ndarray,
    runs: np.ndarray,
    chosen: np.ndarray,
    *,
    detrend: bool,
    standardize: str | None,
    zero_nonfinite: bool,
) -> np.ndarray:
    """Raw samples of whole runs to the features of the chosen samples.

    The order is fixed because it does not commute: detrend whole runs, then choose, then z-score the
    chosen samples of each run (the order of nilearn's Haxby example).

    Parameters
    ----------
    bold : array, shape (n_voxels, n_all_samples)
        Integers or floats.
    runs : array of int, shape (n_all_samples,)
    chosen : array of int, shape (n_samples,)
        Columns of ``bold`` that are analysed, in this order.
    detrend : bool
        Remove each run's line first.
    standardize : {None, "run", "fold"}
        Z-score the chosen samples within each run; ``"fold"`` is done later, by :func:`zscore_by`.
    zero_nonfinite : bool
        Replace NaN and infinities by 0 before anything else (nilearn's rule).

    Returns
    -------
    numpy.ndarray
        C order, shape (n_voxels, n_samples); float32 for integers, float64 once detrended or standardised.
    """
    if zero_nonfinite and bold.dtype.kind == "f":
        bold = np.where(np.isfinite(bold), bold, bold.dtype.type(0))
    if detrend:
        bold = detrend_runs(bold, runs)
    bold = bold[:, chosen]
    if standardize == "run":
        bold = zscore_runs(bold, runs[chosen])
    return np.ascontiguousarray(as_features(bold))
