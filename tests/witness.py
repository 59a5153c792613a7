"""An estimator that reports what it saw, volumes that know where they are, and spheres found the slow way."""

from __future__ import annotations

import zlib

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, ClassifierMixin

import slcluster as slc
from slcluster.kernels.spheres import RIM_TOLERANCE

#: Anisotropy aside, what can go wrong on a rim: a radius of 4.8 mm is exactly two of these voxels.
LATTICE = np.diag([-2.4, 2.4, 2.4, 1.0])


class Witness(ClassifierMixin, BaseEstimator):
    """Its score is a checksum of every value and label it was trained and tested on, in order."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Witness:
        self.classes_ = np.unique(y)
        self.trained_ = testimony(X, y, 0)
        return self

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        return float(testimony(X, y, self.trained_))


class Total(ClassifierMixin, BaseEstimator):
    """Its score is the sum of the test values: the same whatever the order of the voxels."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Total:
        self.classes_ = np.unique(y)
        return self

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        return float(X.astype(np.float64).sum())


def testimony(x: np.ndarray, y: np.ndarray, before: int) -> int:
    """CRC of a sample x voxel table, its shape and its labels, going on from an earlier one."""
    told = zlib.crc32(repr((x.shape, x.dtype.str, y.tolist())).encode(), before)
    return zlib.crc32(np.ascontiguousarray(x).tobytes(), told)


def place_volume(shape: tuple[int, int, int], n_samples: int) -> np.ndarray:
    """int32 (nx, ny, nz, n_samples): every value tells its voxel and its sample, and occurs once."""
    return np.arange(np.prod(shape) * n_samples, dtype=np.int32).reshape(*shape, n_samples)


