"""Files to a subject store: one streaming pass in bounded memory, complete or not there at all."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slcluster.errors import DesignError, InputError
from slcluster.io.bids import brain_mask_beside, entities, find_runs, repetition_time_s
from slcluster.io.nifti import NiftiHeader, VolumeReader, check_same_grid, read_header, read_mask
from slcluster.progress import Listener, Progress, Step, listener
from slcluster.store.staging import check_target
from slcluster.store.subject import open_store
from slcluster.store.writer import SubjectWriter, subject_writer

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["ingest"]

PathLike = str | os.PathLike[str]

#: Resident memory of the process itself while it streams: interpreter, libraries, buffers.
BASE_BYTES = 200 * 10**6
#: Peak memory of a slab over its size: the slab, its compressed bricks, and the shard made of them.
SLAB_COPIES = 1.2
#: Slabs of fewer samples make so many small bricks that reading suffers.
MIN_SLAB_SAMPLES = 24


def ingest(
    bold: PathLike | Sequence[PathLike],
    store: PathLike,
    *,
    mask: Any,
    labels: PathLike | pd.DataFrame | None = None,
    events: PathLike | pd.DataFrame | Sequence[PathLike | pd.DataFrame] | None = None,
    label_column: str | None = None,
    run_column: str | None = None,
    tr: float | None = None,
    shift_s: float = 0.0,
    subject: str | None = None,
    memory_budget: str | int = "512MB",
    overwrite: bool = False,
    progress: Progress = None,
) -> xr.Dataset:
    """Turn NIfTI files, labels and a mask into a subject store.

    Parameters
    ----------
    bold : path or list of paths
        A 4D ``.nii`` or ``.nii.gz``; a list of 3D files (one sample each) or of 4D files (one run each); or a
        BIDS folder (all runs of one subject, with the events beside them).
    store : path
        Folder to write. It appears when it is complete.
    mask : path, image, array or None
        Voxels that may be features, on the grid of ``bold``. None looks for fMRIPrep's brain mask beside it.
    labels : path or DataFrame, optional
        One row per volume: ``labels``, ``condition`` or ``trial_type``, and perhaps ``chunks`` or ``run``;
        further columns are kept.
    events : path, DataFrame or list of them, optional
        One BIDS table per run. Samples of no event are ``rest``.
    label_column, run_column : str, optional
        Names of these columns where they are others.
    tr : float, optional
        Repetition time in seconds; else from the BIDS sidecar, else from the header.
    shift_s : float
        Haemodynamic delay in seconds, for events.
    subject : str, optional
        Name in results; else from the BIDS name or the file's. In a BIDS data set, which subject.
    memory_budget : str or int
        Peak resident memory of the whole process, as ``"512MB"`` or in bytes.
    overwrite : bool
        Replace a store that is there, once the new one is complete.
    progress : None, True or callable
        See :mod:`slcluster.progress`.

    Returns
    -------
    xarray.Dataset
        The store, as :func:`slcluster.open_store` gives it.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the others (GeometryError for grids, DesignError for
        labels), or the budget is too small for the volume.
    StoreError
        If the store exists or cannot be written.
    """
    tell = listener(progress)
    budget = _parse_bytes(memory_budget)
    check_target(store, overwrite)
    files, found_events, name = _find(bold, subject)
    headers = _read_headers(files)
    run_lengths = _run_lengths(headers)
    inside = _read_mask(mask, headers[0])
    tr_s = _tr_s(tr, headers[0])
    columns = _columns(
        run_lengths,
        labels=labels,
        events=found_events if events is None and labels is None else events,
        names=(label_column, run_column),
        tr_s=tr_s,
        shift_s=shift_s,
    )
    shape = (*headers[0].shape[:3], sum(run_lengths))
    storage = _storage(headers)
    n_slab = _slab_samples(shape, storage.dtype, budget)
    with subject_writer(
        store,
        shape=shape,
        dtype=storage.dtype,
        shard=(*shape[:3], n_slab),
        scale=storage.scale,
        overwrite=overwrite,
    ) as writer:
        slab = np.empty((n_slab, *reversed(shape[:3])), storage.dtype)
        summary = _stream(headers, slab, writer, storage, tell)
        del slab
        path = writer.finish(
            volumes={"mask": inside, "mean": summary.mean, "nonfinite": summary.nonfinite},
            affine=headers[0].affine,
            columns=columns,
            attrs={
                "subject": name,
                "sources": [file.name for file in files],
                "sources_sha256": summary.sha256,
                **headers[0].attrs,
                **({} if tr_s is None else {"tr_s": tr_s}),
            },
        )
    return open_store(path)


def _parse_bytes(size: str | int) -> int:
    """``"512MB"`` as bytes; dask's own parser would cost an import that a streaming process can spare."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kMGT]?)(i?)B?\s*", str(size), re.IGNORECASE)
    if match is None:
        raise InputError(f"memory_budget is {size!r}; expected bytes, or a size such as '512MB' or '2GiB'")
    power = " kmgt".index(match[2].lower() or " ")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def _find(bold: Any, subject: str | None) -> tuple[list[Path], list[Path] | None, str]:
    """The files of samples in order, the events beside them in BIDS, and the subject's name."""
    events: list[Path] | None = None
    if isinstance(bold, str | os.PathLike) and Path(bold).is_dir():
        runs = find_runs(Path(bold), subject)
        files = [run.bold for run in runs]
        tables = [run.events for run in runs if run.events is not None]
        events = tables if len(tables) == len(runs) else None
    elif isinstance(bold, str | os.PathLike):
        files = [Path(bold)]
    else:
        files = [Path(path) for path in bold]
    if not files:
        raise InputError("bold is an empty list; expected at least one NIfTI file")
    name = entities(files[0]).get("sub") or files[0].name.split(".")[0]
    return files, events, subject if subject is not None else name


