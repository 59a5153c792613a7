"""Job files: what they say, where their paths start, and their mistakes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from sklearn.model_selection import KFold
from sklearn.svm import SVC

from slcluster.cluster import connect
from slcluster.errors import InputError
from slcluster.ingest import ingest
from slcluster.jobs import AnalysisOptions, ClusterOptions, IngestOptions, Job, SelectOptions, load_job
from slcluster.planner import plan
from slcluster.store import select


def written(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("options", "function", "elsewhere"),
    [
        (IngestOptions, ingest, {"store", "overwrite", "progress"}),
        (SelectOptions, select, {"ds", "where"}),
        (AnalysisOptions, plan, {"ds"}),
        (ClusterOptions, connect, set()),
    ],
)
def test_names_and_defaults_are_the_functions(options: Any, function: Any, elsewhere: set[str]) -> None:
    parameters = {k: p for k, p in inspect.signature(function).parameters.items() if k not in elsewhere}
    assert set(options.model_fields) == set(parameters)
    for name, field in options.model_fields.items():
        # Some functions have no default where a command needs one: mask, which None makes them look for.
        if parameters[name].default is not inspect.Parameter.empty:
            assert field.default == parameters[name].default, name


def test_every_field_is_described() -> None:
    assert all(field.description for field in Job.model_fields.values())


def test_a_whole_job(tmp_path: Path) -> None:
    job = load_job(
        written(
            tmp_path,
            "bold: [run-1.nii.gz, /data/run-2.nii.gz]\nmask: ~/mask.nii.gz\nevents: [a.tsv, b.tsv]\ntr: 2.5\nshift_s: 5\n"
            "subject: '01'\nstore: sub-01.zarr\nconditions: [face, house]\nruns: 3\nradius_mm: 5.6\n"
            "estimator: {class: sklearn.svm.SVC, params: {kernel: linear, tol: 1e-5}}\n"
            "cv: {class: KFold, params: {n_splits: 4}}\nscoring: [accuracy, roc_auc]\nstandardize: run\n"
            "process_mask: ../slices.nii\nout: out.zarr\ncluster: slurm.yaml\nworkers: 4\nmemory: 2GB\n",
        )
    )
    assert job.store == [tmp_path / "sub-01.zarr"]
    assert job.cluster == str(tmp_path / "slurm.yaml")
    assert job.ingest_arguments() == {
        "bold": [tmp_path / "run-1.nii.gz", Path("/data/run-2.nii.gz")],
        "mask": Path.home() / "mask.nii.gz",
        "labels": None,
        "events": [tmp_path / "a.tsv", tmp_path / "b.tsv"],
        "label_column": None,
        "run_column": None,
        "tr": 2.5,
        "shift_s": 5.0,
        "subject": "01",
        "memory_budget": "512MB",
    }
    assert job.select_arguments() == {"conditions": ["face", "house"], "runs": [3]}
    arguments = job.plan_arguments()
    estimator, cv = arguments.pop("estimator"), arguments.pop("cv")
    assert isinstance(estimator, SVC)
    assert (estimator.kernel, estimator.tol) == ("linear", 1e-5)
    assert isinstance(cv, KFold)
    assert cv.n_splits == 4
    assert arguments == {
        "radius_mm": 5.6,
        "n_voxels": None,
        "center_spacing": 1,
        "groups": "run",
        "target": "condition",
        "train_on": None,
        "test_on": None,
        "sample_weight": None,
        "scoring": ["accuracy", "roc_auc"],
        "process_mask": tmp_path / ".." / "slices.nii",
        "standardize": "run",
        "detrend": False,
        "nonfinite": "error",
        "min_voxels": 1,
        "engine": "auto",
        "block_centers": None,
        "memory_limit": "2GB",  # what a worker has
    }
    assert job.connect_arguments() == {
        "cluster": str(tmp_path / "slurm.yaml"),
        "workers": 4,
        "threads": None,
        "memory": "2GB",
        "credentials": None,
    }


def test_one_file_is_passed_on_as_one(tmp_path: Path) -> None:
    job = load_job(written(tmp_path, "bold: a.nii\nevents: e.tsv\nstore: s.zarr\nradius_mm: 3\n"))
    assert job.ingest_arguments()["bold"] == tmp_path / "a.nii"
    assert job.ingest_arguments()["events"] == tmp_path / "e.tsv"


def test_changes_win_and_their_paths_start_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    path = written(folder, "store: s.zarr\nradius_mm: 3\nout: a.zarr\ncv: 3\n")
    monkeypatch.chdir(tmp_path)
    job = load_job(path, out="b.zarr", radius_mm="4", store=["x.zarr", "y.zarr"])
    assert (job.out, job.radius_mm, job.cv) == (tmp_path / "b.zarr", 4.0, 3)
    assert job.store == [tmp_path / "x.zarr", tmp_path / "y.zarr"]
    assert load_job(path, cluster="slurm.yaml").cluster == str(tmp_path / "slurm.yaml")
    for cluster in ("slurm", "tcp://127.0.0.1:8786"):
        assert load_job(path, cluster=cluster).cluster == cluster


@pytest.mark.parametrize(
    ("text", "expected"), [("3", 3), ("[2, 2, 1]", (2, 2, 1)), ("2,2,1", (2, 2, 1)), ("'4'", 4)]
)
def test_the_spacing_of_centers(text: str, expected: Any, tmp_path: Path) -> None:
    job = load_job(written(tmp_path, f"store: s.zarr\nn_voxels: 100\ncenter_spacing: {text}\n"))
    assert job.plan_arguments()["center_spacing"] == expected
    assert (job.n_voxels, job.radius_mm) == (100, None)


def test_leave_one_run_out_by_its_name(tmp_path: Path) -> None:
    job = load_job(
        written(tmp_path, "store: s.zarr\nradius_mm: 3\ncv: leave-one-run-out\ngroups: null\nscoring: null\n")
    )
    assert (job.groups, job.scoring) == (None, None)
    assert repr(job.plan_arguments()["cv"]) == "LeaveOneGroupOut()"


def test_a_pipeline(tmp_path: Path) -> None:
    job = load_job(
        written(
            tmp_path,
            """
