"""Volumes in order: the numbers that nibabel gives, or an error."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from slcluster.errors import InputError
from slcluster.io import read_header, read_volume
from slcluster.io.volumes import VolumeReader
from tests.files import SHAPE, nifti_bytes, numbers, write_nifti

KINDS = ["<i2", ">i2", "u1", "i1", "<u2", "<i4", "<u4", "<i8", "<u8", "<f4", ">f4", "<f8", ">f8"]


def _values(path: Path, dtype: str, *, scaled: bool) -> np.ndarray:
    header = read_header(path)
    values = np.empty((header.shape[3], *reversed(header.shape[:3])), dtype)
    with VolumeReader(header) as reader:
        for volume in values:
            reader.read_values(volume, scaled=scaled)
        reader.finish()
    return values.T


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("stored", KINDS)
def test_numbers_are_nibabels(tmp_path: Path, stored: str, ending: str) -> None:
    native = np.dtype(stored).newbyteorder("=").name
    path = write_nifti(tmp_path / f"a{ending}", numbers(dtype=native).astype(stored))
    np.testing.assert_array_equal(_values(path, native, scaled=True), np.asarray(nib.load(path).dataobj))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stored", ["<i2", ">i2", "<f4", "u1"])
def test_scaled_numbers_are_nibabels(tmp_path: Path, stored: str, dtype: str) -> None:
    native = np.dtype(stored).newbyteorder("=").name
    path = write_nifti(tmp_path / "a.nii.gz", numbers(dtype=native).astype(stored), scale=(0.0371, -11.25))
    expected = nib.load(path).get_fdata(dtype=np.dtype(dtype))
    np.testing.assert_array_equal(_values(path, dtype, scaled=True), expected)
    raw = _values(path, native, scaled=False)
    np.testing.assert_array_equal(raw, numbers(dtype=native))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_file_cut_off_says_how_much_is_whole(tmp_path: Path, ending: str) -> None:
    path = write_nifti(tmp_path / f"a{ending}", numbers())
    header = read_header(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError, match="cut off"):
        _values(path, "int16", scaled=False)
    path.write_bytes(content)
    with VolumeReader(header) as reader, pytest.raises(InputError, match="holds more than"):
        reader.finish()


def test_extensions_before_the_voxels_are_skipped(tmp_path: Path) -> None:
    def further(header: nib.Nifti1Header) -> None:
        header["vox_offset"] = 1024

    content = nifti_bytes(numbers(), change=further)
    path = tmp_path / "extended.nii"
    path.write_bytes(content[:352] + b"e" * (1024 - 352) + content[352:])
    np.testing.assert_array_equal(_values(path, "int16", scaled=False), numbers())


def test_a_file_that_changes_between_header_and_voxels(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", numbers())
    header = read_header(path)
    write_nifti(path, numbers()[:, ::-1], scale=(2, 0))
    with pytest.raises(InputError, match="changed while it was being read"):
        VolumeReader(header)


def test_one_volume(tmp_path: Path) -> None:
    volume = numbers()[..., 3]
    values, header = read_volume(write_nifti(tmp_path / "a.nii.gz", volume, scale=(2.0, 1.0)))
    assert values.dtype == np.float64
    np.testing.assert_array_equal(values, volume * 2.0 + 1.0)
    assert header.shape == (*SHAPE[:3], 1)
    values, _ = read_volume(write_nifti(tmp_path / "b.nii", volume.astype(">i2")))
    assert values.dtype == np.dtype("=i2")
    with pytest.raises(InputError, match="30 volumes; expected one 3D volume"):
        read_volume(write_nifti(tmp_path / "c.nii", numbers()))
