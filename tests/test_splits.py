"""Cross-decoding: training on some samples and testing on others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.model_selection import KFold
from sklearn.svm import LinearSVC

import slcluster as slc
from slcluster.cli.options import job_of
from slcluster.errors import DesignError, InputError
from slcluster.jobs import Job
from slcluster.kernels.folds import Folds
from tests.conftest import OBLIQUE
from tests.witness import noise_dataset

TASK = np.array((["seen"] * 2 + ["imagined"] * 2) * 6)


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    """24 samples of face and house in turn, three runs of 8; in each both tasks, two samples at a time."""
    return noise_dataset(affine=OBLIQUE).assign_coords(task=("sample", TASK))


def _folds(ds: xr.Dataset, **options: Any) -> Folds:
    return slc.plan(ds, radius_mm=5.5, **options).design.folds


def test_tasks_within_runs_leave_one_run_out(ds: xr.Dataset) -> None:
    folds = _folds(ds, train_on={"task": "seen"}, test_on={"task": "imagined"})
    runs = ds["run"].values
    assert len(folds.train) == 3
    for run, (train, test) in enumerate(zip(*folds, strict=True)):
        assert train.tolist() == np.flatnonzero((runs != run) & (TASK == "seen")).tolist()
        assert test.tolist() == np.flatnonzero((runs == run) & (TASK == "imagined")).tolist()


def test_parts_that_share_no_run_are_one_fold(ds: xr.Dataset) -> None:
    folds = _folds(ds, train_on={"run": [0, 2]}, test_on={"run": 1})
    runs = ds["run"].values
    assert [part.tolist() for part in folds.train] == [np.flatnonzero(runs != 1).tolist()]
    assert [part.tolist() for part in folds.test] == [np.flatnonzero(runs == 1).tolist()]


def test_a_splitter_of_the_users_own_is_narrowed(ds: xr.Dataset) -> None:
    folds = _folds(
        ds, cv=KFold(4), train_on={"task": "seen", "run": [0, 1, 2]}, test_on={"task": ["imagined"]}
    )
    plain = list(KFold(4).split(np.zeros(24)))
    assert [part.tolist() for part in folds.train] == [a[TASK[a] == "seen"].tolist() for a, _ in plain]
    assert [part.tolist() for part in folds.test] == [b[TASK[b] == "imagined"].tolist() for _, b in plain]


def test_folds_that_test_on_nothing_are_left_out(ds: xr.Dataset) -> None:
    folds = _folds(ds, cv=KFold(3), test_on={"run": [2]})
    assert [part.tolist() for part in folds.test] == [list(range(16, 24))]
    assert [part.tolist() for part in folds.train] == [list(range(16))]


def test_one_of_the_two_is_enough(ds: xr.Dataset) -> None:
    seen = _folds(ds, train_on={"task": "seen"})
    assert [len(part) for part in seen.test] == [8, 8, 8]
    assert [len(part) for part in seen.train] == [8, 8, 8]


def test_scores_are_those_of_the_fits_written_out(ds: xr.Dataset) -> None:
    estimator = LinearSVC(random_state=0)
    maps = slc.searchlight(
        ds,
        radius_mm=5.5,
        estimator=estimator,
        engine="sklearn",
        train_on={"task": "seen"},
        test_on={"task": "imagined"},
    ).compute()
    center = tuple(np.argwhere(maps["score"].notnull().values)[7])
    distance_mm = np.linalg.norm((np.argwhere(ds["mask"].values) - center) @ OBLIQUE[:3, :3].T, axis=1)
    x = ds["bold"].values[ds["mask"].values][distance_mm <= 5.5 * (1 + 1e-6)].T
    y, runs = np.array(ds["condition"].values.tolist()), ds["run"].values
    expected = []
    for run in range(3):
        train, test = (runs != run) & (TASK == "seen"), (runs == run) & (TASK == "imagined")
        expected.append(LinearSVC(random_state=0).fit(x[train], y[train]).score(x[test], y[test]))
    assert maps["score_fold"].values[(0, slice(None), *center)].tolist() == expected


def test_what_a_store_was_begun_with_is_compared(ds: xr.Dataset, tmp_path: Path) -> None:
    slc.searchlight(ds, radius_mm=5.5, out=tmp_path / "a.zarr", train_on={"task": "seen"})
    with pytest.raises(InputError, match=r"it differs in: folds"):
        slc.searchlight(ds, radius_mm=5.5, out=tmp_path / "a.zarr", train_on={"task": "imagined"})


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (
            {"train_on": {"taks": "seen"}},
            DesignError,
            "train_on='taks' is not a column of the samples; did you mean 'task'",
        ),
        (
            {"test_on": {"task": "heard"}},
            DesignError,
            "test_on: no sample has task heard; there are imagined, seen",
        ),
        ({"test_on": {"task": []}}, DesignError, r"test_on: no sample has task \(no value given\)"),
        ({"test_on": "task"}, InputError, "test_on must map columns to values, such as .* got 'task'"),
        ({"train_on": {"condition": "face"}}, DesignError, "trains without any sample of house"),
        ({"train_on": {"run": 0}, "cv": KFold(3)}, DesignError, "fold 0 has an empty train part"),
        (
            {"test_on": {"run": 0}, "cv": [(np.arange(8), np.arange(8, 24))]},
            DesignError,
            "no fold of cv tests on a sample of test_on",
        ),
        ({"estimator": len, "test_on": {"run": 0}}, DesignError, "leave cv, train_on and test_on out"),
    ],
)
def test_refusals(ds: xr.Dataset, options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        _folds(ds, **options)
    assert "\n" not in str(caught.value)


def test_columns_in_flags_and_files() -> None:
    job = Job(store="a.zarr", radius_mm=3, train_on="task=seen,heard", test_on=["run=1", "task=imagined"])
    assert job.train_on == {"task": ["seen", "heard"]}
    assert job.test_on == {"run": ["1"], "task": ["imagined"]}
    assert Job(store="a.zarr", radius_mm=3, train_on={"run": [0, 1]}).train_on == {"run": ["0", "1"]}
    with pytest.raises(InputError, match="--train-on: must be COLUMN=VALUE, or COLUMN=VALUE,VALUE"):
        job_of(("a.zarr",), {"radius_mm": "3", "train_on": ("task",)})
