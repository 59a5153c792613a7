"""What a ``SearchLight`` of nilearn's interface gives on a small oblique volume, case by case.

nilearn's own is run in a process of its own, because it carries settings of one call over to later ones:

    python -m tests.golden.nilearn_dropin OUT_FOLDER

OUT_FOLDER receives ``dropin.npz``: attributes by case, as ``case.attribute``.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from sklearn.model_selection import KFold, LeaveOneGroupOut
from sklearn.neighbors import KNeighborsClassifier

from tests.conftest import OBLIQUE

SHAPE, N_SAMPLES, RADIUS_MM = (7, 8, 9), 36, 6.0


def image(values: np.ndarray, affine: np.ndarray = OBLIQUE) -> nib.Nifti1Image:
    """In memory; booleans as bytes."""
    return nib.Nifti1Image(values.astype(np.uint8) if values.dtype == bool else values, affine)


def moved(by: tuple[int, int, int]) -> np.ndarray:
    """The affine of the grid that begins some voxels further."""
    affine = OBLIQUE.copy()
    affine[:3, 3] = (OBLIQUE @ [*by, 1])[:3]
    return affine


def volume() -> dict[str, Any]:
    """Samples with values that are not finite, three classes, groups, and two masks."""
    rng = np.random.default_rng(0)
    bold = rng.normal(100, 30, (*SHAPE, N_SAMPLES)).astype(np.float32)
    y = np.repeat(["a", "b", "c"], N_SAMPLES // 3)
    rng.shuffle(y)
    bold[2:4, 2:5, 3:6, y == "a"] += 25
    bold[3, 3, 3, 5], bold[1, 1, 1, 2] = np.nan, np.inf
    mask = rng.random(SHAPE) < 0.6
    mask[1, 1, 1] = mask[3, 3, 3] = True
    centers = mask & (rng.random(SHAPE) < 0.15)
    return {"bold": bold, "y": y, "groups": np.tile(np.arange(4), 9), "mask": mask, "centers": centers}


def cases() -> dict[str, dict[str, Any]]:
    """Name to what is passed: ``imgs``, ``y`` and ``groups`` to ``fit``, everything else to the class."""
    v = volume()
    rng = np.random.default_rng(1)
    bold, y, groups, centers = v["bold"], v["y"], v["groups"], v["centers"]
    coarse = OBLIQUE.copy()
    coarse[:3, :3] *= 1.7
    coarse[:3, 3] += OBLIQUE[:3, :3] @ [-0.3, 0.2, 0.1]
    finite = np.where(np.isfinite(bold), bold, 0)
    numbers = rng.normal(size=N_SAMPLES)
    flipped = OBLIQUE @ np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] = (OBLIQUE @ [SHAPE[0] - 1, 0, 0, 1])[:3]
    return {
        "default": {},
        "every_voxel_of_the_mask": {"process_mask_img": None},
        "no_mask": {"mask_img": None},
        "three_folds": {"cv": 3},
        "k_fold_with_groups": {"cv": KFold(4), "groups": groups},
        "leave_one_group_out": {"cv": LeaveOneGroupOut(), "groups": groups},
        "pairs": {"cv": list(KFold(3, shuffle=True, random_state=2).split(y))},
        "int16": {"imgs": image((finite * 10).astype(np.int16))},
        "float64": {"imgs": image(bold.astype(np.float64))},
        "list_of_volumes": {"imgs": [image(bold[..., n]) for n in range(N_SAMPLES)]},
        "ridge": {"estimator": "ridge", "y": numbers},
        "r2_of_shuffled_folds": {
            "estimator": "ridge_regressor",
            "y": numbers,
            "scoring": "r2",
            "cv": KFold(3, shuffle=True, random_state=1),
        },
        "svr_with_arguments": {"estimator": "svr", "y": numbers, "estimator_args": {"C": 0.5}},
        "balanced_accuracy": {"scoring": "balanced_accuracy"},
        "two_classes_auc": {"scoring": "roc_auc", "y": y == "a"},
        "ridge_classifier": {"estimator": "ridge_classifier"},
        "svc_l1": {"estimator": "svc_l1"},
        "dummy_classifier": {"estimator": "dummy_classifier"},
        "an_estimator": {
            "estimator": KNeighborsClassifier(),
            "y": np.array([{"a": 3, "b": 1, "c": 2}[n] for n in y]),
        },
        "mask_of_larger_voxels": {"mask_img": image(rng.random((5, 6, 6)) < 0.8, coarse)},
        "cropped_process_mask": {"process_mask_img": image(centers[1:6, 2:7, 1:8], moved((1, 2, 1)))},
        "flipped_process_mask": {"process_mask_img": image(centers[::-1], flipped)},
        # The last: nilearn keeps these arguments for every searchlight that follows.
        "svc_with_arguments": {"estimator_args": {"C": 0.01, "max_iter": 50}},
    }


def fit(kind: Any, name: str, **more: Any) -> Any:
    """The case's fitted object, of the class ``kind``."""
    v = volume()
    given = {
        "mask_img": image(v["mask"]),
        "process_mask_img": image(v["centers"]),
        "radius": RADIUS_MM,
        **cases()[name],
        **more,
    }
    imgs, y, groups = given.pop("imgs", image(v["bold"])), given.pop("y", v["y"]), given.pop("groups", None)
    return kind(**given).fit(imgs, y, groups=groups)


def main(out: Path) -> None:
    from nilearn.decoding import SearchLight

    warnings.simplefilter("ignore")
    found = {}
    for name in cases():
        fitted = fit(SearchLight, name)
        for part in ("scores_", "masked_scores_", "n_elements_", "process_mask_"):
            found[f"{name}.{part}"] = getattr(fitted, part)
    np.savez(out / "dropin.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
