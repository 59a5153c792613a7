"""Measures of a sphere that are no scores: through plans, blocks, stores, files and figures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import spearmanr
from sklearn.model_selection import KFold, LeaveOneGroupOut

import slcluster as slc
from slcluster.cli.files import write_maps
from slcluster.errors import BlockError, DesignError, InputError
from slcluster.jobs import Job
from slcluster.maps import named_scores
from slcluster.searchlight import resume
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE

CONDITIONS = ("cat", "face", "house", "shoe")
ANIMATE = np.array([[0.0, 1, 4, 5], [1, 0, 3, 6], [4, 3, 0, 2], [5, 6, 2, 0]])


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    """Four runs of twelve samples, four conditions in turn with patterns of their own, a mask with holes."""
    rng = np.random.default_rng(3)
    condition = np.array(CONDITIONS * 12)
    bold = rng.normal(size=(5, 4, 3, 48))
    for name in CONDITIONS:
        bold[..., condition == name] += 0.8 * rng.normal(size=(5, 4, 3, 1))
    mask = rng.random((5, 4, 3)) < 0.85
    return slc.subject_dataset(
        bold, affine=OBLIQUE, mask=mask, condition=condition, run=np.repeat(np.arange(4), 12)
    )


def mean_and_size(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    return {"difference": x[y == "face"].mean() - x[y == "cat"].mean(), "size": x.shape[1]}


def table(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean of each condition in each of four runs."""
    return np.array([[x[(y == name) & (groups == run)].mean() for run in range(4)] for name in CONDITIONS])


