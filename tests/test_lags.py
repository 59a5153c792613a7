"""Searchlights resolved in time, against one searchlight for each lag written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import slcluster as slc
from slcluster.errors import DesignError, InputError
from tests.conftest import OBLIQUE

#: Two runs of twelve samples: a rest, then stretches of three, the first begins at once.
CONDITION = ["face"] * 3 + ["house"] * 3 + ["rest"] * 2 + ["face"] * 2 + ["house"] * 2


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return slc.subject_dataset(
        rng.normal(size=(4, 5, 3, 48)),
        affine=OBLIQUE,
        condition=CONDITION * 4,
        run=np.repeat(np.arange(4), 12),
    ).assign_attrs(tr_s=2.5)


def test_onsets_are_where_a_stretch_begins(ds: xr.Dataset) -> None:
    assert slc.onsets(ds).tolist() == [12 * run + first for run in range(4) for first in (0, 3, 8, 10)]
    assert slc.onsets(ds, ["house"]).tolist() == [12 * run + first for run in range(4) for first in (3, 10)]
    assert slc.onsets(ds, ["rest"]).tolist() == [12 * run + 6 for run in range(4)]


@pytest.mark.parametrize("is_durable", [False, True])
def test_every_lag_is_a_searchlight_of_its_samples(is_durable: bool, ds: xr.Dataset, tmp_path: Path) -> None:
    out = tmp_path / "lags" if is_durable else None
    maps = slc.time_resolved(ds, [-1, 0, 2], radius_mm=5.5, out=out).compute()
    assert maps["score"].dims == ("lag", "x", "y", "z")
    assert maps["lag"].values.tolist() == [-1, 0, 2]
    assert maps["lag_s"].values.tolist() == [-2.5, 0.0, 5.0]
    # The onset at 0 has nothing before it in its run, and the one at 10 nothing two samples later.
    kept = np.array([12 * run + first for run in range(4) for first in (3, 8)])
    names = np.array(["house", "face"] * 4)
    for n, lag in enumerate((-1, 0, 2)):
        alone = ds.isel(sample=kept + lag).assign_coords(condition=("sample", names))
        expected = slc.searchlight(alone, radius_mm=5.5).compute()
        for name in ("score", "score_fold"):
            assert maps[name].isel(lag=n).values.tobytes() == expected[name].values.tobytes()
    if out is not None:
        assert sorted(path.name for path in out.glob("lag*.zarr") if ".source-" not in path.name) == [
            "lag+00.zarr",
            "lag+02.zarr",
            "lag-01.zarr",
        ]
        assert slc.status(out / "lag+02.zarr").is_finished


def test_onsets_of_the_users_own(ds: xr.Dataset) -> None:
    own = [3, 9, 15, 21, 27, 33, 39, 45]
    maps = slc.time_resolved(ds, [1], at=own, radius_mm=5.5)
    assert maps.attrs["n_samples"] == 8
    assert '"face": 4' in maps.attrs["class_counts"]


@pytest.mark.parametrize(
    ("lags", "options", "kind", "words"),
    [
        ([], {}, InputError, r"lags must be whole numbers .* got \[\]"),
        ([1, 1], {}, InputError, "each once"),
        ([0.5], {}, InputError, "whole numbers"),
        ([40], {}, DesignError, "no onset has samples from 40 to 40 in its run"),
        (
            [0],
            {"conditions": ["cat"]},
            DesignError,
            "no sample has the condition cat; there are face, house, rest",
        ),
        ([0], {"at": [48]}, InputError, "positions of samples, whole numbers from 0 to 47"),
        ([0], {"at": [0.5]}, InputError, "positions of samples"),
    ],
)
def test_refusals(
    lags: Any, options: dict[str, Any], kind: type[Exception], words: str, ds: xr.Dataset
) -> None:
    with pytest.raises(kind, match=words):
        slc.time_resolved(ds, lags, radius_mm=5.5, **options)


def test_every_column_is_that_of_the_onset(ds: xr.Dataset) -> None:
    """Samples after an onset are of nothing: what is predicted, grouped, chosen and weighted is the trial's."""
    starts = slc.onsets(ds, ["face", "house"])
    trial = np.arange(len(starts))
    columns: dict[str, np.ndarray] = {
        "category": np.full(48, "none", dtype=object),
        "session": np.full(48, -1),
        "task": np.full(48, "none", dtype=object),
        "weight": np.zeros(48),
    }
    columns["category"][starts] = np.where(trial % 2, "animal", "tool")
    columns["session"][starts] = ds["run"].values[starts] // 2
    columns["task"][starts] = np.where(trial // 2 % 2, "seen", "imagined")
    columns["weight"][starts] = 1 + trial % 3
    ds = ds.assign_coords({name: ("sample", values) for name, values in columns.items()})
    options: dict[str, Any] = {
        "radius_mm": 5.5,
        "target": "category",
        "groups": "session",
        "train_on": {"task": "seen"},
        "sample_weight": "weight",
    }
    found = slc.time_resolved(ds, [1], **options).compute()
    later = ds.isel(sample=starts + 1)
    later = later.assign_coords({name: ("sample", ds[name].values[starts]) for name in columns})
    expected = slc.searchlight(later, **options).compute()
    assert found["score"].isel(lag=0).values.tobytes() == expected["score"].values.tobytes()


@pytest.mark.parametrize("kept", [[*range(0, 48, 2)], [*range(5), *range(6, 48)], [1, 0, *range(2, 48)]])
def test_samples_left_out_are_no_time(kept: list[int], ds: xr.Dataset) -> None:
    with pytest.raises(DesignError, match=r"in run 0 sample \d+ is followed by sample \d+; pass the Dataset"):
        slc.time_resolved(ds.isel(sample=kept), [0, 1], radius_mm=5.5)


def test_whole_runs_may_be_left_out(ds: xr.Dataset) -> None:
    some = ds.isel(sample=np.isin(ds["run"], [0, 1, 3]))
    assert slc.time_resolved(some, [0], radius_mm=5.5).sizes["fold"] == 3
