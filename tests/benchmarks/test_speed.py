"""The speed table runs to its end in small, compares equals, and judges what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import slcluster as slc
from slcluster.store import write_array_store

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import speed

    return speed


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What some rows saved and printed."""
    folder = tmp_path_factory.mktemp("speed")
    rows = ["svc-5.6-raw", "gnb", "set-up"]
    command = [sys.executable, str(FOLDER / "speed.py"), "--quick", "--rows", *rows]
    command += ["--scratch", str(folder), "--out", str(folder / "out.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["out.json"]
    return json.loads((folder / "out.json").read_text()), done.stdout


def test_both_sides_compute_the_same_centers(table: tuple[dict[str, Any], str]) -> None:
    svc, gnb, set_up = table[0]["rows"]
    for row in (svc, gnb):
        ours, theirs = (row["runs"][0][side] for side in ("slcluster", "nilearn"))
        assert ours["n_centers"] == theirs["n_centers"] == 40
        assert row["ratio_same_centers"]["median"] == pytest.approx(theirs["cpu_s"] / ours["cpu_s"])
    assert (svc["runs"][0]["slcluster"]["engine"], gnb["runs"][0]["slcluster"]["engine"]) == ("svm", "gnb")
    assert gnb["n_differing"] == 0
    assert gnb["is_equal"] is set_up["is_equal"] is True
    assert svc["largest_difference"] < 0.2, "nilearn's fit stops early, but it is the same problem"


def test_the_table_says_what_was_measured(table: tuple[dict[str, Any], str]) -> None:
    result, printed = table
    assert {"commit", "versions", "machine", "rows", "missed"} <= set(result)
    assert result["missed"] == []
    for row in result["rows"]:
        assert f"{row['figure']['median']:.3g}" in printed
    bounds = result["rows"][0]["runs"][0]["slcluster"]["bounds"]
    assert bounds["of_peak"] == pytest.approx(bounds["gflops"] / bounds["peak_gflops"])
    assert 0 < bounds["of_peak"] < 1


def test_rows_are_judged_by_their_unit(speed: ModuleType) -> None:
    faster, sooner = speed.Row("a", 100), speed.Row("b", 10, kind="cold")
    for row, good, bad in ((faster, 100, 99.9), (sooner, 10, 10.1)):
        for figure, state in ((good, "at target"), (bad, "MISSED")):
            assert speed.judge(row, {"figure": {"median": figure}}, is_quick=False)["state"] == state
    found = {"figure": {"median": 500.0}, "is_equal": False}
    assert speed.judge(faster, found, is_quick=True)["state"].startswith("MISSED: scores")


def test_unknown_rows_are_refused(speed: ModuleType) -> None:
    assert [row.name for row in speed.chosen_rows(["gnb"])] == ["gnb-5.6"]
    with pytest.raises(ValueError, match="no row begins with 'gbn'; rows: svc"):
        speed.chosen_rows(["gbn"])


def test_newton_steps_are_counted_at_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from bounds import _dual_steps, _primal_steps
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(0)
    y = np.tile([-1.0, 1.0], 20)
    x = rng.normal(size=(40, 5)) + 0.4 * y[:, None]
    rows, everyone = np.append(x, np.ones((40, 1)), axis=1), np.ones(40, bool)
    exact = LinearSVC(tol=1e-10, max_iter=10**6, dual=False).fit(x, y).decision_function(x)
    steps, changes, inside, f = _primal_steps(rows, y, everyone, ~everyone, np.zeros(40))
    np.testing.assert_allclose(f, exact, atol=1e-6)
    assert steps > 1
    assert changes >= 40
    sizes, found = _dual_steps(rows @ rows.T, y, everyone, everyone)
    assert np.array_equal(found, inside)
    assert (sizes[0], sizes[-1]) == (40, inside.sum())


def test_rows_that_say_an_engine_plan_it(speed: ModuleType, tmp_path: Path) -> None:
    """The name "logistic" is nilearn's, which looks for its C and has no fast engine."""
    from searches import make_plan

    write_array_store(slc.simulate(shape=(5, 6, 4), n_runs=4, n_informative=1, seed=0), tmp_path / "s.zarr")
    rows = [row for row in speed.ROWS if "logistic" in row.name]
    assert {row.data for row in rows} == {"two", "eight"}
    for row in rows:
        assert make_plan({"store": str(tmp_path / "s.zarr"), "spec": row.spec}).engine == "logistic"
