from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.svm import LinearSVC

import slcluster as slc
from slcluster.errors import PlanError
from slcluster.plan import Plan, array_digest, choose_block_centers, format_bytes
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE
from tests.witness import noise_dataset

OPTIONS: dict[str, Any] = {"radius_mm": 5.5}


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return noise_dataset(affine=OBLIQUE)


@pytest.fixture(scope="module")
def plan(ds: xr.Dataset) -> Plan:
    return slc.plan(ds, **OPTIONS)


# --- the fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"block_centers": 1},
        {"block_centers": 1000},
        {"memory_limit": "2GB"},
        {"estimator": LinearSVC(max_iter=10_000, random_state=0)},  # what "svc" stands for
        {"engine": "svm"},  # what "auto" takes for it
        {
            "cv": [
                (np.flatnonzero(np.arange(24) // 8 != r), np.flatnonzero(np.arange(24) // 8 == r))
                for r in (0, 1, 2)
            ]
        },
        {"scoring": ["accuracy"]},
        {"radius_mm": np.float64(5.5)},
        {"min_voxels": np.int64(1)},
        {"center_spacing": (1, 1, 1)},
        {"n_voxels": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_does_not_decide_numbers_is_not_in_the_fingerprint(
    change: dict[str, Any], ds: xr.Dataset, plan: Plan
) -> None:
    other = slc.plan(ds, **{**OPTIONS, **change})
    assert other.fingerprint == plan.fingerprint
    assert other.differences(plan.identity) == []


def _another_run(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign_coords(run=("sample", ds["run"].values + 1))


CHANGES: dict[str, tuple[Any, dict[str, Any], list[str]]] = {
    "radius": (None, {"radius_mm": 5.4}, ["radius_mm"]),
    "estimator": (None, {"estimator": "logistic"}, ["engine", "estimator"]),
    "parameter": (None, {"estimator": LinearSVC(C=2, max_iter=10_000)}, ["estimator"]),
    "seed": (None, {"estimator": LinearSVC(max_iter=10_000, random_state=1)}, ["estimator"]),
    "folds": (None, {"cv": KFold(4)}, ["folds"]),
    "seed of the folds": (None, {"cv": ShuffleSplit(3, random_state=1)}, ["folds"]),
    "order of training samples": (
        None,
        {
            "cv": [
                (np.flatnonzero(np.arange(24) // 8 != r)[::-1], np.flatnonzero(np.arange(24) // 8 == r))
                for r in (0, 1, 2)
            ]
        },
        ["folds"],
    ),
    "metric": (None, {"scoring": "balanced_accuracy"}, ["metrics", "scoring"]),
    "metric of the same name": (
        None,
        {"scoring": {"accuracy": make_scorer(fbeta_score, beta=2, pos_label="face")}},
        ["scoring"],
    ),
    "own score": (None, {"scoring": None}, ["scoring"]),
    "process mask": (None, {"process_mask": np.indices((4, 5, 3))[0] > 1}, ["centers"]),
    "number of voxels": (None, {"n_voxels": 8}, ["n_voxels"]),
    "number of voxels alone": (None, {"n_voxels": 8, "radius_mm": None}, ["n_voxels", "radius_mm"]),
    "spacing": (None, {"center_spacing": 2}, ["center_spacing", "centers", "fill_mask"]),
    "standardize": (None, {"standardize": "run"}, ["standardize"]),
    "detrend": (None, {"detrend": True}, ["detrend"]),
    "nonfinite": (None, {"nonfinite": "zero"}, ["nonfinite"]),
    "min_voxels": (None, {"min_voxels": 3}, ["min_voxels"]),
    "groups": (
        lambda ds: ds.assign_coords(half=("sample", np.arange(24) // 12)),
        {"groups": "half"},
        ["folds", "groups"],
    ),
    "runs": (_another_run, {}, ["groups", "runs"]),
    "labels": (
        lambda ds: ds.assign_coords(condition=("sample", ["x", "y"] * 12)),
        {},
        ["classes"],
    ),
    "targets": (
        lambda ds: ds.assign_coords(condition=("sample", ["face", "house", "house", "face"] * 6)),
        {},
        ["targets"],
    ),
    "mask": (lambda ds: ds.assign(mask=ds["mask"] & (ds["x"] > 0)), {}, ["centers", "mask"]),
    "affine": (
        lambda ds: ds.assign_coords(affine=(ds["affine"].dims, OBLIQUE + np.diag([0.01, 0, 0, 0]))),
        {},
        ["affine"],
    ),
    "samples": (
        lambda ds: ds.isel(sample=slice(2, None)),
        {},
        ["chosen", "folds", "groups", "runs", "sample_index", "targets"],
    ),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
@pytest.mark.filterwarnings("ignore:.*centers lie outside the mask:UserWarning")
def test_what_decides_numbers_is_in_the_fingerprint(name: str, ds: xr.Dataset, plan: Plan) -> None:
    change, options, fields = CHANGES[name]
    other = slc.plan(change(ds) if change else ds, **{**OPTIONS, **options})
    assert other.fingerprint != plan.fingerprint
    assert other.differences(plan.identity) == fields
    assert plan.differences(other.identity) == fields


def test_the_store_is_in_the_fingerprint_by_content_and_not_by_path(ds: xr.Dataset, tmp_path: Path) -> None:
    one, moved = (slc.plan(open_store(write_array_store(ds, tmp_path / n)), **OPTIONS) for n in ("a", "b"))
    assert one.source_path != moved.source_path
    assert one.fingerprint == moved.fingerprint
    other = slc.plan(open_store(write_array_store(ds.assign(bold=ds["bold"] + 1), tmp_path / "c")), **OPTIONS)
    assert other.differences(one.identity) == ["store"]


def test_fields_that_older_results_lack_are_there_only_when_asked_for(plan: Plan) -> None:
    """Else no result begun before would go on."""
    assert not {"n_voxels", "center_spacing", "fill_mask"} & set(plan.identity)


def test_the_identity_is_json_that_comes_back_equal(plan: Plan) -> None:
    back = json.loads(json.dumps(plan.identity))
    assert plan.differences(back) == []
    assert re.fullmatch("[0-9a-f]{64}", plan.fingerprint)


def test_digests_of_arrays_know_values_shape_and_kind_but_not_layout() -> None:
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    same = [array.copy(order="F"), array.astype(">i8"), array[:, ::-1][:, ::-1]]
    other = [array.T, array.ravel(), array.astype(np.int32), array.astype(float), array + 1]
    assert {array_digest(a) for a in same} == {array_digest(array)}
    assert array_digest(array) not in {array_digest(a) for a in other}
    text = np.array(["a", "bc"])
    assert array_digest(text) == array_digest(text.astype(object)) == array_digest(text.astype("U9"))
    assert array_digest(np.array(["ab", "c"])) != array_digest(text)


# --- blocks


def test_blocks_hold_every_center_once(ds: xr.Dataset) -> None:
    plan = slc.plan(ds, block_centers=7, **OPTIONS)
    parts = [plan.block(i) for i in range(plan.n_blocks)]
    assert [len(part) for part in parts[:-1]] == [7] * (plan.n_blocks - 1)
    assert sorted(map(tuple, np.concatenate(parts))) == sorted(map(tuple, np.argwhere(ds["mask"].values)))
    by_center = dict(zip(map(tuple, plan.geometry.centers_ijk), plan.geometry.sphere_size, strict=True))
    whole = slc.plan(ds, block_centers=1000, **OPTIONS).geometry
    assert by_center == dict(zip(map(tuple, whole.centers_ijk), whole.sphere_size, strict=True))


def test_the_size_of_blocks_follows_their_cost_and_never_a_clock() -> None:
    many = 100_000
    small, large = np.full(many, 19), np.full(many, 150)
    sizes = [
        choose_block_centers(small, 216, 4, 1),
        choose_block_centers(large, 216, 4, 1),
        choose_block_centers(large, 216, 12, 1),
        choose_block_centers(large, 1000, 12, 1),
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4
    assert choose_block_centers(np.zeros(0, int), 10, 2, 1) == 1
    assert choose_block_centers(np.full(320, 19), 216, 4, 1) == 10, "a small analysis is cut into 32"
    assert choose_block_centers(np.full(5, 19), 10**9, 4, 1) == 1


# --- what it will cost


def test_projected_memory_grows_with_what_blocks_read(ds: xr.Dataset) -> None:
    def need(**options: Any) -> int:
        return slc.plan(ds, **{**OPTIONS, **options}).worker_bytes

    assert need(block_centers=1) < need(block_centers=8) < need(block_centers=1000)
    assert need(radius_mm=9.0) > need()
    assert need(standardize="run") > need()
    few = ds.isel(sample=slice(0, 16))
    assert slc.plan(few, block_centers=1000, **OPTIONS).worker_bytes < need(block_centers=1000)


def _large(nx: int = 30) -> xr.Dataset:
    """30 x 31 x 32 voxels and 120 samples that take no memory."""
    shape = (nx, 31, 32)
    bold = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (*shape, 120), (0,) * 4)
    return slc.subject_dataset(bold, affine=OBLIQUE, condition=["a", "b"] * 60, run=np.arange(120) // 30)


def test_blocks_shrink_to_fit_the_memory_limit() -> None:
    ds = _large()
    plan = slc.plan(ds, **OPTIONS)
    limit = plan.worker_bytes - 1_000_000
    smaller = slc.plan(ds, memory_limit=limit, **OPTIONS)
    assert smaller.worker_bytes <= limit
    assert smaller.block_centers < plan.block_centers
    assert smaller.fingerprint == plan.fingerprint
    assert slc.plan(ds, memory_limit=plan.worker_bytes, **OPTIONS).block_centers == plan.block_centers


def test_what_does_not_fit_is_refused() -> None:
    ds = _large(8)
    with pytest.raises(
        PlanError, match=r"needs about .* MB, memory_limit is 100 MB; select fewer samples, use a"
    ):
        slc.plan(ds, memory_limit="100MB", **OPTIONS)
    need = slc.plan(ds, block_centers=4000, **OPTIONS).worker_bytes
    with pytest.raises(PlanError, match=r"pass a smaller block_centers \(or none\), use a smaller radius_mm"):
        slc.plan(ds, memory_limit=need - 1, block_centers=4000, **OPTIONS)
    with pytest.raises(PlanError, match="use a smaller n_voxels"):
        slc.plan(ds, memory_limit="100MB", n_voxels=20)


def test_bytes_for_people() -> None:
    values = [12, 1234, 56_789_000, 2.5e9, 7e12]
    assert [format_bytes(n) for n in values] == ["12 B", "1.23 kB", "56.8 MB", "2.5 GB", "7e+03 GB"]


# --- printed


def test_it_prints_itself(ds: xr.Dataset) -> None:
    plan = slc.plan(ds, standardize="run", detrend=True, block_centers=7, **OPTIONS)
    text = str(plan)
    n = int(ds["mask"].sum())
    for said in (
        "Searchlight plan",
        f"4 x 5 x 3 voxels, {n} in the mask",
        f"{n} in {-(-n // 7)} blocks of 7",
        "5.5 mm: ",
        "halo 1 x 1 x 1 voxels",
        "24 (face 12, house 12)",
        "3, training on 16 samples, testing on 8",
        "LinearSVC(max_iter=10000, random_state=0)",
        "accuracy (chance 0.5)",
        "engine       svm",
        "detrend runs, z-score runs",
        "an array in memory or a changed Dataset",
        "a worker; result store about",
        plan.fingerprint[:16],
    ):
        assert said in text, said
    assert repr(plan) == text


def test_it_prints_what_spheres_and_centers_are(ds: xr.Dataset) -> None:
    n = int(ds["mask"].sum())
    both = slc.plan(ds, n_voxels=8, center_spacing=(1, 2, 2), **OPTIONS)
    assert "the 8 nearest voxels within 5.5 mm: " in str(both)
    assert f"; one of every 1 x 2 x 2 voxels, of {n}\n" in str(both)
    alone = slc.plan(ds, n_voxels=8, memory_limit="2GB")
    assert "the 8 nearest voxels: 8 to 8 voxels, median 8; halo" in str(alone)
    assert "one of every" not in str(alone)


def test_folds_of_unequal_size_and_regressions_print_too(ds: xr.Dataset) -> None:
    numbered = ds.assign_coords(rt=("sample", np.arange(24.0)))
    plan = slc.plan(numbered, estimator=Ridge(), target="rt", scoring="r2", cv=5, **OPTIONS)
    assert "5, training on 19 to 20 samples, testing on 4 to 5" in str(plan)
    assert "chance" not in str(plan)
    assert plan.summary()["samples"] == "24"
    assert plan.summary()["preparation"] == "none"


def test_it_shows_itself_in_notebooks_and_escapes_names(ds: xr.Dataset) -> None:
    plan = slc.plan(ds.assign_attrs(subject="<b>sub & 1</b>"), **OPTIONS)
    shown = plan._repr_html_()
    assert shown.startswith("<table>")
    assert "&lt;b&gt;sub &amp; 1&lt;/b&gt;" in shown
    assert "<b>" not in shown
    assert len(re.findall("<tr>", shown)) == len(plan.summary())
