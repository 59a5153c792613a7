"""NIfTI headers, grids, masks and streams of volumes: the only place with nibabel."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from slcluster.errors import GeometryError, InputError
from slcluster.io.reader import MAX_INFLATION, ByteReader

__all__ = ["NiftiHeader", "VolumeReader", "check_same_grid", "read_header", "read_mask", "read_volume"]

#: Two grids are the same where no corner of one lies farther from its twin than this part of a voxel's edge.
GRID_TOLERANCE = 0.01

_MAX_BYTES = 2**46
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
        return _parse(reader)[0]


def _parse(reader: ByteReader) -> tuple[NiftiHeader, int]:
    """The header, and how many bytes of the stream were read for it."""
    raw, n_read = _raw_header(reader)
    path = reader.path
    try:
        n_dims, shape = _shape(path, tuple(int(n) for n in raw["dim"]))
        slope, inter = raw.get_slope_inter()
        header = NiftiHeader(
            path=path,
            shape=shape,
            n_dims=n_dims,
            dtype=_dtype(path, raw),
            slope=1.0 if slope is None else slope,
            inter=0.0 if inter is None else inter,
            affine=_affine(path, raw),
            offset=_offset(path, float(raw["vox_offset"]), n_read),
            attrs=_attrs(raw),
            tr_s=_tr_s(raw),
        )
    except HeaderDataError as error:
        raise InputError(f"{path} has an invalid NIfTI header: {error}") from None
    _check_size(header, reader)
    return header, n_read


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


def _offset(path: Path, value: float, n_read: int) -> int:
    # nibabel, too, takes 0 for "right behind the header and its 4 flag bytes".
    offset = n_read + 4 if value == 0 else value
    if not (n_read <= offset < 2**40 and float(offset).is_integer()):
        raise InputError(
            f"{path} has an invalid NIfTI header: vox_offset {value}, expected {n_read + 4} or so"
        )
    return int(offset)


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


class VolumeReader:
    """The volumes of one file in order; a context manager. Values are raw: not scaled.

    Parameters
    ----------
    header : NiftiHeader
        From :func:`read_header`; the file is read again from its start.
    """

    def __init__(self, header: NiftiHeader) -> None:
        self._reader = ByteReader(header.path)
        self.header, n_read = _parse(self._reader)
        self._done = 0
        self._scratch: np.ndarray | None = None
        self._reader.skip(self.header.offset - n_read)

    def __enter__(self) -> VolumeReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, trace)

    def read_into(self, volume: np.ndarray) -> None:
        """Read the next volume into a C-ordered array (nz, ny, nx) of the header's dtype.

        Raises
        ------
        InputError
            If the file ends before it, or is damaged.
        """
        got = self._reader.read_into(volume.reshape(-1).view(np.uint8).data)
        if got < self.header.volume_bytes:
            raise InputError(
                f"{self.header.path} is cut off: {self._done} of {self.header.shape[3]} volumes are whole; "
                "get a fresh copy"
            )
        self._done += 1

    def read_values(self, volume: np.ndarray, *, scaled: bool) -> None:
        """Read the next volume into an array of any float dtype, or of the header's own in native order.

        Parameters
        ----------
        volume : array, shape (nz, ny, nx)
            C order. What nibabel gives for its dtype is written into it.
        scaled : bool
            Apply the header's slope and intercept, in float64, before rounding to the dtype of ``volume``.
        """
        scaled = scaled and self.header.is_scaled
        if volume.dtype == self.header.dtype and not scaled:
            self.read_into(volume)
            return
        if self._scratch is None:
            self._scratch = np.empty(volume.shape, self.header.dtype)
        self.read_into(self._scratch)
        if scaled:
            volume[...] = self._scratch.astype(np.float64) * self.header.slope + self.header.inter
        else:
            volume[...] = self._scratch

    def finish(self) -> str:
        """Verify the end of the file and return its SHA-256; InputError where it does not hold."""
        return self._reader.finish(self.header.file_bytes)


def read_volume(path: str | os.PathLike[str]) -> tuple[np.ndarray, NiftiHeader]:
    """Read one 3D volume, scaled as its header says.

    Parameters
    ----------
    path : path
        A 3D file, or 4D with one volume.

    Returns
    -------
    values : numpy.ndarray
        Shape (nx, ny, nz); as stored, or float64 where the header scales.
    header : NiftiHeader

    Raises
    ------
    InputError
        As :func:`read_header`, and where there are several volumes or the file is damaged.
    """
    header = read_header(path)
    if header.shape[3] != 1:
        raise InputError(f"{path} has {header.shape[3]} volumes; expected one 3D volume")
    nx, ny, nz, _ = header.shape
    values = np.empty((nz, ny, nx), header.dtype)
    with VolumeReader(header) as reader:
        reader.read_into(values)
        reader.finish()
    values = values.T
    if header.is_scaled:
        return values.astype(np.float64) * header.slope + header.inter, header
    return values.astype(values.dtype.newbyteorder("=")), header


def check_same_grid(
    name: str, shape: tuple[int, ...], affine: np.ndarray, wanted_shape: tuple[int, ...], wanted: np.ndarray
) -> None:
    """Refuse a grid that is not the wanted one in voxels and mm.

    Raises
    ------
    GeometryError
        If shapes differ, or a corner lies farther from its twin than 1 % of the smallest voxel spacing.
    """
    fix = "bring it to the grid with nilearn.image.resample_to_img(..., interpolation='nearest')"
    if tuple(shape) != tuple(wanted_shape):
        raise GeometryError(f"{name} has shape {tuple(shape)}, the samples have {tuple(wanted_shape)}; {fix}")
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.asarray(shape) - 1
    apart_mm = float(np.abs((corners @ (np.asarray(affine) - wanted).T)[:, :3]).max())
    allowed_mm = GRID_TOLERANCE * float(np.linalg.norm(wanted[:3, :3], axis=0).min())
    if not apart_mm <= allowed_mm:
        raise GeometryError(
            f"{name} lies {apart_mm:.3g} mm off the samples' grid (allowed: {allowed_mm:.2g} mm); {fix}"
        )


def read_mask(mask: Any, shape: tuple[int, ...], affine: np.ndarray, name: str = "mask") -> np.ndarray:
    """A mask as booleans on a known grid.

    Parameters
    ----------
    mask : path, nibabel image or array
        Voxels other than 0 and NaN are in the mask. An array is taken to be on the grid.
    shape : tuple of 3 ints
        The grid that it must be on.
    affine : array, shape (4, 4)
        The grid's affine, mm.
    name : str
        What errors call it.

    Returns
    -------
    numpy.ndarray
        bool, shape ``shape``.

    Raises
    ------
    GeometryError
        If the grid is another one, in voxels or mm.
    InputError
        If the file cannot be read or no voxel is in the mask.
    """
    values, mask_affine = _mask_values(mask)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    wanted = np.asarray(affine, np.float64)
    check_same_grid(name, values.shape, wanted if mask_affine is None else mask_affine, shape, wanted)
    inside = (values != 0) & (values == values)
    if not inside.any():
        raise InputError(f"{name} is empty: none of its {inside.size} voxels differs from 0")
    return np.ascontiguousarray(inside)


def _mask_values(mask: Any) -> tuple[np.ndarray, np.ndarray | None]:
    if isinstance(mask, str | os.PathLike):
        values, header = read_volume(mask)
        return values, header.affine
    if hasattr(mask, "dataobj"):
        return np.asarray(mask.dataobj), np.asarray(mask.affine, np.float64)
    if hasattr(mask, "dims") and set(mask.dims) == {"x", "y", "z"}:
        mask = mask.transpose("x", "y", "z")
    values = np.asarray(mask)
    if values.dtype.kind not in "biuf":
        raise InputError(f"a mask is a path, an image or an array of booleans or numbers, got {mask!r:.80}")
    return values, None
