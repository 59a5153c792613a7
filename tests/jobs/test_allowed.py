"""What a job file or a store may name, and where a job file may write."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from slcluster import estimators
from slcluster.cli import cli
from slcluster.errors import InputError
from slcluster.jobs import Job, build_object, load_job
from slcluster.jobs.paths import below, usable_path, usable_subject


def written(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(f"store: s.zarr\nradius_mm: 3\n{text}\n")
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of the user's own, which leaves a file where it is imported."""
    folder = tmp_path / "site" / "our_models"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "import pathlib, subprocess\nfrom subprocess import Popen\n"
        "pathlib.Path(__file__).with_name('imported').touch()\n"
    )
    (folder / "means.py").write_text(
        "from sklearn.base import BaseEstimator\nfrom sklearn.model_selection import KFold\n"
        "class Mean(BaseEstimator):\n    def __init__(self, strategy='mean'):\n        self.strategy = strategy\n"
        "    def fit(self, X, y):\n        return self\n"
        "class Halves(KFold):\n    pass\n"
    )
    monkeypatch.syspath_prepend(folder.parent)
    yield "our_models"
    for name in [name for name in sys.modules if name.partition(".")[0] == "our_models"]:
        del sys.modules[name]


# --- classes


def test_the_user_lets_a_package_be_imported(package: str, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "estimator: {class: our_models.means.Mean, params: {strategy: prior}}\n"
        "cv: {class: our_models.means.Halves, params: {n_splits: 2}}",
    )
    mark = tmp_path / "site" / package / "imported"
    with pytest.raises(InputError, match=r"job.yaml:3: .*if you trust its code.*--allow-import our_models"):
        load_job(path)
    assert not mark.exists(), "refused, and yet imported"
    arguments = load_job(path, allow_import=[package]).plan_arguments()
    assert [type(arguments[name]).__name__ for name in ("estimator", "cv")] == ["Mean", "Halves"]
    assert mark.exists()


def test_a_file_cannot_allow_itself_anything(package: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"allow_import: [{package}]\nestimator: {{class: our_models.means.Mean}}")
    with pytest.raises(InputError, match="unknown key 'allow_import'"):
        load_job(path)
    assert "allow_import" not in Job.model_json_schema()["properties"]
    assert not (tmp_path / "site" / package / "imported").exists()


def test_an_allowed_package_opens_no_other(package: str, tmp_path: Path) -> None:
    for name in ("our_models.Popen", "our_models.subprocess.Popen", "our_models_2.Mean", "subprocess.Popen"):
        with pytest.raises(InputError):
            load_job(written(tmp_path, f"estimator: {{class: {name}, params: {{}}}}"), allow_import=[package])


def test_allow_import_on_the_command_line(package: str, tmp_path: Path) -> None:
    path = written(tmp_path, "estimator: {class: our_models.means.Mean}")
    refused = CliRunner().invoke(cli, ["plan", str(path)])
    assert refused.exit_code == 2
    allowed = CliRunner().invoke(cli, ["plan", str(path), "--allow-import", package])
    assert "no store at" in allowed.stderr, "it went on to the next mistake"


#: They delete folders, fetch from the network, run what they are given, load pickles, or are private.
HARMFUL = [
    ("sklearn.datasets.clear_data_home", {"data_home": "HERE"}),
    ("sklearn.datasets.fetch_openml", {"name": "iris"}),
    ("sklearn.utils.Bunch", {}),
    ("sklearn.externals.array_api_compat.numpy.ndarray", {}),
    ("sklearn.svm._classes.os", {}),
    ("sklearn.pipeline.Memory", {"location": "HERE"}),
    ("sklearn.utils._joblib.joblib", {}),
    ("sklearn.model_selection.train_test_split", {}),
    ("sklearn.preprocessing.FunctionTransformer.fit", {}),
    ("slcluster.estimators.measures.Mapping", {}),
    ("builtins.exec", {}),
]


