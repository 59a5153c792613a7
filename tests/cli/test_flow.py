"""Commands that work: from files to maps, by flags and by job file, and what they leave."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import dask
import nibabel as nib
import numpy as np
import pytest
import yaml
from distributed import LocalCluster

import slcluster as slc
from slcluster.cluster import make_cluster
from slcluster.progress import Step
from slcluster.store import write_array_store
from tests.cli.conftest import Invoke, called

ANALYSIS = ["--conditions", "face,house", "--radius-mm", "4.2", "--cv", "2"]


@pytest.fixture(scope="module")
def expected(ready_store: Path) -> slc.searchlight:
    """The maps that the library gives."""
    ds = slc.select(slc.open_store(ready_store), conditions=["face", "house"])
    return slc.searchlight(ds, radius_mm=4.2, cv=2).compute()


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a scheduler that runs already."""
    # No client in this process: it would be the active one, and what tests compute here would go to it.
    with make_cluster("local", workers=1) as cluster:
        yield cluster.scheduler_address


def test_ingest(files: dict[str, Path], tmp_path: Path, invoke: Invoke) -> None:
    words = [
        "ingest",
        files["bold"],
        tmp_path / "s.zarr",
        "--mask",
        files["mask"],
        "--labels",
        files["labels"],
    ]
    result = invoke(*words, "--subject", "sub-07")
    assert result.exit_code == 0
    assert result.stdout.startswith("sub-07: 9 x 10 x 11 voxels, ")
    assert "144 samples in 4 runs; conditions: face, house, rest; " in result.stdout
    assert slc.open_store(tmp_path / "s.zarr").attrs["subject"] == "sub-07"
    again = invoke(*words)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "exists" in again.stderr
    assert invoke(*words, "--overwrite").exit_code == 0
    assert slc.open_store(tmp_path / "s.zarr").attrs["subject"] != "sub-07"


def test_several_runs_and_their_events(files: dict[str, Path], tmp_path: Path, invoke: Invoke) -> None:
    image = nib.load(files["bold"])
    for run in range(2):
        part = image.slicer[..., 36 * run : 36 * (run + 1)]
        nib.save(part, tmp_path / f"run-{run}.nii")
        (tmp_path / f"run-{run}.tsv").write_text("onset\tduration\ttrial_type\n10\t20\tface\n40\t20\thouse\n")
    runs = [tmp_path / "run-0.nii", tmp_path / "run-1.nii"]
    events = ["--events", tmp_path / "run-0.tsv", "--events", tmp_path / "run-1.tsv"]
    result = invoke(
        "ingest", *runs, tmp_path / "s.zarr", "--mask", files["mask"], *events, "--tr", 2, "--shift-s", 4
    )
    assert result.exit_code == 0
    ds = slc.open_store(tmp_path / "s.zarr")
    assert ds.condition.values[:8].tolist() == ["rest"] * 7 + ["face"]  # 14 s - 4 s of delay = onset
    assert np.bincount(ds.run.values - ds.run.values.min()).tolist() == [36, 36]


def test_plan_computes_nothing(store: Path, tmp_path: Path, invoke: Invoke) -> None:
    result = invoke("plan", store, *ANALYSIS)
    assert result.exit_code == 0
    assert result.stdout.startswith("Searchlight plan\n  subject      sub-03\n")
    assert [path.name for path in tmp_path.iterdir()] == ["sub-03.zarr"]
    tight = invoke("plan", store, *ANALYSIS, "--memory-limit", "1MB")
    assert tight.exit_code == 2
    assert "memory_limit is 1 MB" in tight.stderr


def test_searchlight_status_export(store: Path, tmp_path: Path, invoke: Invoke, expected: object) -> None:
    result = invoke("searchlight", store, *ANALYSIS, "--out", "out.zarr", "--workers", 1)
    assert result.exit_code == 0
    assert result.stdout.startswith("sub-03: ")
    assert result.stdout.endswith("; out.zarr\n")
    assert result.stdout.count("\n") == 1
    assert "1 worker ready; dashboard http://127.0.0.1:" in result.stderr
    assert slc.open_result("out.zarr").drop_attrs().identical(expected.drop_attrs())
    n_blocks = slc.status("out.zarr").n_blocks
    assert f"sub-03: finished, {n_blocks} of {n_blocks} blocks done" in invoke("status", "out.zarr").stdout
    once_more = invoke("resume", "out.zarr")
    assert (once_more.stdout, once_more.stderr) == (result.stdout, "")  # nothing to do, no cluster
    maps = invoke("export", "out.zarr", "maps", "--background", "0", "--folds")
    assert maps.exit_code == 0
    assert maps.stdout.split() == [
        f"maps/sub-03_{name}.nii.gz" for name in ("score", "score_fold", "sphere_size")
    ]
    _check_maps(tmp_path / "maps", expected, store)