def _read_headers(files: list[Path]) -> list[NiftiHeader]:
    headers = [read_header(file) for file in files]
    first = headers[0]
    n_dims = {header.n_dims for header in headers}
    if len(files) == 1 and first.n_dims == 3:
        raise InputError(
            f"{first.path} is 3D, shape {first.shape[:3]}; expected 4D, or a list of 3D files, one per sample"
        )
    if len(n_dims) > 1:
        raise InputError("bold mixes 3D and 4D files; expected either one sample or one run per file")
    for header in headers[1:]:
        check_same_grid(str(header.path), header.shape[:3], header.affine, first.shape[:3], first.affine)
    return headers


def _run_lengths(headers: list[NiftiHeader]) -> list[int]:
    return [header.shape[3] for header in headers] if headers[0].n_dims == 4 else [len(headers)]


def _read_mask(mask: Any, header: NiftiHeader) -> np.ndarray:
    if mask is None:
        mask = brain_mask_beside(header.path)
    if mask is None:
        raise InputError(
            f"no mask given and no *_desc-brain_mask.nii.gz beside {header.path}; make one: "
            f"nilearn.masking.compute_epi_mask({str(header.path)!r}).to_filename('mask.nii.gz')"
        )
    return read_mask(mask, header.shape[:3], header.affine)


def _tr_s(tr: float | None, header: NiftiHeader) -> float | None:
    if tr is None:
        return repetition_time_s(header.path) or header.tr_s
    if not (np.isfinite(tr) and tr > 0):
        raise InputError(f"tr is {tr!r}; expected the repetition time in seconds")
    return float(tr)