@pytest.mark.parametrize(
    ("name", "params"), HARMFUL, ids=lambda value: value if isinstance(value, str) else ""
)
def test_neither_job_files_nor_stores_name_what_does_more_than_compute(
    name: str, params: dict[str, Any], tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    params = {key: str(precious) if value == "HERE" else value for key, value in params.items()}
    job = written(tmp_path, f"estimator: {{class: {name}, params: {params}}}")
    with pytest.raises(InputError):
        load_job(job)
    with pytest.raises((InputError, AttributeError)):
        estimators.rebuild({"class": name, "params": params})
    assert list(tmp_path.iterdir()) == [job, precious] or list(tmp_path.iterdir()) == [precious, job]
    assert not list(precious.iterdir())


def test_no_folder_of_pickled_steps(tmp_path: Path) -> None:
    params = {"steps": [["svm", {"class": "sklearn.svm.LinearSVC"}]], "memory": str(tmp_path / "cache")}
    with pytest.raises(
        InputError, match=r"Pipeline: a file must not name a folder of cached steps \(memory\)"
    ):
        load_job(written(tmp_path, f"estimator: {{class: sklearn.pipeline.Pipeline, params: {params}}}"))
    with pytest.raises(InputError, match="must not name a folder of cached steps"):
        estimators.rebuild({"class": "sklearn.pipeline.Pipeline", "params": params})


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        ("GridSearchCV", "param_grid", {"memory": ["HERE"]}),
        ("GridSearchCV", "param_grid", [{"svm__C": [1]}, {"steps__memory": ["HERE"]}]),
        ("RandomizedSearchCV", "param_distributions", {"memory": ["HERE"]}),
    ],
)
def test_no_folder_of_pickled_steps_through_a_search(
    kind: str, name: str, values: Any, tmp_path: Path
) -> None:
    pipeline = {
        "class": "sklearn.pipeline.Pipeline",
        "params": {"steps": [["svm", {"class": "sklearn.svm.SVC"}]]},
    }
    search = {"class": f"sklearn.model_selection.{kind}", "params": {"estimator": pipeline, name: values}}
    with pytest.raises(InputError, match="must not name a folder of cached steps"):
        load_job(written(tmp_path, f"estimator: {search}"))
    with pytest.raises(InputError, match="must not name a folder of cached steps"):
        estimators.rebuild(search)
    as_kept = {**search, "params": {**search["params"], name: {"items": [["memory", ["HERE"]]]}}}
    with pytest.raises(InputError, match="must not name a folder of cached steps"):
        estimators.rebuild(as_kept)


# --- paths

TRAPS = ["../x", "/abs", "a/b", "a\0b", "x" * 300, "", ".", "..", ".hidden", "-rf", "sub\n01", "süß"]


@pytest.mark.parametrize("name", TRAPS)
def test_names_that_no_subject_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot name a file"):
        usable_subject(name)
    path = tmp_path / "job.yaml"
    path.write_text(
        'store: s.zarr\nradius_mm: 3\nsubject: "{}"\n'.format(name.encode("unicode_escape").decode())
    )
    with pytest.raises(InputError, match=r"job.yaml:3: "):
        load_job(path)


def test_names_that_subjects_have() -> None:
    for name in ("sub-01", "01", "zarr.json", "S_1.x"):
        assert usable_subject(name) == name


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "sub-01.zarr").symlink_to(elsewhere)
    (out / "sub-02.zarr").symlink_to(out / "sub-03.zarr")
    with pytest.raises(InputError, match=r"sub-01.zarr leads out of .*out, to .*elsewhere; remove the link"):
        below(out, "sub-01.zarr")
    assert below(out, "sub-02.zarr") == out / "sub-02.zarr"
    (tmp_path / "linked").symlink_to(out)
    assert below(tmp_path / "linked", "sub-04.zarr").parent.name == "linked"


@pytest.mark.parametrize("key", ["store", "mask", "out", "export", "process_mask"])
def test_paths_that_no_file_system_has(key: str, tmp_path: Path) -> None:
    for path, message in (
        (r"a\0b", "holds a control character"),
        (r"a\nb", "holds a control character"),
        ("x" * 300, "longer than 255 bytes"),
    ):
        text = f'store: s.zarr\nradius_mm: 3\n{key}: "{path}"\n'
        job = tmp_path / "job.yaml"
        job.write_text(text.partition("\n")[2] if key == "store" else text)
        with pytest.raises(InputError, match=message):
            load_job(job)


@pytest.mark.parametrize("key", ["out", "export", "store"])
@pytest.mark.parametrize(
    "path", ["../x.zarr", "/nowhere/x.zarr", "~/x.zarr", "link/x.zarr", "a/../../x.zarr"]
)
def test_a_job_file_writes_beside_itself(key: str, path: str, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    text = f"bold: ../bold.nii\nstore: s.zarr\nradius_mm: 3\n{key}: {path}\n"
    job = folder / "job.yaml"
    job.write_text(text.replace("store: s.zarr\n", "") if key == "store" else text)
    with pytest.raises(InputError, match=rf"job.yaml:\d: {key}: .*x.zarr leads out of .*jobs, to ") as caught:
        load_job(job)
    assert ("slcluster ingest" if key == "store" else f"--{key} ") in str(caught.value)
    changes = {key: [tmp_path / "y"] if key == "store" else tmp_path / "y"}
    load_job(job, **changes)  # the user's own word


def test_what_is_only_read_may_lie_anywhere(tmp_path: Path) -> None:
    job = load_job(
        written(tmp_path, "mask: ../mask.nii\nprocess_mask: /data/slices.nii\nout: results/a.zarr")
    )
    assert job.process_mask == Path("/data/slices.nii")
    assert usable_path(tmp_path) == tmp_path


def test_a_condition_may_be_called_memory() -> None:
    weights = {"memory": 2.0, "rest": 1.0}
    made = build_object({"class": "sklearn.svm.SVC", "params": {"class_weight": weights}})
    assert made.class_weight == weights


def test_names_of_files_need_not_be_text() -> None:
    for name in ("caf\udce9.nii", "a\u00a0b.nii"):
        assert usable_path(Path(name)) == Path(name)
