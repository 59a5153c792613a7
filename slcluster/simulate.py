"""Simulated brains: a place to try everything, where the truth is known.

The noise is smooth in space and correlated in time, runs have their own level and drift, and some spheres
are informative: in them, and nowhere else, a fine pattern of voxels differs between conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter
from scipy.signal import lfilter

from slcluster.errors import InputError
from slcluster.kernels.spheres import find_spheres, sphere_offsets
from slcluster.schema import grid_affine, subject_dataset

__all__ = ["PlantedAuc", "planted_auc", "simulate"]

_FWHM_PER_SIGMA = 2 * np.sqrt(2 * np.log(2))

_LARGEST = np.iinfo(np.int16).max


def simulate(
    *,
    shape: tuple[int, int, int] = (40, 64, 64),
    zooms_mm: tuple[float, float, float] = (3.5, 3.75, 3.75),
    n_runs: int = 12,
    conditions: Sequence[str] = ("face", "house"),
    block_samples: int = 9,
    rest_samples: int = 6,
    n_informative: int = 6,
    informative_radius_mm: float = 15.0,
    effect: float = 0.35,
    noise_sd: float = 14.0,
    smoothness_mm: float = 5.0,
    autocorrelation: float = 0.3,
    run_sd: float = 6.0,
    baseline: float = 900.0,
    tr_s: float = 2.5,
    subject: str = "simulated",
    seed: int,
) -> xr.Dataset:
    """Simulate one subject of a block design like Haxby's, with known informative spheres.

    Every run shows each condition once, in random order, for ``block_samples`` samples, with ``rest`` before,
    between and after. Labels are aligned with the response: there is no haemodynamic delay to correct.

    Parameters
    ----------
    shape : tuple of int
        Voxels along x, y, z. The default, with ``zooms_mm``, is Haxby's whole brain.
    zooms_mm : tuple of float
        Voxel sizes in mm. The first axis is flipped (negative in the affine), as in Haxby's images.
    n_runs : int
    conditions : sequence of str
        At least two.
    block_samples, rest_samples : int
        Samples of one block, and of the rest around it.
    n_informative : int
        Informative spheres asked for; fewer where so many do not fit apart.
    informative_radius_mm : float
    effect : float
        Standard deviation over voxels of a condition's pattern, in units of the noise's.
    noise_sd : float
        Standard deviation of the noise, in the units of ``baseline``.
    smoothness_mm : float
        Full width at half maximum of the Gaussian that smooths the noise; levels and drifts are four times as
        smooth.
    autocorrelation : float
        Correlation of the noise with itself one sample later (first-order autoregressive).
    run_sd : float
        Standard deviation of each run's level and of its drift from first to last sample, smooth in space.
    baseline : float
        Mean value inside the brain; it varies smoothly by a tenth.
    tr_s : float
        Repetition time in seconds, kept as an attribute; the noise is described in samples.
    subject : str
    seed : int
        Equal seeds give equal bytes, whatever the number of threads.

    Returns
    -------
    xarray.Dataset
        A subject with ``bold`` int16, and ``informative (x, y, z)``, True in a planted sphere. Attributes
        ``informative_xyz_mm`` (flat list of x, y, z) and ``informative_radius_mm`` say where they are;
        ``tr_s`` is the repetition time.

    Raises
    ------
    InputError
        Fewer than two conditions, a count below one, or a size or strength that cannot be.

    Examples
    --------
    >>> ds = simulate(shape=(9, 10, 11), n_runs=2, seed=1)
    >>> ds.bold.dtype, bool((ds.informative & ~ds.mask).any())
    (dtype('int16'), False)
    """
    _check_design(shape, n_runs, conditions, block_samples, rest_samples, n_informative)
    _check_numbers(zooms_mm, informative_radius_mm, noise_sd, smoothness_mm, autocorrelation, baseline, tr_s)
    rng = np.random.default_rng(seed)
    affine = _affine(shape, zooms_mm)
    mask = _brain(shape)
    centers, informative = _plant(rng, mask, affine, n_informative, informative_radius_mm)
    patterns = np.zeros((len(conditions) + 1, np.count_nonzero(mask)), np.float32)  # the last row is rest
    patterns[:-1, informative[mask]] = (
        effect * noise_sd * rng.standard_normal((len(conditions), np.count_nonzero(informative)), np.float32)
    )
    codes, run = _schedule(rng, len(conditions), n_runs, block_samples, rest_samples)
    fine, coarse = (_Smoothness.of(shape, zooms_mm, factor * smoothness_mm) for factor in (1, 4))
    level = baseline * (1 + 0.1 * coarse.field(rng, mask))
    bold = np.zeros((*shape, len(run)), np.int16)
    for number in range(n_runs):
        columns = np.flatnonzero(run == number)
        values = noise_sd * _noise(rng, mask, len(columns), fine, autocorrelation)
        values += level[:, None] + _run_effect(rng, mask, len(columns), coarse, run_sd)
        values += patterns[codes[columns]].T
        part = np.zeros((*shape, len(columns)), np.int16)
        part[mask] = np.rint(values).clip(0, _LARGEST)
        bold[..., columns] = part
    condition = np.array([*conditions, "rest"])[codes]
    ds = subject_dataset(bold, affine=affine, mask=mask, condition=condition, run=run, subject=subject)
    ds["informative"] = (("x", "y", "z"), informative, {"long_name": "voxels of planted spheres"})
    world = centers @ affine[:3, :3].T + affine[:3, 3]
    ds.attrs["informative_xyz_mm"] = world.ravel().tolist()
    ds.attrs["informative_radius_mm"] = float(informative_radius_mm)
    ds.attrs["tr_s"] = float(tr_s)
    return ds


def _check_design(
    shape: tuple[int, int, int],
    n_runs: int,
    conditions: Sequence[str],
    block_samples: int,
    rest_samples: int,
    n_informative: int,
) -> None:
    if isinstance(conditions, str) or len(set(conditions)) != len(conditions) or len(conditions) < 2:
        raise InputError(f"conditions must be two or more different names, got {conditions!r}")
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"shape must be three counts of voxels, got {shape}")
    if min(n_runs, block_samples, n_informative) < 1 or rest_samples < 0:
        raise InputError(
            f"n_runs, block_samples and n_informative must be at least 1 and rest_samples at least 0, got "
            f"{n_runs}, {block_samples}, {n_informative} and {rest_samples}"
        )


def _check_numbers(
    zooms_mm: tuple[float, float, float],
    informative_radius_mm: float,
    noise_sd: float,
    smoothness_mm: float,
    autocorrelation: float,
    baseline: float,
    tr_s: float,
) -> None:
    for name, values in (
        ("zooms_mm", zooms_mm),
        ("informative_radius_mm", [informative_radius_mm]),
        ("tr_s", [tr_s]),
    ):
        if not all(0 < value < np.inf for value in values):
            raise InputError(f"{name} must be positive, got {values}")
    if not (0 <= noise_sd < np.inf and 0 <= smoothness_mm < np.inf and 0 <= autocorrelation < 1):
        raise InputError(
            f"noise_sd and smoothness_mm must not be negative and autocorrelation must be in [0, 1), got "
            f"{noise_sd}, {smoothness_mm} and {autocorrelation}"
        )
    if not 0 < baseline <= _LARGEST / 2:
        raise InputError(f"baseline must be in (0, {_LARGEST // 2}] to leave room in int16, got {baseline}")


def _affine(shape: tuple[int, int, int], zooms_mm: tuple[float, float, float]) -> np.ndarray:
    affine = np.diag([-zooms_mm[0], zooms_mm[1], zooms_mm[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def _brain(shape: tuple[int, int, int]) -> np.ndarray:
    """An egg: wider behind than in front, flat below, bent to one side. Some 30 % of the volume."""
    x, y, z = np.meshgrid(*[(np.arange(n) + 0.5) / n * 2 - 1 for n in shape], indexing="ij")
    width = 0.86 - 0.12 * y
    bent = x + 0.08 * y  # no axis is a mirror: a flipped image must show
    return ((bent / width) ** 2 + ((y + 0.04) / 0.86) ** 2 + ((z - 0.05) / 0.78) ** 2 < 1) & (z > -0.62)


def _plant(
    rng: np.random.Generator, mask: np.ndarray, affine: np.ndarray, n_wanted: int, radius_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centers of spheres that lie apart and in the mask as far as they can, and the voxels they hold."""
    nx, ny, nz = mask.shape
    offsets = sphere_offsets(affine, radius_mm, (nx, ny, nz))
    candidates = np.argwhere(mask)
    spheres = find_spheres(candidates, mask, offsets)
    whole = spheres.sizes() == spheres.sizes().max()
    pool = candidates[whole][rng.permutation(np.count_nonzero(whole))]
    chosen = pool[:1]
    for candidate in pool[1:]:
        if len(chosen) == n_wanted:
            break
        apart_mm = np.linalg.norm((chosen - candidate) @ affine[:3, :3].T, axis=1)
        if (apart_mm > 2 * radius_mm + 12).all():  # room for spheres that are wholly outside
            chosen = np.vstack([chosen, candidate])
    informative = np.zeros(mask.shape, bool)
    informative[tuple(np.argwhere(mask)[find_spheres(chosen, mask, offsets).indices].T)] = True
    return chosen, informative