def spread(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    return float(x.std())


MEASURES = [
    "crossnobis",
    slc.Crossnobis(shrinkage="none"),
    "split_half",
    slc.SplitHalf(subtract_mean=False),
    slc.RSA({"animate": ANIMATE, "other": ANIMATE[::-1, ::-1]}, comparison="pearson", shrinkage=0.4),
    slc.RSA({"animate": ANIMATE}, dissimilarity="crossnobis"),
    mean_and_size,
    table,
    spread,
]


def _name(measure: Any) -> str:
    return getattr(measure, "__name__", str(measure))


def _spheres(ds: xr.Dataset, radius_mm: float) -> dict[tuple[int, ...], np.ndarray]:
    """Samples x voxels of every center's sphere, the slow way."""
    places = np.argwhere(ds["mask"].values)
    bold = ds["bold"].values[ds["mask"].values]
    found = {}
    for center in places:
        distance_mm = np.linalg.norm((places - center) @ OBLIQUE[:3, :3].T, axis=1)
        found[tuple(center.tolist())] = bold[distance_mm <= radius_mm * (1 + 1e-6)].T
    return found


# --- one map, however it is computed


@pytest.mark.parametrize("measure", MEASURES, ids=_name)
def test_lazy_durable_and_overlap_are_one(measure: Any, ds: xr.Dataset, tmp_path: Path) -> None:
    options = {"radius_mm": 5.5, "estimator": measure}
    expected = slc.searchlight(ds, block_centers=1000, **options).compute(scheduler="sync")
    assert np.array_equal(
        expected["score"].notnull().values, np.broadcast_to(ds["mask"].values, expected["score"].shape)
    )
    for found in (
        slc.searchlight(ds, block_centers=5, **options),
        slc.searchlight(ds, block_centers=9, overlap=True, **options),
        slc.searchlight(ds, block_centers=7, out=tmp_path / "out.zarr", **options),
        slc.open_result(tmp_path / "out.zarr"),
    ):
        assert found["score"].dims == expected["score"].dims
        assert found["score"].values.tobytes() == expected["score"].values.tobytes()
        for dim in expected["score"].dims:
            assert found[dim].values.tolist() == expected[dim].values.tolist()
        assert "score_fold" not in found
        assert "chance" not in found.attrs


@pytest.mark.parametrize("measure", MEASURES[:6], ids=_name)
def test_an_interrupted_one_resumes_from_its_store_alone(
    measure: Any, ds: xr.Dataset, tmp_path: Path
) -> None:
    stored = open_store(write_array_store(ds, tmp_path / "ds.zarr"))
    options = {"radius_mm": 5.5, "estimator": measure, "block_centers": 6}
    expected = slc.searchlight(stored, **options).compute()

    def stop(step: Any) -> None:
        if step.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slc.searchlight(stored, out=tmp_path / "out.zarr", progress=stop, **options)
    assert 0 < slc.status(tmp_path / "out.zarr").n_done < slc.status(tmp_path / "out.zarr").n_blocks
    half = slc.open_result(tmp_path / "out.zarr")["score"]
    assert half.dims == expected["score"].dims
    assert half.isnull().sum() > expected["score"].isnull().sum()
    assert resume(tmp_path / "out.zarr")["score"].values.tobytes() == expected["score"].values.tobytes()


CALLS: list[int] = []


def counted(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    CALLS.append(1)
    if len(CALLS) == 20:
        raise KeyboardInterrupt
    return float(x.mean())


def test_a_function_resumes_where_it_is_given_again(ds: xr.Dataset, tmp_path: Path) -> None:
    CALLS.clear()
    options = {"radius_mm": 5.5, "estimator": counted, "block_centers": 6, "out": tmp_path / "out.zarr"}
    with dask.config.set(scheduler="sync"), pytest.raises(KeyboardInterrupt):
        slc.searchlight(ds, **options)
    with pytest.raises(InputError, match="resume it by calling slc.searchlight again"):
        resume(tmp_path / "out.zarr")
    n_before, n_done = len(CALLS), slc.status(tmp_path / "out.zarr").n_done
    assert n_done == 3
    found = slc.searchlight(ds, **options)
    assert len(CALLS) - n_before == 1 + int(ds["mask"].sum()) - 6 * n_done  # one call plans
    for center, x in _spheres(ds, 5.5).items():
        assert found["score"].values[center] == pytest.approx(x.mean(), rel=1e-12)


# --- values


def test_functions_get_the_sphere_its_conditions_and_runs(ds: xr.Dataset) -> None:
    maps = slc.searchlight(ds, radius_mm=5.5, estimator=table).compute()
    pair = slc.searchlight(ds, radius_mm=5.5, estimator=mean_and_size).compute()
    y, groups = np.array(ds["condition"].values.tolist()), ds["run"].values
    assert maps["score"].dims == ("value_0", "value_1", "x", "y", "z")
    assert maps["score"].shape[:2] == (4, 4)
    assert pair["metric"].values.tolist() == ["difference", "size"]
    for center, x in _spheres(ds, 5.5).items():
        np.testing.assert_allclose(maps["score"].values[(..., *center)], table(x, y, groups), rtol=1e-12)
        expected = list(mean_and_size(x, y, groups).values())
        np.testing.assert_allclose(pair["score"].values[(slice(None), *center)], expected, rtol=1e-12)


def test_models_are_in_the_order_of_the_conditions(ds: xr.Dataset) -> None:
    shuffled = pd.DataFrame(ANIMATE, CONDITIONS, CONDITIONS).loc[
        ["shoe", "cat", "house", "face"], list(CONDITIONS)
    ]
    maps = slc.searchlight(
        ds,
        radius_mm=5.5,
        estimator=slc.RSA({"matrix": ANIMATE, "frame": shuffled}, dissimilarity="euclidean"),
    ).compute()
    assert maps["model"].values.tolist() == ["matrix", "frame"]
    np.testing.assert_array_equal(maps["score"].sel(model="matrix"), maps["score"].sel(model="frame"))
    y, upper = np.array(ds["condition"].values.tolist()), np.triu_indices(4, 1)
    for center, x in _spheres(ds, 5.5).items():
        means = [x[y == name].mean(axis=0) for name in CONDITIONS]
        distances = [((means[a] - means[b]) ** 2).sum() for a, b in zip(*upper, strict=True)]
        expected = spearmanr(distances, ANIMATE[upper]).statistic
        assert maps["score"].sel(model="matrix").values[center] == pytest.approx(expected, rel=1e-9)


def test_pairs_are_named_and_mean_nothing_without_effect(ds: xr.Dataset) -> None:
    maps = slc.searchlight(ds, radius_mm=5.5, estimator="crossnobis", cv=KFold(4)).compute()
    names = [f"{a}-{b}" for a, b in itertools.combinations(CONDITIONS, 2)]
    assert maps["pair"].values.tolist() == names
    assert maps["score"].sel(pair="face-house").mean() > 0.1
    rng = np.random.default_rng(1)
    noise = ds.assign(bold=ds["bold"].copy(data=rng.normal(size=ds["bold"].shape)))
    nothing = slc.searchlight(noise, radius_mm=5.5, estimator="crossnobis").compute()
    assert abs(float(nothing["score"].mean())) < 0.05


def test_models_are_compared_with_distances_over_folds(ds: xr.Dataset) -> None:
    options = {"radius_mm": 5.5, "cv": KFold(4)}
    distances = slc.searchlight(ds, estimator="crossnobis", **options).compute()["score"]
    measure = slc.RSA({"animate": ANIMATE}, dissimilarity="crossnobis")
    maps = slc.searchlight(ds, estimator=measure, **options).compute()["score"].sel(model="animate")
    for center in np.argwhere(maps.notnull().values):
        at = tuple(center)
        expected = spearmanr(distances.values[(slice(None), *at)], ANIMATE[np.triu_indices(4, 1)]).statistic
        assert maps.values[at] == pytest.approx(expected, rel=1e-9)


def _halves(x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> list[float]:
    """Haxby's measure written out: within, between, difference."""
    parts = []
    for part in (train, test):
        means = np.array([x[part & (y == name)].mean(axis=0) for name in CONDITIONS])
        parts.append(means - means.mean(axis=0))
    z = np.arctanh(np.corrcoef(*parts)[:4, 4:])
    within, between = np.diag(z).mean(), z[~np.eye(4, dtype=bool)].mean()
    return [within, between, within - between]


@pytest.mark.parametrize("cv", [None, LeaveOneGroupOut()], ids=["odd and even", "one run out"])
def test_split_half_is_that_of_haxby(cv: Any, ds: xr.Dataset) -> None:
    found = slc.searchlight(ds, radius_mm=5.5, estimator="split_half", cv=cv).compute()
    assert found["score"].dims == ("comparison", "x", "y", "z")
    assert list(named_scores(found)) == ["within", "between", "difference"]
    y, run = ds["condition"].values.astype(str), ds["run"].values
    held_out = [np.isin(run, [1, 3])] if cv is None else [run == number for number in range(4)]
    n_compared = 0
    for center, x in _spheres(ds, 5.5).items():
        if x.shape[1] >= 3:
            n_compared += 1
            expected = np.mean([_halves(x, y, ~test, test) for test in held_out], axis=0)
            np.testing.assert_allclose(found["score"].values[:, *center], expected, rtol=1e-9, atol=1e-12)
    assert n_compared > 20


def test_split_half_by_the_words_of_a_job_file(ds: xr.Dataset) -> None:
    def planned(**words: Any) -> slc.plan:
        return slc.plan(ds, **Job(store="a.zarr", radius_mm=5.5, **words).plan_arguments())

    halves = planned(estimator="split_half")
    assert len(halves.design.folds.train) == 1
    assert set(ds["run"].values[halves.design.folds.train[0]]) == {0, 2}
    assert len(planned(estimator="split_half", cv="leave-one-run-out").design.folds.train) == 4
    raw = planned(estimator={"class": "slcluster.SplitHalf", "params": {"subtract_mean": False}})
    assert raw.estimator == slc.SplitHalf(subtract_mean=False)
    assert raw.fingerprint != halves.fingerprint
    named = planned(estimator="svc", cv="leave-one-run-out")
    assert named.fingerprint == planned(estimator="svc").fingerprint


def test_small_spheres_have_no_value(ds: xr.Dataset) -> None:
    maps = slc.searchlight(ds, radius_mm=5.5, estimator=spread, min_voxels=5).compute()
    assert np.array_equal(maps["score"].notnull(), maps["sphere_size"] >= 5)
    assert (maps["sphere_size"] < 5).where(maps["sphere_size"] > 0).any()


# --- what comes out


def test_every_map_has_a_file_and_a_figure_of_its_own(ds: xr.Dataset, tmp_path: Path) -> None:
    maps = slc.searchlight(ds, radius_mm=5.5, estimator="crossnobis").compute()
    names = [f"{a}-{b}" for a, b in itertools.combinations(CONDITIONS, 2)]
    assert list(named_scores(maps)) == names
    written = [path.name for path in write_maps(maps, tmp_path)]
    assert written == [*(f"array_score-{name}.nii.gz" for name in names), "array_sphere_size.nii.gz"]
    one = slc.searchlight(ds, radius_mm=5.5, estimator=spread).compute()
    assert list(named_scores(one)) == ["value"]
    assert [path.name for path in write_maps(one, tmp_path)] == [
        "array_score.nii.gz",
        "array_sphere_size.nii.gz",
    ]


def test_a_figure_of_one_of_several_maps(ds: xr.Dataset, tmp_path: Path) -> None:
    plots = pytest.importorskip("slcluster.plots")
    maps = slc.searchlight(ds, radius_mm=5.5, estimator="crossnobis").compute()
    plots.plot_score_map(maps, metric="face-house", cut=1, path=tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000
    with pytest.raises(InputError, match="several maps; pass metric=, one of cat-face, cat-house"):
        plots.plot_score_map(maps)


def test_the_plan_says_so(ds: xr.Dataset) -> None:
    text = str(slc.plan(ds, radius_mm=5.5, estimator=slc.RSA({"animate": ANIMATE})))
    assert "values       animate" in text
    assert "folds        none: the measure takes all samples at once" in text
    assert "engine       rsa" in text
    assert "FunctionMeasure(spread)" in str(slc.plan(ds, radius_mm=5.5, estimator=spread))


def test_in_a_job_file(ds: xr.Dataset) -> None:
    spec = {"class": "slcluster.RSA", "params": {"models": {"animate": ANIMATE.tolist()}}}
    made = Job(store="a.zarr", radius_mm=5.5, estimator=spec).plan_arguments()["estimator"]
    assert repr(made) == repr(slc.RSA({"animate": ANIMATE}))
    assert Job(store="a.zarr", radius_mm=5.5, estimator="crossnobis").estimator == "crossnobis"
    with pytest.raises(ValueError, match="is not a class of scikit-learn"):
        Job(store="a.zarr", radius_mm=5.5, estimator={"class": "slcluster.simulate"})


# --- refusals


def _fails(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> float:
    if x.shape[1] == 1:
        raise RuntimeError("one voxel")
    return 1.0


def _grows(x: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.ones(x.shape[1])


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"estimator": lambda x, y: 1}, InputError, r"failed on noise of 48 samples x \d+ voxels: TypeError"),
        ({"estimator": lambda x, y, groups: "much"}, InputError, "must give a number, an array or a mapping"),
        ({"estimator": lambda x, y, groups: {}}, InputError, "gave no value"),
        ({"estimator": spread, "scoring": "roc_auc"}, InputError, "is a measure, which no metric scores"),
        ({"estimator": spread, "cv": 3}, DesignError, "takes all samples at once; leave cv"),
        ({"estimator": spread, "standardize": "fold"}, InputError, 'use standardize="run" or none'),
        ({"estimator": spread, "engine": "svm"}, InputError, "has one engine, 'function'; leave engine out"),
        (
            {"estimator": slc.RSA({"a": ANIMATE[:3, :3]})},
            InputError,
            "model 'a' is 3 x 3, but there are 4 conditions",
        ),
        (
            {"estimator": slc.RSA({"a": pd.DataFrame(ANIMATE, list("cdef"), list("cdef"))})},
            InputError,
            "model 'a' has no row for cat, face, house, shoe",
        ),
        (
            {"estimator": "split_half", "groups": None},
            DesignError,
            "odd with even runs, but there is only one",
        ),
        (
            {"estimator": "split_half", "cv": [(np.arange(24), np.arange(24, 27))]},
            DesignError,
            r"no sample of shoe, which SplitHalf\(subtract_mean=True\) needs; change cv or the selection",
        ),
        ({"estimator": slc.RSA({"a": 1 - np.eye(4)})}, InputError, "all equal correlates with nothing"),
    ],
)
def test_refused_when_planned(
    options: dict[str, Any], kind: type[Exception], words: str, ds: xr.Dataset
) -> None:
    with pytest.raises(kind, match=words):
        slc.plan(ds, radius_mm=5.5, **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: slc.RSA({"a": np.triu(ANIMATE)}), "square, symmetric matrix"),
        (lambda: slc.RSA({"a": ANIMATE[:2]}), "square, symmetric matrix"),
        (lambda: slc.RSA({"a": "face"}), "square matrix of numbers, got str"),
        (lambda: slc.RSA({}), "at least one name"),
        (
            lambda: slc.RSA({"a": ANIMATE}, comparison="kendall"),
            "comparison must be one of spearman, pearson",
        ),
        (lambda: slc.RSA({"a": ANIMATE}, shrinkage=2), "shrinkage"),
        (lambda: slc.Crossnobis("some"), "shrinkage"),
        (lambda: slc.SplitHalf("no"), "subtract_mean must be True or False, got 'no'"),
    ],
)
def test_measures_that_cannot_be(make: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()


def test_two_conditions_have_no_geometry(ds: xr.Dataset) -> None:
    two = ds.isel(sample=np.isin(ds["condition"].values.tolist(), ["cat", "face"]))
    with pytest.raises(InputError, match="RSA needs at least 3 conditions, got 2"):
        slc.plan(two, radius_mm=5.5, estimator=slc.RSA({"a": ANIMATE[:2, :2]}))


def test_an_error_in_a_sphere_names_it(ds: xr.Dataset) -> None:
    alone = ds.assign(mask=ds["mask"] & ((ds["x"] == 0) | (ds["x"] > 3)))
    with pytest.raises(BlockError, match=r"center at voxel \(.*\): RuntimeError: one voxel"):
        slc.searchlight(alone, radius_mm=3.9, estimator=_fails).compute()
    with pytest.raises(
        BlockError, match=r"ValueError: gave \d+ values for a sphere of \d+ voxels, and \d+ when"
    ):
        slc.searchlight(ds, radius_mm=5.5, estimator=_grows).compute()
