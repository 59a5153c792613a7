"""The real slice as a store, and nilearn's results on it, computed once in a process of their own."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import slcluster as slc

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def reference_folder(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``reference.npz`` and the images of its cases; made once, also by several test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # what xdist's workers have in common
    folder = shared / "nilearn-reference"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "reference.npz").exists():
            command = [sys.executable, "-m", "tests.golden.nilearn_reference", str(test_data), str(folder)]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def reference(reference_folder: Path) -> dict[str, np.ndarray]:
    """nilearn's scores by case."""
    with np.load(reference_folder / "reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def haxby(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """The real slice, ingested."""
    root = test_data / "haxby2001"
    return slc.ingest(
        root / "subj1" / "bold.nii.gz",
        tmp_path_factory.mktemp("haxby") / "haxby.zarr",
        mask=root / "mask.nii.gz",
        labels=root / "subj1" / "labels.txt",
    )


@pytest.fixture(scope="session")
def faces_houses(haxby: xr.Dataset) -> xr.Dataset:
    return slc.select(haxby, conditions=["face", "house"])
