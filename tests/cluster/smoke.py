"""The smoke run that every real cluster gets: a small searchlight through the command line, held to one without it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import slcluster as slc
from slcluster.io.export import write_images

__all__ = ["job_numbers", "same_map_as_here", "slcluster"]


def slcluster(*words: object) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "slcluster", *map(str, words)], capture_output=True, text=True, check=False
    )


def same_map_as_here(folder: Path, profile: Path) -> None:
    """Compute a map on a cluster and here, from files; both must be the same to the last bit."""
    ds = slc.simulate(shape=(9, 10, 11), zooms_mm=(3.5, 3.75, 4.0), n_runs=4, n_informative=1, seed=3)
    files = write_images(ds, folder / "files")
    slc.ingest(files["bold"], folder / "sub.zarr", mask=files["mask"], labels=files["labels"])
    request = [folder / "sub.zarr", "--conditions", "face,house", "--radius-mm", 5, "--block-centers", 32]
    done = slcluster("searchlight", *request, "--cluster", profile, "--out", folder / "maps.zarr")
    assert done.returncode == 0, done.stderr
    here = slcluster("searchlight", *request, "--out", folder / "here.zarr")
    assert here.returncode == 0, here.stderr
    ours, expected = slc.open_result(folder / "maps.zarr"), slc.open_result(folder / "here.zarr")
    assert np.isfinite(expected["score"]).any()
    np.testing.assert_array_equal(ours["score"].values, expected["score"].values)


def job_numbers(logs: Path) -> set[str]:
    """Numbers of the jobs that left a log."""
    return {found[1] for log in logs.iterdir() if (found := re.search(r"(\d+)(\.\w+)?$", log.name))}