def place_dataset(
    shape: tuple[int, int, int], affine: np.ndarray, *, mask: np.ndarray | None = None, n_samples: int = 6
) -> xr.Dataset:
    """A subject of :func:`place_volume`, with conditions a and b in turn and two runs of equal length."""
    return slc.subject_dataset(
        place_volume(shape, n_samples),
        affine=affine,
        mask=mask,
        condition=["a", "b"] * (n_samples // 2),
        run=np.arange(n_samples) * 2 // n_samples,
    )


def noise_dataset(
    shape: tuple[int, int, int] = (4, 5, 3),
    *,
    affine: np.ndarray,
    n_runs: int = 3,
    per_run: int = 8,
    effect: float = 0.6,
    seed: int = 0,
) -> xr.Dataset:
    """Noise with a signal in some voxels, a mask with holes, conditions face and house."""
    rng = np.random.default_rng(seed)
    n_samples = n_runs * per_run
    condition = np.array(["face", "house"] * (n_samples // 2))
    bold = rng.normal(size=(*shape, n_samples))
    bold[: shape[0] // 2] += effect * (condition == "face")
    return slc.subject_dataset(
        bold.astype(np.float32),
        affine=affine,
        mask=rng.random(shape) > 0.2,
        condition=condition,
        run=np.repeat(np.arange(n_runs), per_run),
    )


def spheres_by_distance(
    centers: np.ndarray, mask: np.ndarray, affine: np.ndarray, radius_mm: float
) -> list[np.ndarray]:
    """Flat indices (C order of the grid) of the mask voxels within reach of every center, ascending.

    Distances between world coordinates of every pair: slow, and nothing that could go wrong.
    """
    voxels = np.argwhere(mask)
    flat = np.flatnonzero(mask)
    world_mm = voxels @ affine[:3, :3].T + affine[:3, 3]
    centers_mm = centers @ affine[:3, :3].T + affine[:3, 3]
    limit_mm = radius_mm * (1 + RIM_TOLERANCE)
    return [flat[np.linalg.norm(world_mm - center, axis=1) <= limit_mm] for center in centers_mm]


def spheres_by_count(
    centers: np.ndarray, mask: np.ndarray, affine: np.ndarray, n_voxels: int, radius_mm: float = np.inf
) -> list[np.ndarray]:
    """Flat indices of the ``n_voxels`` mask voxels nearest to every center, ascending; of those within a radius.

    A list sorted twice: by distance, then equally far ones (within the tolerance) by place.
    """
    found = []
    flat = np.flatnonzero(mask)
    world_mm = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    for center_mm in centers @ affine[:3, :3].T + affine[:3, 3]:
        distances = np.linalg.norm(world_mm - center_mm, axis=1)
        shells: list[tuple[float, list[int]]] = []
        for distance, voxel in sorted(zip(distances.tolist(), flat.tolist(), strict=True)):
            if not shells or distance > shells[-1][0] * (1 + RIM_TOLERANCE) + 1e-9:
                shells.append((distance, []))
            shells[-1][1].append(voxel)
        inside = [shell for distance, shell in shells if distance <= radius_mm * (1 + RIM_TOLERANCE)]
        nearest = [voxel for shell in inside for voxel in sorted(shell)]
        found.append(np.array(sorted(nearest[:n_voxels]), dtype=int))
    return found


def leave_one_run_out(ds: xr.Dataset) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds written out: train on all runs but one, test on that one, in the order of the runs."""
    runs = ds["run"].values
    return [(np.flatnonzero(runs != run), np.flatnonzero(runs == run)) for run in sorted(set(runs.tolist()))]


def expected_scores(
    ds: xr.Dataset,
    estimator: BaseEstimator,
    centers: np.ndarray,
    affine: np.ndarray,
    radius_mm: float,
    n_voxels: int | None = None,
) -> np.ndarray:
    """Scores (n_centers, n_runs) of an estimator with a ``score`` of its own, one run left out at a time.

    Straight from the samples in memory, with nothing of the package; NaN for an empty sphere.
    """
    bold = ds["bold"].values
    bold = bold.astype(np.float32) if bold.dtype.kind in "iu" else bold
    flat, y = bold.reshape(-1, bold.shape[-1]), np.array(ds["condition"].values.tolist())
    folds = leave_one_run_out(ds)
    scores = np.full((len(centers), len(folds)), np.nan)
    spheres = _spheres(centers, ds["mask"].values, affine, radius_mm, n_voxels)
    for row, sphere in zip(scores, spheres, strict=True):
        if len(sphere):
            x = flat[sphere].T
            row[:] = [estimator.fit(x[train], y[train]).score(x[test], y[test]) for train, test in folds]
    return scores


def _spheres(
    centers: np.ndarray, mask: np.ndarray, affine: np.ndarray, radius_mm: float, n_voxels: int | None
) -> list[np.ndarray]:
    if n_voxels is None:
        return spheres_by_distance(centers, mask, affine, radius_mm)
    return spheres_by_count(centers, mask, affine, n_voxels, radius_mm)


def assert_saw_its_neighbours(
    maps: xr.Dataset,
    ds: xr.Dataset,
    where: np.ndarray,
    affine: np.ndarray,
    radius_mm: float,
    n_voxels: int | None = None,
) -> None:
    """Hold maps of :class:`Witness` against brute force, at the centers ``where`` and beside them."""
    centers = np.argwhere(where)
    expected = expected_scores(ds, Witness(), centers, affine, radius_mm, n_voxels)
    fold, mean, size = (maps[name].values for name in ("score_fold", "score", "sphere_size"))
    np.testing.assert_array_equal(fold[0][:, where].T, expected)
    np.testing.assert_array_equal(mean[where], [row.mean() for row in expected])
    spheres = _spheres(centers, ds["mask"].values, affine, radius_mm, n_voxels)
    sizes = [len(sphere) for sphere in spheres]
    np.testing.assert_array_equal(size[where], sizes)
    assert np.isnan(fold[0][:, ~where]).all()
    assert np.isnan(mean[~where]).all()
    assert (size[~where] == 0).all()
