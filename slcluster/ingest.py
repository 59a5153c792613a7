"""Files to a subject store: one streaming pass in bounded memory, complete or not there at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slcluster.errors import InputError
from slcluster.io.inputs import Inputs, find_inputs, read_inputs_mask, repetition_time, sample_columns
from slcluster.io.nifti import NiftiHeader
from slcluster.io.volumes import VolumeReader
from slcluster.progress import Listener, Progress, Step, listener
from slcluster.sizes import parse_bytes
from slcluster.store.staging import check_target
from slcluster.store.subject import open_store
from slcluster.store.writer import SubjectWriter, storable_columns, subject_writer

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["ingest", "preview"]

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
        Voxels that may be features, on the grid of ``bold`` (to 1 % of a voxel). None takes the voxels in
        fMRIPrep's ``*_desc-brain_mask.nii.gz`` of every run.
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
        Peak resident memory of the process, as ``"512MB"`` or in bytes: 200 MB for a process with the usual
        libraries, the rest for the samples that are in memory at once. What a caller holds comes on top.
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

    Examples
    --------
    >>> import tempfile, nibabel
    >>> folder = tempfile.mkdtemp()
    >>> image = nibabel.Nifti1Image(np.zeros((4, 3, 2, 6), "i2"), np.diag([-3.0, 3.5, 4.0, 1.0]))
    >>> image.to_filename(f"{folder}/bold.nii.gz")
    >>> mask = np.ones((4, 3, 2), bool)
    >>> ds = ingest(f"{folder}/bold.nii.gz", f"{folder}/sub-01.zarr", mask=mask, subject="01")
    >>> ds["bold"].dims, ds["bold"].dtype
    (('x', 'y', 'z', 'sample'), dtype('int16'))
    """
    tell = listener(progress)
    check_target(store, overwrite)
    request = _Request.read(
        bold, mask, labels, events, label_column, run_column, tr, shift_s, subject, memory_budget
    )
    inputs, storage, shape = request.inputs, request.storage, request.inputs.shape
    with subject_writer(
        store,
        shape=shape,
        dtype=storage.dtype,
        shard=(*shape[:3], request.n_slab),
        scale=storage.scale,
        overwrite=overwrite,
    ) as writer:
        summary = _stream(inputs.headers, request.n_slab, writer, storage, tell)
        path = writer.finish(
            volumes={"mask": request.mask, "mean": summary.mean, "nonfinite": summary.nonfinite},
            affine=inputs.headers[0].affine,
            columns=request.columns,
            attrs=_attrs(inputs, summary, request.tr_s),
        )
    return open_store(path)


def preview(
    bold: PathLike | Sequence[PathLike],
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
) -> xr.Dataset:
    """The subject that :func:`ingest` would write, with zeros for voxels: enough to plan an analysis on.

    Reads headers, tables and masks. Parameters and errors are those of :func:`ingest`.

    Returns
    -------
    xarray.Dataset
        A subject in memory, whose ``bold`` is lazy and 0.
    """
    import dask.array as da

    from slcluster.schema import subject_dataset

    request = _Request.read(
        bold, mask, labels, events, label_column, run_column, tr, shift_s, subject, memory_budget
    )
    dtype = np.dtype(np.float64) if request.storage.scale else request.storage.dtype
    return subject_dataset(
        da.zeros(request.inputs.shape, dtype=dtype),
        affine=request.inputs.headers[0].affine,
        mask=request.mask,
        subject=request.inputs.subject,
        **request.columns,
    )


@dataclass(frozen=True)
class _Request:
    """The arguments of ingest, checked against the files and each other. No sample has been read."""

    inputs: Inputs
    storage: _Storage
    n_slab: int
    mask: np.ndarray
    columns: dict[str, Any]
    tr_s: float | None

    @classmethod
    def read(
        cls,
        bold: Any,
        mask: Any,
        labels: Any,
        events: Any,
        label_column: str | None,
        run_column: str | None,
        tr: float | None,
        shift_s: float,
        subject: str | None,
        memory_budget: str | int,
    ) -> _Request:
        budget = parse_bytes(memory_budget, "memory_budget")
        inputs = find_inputs(bold, subject, wants_events=labels is None and events is None)
        storage = _storage(inputs.headers)
        n_slab = _slab_samples(inputs.shape, storage.dtype, budget)
        inside = read_inputs_mask(mask, inputs)
        tr_s = repetition_time(tr, inputs)
        columns = sample_columns(
            inputs,
            labels=labels,
            events=inputs.events if events is None else events,
            label_column=label_column,
            run_column=run_column,
            tr_s=tr_s,
            shift_s=shift_s,
        )
        return cls(inputs, storage, n_slab, inside, storable_columns(columns), tr_s)


def _attrs(inputs: Inputs, summary: _Summary, tr_s: float | None) -> dict[str, Any]:
    return {
        "subject": inputs.subject,
        # Names alone: where files lie is nobody's business, and another place must not be another store.
        "sources": [header.path.name for header in inputs.headers],
        "sources_sha256": summary.sha256,
        **inputs.headers[0].attrs,
        **({} if tr_s is None else {"tr_s": tr_s}),
    }


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
    """What one pass over all samples leaves: two volumes (nx, ny, nz), and the SHA-256 of each file."""

    mean: np.ndarray
    nonfinite: np.ndarray
    sha256: list[str]


def _stream(
    headers: list[NiftiHeader], n_slab: int, writer: SubjectWriter, storage: _Storage, tell: Listener
) -> _Summary:
    """Every volume of every file through one slab into the writer, once."""
    nx, ny, nz, _ = headers[0].shape
    n_samples = sum(header.shape[3] for header in headers)
    slab = np.empty((n_slab, nz, ny, nx), storage.dtype)
    total = np.zeros((nz, ny, nx), np.float64)
    nonfinite = np.zeros((nz, ny, nx), bool)
    every = max(1, n_samples // 100)
    sha256, done = [], 0
    tell(Step("ingest", 0, n_samples, "sample"))
    for header in headers:
        with VolumeReader(header) as reader:
            for _ in range(header.shape[3]):
                volume = slab[done % n_slab]
                reader.read_values(volume, scaled=storage.scale is None)
                with np.errstate(invalid="ignore", over="ignore"):
                    total += volume
                done += 1
                if done % n_slab == 0 or done == n_samples:
                    filled = slab[: (done - 1) % n_slab + 1]
                    _mark_nonfinite(nonfinite, filled, total)
                    writer.write((0, 0, 0, (done - 1) // n_slab), filled.T)
                if done % every == 0 or done == n_samples:
                    tell(Step("ingest", done, n_samples, "sample"))
            sha256.append(reader.finish())
    slope, inter = storage.scale or (1.0, 0.0)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = (total / n_samples * slope + inter).astype(np.float32)
    return _Summary(mean.T, nonfinite.T, sha256)


def _mark_nonfinite(nonfinite: np.ndarray, filled: np.ndarray, total: np.ndarray) -> None:
    """Mark voxels with a NaN or infinity in these samples. A sum that is finite has none, which spares a pass."""
    suspects = np.nonzero(~np.isfinite(total) & ~nonfinite)
    if len(suspects[0]):
        # One volume at a time: a background of NaN would copy most of the slab.
        for volume in filled:
            nonfinite[suspects] |= ~np.isfinite(volume[suspects])