def test_every_second_voxel_and_the_nearest_voxels(
    store: Path, tmp_path: Path, invoke: Invoke, scheduler: str
) -> None:
    size = ["--conditions", "face,house", "--cv", "2", "--n-voxels", 20]
    spacing = ["--center-spacing", "2,2,1"]
    planned = invoke("plan", store, *size, *spacing).stdout
    assert "the 20 nearest voxels: 20 to 20 voxels" in planned
    assert "one of every 2 x 2 x 1 voxels" in planned
    words = ["searchlight", store, *size, "--out", "out.zarr", "--cluster", scheduler, "--quiet"]
    assert invoke(*words, *spacing).exit_code == 0
    ds = slc.select(slc.open_store(store), conditions=["face", "house"])
    expected = slc.searchlight(ds, n_voxels=20, cv=2, center_spacing=(2, 2, 1)).compute()
    assert slc.open_result("out.zarr").drop_attrs().identical(expected.drop_attrs())
    changed = invoke(*words, "--center-spacing", 2)
    assert (changed.exit_code, changed.stdout) == (2, "")
    assert "it differs in: center_spacing, centers;" in changed.stderr
    assert invoke("export", "out.zarr", "maps", "--fill", "linear").stdout.split() == [
        f"maps/sub-03_{name}.nii.gz" for name in ("score", "sphere_size", "is_center")
    ]
    filled = slc.fill_centers(expected, method="linear")["score"].values
    np.testing.assert_array_equal(nib.load("maps/sub-03_score.nii.gz").get_fdata(), filled.astype("f4"))
    about = json.loads((tmp_path / "maps" / "sub-03_score.json").read_text())
    assert (about["filled"], about["n_voxels"], about["center_spacing"]) == ("linear", 20, [2, 2, 1])
    assert "radius_mm" not in about
    assert invoke("export", "out.zarr", "bare").exit_code == 0
    bare = nib.load("bare/sub-03_score.nii.gz").get_fdata()
    np.testing.assert_array_equal(bare, expected["score"].values.astype("f4"))


def test_an_unfinished_result(store: Path, invoke: Invoke, expected: object, scheduler: str) -> None:
    def stop(step: Step) -> None:
        if step.done == 3:
            raise KeyboardInterrupt

    ds = slc.select(slc.open_store(store), conditions=["face", "house"])
    with pytest.raises(KeyboardInterrupt), dask.config.set(scheduler="synchronous"):
        slc.searchlight(ds, radius_mm=4.2, cv=2, out="out.zarr", progress=stop)
    n_done, n_blocks = slc.status("out.zarr").n_done, slc.status("out.zarr").n_blocks
    assert 3 <= n_done < n_blocks
    assert f": interrupted, {n_done} of {n_blocks} blocks done" in invoke("status", "out.zarr").stdout
    listed = invoke("status", ".", "--json")  # of the folder's stores, the result
    assert listed.exit_code == 0
    (line,) = listed.stdout.splitlines()
    assert json.loads(line)["n_done"] >= n_done
    part = invoke("export", "out.zarr", "part")
    assert re.fullmatch(rf"slcluster: warning: \d+ of {n_blocks} blocks are done\n", part.stderr)
    assert np.isfinite(nib.load("part/sub-03_score.nii.gz").get_fdata()).any()
    resumed = invoke("resume", "out.zarr", "--cluster", scheduler, "--quiet")
    assert (resumed.exit_code, resumed.stderr) == (0, "")
    assert slc.open_result("out.zarr").drop_attrs().identical(expected.drop_attrs())