store: s.zarr
radius_mm: 3
estimator:
  class: sklearn.pipeline.Pipeline
  params:
    steps:
      - [scale, {class: sklearn.preprocessing.StandardScaler}]
      - [svm, {class: sklearn.svm.LinearSVC, params: {C: 0.5, random_state: 0}}]
""",
        )
    )
    pipeline = job.plan_arguments()["estimator"]
    assert [name for name, _ in pipeline.steps] == ["scale", "svm"]
    assert pipeline.named_steps["svm"].C == 0.5
    pipeline.fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("radius: 5", r"job.yaml:3: unknown key 'radius': did you mean 'radius_mm'"),
        ("estimator: svm", r"job.yaml:3: estimator: unknown estimator 'svm'; did you mean 'svr' or 'svc'"),
        (
            "estimator: {class: os.system}",
            r"job.yaml:3: estimator: 'os.system' is not a class of scikit-learn",
        ),
        ("estimator: {class: SVC}", r"'SVC' is not a class of scikit-learn; write it with its module"),
        (
            "estimator: {class: sklearn.svm.SVV}",
            r"sklearn.svm has no class 'SVV'; did you mean 'SVR' or 'SVC'",
        ),
        ("estimator: {class: sklearn.sfm.SVC}", r"sklearn.sfm is not one of scikit-learn's modules of"),
        ("estimator: {class: sklearn.utils.os}", r"sklearn.utils is not one of scikit-learn's modules"),
        ("estimator: {class: sklearn.svm.np}", r"sklearn.svm has no class 'np'"),
        ("estimator: {class: sklearn.model_selection.KFold}", r"KFold is not an estimator: it has no fit"),
        (
            "estimator: {class: sklearn.svm.SVC, params: {c: 1}}",
            r"SVC has no parameter 'c'; known: C, ",
        ),
        ("estimator: {class: sklearn.svm.SVC, params: {C: -1}}", r"'C' parameter of SVC must be a float"),
        (
            "estimator: {class: sklearn.svm.SVC, parms: {C: 1}}",
            r"unknown key 'parms' beside class and params",
        ),
        ("estimator: {class: sklearn.svm.SVC, params: [1]}", r"params of SVC must be a mapping, got \[1\]"),
        ("estimator: [svc]", r"expected a name or \{class: sklearn..., params: \{...\}\}, got \['svc'\]"),
        ("cv: looro", r"job.yaml:3: cv: expected leave-one-run-out, a number of folds or a class"),
        ("cv: true", r"job.yaml:3: cv: expected"),
        (
            "cv: {class: KFold, params: {n_splits: 1}}",
            r"KFold: k-fold cross-validation requires at least one",
        ),
        (
            "cv: {class: KFold, params: {n_split: 4}}",
            r"KFold has no parameter 'n_split'; did you mean 'n_splits'",
        ),
        ("cv: {class: KFolds}", r"sklearn.model_selection has no class 'KFolds'; did you mean 'KFold'"),
        ("cv: {class: sklearn.svm.SVC}", r"SVC is not a splitter: it has no split method"),
        ("scoring: acuracy", r"job.yaml:3: scoring: unknown scorer 'acuracy'; did you mean 'accuracy'"),
        (
            "conditions: [face, 8]",
            r"job.yaml:3: conditions.1 must be text, got the number 8; put quotes around it",
        ),
        ("runs: first", r"job.yaml:3: runs.0 must be a whole number, got 'first'"),
        ("standardize: all", r"job.yaml:3: standardize must be 'run' or 'fold', got 'all'"),
        ("tr: 0", r"job.yaml:3: tr must be greater than 0, got 0"),
        ("memory: big", r"job.yaml:3: memory: expected a size"),
        ("n_voxels: 0", r"job.yaml:3: n_voxels must be greater than 0, got 0"),
        ("n_voxels: 7.5", r"job.yaml:3: n_voxels must be a whole number, got 7.5"),
        ("center_spacing: [2, 2]", r"job.yaml:3: center_spacing"),
        ("center_spacing: 0", r"job.yaml:3: center_spacing must be greater than 0, got 0"),
        ("center_spacing: wide", r"job.yaml:3: center_spacing must be a whole number, got 'wide'"),
        ("nonfinite: skip", r"job.yaml:3: nonfinite must be 'error', 'zero' or 'exclude', got 'skip'"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_job(written(tmp_path, f"store: s.zarr\nradius_mm: 3\n{line}\n"))
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"job.yaml: radius_mm is missing: radius of the spheres in mm"):
        load_job(written(tmp_path, "store: s.zarr\n"))
