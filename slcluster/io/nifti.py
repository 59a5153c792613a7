"""NIfTI headers, checked against their files. The package io is the only place with nibabel."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from slcluster.errors import GeometryError, InputError
from slcluster.io.reader import MAX_INFLATION, ByteReader

__all__ = ["NiftiHeader", "parse_header", "read_header"]

#: nibabel repairs what it can in a header and says so on standard error, at every reading.
_SILENT = logging.Logger("slcluster.io.nifti", level=logging.CRITICAL)
_SILENT.addHandler(logging.NullHandler())

_TIME_UNITS = {8: 1.0, 16: 1e-3, 24: 1e-6}


@dataclass(frozen=True)
class NiftiHeader:
    """What a NIfTI header says, checked against the file's size.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple of 4 ints
        (nx, ny, nz, n_samples); a 3D file has one sample.
    n_dims : int
        3 or 4, trailing axes of length one not counted.
    dtype : numpy.dtype
        As stored, with its byte order.
    slope, inter : float
        1 and 0 where the header has no valid scaling.
    affine : array, shape (4, 4)
        Voxel indices to mm: the sform if coded, else the qform, else the voxel sizes alone.
    offset : int
        Bytes before the first voxel.
    attrs : dict
        Fields that writing maps into the same space needs.
    tr_s : float or None
        Repetition time in seconds, None where the header has none.
    """

    path: Path
    shape: tuple[int, int, int, int]
    n_dims: int
    dtype: np.dtype
    slope: float
    inter: float
    affine: np.ndarray
    offset: int
    attrs: dict[str, Any]
    tr_s: float | None

    @property
    def is_scaled(self) -> bool:
        return (self.slope, self.inter) != (1.0, 0.0)

    @property
    def layout(self) -> tuple[Any, ...]:
        """Everything that decides what the bytes of the file mean."""
        return self.shape, self.dtype, self.slope, self.inter, self.offset, self.affine.tobytes()

    @property
    def volume_bytes(self) -> int:
        nx, ny, nz, _ = self.shape
        return nx * ny * nz * self.dtype.itemsize

    @property
    def file_bytes(self) -> int:
        """Bytes of the inflated file."""
        return self.offset + self.volume_bytes * self.shape[3]


def read_header(path: str | os.PathLike[str]) -> NiftiHeader:
    """Read and check the header of a ``.nii`` or ``.nii.gz``.

    Parameters
    ----------
    path : path
        NIfTI-1 or NIfTI-2 in one file, of any real integer or float dtype.

    Returns
    -------
    NiftiHeader

    Raises
    ------
    InputError
        Missing, empty, not NIfTI, unsupported, or a header that its file cannot hold.
    """
    with ByteReader(Path(path)) as reader:
        return parse_header(reader)[0]


def parse_header(reader: ByteReader) -> tuple[NiftiHeader, int]:
    """The header at the start of a stream, and how many bytes of it were read.

    Raises
    ------
    InputError
        As :func:`read_header`.
    """
    raw, n_read = _raw_header(reader)
    path = reader.path
    try:
        # Fields of noise hold NaNs of every kind; what matters of them is checked below.
        with np.errstate(invalid="ignore", over="ignore"):
            raw.check_fix(logger=_SILENT)
            header = _header(path, raw)
    except HeaderDataError as error:
        raise InputError(f"{path} has an invalid NIfTI header: {error}") from None
    _check_size(header, reader)
    return header, n_read


def _header(path: Path, raw: Any) -> NiftiHeader:
    n_dims, shape = _shape(path, tuple(int(n) for n in raw["dim"]))
    slope, inter = raw.get_slope_inter()
    return NiftiHeader(
        path=path,
        shape=shape,
        n_dims=n_dims,
        dtype=_dtype(path, raw),
        slope=1.0 if slope is None else slope,
        inter=0.0 if inter is None else inter,
        affine=_affine(path, raw),
        offset=_offset(path, raw),
        attrs=_attrs(raw),
        tr_s=_tr_s(raw),
    )


def _raw_header(reader: ByteReader) -> tuple[Any, int]:
    block = bytearray(540)
    n_read = reader.read_into(memoryview(block)[:348])
    if n_read < 348:
        raise InputError(f"{reader.path} is not NIfTI: {n_read} bytes, a header alone has 348")
    sizes = {int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big")}
    if 348 in sizes and bytes(block[344:348]) == b"n+1\0":
        return nib.Nifti1Header(bytes(block[:348]), check=False), n_read
    if 540 in sizes and bytes(block[4:8]) == b"n+2\0":
        n_read += reader.read_into(memoryview(block)[348:])
        if n_read == 540:
            return nib.Nifti2Header(bytes(block), check=False), n_read
    if 348 in sizes and bytes(block[344:348]) == b"ni1\0":
        raise InputError(f"{reader.path} is half of a .hdr/.img pair; save it as one .nii or .nii.gz file")
    raise InputError(f"{reader.path} is not NIfTI: expected a .nii or .nii.gz file")


def _shape(path: Path, dim: tuple[int, ...]) -> tuple[int, tuple[int, int, int, int]]:
    if not 1 <= dim[0] <= 7:
        raise InputError(f"{path} has an invalid NIfTI header: {dim[0]} dimensions, expected 3 or 4")
    shape = list(dim[1 : dim[0] + 1])
    if min(shape) < 1:
        raise InputError(f"{path} has an invalid NIfTI header: shape {tuple(shape)}, no axis may be under 1")
    while len(shape) > 4 and shape[-1] == 1:
        shape.pop()
    if not 3 <= len(shape) <= 4:
        raise InputError(f"{path} has shape {tuple(shape)}; expected 3 or 4 dimensions")
    n_dims = len(shape)
    nx, ny, nz, n_samples = [*shape, 1][:4]
    return n_dims, (nx, ny, nz, n_samples)


def _dtype(path: Path, raw: Any) -> np.dtype:
    dtype = np.dtype(raw.get_data_dtype())
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(f"{path} has voxels of type {dtype}; expected real integers or floats up to 64 bits")
    return dtype


def _affine(path: Path, raw: Any) -> np.ndarray:
    try:
        affine = np.asarray(raw.get_best_affine(), np.float64)
    except (HeaderDataError, ValueError) as error:
        raise InputError(f"{path} has an invalid affine in its header: {error}") from None
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise GeometryError(f"{path} has an affine that is no grid in space: {affine[:3].tolist()}")
    return affine


def _offset(path: Path, raw: Any) -> int:
    value, least = float(raw["vox_offset"]), raw.single_vox_offset
    if not (least <= value < 2**40 and value.is_integer()):
        raise InputError(f"{path} has an invalid NIfTI header: vox_offset {value}, expected {least} or more")
    return int(value)


def _attrs(raw: Any) -> dict[str, Any]:
    try:
        qform = np.asarray(raw.get_qform(), np.float64)
    except (HeaderDataError, ValueError):
        qform = np.full((4, 4), np.nan)
    forms = {"qform": qform, "sform": np.asarray(raw.get_sform(), np.float64)}
    return {
        "qform_code": int(raw["qform_code"]),
        "sform_code": int(raw["sform_code"]),
        # JSON has no NaN; a form that is not coded may hold anything.
        **{name: (m if np.isfinite(m).all() else np.eye(4)).ravel().tolist() for name, m in forms.items()},
        "xyzt_units": int(raw["xyzt_units"]),
    }


def _tr_s(raw: Any) -> float | None:
    unit = _TIME_UNITS.get(int(raw["xyzt_units"]) & 0x38)
    tr = float(raw["pixdim"][4])
    return tr * unit if unit is not None and np.isfinite(tr) and tr > 0 else None


def _check_size(header: NiftiHeader, reader: ByteReader) -> None:
    """Hold the header against the file before anything of its size is allocated."""
    limit = reader.file_bytes * (MAX_INFLATION if reader.is_gzip else 1)
    if header.file_bytes > limit:
        raise InputError(
            f"{header.path} is cut off or its header is wrong: shape {header.shape} of {header.dtype} needs "
            f"{header.file_bytes} bytes, the file has {reader.file_bytes}"
        )
