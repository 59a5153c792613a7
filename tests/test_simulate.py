"""Simulated brains hold what they promise: geometry, noise, runs, and planted spheres that can be found."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.svm import LinearSVC

from slcluster.errors import InputError
from slcluster.schema import SUBJECT, validate
from slcluster.simulate import planted_auc, simulate

SMALL: dict[str, Any] = {"shape": (17, 20, 14), "n_runs": 3, "n_informative": 2}


@pytest.fixture(scope="module")
def small() -> xr.Dataset:
    return simulate(**SMALL, informative_radius_mm=11.0, seed=3)


@pytest.fixture(scope="module")
def brain() -> xr.Dataset:
    """All of the default but for fewer runs."""
    return simulate(n_runs=4, seed=1)


def test_it_is_a_subject(small: xr.Dataset) -> None:
    validate(small, SUBJECT)
    assert small.bold.dtype == np.int16
    assert small.attrs["tr_s"] == 2.5
    assert not small.bold.values[~small.mask.values].any()
    assert small.bold.values[small.mask.values].min() > 500


def test_default_geometry_is_haxbys(brain: xr.Dataset) -> None:
    assert brain.mask.shape == (40, 64, 64)
    assert np.diag(brain.affine.values).tolist() == [-3.5, 3.75, 3.75, 1.0]
    corners = brain.affine.values @ np.array([[0, 0, 0, 1], [39, 63, 63, 1]]).T
    np.testing.assert_allclose(corners[:3].sum(axis=1), 0, atol=1e-9)  # centered on the origin
    inside = brain.bold.values[brain.mask.values]
    assert 850 < inside.mean() < 950
    assert 0.2 < brain.mask.values.mean() < 0.4


def test_a_flipped_axis_shows(brain: xr.Dataset) -> None:
    for name in ("mask", "informative"):
        values = brain[name].values
        for axis in range(3):
            assert (values != np.flip(values, axis)).mean() > 0.005, (name, axis)


def test_design_is_of_blocks_with_rest_between(small: xr.Dataset) -> None:
    condition, run = small.condition.values.astype(object), small.run.values
    assert np.unique(run, return_counts=True)[1].tolist() == [36, 36, 36]
    for number in range(3):
        names = condition[run == number]
        edges = np.flatnonzero(names[1:] != names[:-1]) + 1
        blocks = [(str(part[0]), len(part)) for part in np.split(names, edges)]
        assert [length for _, length in blocks] == [6, 9, 6, 9, 6]
        assert [name for name, _ in blocks[::2]] == ["rest"] * 3
        assert sorted(name for name, _ in blocks[1::2]) == ["face", "house"]


def test_order_of_conditions_varies() -> None:
    ds = simulate(shape=(5, 6, 7), n_runs=12, seed=0)
    first = [str(ds.condition.values[ds.run.values == number][6]) for number in range(12)]
    assert set(first) == {"face", "house"}


def test_conditions_and_lengths_can_be_chosen() -> None:
    ds = simulate(
        shape=(5, 6, 7),
        conditions=("a", "b", "c"),
        n_runs=2,
        block_samples=4,
        rest_samples=0,
        tr_s=1.5,
        seed=0,
    )
    assert ds.sizes["sample"] == 24
    assert sorted(set(ds.condition.values.tolist())) == ["a", "b", "c"]
    assert ds.attrs["tr_s"] == 1.5


def test_equal_seeds_give_equal_bytes_whatever_the_threads(small: xr.Dataset) -> None:
    again = simulate(**SMALL, informative_radius_mm=11.0, seed=3)
    xr.testing.assert_identical(small, again)
    other = simulate(**SMALL, informative_radius_mm=11.0, seed=4)
    assert (other.bold.values != small.bold.values).any()
    code = (
        "import hashlib, slcluster\n"
        f"ds = slcluster.simulate(**{SMALL!r}, informative_radius_mm=11.0, seed=3)\n"
        "print(hashlib.sha256(ds.bold.values.tobytes()).hexdigest())"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.strip() == hashlib.sha256(small.bold.values.tobytes()).hexdigest()


def test_noise_is_smooth_and_autocorrelated() -> None:
    ds = simulate(
        shape=(21, 24, 22),
        n_runs=1,
        block_samples=60,
        run_sd=0.0,
        effect=0.0,
        smoothness_mm=10.0,  # coarse enough for the continuous formula below
        autocorrelation=0.4,
        seed=0,
    )
    bold = ds.bold.values[ds.mask.values].astype(float)
    noise = bold - bold.mean(axis=1, keepdims=True)
    assert noise.std() == pytest.approx(14, rel=0.05)
    lag = (noise[:, 1:] * noise[:, :-1]).mean() / (noise**2).mean()
    assert lag == pytest.approx(0.4, abs=0.05)
    grid = np.full(ds.bold.shape, np.nan)
    grid[ds.mask.values] = noise
    for axis, zoom in enumerate((3.5, 3.75, 3.75)):
        here, next_to_it = (np.delete(grid, end, axis=axis) for end in (-1, 0))
        both = np.isfinite(here) & np.isfinite(next_to_it)
        correlation = np.corrcoef(here[both], next_to_it[both])[0, 1]
        sigma_mm = 10 / 2.3548  # of the smoothing kernel; the field's correlation is exp(-d² / (4 sigma²))
        assert correlation == pytest.approx(np.exp(-((zoom / (2 * sigma_mm)) ** 2)), abs=0.06), axis


def test_noise_is_as_strong_in_the_first_sample_as_in_the_last() -> None:
    ds = simulate(
        shape=(16, 18, 17), n_runs=12, block_samples=4, run_sd=0.0, effect=0.0, autocorrelation=0.97, seed=0
    )
    inside = ds.bold.values[ds.mask.values].astype(float)
    runs = inside.reshape(len(inside), 12, -1)
    sd = runs.std(axis=1, ddof=1)  # between runs: a voxel's own level drops out
    assert np.sqrt((sd[:, 0] ** 2).mean()) == pytest.approx(14, rel=0.05)
    assert np.sqrt((sd[:, -1] ** 2).mean()) == pytest.approx(14, rel=0.05)


def test_runs_have_their_own_level_and_drift() -> None:
    # Levels and drifts are so smooth that one of them says little of their strength: many runs, root mean square.
    options: dict[str, Any] = {"shape": (12, 14, 13), "n_runs": 48, "noise_sd": 0.0, "effect": 0.0, "seed": 5}
    still, moved = simulate(**options, run_sd=0.0), simulate(**options, run_sd=6.0)
    inside = still.mask.values
    assert np.ptp(still.bold.values[inside], axis=1).max() == 0
    runs = moved.bold.values[inside].astype(float).reshape(inside.sum(), 48, -1)
    assert np.sqrt(runs.mean(axis=2).var(axis=1, ddof=1).mean()) == pytest.approx(6, rel=0.2)
    assert np.sqrt(((runs[..., -1] - runs[..., 0]) ** 2).mean()) == pytest.approx(6, rel=0.2)


def test_informative_voxels_are_the_planted_spheres(small: xr.Dataset) -> None:
    centers = np.reshape(small.attrs["informative_xyz_mm"], (-1, 3))
    assert len(centers) >= 1
    ijk = np.argwhere(small.mask.values)
    world = ijk @ small.affine.values[:3, :3].T + small.affine.values[:3, 3]
    distance = np.linalg.norm(world[:, None] - centers, axis=2).min(axis=1)
    np.testing.assert_array_equal(
        small.informative.values[tuple(ijk.T)], distance <= small.attrs["informative_radius_mm"] * (1 + 1e-6)
    )
    assert not (small.informative & ~small.mask).any()


def test_default_spheres_lie_apart(brain: xr.Dataset) -> None:
    centers = np.reshape(brain.attrs["informative_xyz_mm"], (-1, 3))
    assert len(centers) == 6
    between = np.linalg.norm(centers[:, None] - centers, axis=2)[np.triu_indices(6, 1)]
    assert between.min() > 2 * brain.attrs["informative_radius_mm"]


def test_only_informative_voxels_differ_between_conditions() -> None:
    ds = simulate(**SMALL, noise_sd=10.0, effect=1.0, run_sd=0.0, seed=2)
    means = ds.bold.groupby("condition").mean("sample")
    change = abs(means.sel(condition="face") - means.sel(condition="house")).values
    inside = ds.mask.values & ds.informative.values
    outside = ds.mask.values & ~ds.informative.values
    assert change[inside].mean() > 3 * change[outside].mean()


def test_rest_holds_no_pattern() -> None:
    options: dict[str, Any] = {**SMALL, "run_sd": 0.0, "seed": 2}
    with_effect, without = simulate(**options, effect=1.0), simulate(**options, effect=0.0)
    change = (with_effect.bold != without.bold).any(["x", "y", "z"]).values
    assert not change[with_effect.condition.values == "rest"].any()
    assert change[with_effect.condition.values == "face"].all()


def _scores(ds: xr.Dataset, centers: np.ndarray, radius_mm: float) -> xr.DataArray:
    """Leave-one-run-out accuracy of scikit-learn alone, without any of the package's machinery."""
    inside = ds.mask.values
    ijk = np.argwhere(inside)
    world = ijk @ ds.affine.values[:3, :3].T
    labels = ds.condition.values.astype(object)
    chosen = labels != "rest"
    samples = ds.bold.values[inside].astype(np.float32)[:, chosen].T
    score = np.full(inside.shape, np.nan)
    for center in centers:
        near = np.linalg.norm(world - center @ ds.affine.values[:3, :3].T, axis=1) <= radius_mm
        score[tuple(center)] = cross_val_score(
            LinearSVC(random_state=0, max_iter=10000),
            samples[:, near],
            labels[chosen].astype(str),
            groups=ds.run.values[chosen],
            cv=LeaveOneGroupOut(),
        ).mean()
    return xr.DataArray(score, dict(ds.mask.coords), ("x", "y", "z"))


