"""Searchlights resolved in time: how well conditions can be told apart some samples before and after their onset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slcluster.errors import DesignError, InputError
from slcluster.searchlight import searchlight

__all__ = ["onsets", "time_resolved"]


def onsets(ds: xr.Dataset, conditions: Sequence[str] | None = None) -> np.ndarray:
    """First samples of every stretch of one condition within a run.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject whose samples are those of the scanner, in order, rest among them.
    conditions : sequence of str, optional
        Of interest; all but ``"rest"`` where not given.

    Returns
    -------
    numpy.ndarray
        int64, positions along ``sample``.

    Examples
    --------
    >>> from slcluster import simulate
    >>> onsets(simulate(shape=(5, 6, 7), n_runs=1, seed=0)).tolist()[:2]
    [6, 21]
    """
    condition = np.array([str(name) for name in ds["condition"].values])
    run = ds["run"].values
    begins = np.ones(len(run), bool)
    begins[1:] = (condition[1:] != condition[:-1]) | (run[1:] != run[:-1])
    if conditions is None:
        return np.flatnonzero(begins & (condition != "rest"))
    absent = sorted(set(map(str, conditions)) - set(condition))
    if absent:
        raise DesignError(
            f"no sample has the condition {', '.join(absent)}; there are {', '.join(np.unique(condition))}"
        )
    return np.flatnonzero(begins & np.isin(condition, list(conditions)))


def time_resolved(
    ds: xr.Dataset,
    lags: Iterable[int],
    *,
    conditions: Sequence[str] | None = None,
    at: Sequence[int] | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> xr.Dataset:
    """A searchlight of the samples at each lag from the onsets, with the lag as a further dimension.

    A lag's samples are one from each onset, and have every column (condition, target, groups, weights) of their
    onset but ``run`` and ``sample_index``, which are their own. Onsets for which some lag falls out of their run are left out for all lags, so that every lag tells the same trials apart. Neighbouring
    lags share the haemodynamic response: their scores are not independent.

    Parameters
    ----------
    ds : xarray.Dataset
        As for :func:`onsets`, not yet reduced to conditions.
    lags : iterable of int
        In samples: ``range(-2, 9)``. Negative ones come before the onset, and should score at chance.
    conditions : sequence of str, optional
        As for :func:`onsets`.
    at : sequence of int, optional
        Onsets, as positions along ``sample``, where stretches of a condition are not what counts.
    out : path, optional
        Folder for a result store of each lag, ``lag+03.zarr``. An interrupted call resumes when repeated.
    **options
        Of :func:`slcluster.searchlight`, ``radius_mm`` among them.

    Returns
    -------
    xarray.Dataset
        The maps of :func:`slcluster.searchlight` with ``lag`` as first dimension of ``score`` and
        ``score_fold``; coordinate ``lag_s`` in seconds where the repetition time is known. Lazy without ``out``.

    Raises
    ------
    InputError
        No lag, one that is not whole, or one given twice.
    DesignError
        No onset has all lags in its run, samples between those of a run were left out, or as
        :func:`slcluster.searchlight`.

    Examples
    --------
    >>> from slcluster import simulate
    >>> ds = simulate(shape=(7, 8, 9), n_runs=4, seed=0)
    >>> time_resolved(ds, range(-1, 2), radius_mm=5.6).score.dims
    ('lag', 'x', 'y', 'z')
    """
    lag = _checked(lags)
    _check_consecutive(ds)
    starts = onsets(ds, conditions) if at is None else _positions(at, ds.sizes["sample"])
    starts = _complete(starts, lag, ds["run"].values)
    maps = [
        searchlight(
            _shifted(ds, starts, int(n)),
            out=None if out is None else Path(out).expanduser() / f"lag{n:+03d}.zarr",
            **options,
        )
        for n in lag
    ]
    return _joined(maps, lag, ds.attrs.get("tr_s"))


def _checked(lags: Iterable[int]) -> np.ndarray:
    values = list(lags) if isinstance(lags, Iterable) else [lags]
    wrong = [value for value in values if not isinstance(value, int | np.integer) or isinstance(value, bool)]
    if wrong or not values or len(set(values)) < len(values):
        raise InputError(
            f"lags must be whole numbers of samples, each once, such as range(-2, 9), got {values!r}"
        )
    return np.array(values, np.int64)


def _check_consecutive(ds: xr.Dataset) -> None:
    """Refuse samples of which the next is not always the scanner's next: lags would count in trials."""
    index, run = ds["sample_index"].values, ds["run"].values
    gaps = np.flatnonzero((np.diff(index) != 1) & (np.diff(run) == 0))
    if len(gaps):
        at = gaps[0]
        raise DesignError(
            f"lags count the scanner's samples, but in run {run[at]} sample {index[at]} is followed by sample "
            f"{index[at + 1]}; pass the Dataset with all samples, and choose by conditions= or at="
        )


def _positions(at: Sequence[int], n_samples: int) -> np.ndarray:
    starts = np.asarray(at)
    if starts.ndim != 1 or starts.dtype.kind not in "iu" or (starts < 0).any() or (starts >= n_samples).any():
        raise InputError(
            f"at must hold positions of samples, whole numbers from 0 to {n_samples - 1}, got {at!r}"
        )
    return starts


def _complete(starts: np.ndarray, lags: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Onsets whose samples of all lags lie in their own run."""
    first, last = starts + min(lags.min(), 0), starts + max(lags.max(), 0)
    inside = (first >= 0) & (last < len(runs))
    starts = starts[inside]
    kept = starts[(runs[first[inside]] == runs[starts]) & (runs[last[inside]] == runs[starts])]
    if not len(kept):
        raise DesignError(
            f"no onset has samples from {lags.min()} to {lags.max()} in its run; pass fewer lags"
        )
    return kept


def _shifted(ds: xr.Dataset, starts: np.ndarray, lag: int) -> xr.Dataset:
    """The samples at a lag, with what is known of their onsets."""
    of_onset = {
        name: ("sample", coord.values[starts], coord.attrs)
        for name, coord in ds.coords.items()
        if coord.dims == ("sample",) and name not in ("run", "sample_index")
    }
    return ds.isel(sample=starts + lag).assign_coords(of_onset)


def _joined(maps: list[xr.Dataset], lags: np.ndarray, tr_s: Any) -> xr.Dataset:
    fixed = [name for name in ("sphere_size", "is_center", "fill_mask") if name in maps[0]]
    joined = xr.concat(
        [one.drop_vars(fixed) for one in maps],
        "lag",
        combine_attrs="drop_conflicts",
        coords="minimal",
        compat="override",
    )
    joined = joined.assign({name: maps[0][name] for name in fixed}).assign_coords(lag=("lag", lags))
    if tr_s is not None:
        joined = joined.assign_coords(lag_s=("lag", lags * float(tr_s), {"units": "s"}))
    return joined
