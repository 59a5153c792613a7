"""Maps to files: NIfTI in the source's space, and JSON sidecars."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import xarray as xr

from slcluster.errors import InputError, StoreError
from slcluster.schema import grid_affine, source_affine

__all__ = ["to_nifti", "write_images", "write_sidecar"]

_XYZ = ("x", "y", "z")


def to_nifti(da: xr.DataArray, path: str | os.PathLike[str], *, background: float = math.nan) -> Path:
    """Write a map as NIfTI that opens in the space of the images it was made from.

    Parameters
    ----------
    da : DataArray, dims (..., x, y, z)
        With coordinates ``x``, ``y``, ``z`` and ``space``, as every map of slcluster has. Leading dimensions
        (metric, fold) become the fourth axis, in C order. A spatial subset is written where it lies.
    path : path
        ``.nii`` or ``.nii.gz``.
    background : float
        Written where the map is NaN: NaN itself, or 0 for tools that expect it.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        Not a map, or another file type.
    StoreError
        The file cannot be written; nothing is left of it.

    Examples
    --------
    >>> import tempfile, slcluster
    >>> ds = slcluster.subject_dataset(np.zeros((4, 3, 2, 5), "f4"), affine=np.diag([-2.0, 2, 3, 1]))
    >>> to_nifti(ds["mean"], tempfile.mkdtemp() + "/mean.nii.gz").name
    'mean.nii.gz'
    """
    path = Path(path).expanduser()
    if not isinstance(da, xr.DataArray) or not {*_XYZ, "space"} <= set(da.coords):
        got = f"dims {da.dims}" if isinstance(da, xr.DataArray) else type(da).__name__
        raise InputError(
            f"expected a map with dims (x, y, z) and an affine, got {got}; pass one variable, such as maps.score"
        )
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"expected a file name ending in .nii or .nii.gz, got {path.name}")
    # A slice taken with an integer has lost its dimension, not its place.
    da = da.expand_dims([name for name in _XYZ if name not in da.dims])
    leading = [name for name in da.dims if name not in _XYZ]
    values = np.asarray(da.transpose(*leading, *_XYZ).values)
    values = np.moveaxis(values.reshape(-1, *values.shape[-3:]), 0, -1) if leading else values
    image = _image(_file_values(values, background), da)
    _write_atomically(path, lambda partial: nib.save(image, partial))
    return path


def _file_values(values: np.ndarray, background: float) -> np.ndarray:
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind in "iu":
        return values.astype(np.int32)
    return np.where(np.isnan(values), background, values).astype(np.float32)


def _image(values: np.ndarray, da: xr.DataArray) -> Any:
    affine, source, attrs = grid_affine(da), source_affine(da), da["space"].attrs
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm", "sec")
    if not {"qform_code", "sform_code", "qform", "sform"} <= set(attrs):
        return nib.Nifti1Image(values, affine, header)
    # Both forms keep their meaning: voxel (i, j, k) of a crop is voxel (x, y, z) of the source.
    to_source = np.linalg.inv(source) @ affine
    image = nib.Nifti1Image(values, affine, header)
    has_form = attrs["sform_code"] or attrs["qform_code"]
    sform = np.reshape(attrs["sform"], (4, 4)) if attrs["sform_code"] else source
    qform = np.reshape(attrs["qform"], (4, 4)) if attrs["qform_code"] else sform
    if has_form or not np.allclose(to_source, np.eye(4)):
        image.set_qform(qform @ to_source, int(attrs["qform_code"]))
        image.set_sform(sform @ to_source, int(attrs["sform_code"]) if has_form else 1)
    else:  # no form in the source: voxel sizes alone say where voxels are, as there
        image.set_qform(None, 0)
        image.set_sform(None, 0)
    return image


def write_sidecar(path: str | os.PathLike[str], info: Mapping[str, Any]) -> Path:
    """Write JSON beside a map: sorted keys, NaN and infinities as null, NumPy values as plain ones.

    Raises
    ------
    StoreError
        The file cannot be written; nothing is left of it.
    """
    path = Path(path).expanduser()
    text = json.dumps(_plain(info), indent=2, sort_keys=True, allow_nan=False) + "\n"
    _write_atomically(path, lambda partial: partial.write_text(text))
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    partial = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def write_images(ds: xr.Dataset, folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Write a subject in memory as the files it could have come from, in the layout of the Haxby data.

    Parameters
    ----------
    ds : xarray.Dataset
        A subject; its mask, condition and run are written too.
    folder : path
        Made where it is missing.

    Returns
    -------
    dict
        Paths of ``bold`` (``bold.nii.gz``), ``mask`` (``mask.nii.gz``) and ``labels`` (``labels.txt``, columns
        ``labels`` and ``chunks``): what :func:`slcluster.ingest` takes.

    Raises
    ------
    StoreError
        The folder cannot be written.
    """
    folder = Path(folder).expanduser()
    affine = grid_affine(ds)
    paths = {"bold": folder / "bold.nii.gz", "mask": folder / "mask.nii.gz", "labels": folder / "labels.txt"}
    bold = nib.Nifti1Image(np.asarray(ds["bold"].values), affine)
    bold.header.set_xyzt_units("mm", "sec")
    mask = nib.Nifti1Image(ds["mask"].values.astype(np.uint8), affine)
    rows = zip(ds["condition"].values, ds["run"].values, strict=True)
    table = "".join(f"{condition} {run}\n" for condition, run in [("labels", "chunks"), *rows])
    _write_atomically(paths["bold"], lambda partial: nib.save(bold, partial))
    _write_atomically(paths["mask"], lambda partial: nib.save(mask, partial))
    _write_atomically(paths["labels"], lambda partial: partial.write_text(table))
    return paths
