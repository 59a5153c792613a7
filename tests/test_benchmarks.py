"""The benchmarks run, in seconds with --quick, and measure what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
HEAD = {"benchmark", "commit", "date", "parameters", "versions", "machine", "threads_of_blas"}
RUN = {"wall_s", "cpu_s", "tree_rss_bytes", "process_rss_bytes", "report"}


def _run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(FOLDER / script), "--quick", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import measure

    return measure


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What the comparison saved and printed."""
    out = tmp_path_factory.mktemp("compare") / "compare.json"
    done = _run("compare.py", "--data", "brain", "--workers", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_compare_says_what_was_measured_and_where(compared: tuple[dict[str, Any], str]) -> None:
    result, _ = compared
    assert set(result) >= HEAD
    assert set(result["machine"]) == {"cpu", "cores", "memory_bytes", "system", "load_average"}
    assert {"python", "nilearn", "scikit-learn", "dask", "numpy", "slcluster"} <= set(result["versions"])
    assert result["parameters"]["is_quick"] is True


def test_compare_runs_every_contender_on_the_same_centers(compared: tuple[dict[str, Any], str]) -> None:
    (subject,) = compared[0]["subjects"]
    assert subject["n_centers"] == 40
    assert subject["maps_equal"] is True
    assert [case["contender"] for case in subject["cases"]] == ["slcluster", "nilearn", "nilearn-dask"]
    for case in subject["cases"]:
        (run,) = case["runs"]
        assert set(run) == RUN
        stages = run["report"]["stages"]
        assert {"set-up", "search"} <= set(stages)
        assert 0 < sum(stage["wall_s"] for stage in stages.values()) < run["wall_s"]
        assert 50e6 < run["process_rss_bytes"] < run["tree_rss_bytes"], "two workers and who drives them"
    ours = subject["cases"][0]["runs"][0]["report"]["stages"]
    assert {"ingest", "cluster", "set-up", "search", "assemble"} <= set(ours)
    assert len(subject["cases"][0]["runs"][0]["report"]["workers_rss_bytes"]) == 2
    assert set(subject["set_up_of_all"]) == {"slcluster", "nilearn"}


def test_ratios_are_of_the_rival_over_ours(compared: tuple[dict[str, Any], str]) -> None:
    result, printed = compared
    subject = result["subjects"][0]
    ours, *rivals = (case["runs"][0] for case in subject["cases"])
    for rival, ratio in zip(rivals, subject["ratios"], strict=True):
        assert ratio["whole_wall"]["median"] == pytest.approx(rival["wall_s"] / ours["wall_s"])
        assert ratio["search_wall"]["median"] == pytest.approx(
            rival["report"]["stages"]["search"]["wall_s"] / ours["report"]["stages"]["search"]["wall_s"]
        )
        assert f"{ratio['whole_wall']['median']:.3g}" in printed
    assert "maps equal in every bit" in printed


def test_compare_fails_where_a_map_differs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import compare
    from measure import Measured
    from subjects import Subject

    subject = Subject("s", "b", "l", "m", "p", (2, 3, 4, 5), n_mask_voxels=9, n_centers=3)
    stages = {"search": {"wall_s": 1.0, "cpu_s": 1.0}, "set-up": {"wall_s": 1.0, "cpu_s": 1.0}}

    def contend(name: str, subject: Subject, scores: Path, **_: Any) -> Measured:
        found = np.array([0.5, 0.6, 0.7 if name != "nilearn-dask" else np.nextafter(0.7, 1)])
        np.save(scores, found)
        return Measured(2.0, 2.0, 10, 5, {"stages": stages, "n_memberships": 12})

    monkeypatch.setattr(compare, "contend", contend)
    found = compare.compare(subject, [1], 2, tmp_path)
    assert found["maps_equal"] is False
    assert [case["is_equal"] for case in found["cases"]] == [True, True, False]
    assert "MAPS DIFFER (np.array_equal): nilearn-dask, 1" in compare.report(found)


def test_overhead_has_its_parts(tmp_path: Path) -> None:
    out = tmp_path / "overhead.json"
    done = _run("overhead.py", "--out", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert set(result) >= HEAD
    assert result["scores_equal"] is True
    assert result["missed"] == []
    assert sum(result["parts_s"].values()) == pytest.approx(result["block_stage_s"]["median"], abs=0.2)
    assert result["ratio"]["median"] == pytest.approx(
        result["block_stage_s"]["median"] / result["bare_loop_s"]["median"]
    )
    assert 50e6 < result["worker_rss_bytes"] < 500e6
    assert f"{result['worker_rss_bytes'] / 1e6:.0f} MB" in done.stdout


def test_overhead_says_what_it_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from overhead import missed

    good = {
        "scores_equal": True,
        "worker_rss_bytes": 499e6,
        "bare_loop_cpu_s": {"min": 60.0},
        "ratio": {"median": 1.049},
    }
    assert missed(good, 60, is_quick=False) == []
    for change in (
        {"scores_equal": False},
        {"worker_rss_bytes": 500e6},
        {"bare_loop_cpu_s": {"min": 59.9}},
        {"ratio": {"median": 1.05}},
    ):
        assert len(missed({**good, **change}, 60, is_quick=False)) == 1


def test_the_class_is_beside_nilearns(tmp_path: Path) -> None:
    out = tmp_path / "dropin.json"
    done = _run("dropin.py", "--out", str(out), "--scratch", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (subject,) = json.loads(out.read_text())["subjects"]
    assert subject["differences"]["slcluster, sklearn"] == {"n_centers": 0, "largest": 0.0, "mean": 0.0}
    assert subject["differences"]["slcluster, auto"]["largest"] < 0.1
    assert f"0 of {subject['n_centers']}" in done.stdout


def test_ingest_runs(tmp_path: Path) -> None:
    out = tmp_path / "ingest.json"
    done = _run("ingest.py", "--out", str(out), "--scratch", str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert {"machine", "results"} <= set(result)
    for case in result["results"]:
        assert case["ratio"] == pytest.approx(case["ours_cpu_s"] / case["bare_cpu_s"])
        assert 30e6 < case["peak_bytes"] < 512e6


def _script(folder: Path, body: str) -> list[str]:
    path = folder / "script.py"
    path.write_text(
        f"import json, os, subprocess, sys, time\n{body}\njson.dump({{}}, open(sys.argv[-1], 'w'))\n"
    )
    return [str(path)]


def test_a_process_is_measured_with_its_descendants(measure: ModuleType, tmp_path: Path) -> None:
    busy = (
        "import time; held = bytearray(150_000_000)\n"
        "end = time.process_time() + 1.0\nwhile time.process_time() < end: pass"
    )
    body = f"subprocess.run([sys.executable, '-c', {busy!r}], check=True)"
    found = measure.measure_process(_script(tmp_path, body))
    assert 1.0 <= found.cpu_s < 5.0
    assert found.wall_s >= 1.0
    assert 150e6 < found.process_rss_bytes < 300e6
    assert found.tree_rss_bytes > found.process_rss_bytes + 3e6, "the parent counts as well"


def test_a_measured_process_has_one_thread(measure: ModuleType, tmp_path: Path) -> None:
    body = "assert os.environ['OMP_NUM_THREADS'] == os.environ['OPENBLAS_NUM_THREADS'] == '1'"
    assert measure.measure_process(_script(tmp_path, body)).report == {}


def test_a_process_that_fails_says_why(measure: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"exit code 1:(?s:.*)ValueError: no such luck"):
        measure.measure_process(_script(tmp_path, "raise ValueError('no such luck')"))


def test_tls_is_compared_with_plain_connections(tmp_path: Path) -> None:
    out = tmp_path / "tls.json"
    done = _run("tls.py", "--out", str(out))
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert set(result) >= HEAD
    assert result["maps_equal"] is True
    assert {way: len(runs) for way, runs in result["runs"].items()} == {"tcp": 1, "tls": 1}
    search = {way: runs[0]["report"]["stages"]["search"] for way, runs in result["runs"].items()}
    for kind in ("wall_s", "cpu_s"):
        assert result[f"search_{kind}_ratio"]["median"] == pytest.approx(
            search["tls"][kind] / search["tcp"][kind]
        )
    assert "maps equal in every bit: yes" in done.stdout


def test_a_process_that_hangs_is_ended_with_its_children(measure: ModuleType, tmp_path: Path) -> None:
    import psutil

    kept = tmp_path / "pid"
    body = (
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(kept)!r}, 'w').write(str(child.pid))\ntime.sleep(60)"
    )
    with pytest.raises(subprocess.TimeoutExpired):
        measure.measure_process(_script(tmp_path, body), timeout_s=3)
    pid = int(kept.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_peak_memory_is_a_high_water_mark(measure: ModuleType) -> None:
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from measure import peak_rss_bytes as peak\n"
        "before = peak(); held = bytearray(200_000_000); del held; print(json.dumps([before, peak()]))"
    )
    ballast = bytearray(400_000_000)  # an inherited high-water mark would show this
    done = subprocess.run(
        [sys.executable, "-c", code, str(FOLDER)], capture_output=True, text=True, check=True
    )
    before, after = json.loads(done.stdout)
    assert before < 100e6 < after < len(ballast)
    assert 195e6 < after - before < 215e6


def test_laps_divide_the_time(measure: ModuleType) -> None:
    import time

    laps = measure.Laps()
    time.sleep(0.3)
    laps.lap("asleep")
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    laps.lap("busy")
    assert laps.stages["asleep"]["wall_s"] >= 0.3
    assert laps.stages["asleep"]["cpu_s"] < 0.15
    assert laps.stages["busy"]["cpu_s"] == pytest.approx(0.3, abs=0.1)


def test_centers_are_spread_or_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from subjects import choose_centers

    mask = np.zeros((7, 8, 9), bool)
    mask[1:6, 1:7, 1:8] = True
    spread = choose_centers(mask, 42, are_together=False)
    assert spread.sum() == 42
    assert not (spread & ~mask).any()
    assert np.array_equal(np.flatnonzero(spread[mask]), np.arange(0, 210, 5))
    together = choose_centers(mask, 60, are_together=True)
    assert together.sum() == 60
    assert np.array_equal(together[:, :, 4], mask[:, :, 4])
    assert set(np.flatnonzero(together.any(axis=(0, 1)))) <= {3, 4, 5}
    assert np.array_equal(choose_centers(mask, 1000, are_together=False), mask)