def _schedule(
    rng: np.random.Generator, n_conditions: int, n_runs: int, block: int, rest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Code of every sample (``n_conditions`` is rest) and its run."""
    codes = []
    for _ in range(n_runs):
        codes += [n_conditions] * rest
        for code in rng.permutation(n_conditions):
            codes += [int(code)] * block + [n_conditions] * rest
    return np.array(codes), np.repeat(np.arange(n_runs), len(codes) // n_runs)


class _Smoothness(NamedTuple):
    """A Gaussian kernel in voxels, and the standard deviation that it leaves of white noise."""

    sigma: np.ndarray
    sd: float

    @classmethod
    def of(cls, shape: tuple[int, int, int], zooms_mm: Sequence[float], fwhm_mm: float) -> _Smoothness:
        sigma = fwhm_mm / _FWHM_PER_SIGMA / np.array(zooms_mm)
        point = np.zeros(shape)
        point[0, 0, 0] = 1
        return cls(sigma, float(np.linalg.norm(gaussian_filter(point, sigma, mode="wrap"))))

    def field(self, rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
        """One random field inside the mask, float32 (n_mask_voxels,), of unit standard deviation."""
        white = rng.standard_normal(mask.shape, np.float32)
        return gaussian_filter(white, self.sigma, mode="wrap")[mask] / np.float32(self.sd)


def _noise(
    rng: np.random.Generator, mask: np.ndarray, n_samples: int, smooth: _Smoothness, autocorrelation: float
) -> np.ndarray:
    """Noise inside the mask, float32 (n_mask_voxels, n_samples): smooth in space, AR(1) in time, unit variance."""
    white = np.stack([smooth.field(rng, mask) for _ in range(n_samples)], axis=1)
    # The first sample is white noise itself, of full variance: stationary from there on.
    white[:, 1:] *= np.float32(np.sqrt(1 - autocorrelation**2))
    return lfilter([1.0], [1.0, -autocorrelation], white, axis=1).astype(np.float32)


def _run_effect(
    rng: np.random.Generator, mask: np.ndarray, n_samples: int, smooth: _Smoothness, sd: float
) -> np.ndarray:
    """A run's own level and its drift from first to last sample: float32 (n_mask_voxels, n_samples)."""
    level, slope = (sd * smooth.field(rng, mask)[:, None] for _ in range(2))
    return level + slope * np.linspace(-0.5, 0.5, n_samples, dtype=np.float32)


class PlantedAuc(NamedTuple):
    """How well a map shows what was planted: area under the ROC curve, and the centers it is taken over."""

    auc: float
    n_inside: int
    n_outside: int


def planted_auc(ds: xr.Dataset, score: xr.DataArray, *, radius_mm: float) -> PlantedAuc:
    """Area under the ROC curve of a score map against "center inside a planted sphere".

    Centers whose sphere lies partly in a planted one are left out: they are neither.

    Parameters
    ----------
    ds : xarray.Dataset
        From :func:`simulate`; needs ``informative`` and ``mask``.
    score : DataArray, dims (x, y, z)
        Centers are its values that are not NaN. May be a part of the grid.
    radius_mm : float
        Of the searchlight that made it.

    Raises
    ------
    InputError
        If no center is inside, or none outside.
    """
    from sklearn.metrics import roc_auc_score

    grid = {name: ds[name] for name in ("x", "y", "z")}
    part = {name: np.atleast_1d(score[name].values) for name in grid}
    inside, outside = (
        xr.DataArray(where, grid, tuple(grid)).sel(part).values for where in _wholly(ds, radius_mm)
    )
    values = score.transpose(*(name for name in grid if name in score.dims)).values.reshape(inside.shape)
    has_score = np.isfinite(values)
    inside, outside = inside & has_score, outside & has_score
    if not inside.any() or not outside.any():
        raise InputError(
            f"the map has {inside.sum()} centers inside planted spheres and {outside.sum()} outside; both are needed"
        )
    either = inside | outside
    auc = float(roc_auc_score(inside[either], values[either]))
    return PlantedAuc(auc, int(inside.sum()), int(outside.sum()))


def _wholly(ds: xr.Dataset, radius_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Mask voxels whose searchlight sphere is wholly inside, and wholly outside, the planted spheres."""
    mask, informative = ds["mask"].values, ds["informative"].values
    nx, ny, nz = mask.shape
    centers = np.argwhere(mask)
    spheres = find_spheres(centers, mask, sphere_offsets(grid_affine(ds), radius_mm, (nx, ny, nz)))
    planted = np.add.reduceat(informative[mask][spheres.indices].astype(np.int64), spheres.indptr[:-1])
    inside, outside = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    inside[mask] = planted == spheres.sizes()
    outside[mask] = planted == 0
    return inside, outside
