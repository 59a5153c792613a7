"""What was shown when: tables with one row per volume, and BIDS tables of events."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slcluster.errors import DesignError, InputError

__all__ = ["conditions_of_events", "read_labels"]

_CONDITION_NAMES = ("labels", "condition", "trial_type")
_RUN_NAMES = ("chunks", "run")
_REST = "rest"


def read_labels(
    labels: str | os.PathLike[str] | pd.DataFrame,
    n_samples: int,
    *,
    label_column: str | None = None,
    run_column: str | None = None,
) -> dict[str, np.ndarray]:
    """Read a table with one row per sample.

    Parameters
    ----------
    labels : path or DataFrame
        Separated by commas, tabs or blanks, with a first line of names.
    n_samples : int
        Rows expected.
    label_column, run_column : str, optional
        Names of the columns; where not given, ``labels``, ``condition`` or ``trial_type``, and ``chunks`` or
        ``run`` (which may be absent).

    Returns
    -------
    dict
        ``condition`` (text), ``run`` (int64, where there is one), then every other column.

    Raises
    ------
    InputError
        If the file cannot be read or lacks the column.
    DesignError
        If the number of rows is not the number of samples, or a value is missing.
    """
    if not isinstance(labels, pd.DataFrame | str | os.PathLike):
        raise InputError(
            f"labels must be a path or a DataFrame with one row a volume, got {type(labels).__name__}; for a list "
            "of conditions: pandas.DataFrame({'condition': conditions, 'run': runs})"
        )
    table = labels if isinstance(labels, pd.DataFrame) else read_table(Path(labels))
    place = "labels" if isinstance(labels, pd.DataFrame) else str(labels)
    if len(table) != n_samples:
        raise DesignError(f"{place} has {len(table)} rows for {n_samples} volumes; expected one row a volume")
    condition = _column(table, label_column, _CONDITION_NAMES, place, "label_column")
    assert condition is not None
    run = _column(table, run_column, _RUN_NAMES, place, "run_column")
    _check_names(table, {condition, run}, place)
    columns = {"condition": _as_text(table[condition], place)}
    if run is not None:
        columns["run"] = _as_runs(table[run], place)
    for name in table.columns:
        if name not in (condition, run):
            columns[_stored_name(name)] = _as_values(table[name])
    return columns


def _stored_name(name: Any) -> str:
    """A store lists its columns separated by blanks."""
    return str(name).strip().replace(" ", "_")


def _check_names(table: pd.DataFrame, used: set[str | None], place: str) -> None:
    """Refuse columns of which one would take another's place in the store."""
    names = ["condition", "run", *(_stored_name(name) for name in table.columns if name not in used)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"{place} has two columns that would be {name!r} in the store; rename or drop one"
            )


def read_table(path: Path) -> pd.DataFrame:
    """A delimited text file, every value as text; the first line says how it is delimited."""
    try:
        first = path.read_text(encoding="utf-8-sig").split("\n", 1)[0]
        sep = "\t" if "\t" in first else "," if "," in first else r"\s+"
        options: dict[str, Any] = {
            "sep": sep,
            "dtype": str,
            "keep_default_na": False,
            "encoding": "utf-8-sig",
        }
        names = pd.read_csv(path, header=None, nrows=1, **options).iloc[0].tolist()
        table = pd.read_csv(path, **options)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, ValueError) as error:
        # pandas' own parsing errors are ValueErrors.
        text = " ".join(str(error).split())
        raise InputError(f"cannot read {path} as a table with a line of column names: {text}") from None
    # pandas has called the second one by another name.
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise InputError(f"{path} has two columns {twice[0]!r}; rename or drop one")
    return table


def _column(
    table: pd.DataFrame, asked: str | None, usual: Sequence[str], place: str, argument: str
) -> str | None:
    names = [str(name) for name in table.columns]
    if asked is not None:
        if asked not in names:
            raise InputError(f"{place} has no column {asked!r} ({argument}); it has {', '.join(names)}")
        return asked
    found = [name for name in usual if name in names]
    if len(found) > 1 or names.count(found[0] if found else "") > 1:
        raise InputError(f"{place} has the columns {', '.join(found)}; say which one to use as {argument}")
    if found:
        return found[0]
    if argument == "run_column":
        return None
    raise InputError(
        f"{place} has none of the columns {', '.join(usual)}; name one of {', '.join(names)} as {argument}"
    )


