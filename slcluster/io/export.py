"""Maps to files: NIfTI in the source's space, and JSON sidecars."""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import xarray as xr

from slcluster.errors import InputError, cannot_write
from slcluster.schema import grid_affine, source_affine

__all__ = ["map_image", "to_nifti", "write_atomically", "write_images", "write_sidecar"]

_XYZ = ("x", "y", "z")

#: In the NIfTI header's ``xyzt_units``: millimetres, and the bits that are of space.
_MM, _SPATIAL_UNITS = 2, 0x07


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
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"expected a file name ending in .nii or .nii.gz, got {path.name}")
    image = map_image(da, background=background)
    write_atomically(path, lambda partial: nib.save(image, partial))
    return path


def map_image(da: xr.DataArray, *, background: float = math.nan) -> Any:
    """The NIfTI image, in memory, that :func:`to_nifti` writes.

    Parameters
    ----------
    da : DataArray, dims (..., x, y, z)
    background : float

    Returns
    -------
    nibabel.Nifti1Image
        float32, int32 or uint8, for maps of floats, integers or booleans.

    Raises
    ------
    InputError
        Not a map, or integers that int32 cannot hold.
    """
    if not isinstance(da, xr.DataArray) or not {*_XYZ, "space"} <= set(da.coords):
        got = f"dims {da.dims}" if isinstance(da, xr.DataArray) else type(da).__name__
        raise InputError(
            f"expected a map with dims (x, y, z) and its space, got {got}; pass one variable, such as maps.score"
        )
    # A slice taken with an integer has lost its dimension, not its place.
    da = da.expand_dims([name for name in _XYZ if name not in da.dims])
    leading = [name for name in da.dims if name not in _XYZ]
    values = np.asarray(da.transpose(*leading, *_XYZ).values)
    values = np.moveaxis(values.reshape(-1, *values.shape[-3:]), 0, -1) if leading else values
    return _image(_file_values(values, background), da)


def _file_values(values: np.ndarray, background: float) -> np.ndarray:
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind in "iu":
        limits = np.iinfo(np.int32)
        if values.size and not (limits.min <= values.min() and values.max() <= limits.max):
            raise InputError(
                f"the map holds {values.min()} to {values.max()}, which int32 cannot; make it float"
            )
        return values.astype(np.int32)
    if values.dtype.kind != "f":
        raise InputError(f"expected a map of floats, integers or booleans, got {values.dtype}")
    return np.where(np.isnan(values), background, values).astype(np.float32)


def _image(values: np.ndarray, da: xr.DataArray) -> Any:
    affine, source, attrs = grid_affine(da), source_affine(da), da["space"].attrs
    header = nib.Nifti1Header()
    header.set_data_dtype(values.dtype)
    header["xyzt_units"] = int(attrs.get("xyzt_units", _MM)) & _SPATIAL_UNITS  # a map has no time
    image = nib.Nifti1Image(values, affine, header)
    if not {"qform_code", "sform_code", "qform", "sform"} <= set(attrs):
        return image
    # Both forms keep their meaning: voxel (i, j, k) of a crop is voxel (x, y, z) of the source. A crop moves
    # and strides by whole voxels, so rounding takes away only what inverting the affine put there.
    to_source = np.rint(np.linalg.inv(source) @ affine)
    qform_code, sform_code = int(attrs["qform_code"]), int(attrs["sform_code"])
    if not (qform_code or sform_code):
        if (to_source == np.eye(4)).all():  # voxel sizes alone say where voxels are, as in the source
            image.set_qform(None, 0)
            image.set_sform(None, 0)
        return image
    sform = np.reshape(attrs["sform"], (4, 4)) if sform_code else source
    qform = np.reshape(attrs["qform"], (4, 4)) if qform_code else sform
    image.set_qform(qform @ to_source, qform_code)
    image.set_sform(sform @ to_source, sform_code)
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
    write_atomically(path, lambda partial: partial.write_text(text))
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under another name beside it, then rename: it is there whole, or as it was.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    write : callable
        Takes the path to write to, which ends as ``path`` does.

    Raises
    ------
    StoreError
        The file cannot be written; nothing is left of it.
    """
    partial = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # not there when all went well, nor where no folder could be made
            partial.unlink()


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
        ``labels`` and ``chunks``): what :func:`slcluster.ingest` takes. Samples keep their dtype.

    Raises
    ------
    StoreError
        The folder cannot be written.
    """
    folder = Path(folder).expanduser()
    affine = grid_affine(ds)
    paths = {"bold": folder / "bold.nii.gz", "mask": folder / "mask.nii.gz", "labels": folder / "labels.txt"}
    values = np.asarray(ds["bold"].values)
    bold = nib.Nifti1Image(values, affine, dtype=values.dtype)  # or nibabel refuses int64
    bold.header.set_xyzt_units("mm", "sec")
    bold.header["pixdim"][4] = ds.attrs.get("tr_s", 0)  # 0 is unknown
    mask = nib.Nifti1Image(ds["mask"].values.astype(np.uint8), affine)
    mask.header.set_xyzt_units("mm")
    table = pd.DataFrame({"labels": ds["condition"].values.tolist(), "chunks": ds["run"].values})
    write_atomically(paths["bold"], lambda partial: nib.save(bold, partial))
    write_atomically(paths["mask"], lambda partial: nib.save(mask, partial))
    write_atomically(paths["labels"], lambda partial: table.to_csv(partial, sep=" ", index=False))
    return paths