def _check_maps(folder: Path, expected: slc.searchlight, store: Path) -> None:
    score = nib.load(folder / "sub-03_score.nii.gz")
    np.testing.assert_array_equal(score.get_fdata(), np.nan_to_num(expected.score.values.astype("f4")))
    np.testing.assert_allclose(score.affine, slc.open_store(store)["affine"].values, atol=1e-5)
    folds = nib.load(folder / "sub-03_score_fold.nii.gz")
    assert folds.shape == (9, 10, 11, 2)
    about = json.loads((folder / "sub-03_score.json").read_text())
    assert about["file"] == "sub-03_score.nii.gz"
    assert about["chance"] == 0.5
    assert about["class_counts"] == {"face": 36, "house": 36}
    assert about["identity"]["radius_mm"] == 4.2
    assert about["identity"]["store"] == slc.store.subject_digest(store)
    assert about["fingerprint"] == slc.open_result("out.zarr").attrs["fingerprint"]
    assert {"slcluster", "numpy", "scikit-learn", "dask", "zarr"} <= set(about["versions"])


def test_a_job_file_says_the_same_and_flags_win(
    files: dict[str, Path],
    tmp_path: Path,
    invoke: Invoke,
    expected: object,
    scheduler: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "study"
    shutil.copytree(files["bold"].parent, folder / "files")
    job = {
        "bold": "files/bold.nii.gz",
        "mask": "files/mask.nii.gz",
        "labels": "files/labels.txt",
        "subject": "sub-03",
        "store": "sub-03.zarr",
        "conditions": ["face", "house"],
        "radius_mm": 9.9,
        "cv": 2,
        "scoring": ["accuracy", "roc_auc"],
        "out": "out.zarr",
        "export": "maps",
        "cluster": scheduler,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    monkeypatch.chdir(tmp_path)
    assert (
        "study/sub-03.zarr would be written from"
        in invoke("searchlight", "study/job.yaml", "--dry-run").stdout
    )
    assert not (folder / "sub-03.zarr").exists()
    result = invoke("searchlight", "study/job.yaml", "--radius-mm", "4.2")
    assert result.exit_code == 0
    assert "accuracy mean 0." in result.stdout
    assert "; roc_auc mean 0." in result.stdout
    opened = slc.open_result(folder / "out.zarr")
    np.testing.assert_array_equal(opened.score.sel(metric="accuracy").values, expected.score.values)
    names = {path.name for path in (folder / "maps").iterdir()}
    assert {
        f"sub-03_score-{metric}.{end}" for metric in job["scoring"] for end in ("nii.gz", "json")
    } <= names
    # The store is there now: files are not read again, which a removed file shows.
    shutil.rmtree(folder / "files")
    plan = invoke("plan", "study/job.yaml")
    assert plan.exit_code == 0
    assert "reads        " + str(folder / "sub-03.zarr") in plan.stdout
    changed = invoke("searchlight", "study/job.yaml", "--radius-mm", "4.3")
    assert changed.exit_code == 2
    assert "holds another analysis; it differs in: radius_mm" in changed.stderr


def test_several_subjects_each_with_a_result(
    store: Path, tmp_path: Path, invoke: Invoke, scheduler: str
) -> None:
    ds = slc.open_store(store).compute()
    ds.attrs["subject"] = "sub-04"
    write_array_store(ds.isel(sample=slice(None, 72)), tmp_path / "other.zarr")
    words = [
        "searchlight",
        store,
        "other.zarr",
        "--conditions",
        "face,house",
        "--radius-mm",
        3.4,
        "--cluster",
        scheduler,
    ]
    result = invoke(*words, "--out", "results", "--export", "maps")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "results").glob("sub*")) == ["sub-03.zarr", "sub-04.zarr"]
    assert (tmp_path / "maps" / "sub-04" / "sub-04_score.nii.gz").is_file()
    assert invoke("status", "results").stdout.count(": finished, ") == 2
    twice = invoke("searchlight", store, store, "--radius-mm", 3.4, "--out", "twice")
    assert twice.exit_code == 2
    assert "2 stores are of subject 'sub-03'; each needs a name of its own" in twice.stderr
    assert not (tmp_path / "twice").exists()
    files = invoke(*words, "--bold", "bold.nii", "--out", "results")
    assert "--bold is of one subject, but there are 2 stores" in files.stderr


