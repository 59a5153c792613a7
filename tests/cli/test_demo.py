"""The demo, whole: it shows what was planted, and leaves what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import slcluster as slc
from slcluster.cli.demo import _own_folder
from slcluster.errors import InputError
from slcluster.jobs import load_job
from slcluster.simulate import planted_auc, simulate
from tests.cli.conftest import called


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the demo ran in, and what it printed."""
    pytest.importorskip("nilearn")
    folder = tmp_path_factory.mktemp("demo")
    done = called("demo", "--seed", 1, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_it_shows_the_planted_spheres(shown: tuple[Path, str]) -> None:
    folder, text = shown
    found = re.search(r"planted sphere\": ([01]\.\d+) \(([\d,]+) centers inside, ([\d,]+) outside\)", text)
    assert found
    truth = simulate(seed=1)
    result = slc.open_result(folder / "slcluster-demo" / "searchlight.zarr")
    auc, n_inside, n_outside = planted_auc(truth, result.score, radius_mm=5.6)
    assert (f"{auc:.3f}", f"{n_inside:,}", f"{n_outside:,}") == found.groups()
    assert auc >= 0.95
    assert n_outside >= 500
    assert f"Searchlight over {result.attrs['n_centers']:,} centers of " in text


def test_it_leaves_what_it_names(shown: tuple[Path, str]) -> None:
    folder, text = shown
    named = re.findall(r"^  (slcluster-demo\S*)", text, re.MULTILINE)
    assert {path.name for path in (folder / "slcluster-demo").iterdir()} == {
        "files",
        "job.yaml",
        "maps",
        "searchlight.zarr",
        "simulated.zarr",
    }
    assert all((folder / path).exists() for path in named)
    maps = folder / "slcluster-demo" / "maps"
    images = {"score", "sphere_size", "F", "p", "neg_log10_p"}
    figures = {"score", "sphere_size", "F", "summary"}
    assert {path.name for path in maps.iterdir()} == {
        *(f"simulated_{name}.nii.gz" for name in images),
        *(f"simulated_{name}.json" for name in images),
        *(f"simulated_{name}.png" for name in figures),
    }
    for path in maps.glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert path.stat().st_size > 5000
    for path in maps.glob("*.json"):
        assert json.loads(path.read_text())["class_counts"] == {"face": 108, "house": 108}


def test_its_job_file_says_what_it_did(shown: tuple[Path, str]) -> None:
    """Planned again from the file, it is the analysis whose result is there: nothing is left to do."""
    folder, _ = shown
    job = load_job(folder / "slcluster-demo" / "job.yaml")
    ds = slc.select(slc.open_store(job.store[0]), **job.select_arguments())
    result = slc.searchlight(ds, out=job.out, **job.plan_arguments())
    assert result.attrs["fingerprint"] == slc.open_result(job.out).attrs["fingerprint"]


def test_it_takes_no_folder_that_is_not_its_own(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "job.yaml").write_text("store: precious.zarr\n")
    (theirs / "maps").mkdir()
    with pytest.raises(InputError, match="is not empty and not of an earlier demo; name another folder"):
        _own_folder(theirs)
    with pytest.raises(InputError, match="is a file; the demo needs a folder"):
        _own_folder(theirs / "job.yaml")
    assert {path.name for path in theirs.iterdir()} == {"job.yaml", "maps"}


def test_its_own_folder_is_replaced_but_for_what_others_put_there(tmp_path: Path) -> None:
    root = _own_folder(tmp_path / "demo")
    (root / "maps").mkdir()
    (root / "notes.txt").write_text("mine")
    assert _own_folder(root) == root
    assert {path.name for path in root.iterdir()} == {"job.yaml", "notes.txt"}
