"""What the arguments of ingest mean: which files, in which runs, with which mask, time and labels."""

from __future__ import annotations

import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from slcluster.errors import DesignError, InputError
from slcluster.io.bids import brain_mask_beside, entities, find_runs, repetition_time_s
from slcluster.io.events import conditions_of_events, read_labels
from slcluster.io.grid import check_same_grid, read_mask
from slcluster.io.nifti import NiftiHeader, read_header
from slcluster.schema import on_axes

__all__ = ["Inputs", "find_inputs", "read_inputs_mask", "repetition_time", "sample_columns"]


@dataclass(frozen=True)
class Inputs:
    """The files of one subject.

    Attributes
    ----------
    headers : list of NiftiHeader
        One per file, in the order of samples, all on one grid.
    run_lengths : list of int
        Samples of each run.
    events : list of Path or None
        BIDS tables found beside the files, one per run; None where nothing was looked for or found.
    subject : str
        Name of the subject.
    """

    headers: list[NiftiHeader]
    run_lengths: list[int]
    events: list[Path] | None
    subject: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        nx, ny, nz, _ = self.headers[0].shape
        return nx, ny, nz, sum(self.run_lengths)


def find_inputs(bold: Any, subject: str | None, *, wants_events: bool) -> Inputs:
    """Find and check the files that ``bold`` means.

    Parameters
    ----------
    bold : path or sequence of paths
        A 4D file, 3D files (one sample each), 4D files (one run each), or a BIDS folder.
    subject : str, optional
        Name of the subject; in a BIDS data set, which one.
    wants_events : bool
        Whether the tables beside the images of a BIDS folder are to be used, where there are any.

    Returns
    -------
    Inputs

    Raises
    ------
    InputError
        If a file is missing, not NIfTI, of the wrong dimensions (GeometryError: of another grid).
    """
    if subject is not None and not (isinstance(subject, str) and subject.strip()):
        raise InputError(f"subject must be a name, got {subject!r}; leave it out for the file's")
    events: list[Path] | None = None
    if isinstance(bold, str | os.PathLike):
        path = Path(bold).expanduser()
        files = [path]
        if path.is_dir():
            runs = find_runs(path, subject)
            files = [run.bold for run in runs]
            tables = [run.events for run in runs if run.events is not None]
            if wants_events and 0 < len(tables) < len(runs):
                bare = [run.bold.name for run in runs if run.events is None]
                raise InputError(f"no _events.tsv beside {', '.join(bare)}; other runs of {path} have one")
            events = tables if wants_events and tables else None
    elif isinstance(bold, Sequence) and all(isinstance(file, str | os.PathLike) for file in bold):
        files = [Path(file).expanduser() for file in bold]
    else:
        raise InputError(f"bold must be a path or a list of paths, got {type(bold).__name__}")
    if not files:
        raise InputError("bold is an empty list; expected at least one NIfTI file")
    headers = _read_headers(files)
    run_lengths = [h.shape[3] for h in headers] if headers[0].n_dims == 4 else [len(headers)]
    name = subject if subject is not None else entities(files[0]).get("sub") or files[0].name.split(".")[0]
    return Inputs(headers, run_lengths, events, name)


def _read_headers(files: list[Path]) -> list[NiftiHeader]:
    headers = [read_header(file) for file in files]
    first = headers[0]
    if len(files) == 1 and first.n_dims == 3:
        raise InputError(
            f"{first.path} is 3D, shape {first.shape[:3]}; expected 4D, or a list of 3D files, one per sample"
        )
    for header in headers[1:]:
        if header.n_dims != first.n_dims:
            raise InputError(
                f"{first.path.name} is {first.n_dims}D and {header.path.name} is {header.n_dims}D; expected "
                "either 3D files, one per sample, or 4D files, one per run"
            )
        check_same_grid(str(header.path), header.shape[:3], header.affine, first.shape[:3], first.affine)
    return headers