def _columns(
    run_lengths: list[int],
    *,
    labels: Any,
    events: Any,
    names: tuple[str | None, str | None],
    tr_s: float | None,
    shift_s: float,
) -> dict[str, np.ndarray]:
    """``condition``, ``run`` and whatever else is known of every sample."""
    # pandas costs 30 MB, which nothing before this needs.
    from slcluster.io.events import conditions_of_events, read_labels

    n_samples = sum(run_lengths)
    run = np.repeat(np.arange(len(run_lengths), dtype=np.int64), run_lengths)
    if labels is not None and events is not None:
        raise InputError("both labels and events are given; expected one of them")
    if labels is not None:
        return {"run": run, **read_labels(labels, n_samples, label_column=names[0], run_column=names[1])}
    if events is None:
        return {"run": run, "condition": np.full(n_samples, "rest", dtype=object)}
    tables = [events] if isinstance(events, str | os.PathLike) or hasattr(events, "columns") else list(events)
    if len(tables) != len(run_lengths):
        raise DesignError(f"{len(tables)} tables of events for {len(run_lengths)} runs; expected one per run")
    if tr_s is None:
        raise InputError("no repetition time in a BIDS sidecar or the header; give tr= in seconds")
    conditions = [
        conditions_of_events(table, n, tr_s=tr_s, shift_s=shift_s, label_column=names[0])
        for table, n in zip(tables, run_lengths, strict=True)
    ]
    return {"run": run, "condition": np.concatenate(conditions)}


@dataclass(frozen=True)
class _Storage:
    """How samples are stored: the dtype, the scale of raw integers, whether files are scaled on reading."""

    dtype: np.dtype
    scale: tuple[float, float] | None


def _storage(headers: list[NiftiHeader]) -> _Storage:
    """Integers stay raw if all files share dtype and scale; else float32, or float64 where a source is."""
    first = headers[0]
    kinds = {(h.dtype.newbyteorder("="), h.slope, h.inter) for h in headers}
    if len(kinds) == 1 and first.dtype.kind in "iu":
        scale = (first.slope, first.inter) if first.is_scaled else None
        return _Storage(first.dtype.newbyteorder("="), scale)
    needs_double = any(h.dtype.kind == "f" and (h.dtype.itemsize == 8 or h.is_scaled) for h in headers)
    return _Storage(np.dtype(np.float64 if needs_double else np.float32), None)


def _slab_samples(shape: tuple[int, ...], dtype: np.dtype, budget: int) -> int:
    """Samples in a slab: as many as the budget holds, in slabs of equal length."""
    n_samples = shape[3]
    volume_bytes = int(np.prod(shape[:3], dtype=object)) * dtype.itemsize
    most = int((budget - BASE_BYTES) / (SLAB_COPIES * volume_bytes))
    least = min(MIN_SLAB_SAMPLES, n_samples)
    if most < least:
        needed = BASE_BYTES + int(SLAB_COPIES * volume_bytes * (least + 1))
        raise InputError(
            f"memory_budget of {budget // 10**6} MB holds {max(most, 0)} samples of {volume_bytes / 1e6:.3g} MB "
            f"at once, at least {least} are needed; pass memory_budget='{-(-needed // 10**6)}MB' or more"
        )
    n_slabs = -(-n_samples // most)
    return int(-(-n_samples // n_slabs))


@dataclass(frozen=True)
class _Summary:
    mean: np.ndarray
    nonfinite: np.ndarray
    sha256: list[str]


def _stream(
    headers: list[NiftiHeader], slab: np.ndarray, writer: SubjectWriter, storage: _Storage, tell: Listener
) -> _Summary:
    """Every volume of every file through the slab, once; sums and hashes on the way."""
    n_samples = sum(header.shape[3] for header in headers)
    total = np.zeros(slab.shape[1:], np.float64)
    sha256, done = [], 0
    tell(Step("ingest", 0, n_samples, "sample"))
    for header in headers:
        with VolumeReader(header) as reader:
            for _ in range(header.shape[3]):
                volume = slab[done % len(slab)]
                reader.read_values(volume, scaled=storage.scale is None)
                with np.errstate(invalid="ignore", over="ignore"):
                    total += volume
                done += 1
                if done % len(slab) == 0 or done == n_samples:
                    n_filled = (done - 1) % len(slab) + 1
                    writer.write((0, 0, 0, (done - 1) // len(slab)), slab[:n_filled].T)
                    tell(Step("ingest", done, n_samples, "sample"))
            sha256.append(reader.finish())
    slope, inter = storage.scale or (1.0, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = (total / n_samples * slope + inter).astype(np.float32)
    return _Summary(mean.T, ~np.isfinite(total).T, sha256)