def test_one_subject_that_fails_does_not_stop_the_others(
    store: Path, tmp_path: Path, invoke: Invoke, scheduler: str
) -> None:
    ds = slc.open_store(store).compute()
    ds.attrs["subject"] = "sub-04"
    write_array_store(ds, tmp_path / "other.zarr")
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "sub-03.zarr").write_text("in the way")
    result = invoke(
        "searchlight", store, "other.zarr", *ANALYSIS, "--out", "results", "--cluster", scheduler, "--quiet"
    )
    assert result.exit_code == 1
    assert result.stdout.startswith("sub-04: ")
    told = result.stderr.splitlines()
    assert told[0].startswith("slcluster: sub-03: ")
    assert told[1:] == ["slcluster: error: 1 of 2 subjects failed: sub-03"]


def test_a_subject_that_cannot_name_a_file_is_refused(store: Path, tmp_path: Path, invoke: Invoke) -> None:
    ds = slc.open_store(store).compute()
    ds.attrs["subject"] = "../sub-04"
    write_array_store(ds, tmp_path / "other.zarr")
    result = invoke("searchlight", store, "other.zarr", *ANALYSIS, "--out", "results")
    assert result.exit_code == 2
    assert "subject '../sub-04' cannot name a file" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--conditions", "face,hause"], "hause"),
        (["--conditions", "face"], "only one class"),
        (["--conditions", "face,house", "--runs", "0"], "there is only one"),
        (["--conditions", "face,house", "--radius-mm", "nan"], "radius"),
        (["--conditions", "face,house", "--radius-mm", "-1"], "radius"),
        (["--conditions", "face,house", "--process-mask", "gone.nii"], "gone.nii"),
        (["--conditions", "face,house", "--center-spacing", "50,1,20"], "leaves no center"),
        (["--conditions", "face,house", "--engine", "warp"], "unknown engine 'warp'"),
        (["--conditions", "face,house", "--groups", "chunk"], "groups='chunk' is not a column"),
        (["--conditions", "face,house", "--target", "stimulus"], "target='stimulus' is not a column"),
    ],
)
def test_a_design_that_cannot_be_is_told_before_a_cluster_starts(
    words: list[str], message: str, store: Path, tmp_path: Path, invoke: Invoke
) -> None:
    result = invoke(
        "searchlight",
        store,
        "--radius-mm",
        "4.2",
        *words,
        "--out",
        "out.zarr",
        "--cluster",
        "tcp://127.0.0.1:9",
    )
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out.zarr").exists()