def read_inputs_mask(mask: Any, inputs: Inputs) -> np.ndarray:
    """The mask, or where none is given the voxels in fMRIPrep's mask of every run.

    Parameters
    ----------
    mask : path, image, array or None
        As :func:`slcluster.io.read_mask`; None looks beside the images.
    inputs : Inputs
        From :func:`find_inputs`.

    Returns
    -------
    numpy.ndarray
        bool, shape (nx, ny, nz).

    Raises
    ------
    InputError
        If there is none, or none that fits.
    """
    first = inputs.headers[0]
    if mask is not None:
        mask = on_axes(mask, dict(zip("xyz", map(np.arange, first.shape[:3]), strict=True)), "mask")
        return read_mask(mask, first.shape[:3], first.affine)
    beside = [brain_mask_beside(header.path) for header in inputs.headers]
    for found, header in zip(beside, inputs.headers, strict=True):
        if found is None:
            raise InputError(
                f"no mask given, and no *_desc-brain_mask.nii.gz of fMRIPrep beside {header.path}; make one: "
                f"nilearn.masking.compute_epi_mask({str(header.path)!r}).to_filename('mask.nii.gz')"
            )
    masks = [read_mask(path, first.shape[:3], first.affine, str(path)) for path in beside]
    inside: np.ndarray = reduce(np.logical_and, masks)
    if not inside.any():
        raise InputError(f"the brain masks of the {len(masks)} runs have no voxel in common; give mask=")
    return inside


def repetition_time(tr: float | None, inputs: Inputs) -> float | None:
    """Seconds from sample to sample: as given, else from the BIDS sidecar, else from the header, else None.

    Raises
    ------
    InputError
        If what is given is no time, or runs differ.
    """
    if tr is not None:
        if not (isinstance(tr, numbers.Real) and np.isfinite(tr) and tr > 0):
            raise InputError(f"tr is {tr!r}; expected the repetition time in seconds")
        return float(tr)
    # Images of single samples share one; reading a thousand sidecars would tell nothing new.
    headers = inputs.headers if len(inputs.run_lengths) > 1 else inputs.headers[:1]
    found = [repetition_time_s(header.path) or header.tr_s for header in headers]
    known = [tr_s for tr_s in found if tr_s is not None]
    if known and (len(known) < len(found) or max(known) - min(known) > 1e-4):
        shown = ", ".join("none" if tr_s is None else f"{tr_s:g}" for tr_s in found)
        raise InputError(f"runs have different repetition times ({shown} s); give tr= in seconds")
    return known[0] if known else None


def sample_columns(
    inputs: Inputs,
    *,
    labels: Any,
    events: Any,
    label_column: str | None,
    run_column: str | None,
    tr_s: float | None,
    shift_s: float,
) -> dict[str, np.ndarray]:
    """``condition``, ``run`` and whatever else is known of every sample.

    Parameters
    ----------
    inputs : Inputs
        From :func:`find_inputs`.
    labels, events, label_column, run_column, shift_s
        As :func:`slcluster.ingest`.
    tr_s : float or None
        Repetition time in seconds, needed for events.

    Returns
    -------
    dict
        Names to arrays of shape (n_samples,). Runs count from 0 in the order of files, unless the labels
        have runs.

    Raises
    ------
    InputError
        If both labels and events are given, labels with a shift, or events without a repetition time.
    DesignError
        If their number does not fit the samples.
    """
    n_samples = sum(inputs.run_lengths)
    run = np.repeat(np.arange(len(inputs.run_lengths), dtype=np.int64), inputs.run_lengths)
    if labels is not None and events is not None:
        raise InputError("both labels and events are given; expected one of them")
    if not isinstance(shift_s, int | float | np.number) or not np.isfinite(shift_s):
        raise InputError(f"shift_s is {shift_s!r}; expected seconds")
    if labels is not None and shift_s:
        raise InputError(
            f"shift_s={shift_s} is for events; labels name the condition of every volume, so shift the rows of "
            "their table instead"
        )
    if labels is not None:
        table = read_labels(labels, n_samples, label_column=label_column, run_column=run_column)
        return {"run": run, **table}
    if events is None:
        return {"run": run, "condition": np.full(n_samples, "rest", dtype=object)}
    is_one = isinstance(events, str | os.PathLike) or hasattr(events, "columns")
    tables = [events] if is_one else list(events)
    if len(tables) != len(inputs.run_lengths):
        raise DesignError(
            f"{len(tables)} tables of events for {len(inputs.run_lengths)} runs; expected one per run"
        )
    if tr_s is None:
        raise InputError(
            "events need the repetition time, and neither a sidecar nor the header has it; give tr="
        )
    conditions = [
        conditions_of_events(table, n, tr_s=tr_s, shift_s=shift_s, label_column=label_column)
        for table, n in zip(tables, inputs.run_lengths, strict=True)
    ]
    return {"run": run, "condition": np.concatenate(conditions)}
