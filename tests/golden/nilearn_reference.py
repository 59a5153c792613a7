"""What nilearn computes on the real slice, for the tests beside this file to be held against.

Run in a process of its own, because nilearn's ``SearchLight`` carries settings of one call over to later ones:

    python -m tests.golden.nilearn_reference DATA OUT_FOLDER

DATA is what SLCLUSTER_TEST_DATA names. OUT_FOLDER receives ``reference.npz`` (scores by case, all in C order of
the mask or process mask named) and the images of the cases that the data do not hold as they are.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.feature_selection import f_classif
from sklearn.model_selection import KFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

RADIUS_MM = 5.6
SLOPE, INTER = 0.37, -11.25


def pipeline() -> BaseEstimator:
    """The pipeline that both sides are given."""
    return make_pipeline(StandardScaler(), LinearSVC(random_state=0))


def spread(mask: np.ndarray) -> np.ndarray:
    """Every fifth mask voxel: 106 centers all over the slice."""
    few = np.zeros_like(mask)
    few[tuple(np.argwhere(mask)[::5].T)] = True
    return few


def unbalanced(labels: pd.Series) -> np.ndarray:
    """Samples to keep so that houses are rarer than faces, and balanced accuracy is another than accuracy."""
    return ~((labels == "house") & (np.arange(len(labels)) % 3 == 0)).to_numpy()


def around(mask: np.ndarray) -> np.ndarray:
    """Every second voxel that is outside the mask but has a neighbour along the first axis in it."""
    beside = np.zeros_like(mask)
    beside[1:] |= mask[:-1]
    beside[:-1] |= mask[1:]
    edge = np.zeros_like(mask)
    edge[tuple(np.argwhere(beside & ~mask)[::2].T)] = True
    return edge


def load(data: Path) -> tuple[nib.Nifti1Image, nib.Nifti1Image, pd.DataFrame]:
    """Faces and houses, the mask, and their rows of the table of labels."""
    labels = pd.read_csv(data / "haxby2001/subj1/labels.txt", sep=" ")
    chosen = labels["labels"].isin(["face", "house"]).to_numpy()
    whole = nib.load(data / "haxby2001/subj1/bold.nii.gz")
    image = nib.Nifti1Image(np.asarray(whole.dataobj)[..., chosen], whole.affine, whole.header)
    return image, nib.load(data / "haxby2001/mask.nii.gz"), labels[chosen].reset_index(drop=True)


def write_variants(image: nib.Nifti1Image, out: Path) -> dict[str, nib.Nifti1Image]:
    """The same samples as scaled integers and as float32 that integers cannot hold, written and read again."""
    raw = np.asarray(image.dataobj)
    scaled = nib.Nifti1Image(raw, image.affine, image.header)
    scaled.header.set_slope_inter(SLOPE, INTER)
    # Written, nibabel rounds the values to multiples of the slope; read again, they are float64.
    scaled.to_filename(out / "scaled.nii")
    noisy = raw + np.random.default_rng(0).normal(scale=3.0, size=raw.shape)
    single = nib.Nifti1Image(noisy.astype(np.float32), image.affine)
    single.header.set_xyzt_units(*image.header.get_xyzt_units())
    single.header.set_zooms(image.header.get_zooms())
    single.to_filename(out / "float32.nii")
    return {name: nib.load(out / f"{name}.nii") for name in ("scaled", "float32")}


def search(image: Any, mask: Any, y: Any, where: np.ndarray | None = None, **options: Any) -> np.ndarray:
    """nilearn's scores at the centers, in C order."""
    from nilearn.decoding import SearchLight

    process = None if where is None else nib.Nifti1Image(where.astype(np.int8), mask.affine)
    groups = options.pop("groups", None)
    options = {"estimator": "svc", "cv": KFold(4), "scoring": "accuracy", **options}
    found = SearchLight(mask, process_mask_img=process, radius=RADIUS_MM, n_jobs=1, **options)
    found.fit(image, y, groups=groups)
    centers = mask.get_fdata() != 0 if where is None else where
    return np.asarray(found.scores_)[centers]


def f_map(image: Any, mask: Any, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """F and clipped -log10 p as in nilearn's Haxby searchlight example."""
    from nilearn.maskers import NiftiMasker

    masker = NiftiMasker(mask_img=mask, runs=table["chunks"], standardize="zscore_sample")
    f, p = f_classif(masker.fit_transform(image), table["labels"])
    return {"f": f, "neg_log10_p": np.minimum(-np.log10(p), 10.0)}


def main(data: Path, out: Path) -> None:
    import nilearn

    warnings.simplefilter("ignore")
    image, mask, table = load(data)
    y, inside = table["labels"], mask.get_fdata() != 0
    variants = write_variants(image, out)
    few = spread(inside)
    runwise = {"cv": LeaveOneGroupOut(), "groups": table["chunks"]}
    keep = unbalanced(y)
    rarer, y_rarer = nib.Nifti1Image(np.asarray(image.dataobj)[..., keep], image.affine), y[keep]
    np.savez(
        out / "reference.npz",
        version=nilearn.__version__,
        plain=search(image, mask, y),
        runwise=search(image, mask, y, **runwise),
        process_mask=search(image, mask, y, few),
        balanced_accuracy=search(rarer, mask, y_rarer, few, scoring="balanced_accuracy"),
        roc_auc=search(rarer, mask, y_rarer, few, scoring="roc_auc"),
        pipeline=search(image, mask, y, few, estimator=pipeline()),
        outside=search(image, mask, y, around(inside)),
        **{name: search(variants[name], mask, y, few) for name in variants},
        **f_map(image, mask, table),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
