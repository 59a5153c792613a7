"""The data that rivals are given: the same NIfTI files, label table and process mask for all of them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "CONDITIONS",
    "FOLDS",
    "RADIUS_MM",
    "Subject",
    "choose_centers",
    "real_slice",
    "simulated_brain",
    "simulated_store",
]

CONDITIONS = ("face", "house")

#: Haxby's, all of them.
EIGHT = ("bottle", "cat", "chair", "face", "house", "scissors", "scrambledpix", "shoe")
RADIUS_MM = 5.6
FOLDS = 4

#: Voxels in the mask of the stores of the simulated brain: the case that targets were set for.
_BRAIN_VOXELS = 39_880

#: For smoke tests.
_SMALL: dict[str, Any] = {"shape": (14, 17, 15), "n_runs": 4}


@dataclass(frozen=True)
class Subject:
    """Files of one subject, and which centers are timed.

    Attributes
    ----------
    name : str
    bold, labels, mask, process_mask : str
        Paths. ``labels`` is Haxby's table: columns ``labels`` and ``chunks``, separated by spaces.
    shape : tuple of int
        x, y, z, samples in the file.
    n_mask_voxels, n_centers : int
    """

    name: str
    bold: str
    labels: str
    mask: str
    process_mask: str
    shape: tuple[int, int, int, int]
    n_mask_voxels: int
    n_centers: int

    @property
    def files(self) -> dict[str, str]:
        """What a measured process needs to know."""
        return {name: getattr(self, name) for name in ("bold", "labels", "mask", "process_mask")}

    def __str__(self) -> str:
        return (
            f"{self.name}: {' x '.join(map(str, self.shape[:3]))} voxels, {self.shape[3]} samples, "
            f"{self.n_mask_voxels:,} voxels in the mask, {self.n_centers:,} centers timed"
        )

    def facts(self) -> dict[str, Any]:
        """For the saved result: no paths."""
        return {key: value for key, value in asdict(self).items() if key not in self.files}


def choose_centers(mask: np.ndarray, n_centers: int, *, are_together: bool) -> np.ndarray:
    """Some of the mask's voxels, bool (nx, ny, nz).

    Either every k-th, spread over the brain, or those of axial slices around the mask's middle, as a process
    mask of some slices has.
    """
    inside = np.argwhere(mask)
    n_centers = min(n_centers, len(inside))
    if are_together:
        middle = np.median(inside[:, 2])
        picked = np.argsort(np.abs(inside[:, 2] - middle), kind="stable")[:n_centers]
    else:
        picked = np.arange(n_centers) * len(inside) // n_centers
    chosen = np.zeros(mask.shape, bool)
    chosen[tuple(inside[picked].T)] = True
    return chosen


def real_slice(folder: Path, n_centers: int) -> Subject | None:
    """The slice of Haxby's subject 1; None where SLCLUSTER_TEST_DATA does not name its folder."""
    root = os.environ.get("SLCLUSTER_TEST_DATA")
    if not root:
        return None
    data = Path(root).resolve() / "haxby2001"
    files = {
        "bold": data / "subj1" / "bold.nii.gz",
        "labels": data / "subj1" / "labels.txt",
        "mask": data / "mask.nii.gz",
    }
    return _subject("slice", files, folder, n_centers, are_together=False)


def simulated_brain(
    folder: Path, n_centers: int, *, are_together: bool = False, is_small: bool = False
) -> Subject:
    """A simulated subject of Haxby's geometry (40 x 64 x 64), or a small one for smoke tests, as files."""
    import nibabel as nib
    import pandas as pd

    import slcluster as slc

    ds = slc.simulate(seed=0, conditions=CONDITIONS, **(_SMALL if is_small else {}))
    files = {"bold": folder / "bold.nii.gz", "labels": folder / "labels.txt", "mask": folder / "mask.nii.gz"}
    for name in ("bold", "mask"):
        values = ds[name].values
        image = nib.Nifti1Image(values.astype(np.uint8) if name == "mask" else values, ds["affine"].values)
        nib.save(image, files[name])
    table = pd.DataFrame({"labels": ds["condition"].values.tolist(), "chunks": ds["run"].values})
    table.to_csv(files["labels"], sep=" ", index=False)
    return _subject(
        "small brain" if is_small else "brain", files, folder, n_centers, are_together=are_together
    )


def simulated_store(path: Path, data: str, *, is_small: bool = False) -> None:
    """A subject store of the simulated brain: ``"two"`` conditions as in the files, or ``"eight"`` without rest."""
    import slcluster as slc
    from slcluster.store import write_array_store

    options = {"two": {"conditions": CONDITIONS}, "eight": {"conditions": EIGHT, "rest_samples": 0}}[data]
    ds = slc.simulate(seed=0, **options, **(_SMALL if is_small else {}))
    write_array_store(ds if is_small else _with_brain_of(ds, _BRAIN_VOXELS), path)


def _with_brain_of(ds: Any, n_voxels: int) -> Any:
    """The same with a mask of that many voxels: those of its own that are nearest to its middle, in its own shape."""
    inside = np.argwhere(ds["mask"].values)
    away = (inside - inside.mean(axis=0)) / np.ptp(inside, axis=0)
    kept = inside[np.argsort((away**2).sum(axis=1), kind="stable")[:n_voxels]]
    mask = np.zeros(ds["mask"].shape, bool)
    mask[tuple(kept.T)] = True
    return ds.assign(mask=ds["mask"].copy(data=mask))


def _subject(
    name: str, files: dict[str, Path], folder: Path, n_centers: int, *, are_together: bool
) -> Subject:
    """The subject of these files, with a process mask of the centers wanted written beside."""
    import nibabel as nib

    mask = nib.Nifti1Image.from_filename(files["mask"])
    inside = np.asarray(mask.dataobj) != 0
    chosen = choose_centers(inside, n_centers, are_together=are_together)
    process_mask = folder / f"{name.replace(' ', '-')}-centers.nii.gz"
    nib.save(nib.Nifti1Image(chosen.astype(np.uint8), mask.affine), process_mask)
    nx, ny, nz, n_samples = nib.Nifti1Image.from_filename(files["bold"]).shape
    return Subject(
        name=name,
        **{key: str(path) for key, path in files.items()},
        process_mask=str(process_mask),
        shape=(nx, ny, nz, n_samples),
        n_mask_voxels=int(np.count_nonzero(inside)),
        n_centers=int(np.count_nonzero(chosen)),
    )
