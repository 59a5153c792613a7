"""The short form of the fault figures that have no tests of their own. ``python -m tests.faults --long`` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr

from tests.faults import __main__ as figures
from tests.faults import faulty_disk
from tests.faults.__main__ import ROOT
from tests.faults.cold import cold
from tests.faults.damage import DAMAGES, PLACES, damage
from tests.faults.driving import analyse
from tests.faults.soak import soak


@pytest.fixture(scope="module")
def result(store: Path, undisturbed: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("result")
    analyse(store, folder / "out.zarr", folder / "log", pause_s=0.0)
    return folder / "out.zarr"


@pytest.mark.parametrize("how", list(DAMAGES))
@pytest.mark.parametrize("place", list(PLACES))
def test_damage_is_noticed(place: str, how: str, store: Path, result: Path) -> None:
    told = damage(place, how, 15, store, result)
    assert (told["missed"], told["unseen by fsck"]) == (0, 0)
    assert told["noticed"] >= 10


@pytest.mark.skipif(faulty_disk.compiler() is None, reason="no C compiler (gcc) for a disk that fails")
def test_a_disk_that_fails(tmp_path: Path) -> None:
    found = faulty_disk.run(tmp_path, 1)
    assert {(one["stage"], one["error"]) for one in found} == {
        (stage, error) for stage in ("ingest", "write", "assemble") for error in faulty_disk.FAULTS
    }
    for one in found:
        assert one["is_typed"], one
        assert one["broken"] == [], one
        assert "\n" not in one["says"]


def test_processes_that_compile_at_once(store: Path, tmp_path: Path) -> None:
    assert cold(store, ["gnb"], 2, tmp_path) == []


def test_workers_that_are_killed_all_the_time(store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    found = soak(5.0, store, undisturbed, tmp_path)
    assert found.broken == ()
    assert found.n_runs > 0


def test_the_figures_are_printed() -> None:
    words = ["--only", "damages", "--bit-flips", "3", "--truncations", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", *words], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6 + 1
    assert lines[0].split()[:5] == ["bit", "flips", "in", "input", "shards"]
    assert lines[-1].startswith("6 kinds of faults, 0 with a broken rule")


def test_a_broken_rule_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [figures.Row("kept", 3, "all well", []), figures.Row("broken", 2, "", ["one", "two", "one"])]
    monkeypatch.setitem(figures.SCENARIOS, "disk", lambda bench: iter(rows))
    monkeypatch.setattr(sys, "argv", ["faults", "--only", "disk", "--out", str(tmp_path / "figures.json")])
    assert figures.main() == 1
    printed = capsys.readouterr().out
    assert "    BROKEN 2 times: one\n    BROKEN 1 times: two\n" in printed
    assert "2 kinds of faults, 1 with a broken rule" in printed
    assert [row["n"] for row in json.loads((tmp_path / "figures.json").read_text())] == [3, 2]