def test_blocks_that_fail_on_workers_are_told_in_a_line_each(store: Path, tmp_path: Path) -> None:
    estimator = "{class: sklearn.neighbors.KNeighborsClassifier, params: {n_neighbors: 1000}}"
    words = ("--radius-mm", 4.2, "--block-centers", 40, "--out", "knn.zarr", "--workers", 1)
    done = called(
        "searchlight", store, "--conditions", "face,house", "--estimator", estimator, *words, cwd=tmp_path
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert not [line for line in lines if "distributed" in line or line.startswith(("Traceback", " "))]
    assert sum("given up" in line for line in lines) > 2
    assert "blocks failed" in lines[-1]


def test_where_nothing_can_be_written(store: Path, invoke: Invoke, scheduler: str) -> None:
    result = invoke(
        "searchlight", store, *ANALYSIS, "--out", "/dev/null/out.zarr", "--cluster", scheduler, "--quiet"
    )
    assert result.exit_code == 1
    assert result.stderr.startswith("slcluster: error: ")
    assert "/dev/null/out.zarr" in result.stderr
    assert result.stderr.count("\n") == 1


def test_workers_that_do_not_see_the_store(store: Path, tmp_path: Path, invoke: Invoke) -> None:
    """Workers of a machine without our disk, as far as they can tell."""
    blind = "import genericpath\ngenericpath.exists = lambda path: False"
    options = {"n_workers": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "preload": [blind]}
    with LocalCluster(**options) as cluster:
        address = cluster.scheduler_address
        result = invoke("searchlight", store, *ANALYSIS, "--out", "out.zarr", "--cluster", address, "--quiet")
    assert result.exit_code == 1
    assert re.fullmatch(
        rf"slcluster: error: worker tcp://[0-9.:]+ does not see {tmp_path}/sub-03.zarr; put it on a file system "
        r"that all nodes share\n",
        result.stderr,
    )
    assert not Path("out.zarr").exists()


def test_fscore(store: Path, tmp_path: Path, invoke: Invoke, scheduler: str) -> None:
    result = invoke("fscore", store, "--conditions", "face,house", "--out", "f")
    assert result.exit_code == 0
    maps = slc.f_score(slc.select(slc.open_store(store), conditions=["face", "house"])).compute()
    written = nib.load("f/sub-03_F.nii.gz").get_fdata()
    np.testing.assert_array_equal(written, maps["F"].values.astype("f4"))
    about = json.loads(Path("f/sub-03_F.json").read_text())
    assert about["class_counts"] == {"face": 36, "house": 36}
    assert about["store_digest"] == slc.store.subject_digest(store)
    shutil.rmtree("f")
    assert (
        invoke("fscore", store, "--conditions", "face,house", "--out", "f", "--cluster", scheduler).exit_code
        == 0
    )
    np.testing.assert_array_equal(nib.load("f/sub-03_F.nii.gz").get_fdata(), written)
    plain = invoke("fscore", store, "--conditions", "face,house", "--standardize", "none", "--out", "g")
    assert plain.exit_code == 0
    assert json.loads(Path("g/sub-03_F.json").read_text())["standardize"] == "none"


def test_a_dry_run_prints_the_plan_and_the_script(store: Path, tmp_path: Path, invoke: Invoke) -> None:
    pytest.importorskip("dask_jobqueue")
    flags = ["--cluster", "slurm", "--workers", 3, "--memory", "3GB"]
    result = invoke("searchlight", store, *ANALYSIS, "--dry-run", *flags)
    assert result.exit_code == 0
    assert result.stdout.startswith("Searchlight plan\n")
    script = invoke("cluster", "slurm", "--dry-run", *flags[2:]).stdout
    assert result.stdout.endswith(f"\n\n{script}")
    assert "#SBATCH --mem=3G\n" in script
    assert [path.name for path in tmp_path.iterdir()] == ["sub-03.zarr"]
    local = invoke("cluster", "local", "--dry-run", "--workers", 2)
    assert local.stdout == "workers on this machine: 2, threads: 1, memory: even shares\n"
    address = invoke("cluster", "tcp://node7:8786", "--dry-run")
    assert address.stdout == "the scheduler at tcp://node7:8786, which runs already\n"


def test_trying_a_cluster(invoke: Invoke) -> None:
    result = invoke("cluster", "local", "--workers", 2, "--memory", "500MB")
    assert result.exit_code == 0
    first, second, last = result.stdout.splitlines()
    for line in (first, second):
        assert line.startswith("tcp://127.0.0.1:")
        assert line.endswith("127.0.0.1, 1 threads, 0.5 GB")
    assert last == "2 workers, all with this slcluster"


def test_plot(store: Path, tmp_path: Path, invoke: Invoke, scheduler: str) -> None:
    pytest.importorskip("nilearn")
    words = ["searchlight", store, *ANALYSIS, "--out", "out.zarr", "--cluster", scheduler, "--quiet"]
    assert invoke(*words, "--scoring", "accuracy,roc_auc").exit_code == 0

    def size(*words: object) -> tuple[int, ...]:
        result = invoke("plot", "out.zarr", "-o", "a.png", *words)
        assert (result.exit_code, result.stdout) == (0, "a.png\n"), result.stderr
        data = Path("a.png").read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        return tuple(int.from_bytes(data[i : i + 4]) for i in (16, 20))

    one = size("--metric", "roc_auc")
    assert size("--metric", "accuracy", "--slice", 4, "--slice", 5, "--threshold", 0.6)[0] > 1.5 * one[0]
    assert size("--map", "sphere_size", "--axis", "x") == one
    for flags, message in (
        (["--metric", "accuracy", "--fill", "linear"], "nothing to fill"),
        (["--slice", 4], "several maps"),
        (["--metric", "f1"], "no metric 'f1'"),
        (["--metric", "accuracy", "--slice", 40], "40"),
        (["--map", "sphere_size", "--threshold", 3], "--metric and --threshold are for --map score"),
    ):
        refused = invoke("plot", "out.zarr", "-o", "b.png", *flags)
        assert refused.exit_code == 2
        assert message in refused.stderr
    assert not Path("b.png").exists()
    store.rename("moved.zarr")
    bare = invoke("plot", "out.zarr", "-o", "b.png", "--metric", "accuracy")
    assert bare.exit_code == 0
    assert "slcluster: warning: the subject store is no longer at " in bare.stderr
    assert Path("b.png").exists()
    assert size("--metric", "accuracy", "--store", "moved.zarr") == one