@pytest.mark.parametrize("seed", [0, 11])
def test_planted_spheres_are_found(seed: int) -> None:
    ds = simulate(seed=seed)
    # The slice with the most informative voxels: each of these scores takes a second.
    best = int(ds.informative.values.sum(axis=(0, 1)).argmax())
    slices = ds.mask.values & (np.arange(ds.sizes["z"]) == best)
    every = xr.zeros_like(ds.mask, float).where(slices)
    whole = planted_auc(ds, every, radius_mm=5.6)
    assert whole.n_outside >= 500
    assert whole.n_inside >= 20
    rng = np.random.default_rng(seed)
    planted, plain = (np.argwhere(slices & (ds.informative.values == kind)) for kind in (True, False))
    centers = np.concatenate([rng.choice(planted, 40, replace=False), rng.choice(plain, 40, replace=False)])
    found = planted_auc(ds, _scores(ds, centers, 5.6), radius_mm=5.6)
    assert found.auc >= 0.95
    assert min(found.n_inside, found.n_outside) >= 5


def test_auc_leaves_out_centers_that_are_neither(small: xr.Dataset) -> None:
    mask, informative = small.mask.values, small.informative.values
    ijk = np.argwhere(mask)
    world = ijk @ small.affine.values[:3, :3].T
    expected = {"inside": 0, "outside": 0}
    for place in world:
        near = np.linalg.norm(world - place, axis=1) <= 5.6
        planted = informative[mask][near]
        expected["inside"] += planted.all()
        expected["outside"] += not planted.any()
    truth = small.informative.astype(float).where(small.mask)
    found = planted_auc(small, truth, radius_mm=5.6)
    assert (found.n_inside, found.n_outside) == (expected["inside"], expected["outside"])
    assert found.auc == 1.0
    assert planted_auc(small, -truth, radius_mm=5.6).auc == 0.0
    assert planted_auc(small, truth * 0, radius_mm=5.6).auc == 0.5


