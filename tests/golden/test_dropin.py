"""``slcluster.SearchLight`` gives nilearn's scores, to the last bit, with the scikit-learn engine."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.model_selection import KFold, LeaveOneGroupOut

import slcluster as slc
from tests.golden.nilearn_dropin import cases, fit
from tests.golden.nilearn_reference import RADIUS_MM, load, spread

#: The fast engine ends at the optimum, so that single test samples change sides; with 36 samples one is 0.028.
NEAR = 0.12


@pytest.mark.parametrize("name", list(cases()))
def test_a_small_oblique_volume(name: str, dropin: dict[str, np.ndarray]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of masks on other grids, tested elsewhere
        ours = fit(slc.SearchLight, name, engine="sklearn")
        fast = fit(slc.SearchLight, name)
    for part in ("scores_", "masked_scores_", "n_elements_", "process_mask_"):
        assert np.array_equal(getattr(ours, part), dropin[f"{name}.{part}"]), part
    assert len(np.unique(ours.masked_scores_)) > 1 or name == "dummy_classifier"
    assert np.abs(fast.scores_ - ours.scores_).max() < NEAR


@pytest.fixture(scope="module")
def slice_paths(test_data: Path) -> tuple[Path, Path]:
    return test_data / "haxby2001/subj1/bold.nii.gz", test_data / "haxby2001/mask.nii.gz"


def test_every_center_of_the_real_slice(
    test_data: Path, slice_paths: tuple[Path, Path], reference: dict[str, np.ndarray]
) -> None:
    image, mask, labels = load(test_data)
    ours = slc.SearchLight(
        slice_paths[1], radius=RADIUS_MM, cv=KFold(4), scoring="accuracy", engine="sklearn"
    ).fit(image, labels["labels"])
    assert np.array_equal(ours.masked_scores_, reference["plain"])
    assert np.array_equal(ours.scores_[mask.get_fdata() != 0], reference["plain"])


def test_leave_one_run_out_in_two_processes(test_data: Path, reference: dict[str, np.ndarray]) -> None:
    image, mask, labels = load(test_data)
    inside = mask.get_fdata() != 0
    few = spread(inside)
    ours = slc.SearchLight(
        mask,
        process_mask_img=nib.Nifti1Image(few.astype(np.int8), mask.affine),
        radius=RADIUS_MM,
        cv=LeaveOneGroupOut(),
        n_jobs=2,
        engine="sklearn",
    )
    ours.fit(image, labels["labels"], groups=labels["chunks"])
    assert np.array_equal(ours.masked_scores_, reference["runwise"][few[inside]])
