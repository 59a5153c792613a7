"""Writes NIfTI files byte by byte, so that a test decides everything in them."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from tests.conftest import OBLIQUE

SHAPE = (7, 9, 5, 30)


def numbers(shape: tuple[int, ...] = SHAPE, dtype: str = "int16", seed: int = 0) -> np.ndarray:
    """Values that differ everywhere, negative ones too where the dtype has them."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(100, 30, shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(max(info.min, -3000), min(info.max, 3000), shape).astype(dtype)


def nifti_bytes(
    stored: np.ndarray,
    affine: np.ndarray = OBLIQUE,
    *,
    scale: tuple[float, float] | None = None,
    forms: tuple[int, int] = (1, 1),
    tr_s: float = 2.5,
    units: tuple[str, str] = ("mm", "sec"),
    change: Callable[[Any], None] | None = None,
    kind: type = nib.Nifti1Header,
) -> bytes:
    """A whole ``.nii``: ``stored`` in its own byte order; ``forms`` are the codes of sform and qform."""
    header = kind(endianness=">" if stored.dtype.byteorder == ">" else "<")
    header.set_data_shape(stored.shape)
    header.set_data_dtype(stored.dtype)
    header.set_sform(affine, forms[0])
    header.set_qform(affine, forms[1], strip_shears=True)
    header.set_xyzt_units(*units)
    if stored.ndim > 3:
        header["pixdim"][4] = tr_s
    if scale is not None:
        header["scl_slope"], header["scl_inter"] = scale
    start = header.single_vox_offset
    header["vox_offset"], header["magic"] = start, header.single_magic
    if change is not None:
        change(header)
    block = header.binaryblock
    return block + bytes(start - len(block)) + stored.tobytes(order="F")


def write_nifti(path: Path, stored: np.ndarray, affine: np.ndarray = OBLIQUE, **options: Any) -> Path:
    """Write :func:`nifti_bytes`, gzipped where the name says so."""
    content = nifti_bytes(stored, affine, **options)
    path.write_bytes(gzip.compress(content, 1) if path.name.endswith(".gz") else content)
    return path


def full_mask(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.ones(shape[:3], bool)


def peak_bytes() -> int:
    """Peak resident memory of this process alone; rusage counts what its parent had when it forked."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS, in bytes
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