def test_auc_of_a_part_of_the_map(small: xr.Dataset) -> None:
    random = np.random.default_rng(0).random(small.mask.shape)
    score = xr.DataArray(random, dict(small.mask.coords), ("x", "y", "z")).where(small.mask)
    z = int(small.informative.values.sum(axis=(0, 1)).argmax())
    alone = score.where(small.z == z)
    expected = planted_auc(small, alone, radius_mm=5.6)
    for part in (score.isel(z=[z]), score.isel(z=z), score.transpose("z", "x", "y").isel(z=[z])):
        assert planted_auc(small, part, radius_mm=5.6) == expected


def test_auc_needs_centers_of_both_kinds(small: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"0 centers inside planted spheres and \d+ outside"):
        planted_auc(small, small["mean"].where(small.mask & ~small.informative), radius_mm=5.6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditions": ("face",)}, r"two or more different names, got \('face',\)"),
        ({"conditions": ("face", "face")}, "two or more different names"),
        ({"conditions": "face"}, "two or more different names"),
        ({"shape": (4, 0, 3)}, r"three counts of voxels, got \(4, 0, 3\)"),
        ({"n_runs": 0}, "must be at least 1 .* got 0, 9, 6 and 6"),
        ({"rest_samples": -1}, "rest_samples at least 0"),
        ({"zooms_mm": (3.0, -3.0, 3.0)}, "zooms_mm must be positive"),
        ({"informative_radius_mm": float("nan")}, "informative_radius_mm must be positive"),
        ({"tr_s": 0.0}, "tr_s must be positive"),
        ({"autocorrelation": 1.0}, r"autocorrelation must be in \[0, 1\)"),
        ({"noise_sd": -1.0}, "noise_sd and smoothness_mm must not be negative"),
        ({"baseline": 40000.0}, "leave room in int16, got 40000"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(**{"shape": (5, 6, 7), **options}, seed=0)


def test_a_seed_is_required() -> None:
    with pytest.raises(TypeError, match="seed"):
        simulate()  # type: ignore[call-arg]


@pytest.mark.parametrize("shape", [(1, 9, 10), (8, 1, 1), (2, 2, 3)])
def test_flat_and_tiny_brains(shape: tuple[int, int, int]) -> None:
    ds = simulate(shape=shape, n_runs=2, seed=0)
    inside = ds.bold.values[ds.mask.values]
    assert len(inside)
    assert inside.min() > 0
    assert inside.max() < 2000