def _as_text(column: pd.Series, place: str) -> np.ndarray:
    missing = np.flatnonzero((column.isna() | (column.astype(str) == "")).to_numpy())
    if len(missing):
        raise DesignError(
            f"{place}: {column.name!r} is empty in row {missing[0] + 1} (of {len(missing)} such)"
        )
    return np.array([str(value) for value in column.tolist()], dtype=object)


def _as_runs(column: pd.Series, place: str) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers == np.round(numbers))))
    if len(wrong):
        raise DesignError(
            f"{place}: runs ({column.name!r}) must be whole numbers, "
            f"row {wrong[0] + 1} has {column.tolist()[wrong[0]]!r}"
        )
    return numbers.astype(np.int64)


def _as_values(column: pd.Series) -> np.ndarray:
    """Numbers where every value is one, else text."""
    if column.dtype.kind in "biuf":
        return column.to_numpy()
    if column.dtype.kind not in "mM":  # times would become bare numbers
        numbers = pd.to_numeric(column, errors="coerce")
        if not numbers.isna().any():
            return numbers.to_numpy()
    return np.array([str(value) for value in column.tolist()], dtype=object)


def conditions_of_events(
    table: str | os.PathLike[str] | pd.DataFrame,
    n_samples: int,
    *,
    tr_s: float,
    shift_s: float = 0.0,
    label_column: str | None = None,
) -> np.ndarray:
    """The condition of every sample of one run, from a BIDS table of events.

    Sample t belongs to an event where ``onset <= t * tr_s - shift_s < onset + duration``, both sides rounded
    to microseconds; samples of no event are ``rest``.

    Parameters
    ----------
    table : path or DataFrame
        Columns ``onset`` and ``duration`` in seconds, and ``trial_type`` or ``label_column``.
    n_samples : int
        Volumes of the run.
    tr_s : float
        Repetition time, seconds.
    shift_s : float
        Haemodynamic delay, seconds: the condition of a sample is what was shown this much earlier.
    label_column : str, optional
        Column of conditions; ``trial_type`` where not given.

    Returns
    -------
    numpy.ndarray
        Text (object), shape (n_samples,).

    Raises
    ------
    InputError
        If the table cannot be read, or lacks a column or a number.
    DesignError
        If two events claim one sample.

    Warns
    -----
    UserWarning
        If an event covers no sample: it lies outside the run or between two samples.
    """
    place = "events" if isinstance(table, pd.DataFrame) else str(table)
    frame = table if isinstance(table, pd.DataFrame) else read_table(Path(table))
    column = _column(frame, label_column, ("trial_type",), place, "label_column")
    assert column is not None
    onset, duration = (_seconds(frame, name, place) for name in ("onset", "duration"))
    names = _as_text(frame[column], place)
    time_s = np.round(np.arange(n_samples) * tr_s - shift_s, 6)
    condition: np.ndarray = np.full(n_samples, _REST, dtype=object)
    owner = np.full(n_samples, -1)
    for row in range(len(frame)):
        inside = (time_s >= np.round(onset[row], 6)) & (time_s < np.round(onset[row] + duration[row], 6))
        taken = np.flatnonzero(inside & (owner >= 0))
        if len(taken):
            other = owner[taken[0]]
            raise DesignError(
                f"{place}: rows {other + 1} ({names[other]}) and {row + 1} ({names[row]}) overlap at sample "
                f"{taken[0]} ({taken[0] * tr_s:g} s); a sample has one condition"
            )
        if not inside.any():
            _warn_missed(place, row, names[row], onset[row], duration[row])
        condition[inside], owner[inside] = names[row], row
    return condition


def _warn_missed(place: str, row: int, name: str, onset_s: float, duration_s: float) -> None:
    warnings.warn(
        f"{place}: row {row + 1} ({name}, {duration_s:g} s from {onset_s:g} s) covers no sample of the run",
        UserWarning,
        stacklevel=2,
    )


def _seconds(frame: pd.DataFrame, name: str, place: str) -> np.ndarray:
    if name not in frame.columns:
        raise InputError(f"{place} has no column {name!r}; it has {', '.join(map(str, frame.columns))}")
    values: Any = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        found = frame[name].tolist()[wrong[0]]
        raise InputError(f"{place}: {name} in row {wrong[0] + 1} is {found!r}, expected seconds")
    return values
