"""Masks on the grid of the samples, or not."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import xarray as xr

from slcluster.errors import GeometryError, InputError
from slcluster.io import check_same_grid, read_mask
from tests.files import OBLIQUE, SHAPE, write_nifti

GRID = SHAPE[:3]
MASK = np.zeros(GRID, np.uint8)
MASK[1:4, 2:7, 1:3] = 1


def test_path_image_and_array_are_one_mask(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "mask.nii.gz", MASK)
    labelled = xr.DataArray(MASK.T, dims=("z", "y", "x"))
    for mask in (path, str(path), nib.load(path), MASK, MASK.astype(bool), MASK * 0.5, labelled):
        inside = read_mask(mask, GRID, OBLIQUE)
        assert inside.dtype == bool
        np.testing.assert_array_equal(inside, MASK > 0)


def test_nan_is_outside_and_a_fourth_axis_of_one_is_none(tmp_path: Path) -> None:
    holes = np.where(MASK > 0, 1.0, np.nan)
    path = write_nifti(tmp_path / "mask.nii", holes[..., None])
    np.testing.assert_array_equal(read_mask(path, GRID, OBLIQUE), MASK > 0)


@pytest.mark.parametrize("name", ["mask", "process_mask"])
def test_another_grid_names_resampling(tmp_path: Path, name: str) -> None:
    other = write_nifti(tmp_path / "mask.nii.gz", MASK[:, :, :4])
    with pytest.raises(GeometryError, match=rf"{name} has shape \(7, 9, 4\).*\(7, 9, 5\).*resample_to_img"):
        read_mask(other, GRID, OBLIQUE, name)
    moved = OBLIQUE.copy()
    moved[1, 3] += 3.6
    shifted = write_nifti(tmp_path / "shifted.nii.gz", MASK, moved)
    with pytest.raises(GeometryError, match=rf"{name} lies up to 3.6 mm off .*resample_to_img"):
        read_mask(shifted, GRID, OBLIQUE, name)
    flipped = write_nifti(tmp_path / "flipped.nii.gz", MASK, OBLIQUE @ np.diag([-1, 1, 1, 1]))
    with pytest.raises(GeometryError, match="resample_to_img"):
        read_mask(flipped, GRID, OBLIQUE, name)


def test_the_tolerance_is_a_hundredth_of_a_voxel() -> None:
    spacing = np.linalg.norm(OBLIQUE[:3, :3], axis=0).min()
    for part, is_same in ((0.009, True), (0.011, False)):
        moved = OBLIQUE.copy()
        moved[2, 3] += part * spacing
        if is_same:
            check_same_grid("mask", GRID, moved, GRID, OBLIQUE)
        else:
            with pytest.raises(GeometryError, match="allowed"):
                check_same_grid("mask", GRID, moved, GRID, OBLIQUE)


def test_a_small_turn_counts_where_it_is_largest() -> None:
    """A turn about the first voxel moves the far corner most; the origin alone would not tell."""
    turned = OBLIQUE.copy()
    turned[:3, 2] += 0.02
    with pytest.raises(GeometryError, match="mm off the grid"):
        check_same_grid("mask", GRID, turned, GRID, OBLIQUE)


def test_empty_and_nonsense() -> None:
    with pytest.raises(InputError, match="process mask is empty: none of its 315 voxels"):
        read_mask(np.zeros(GRID), GRID, OBLIQUE, "process mask")
    with pytest.raises(InputError, match="must be a path, an image or an array"):
        read_mask(np.full(GRID, "x"), GRID, OBLIQUE)
    with pytest.raises(GeometryError, match="has shape"):
        read_mask(np.ones(GRID[0]), GRID, OBLIQUE)


def test_a_damaged_mask_is_refused(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "mask.nii.gz", MASK)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged or cut off"):
        read_mask(path, GRID, OBLIQUE)
