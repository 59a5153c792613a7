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


def once(tmp_path_factory: pytest.TempPathFactory, module: str, *args: str, result: str) -> Path:
    """The folder in which ``python -m module ARGS FOLDER`` left ``result``; made once, also by several processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # what xdist's workers have in common
    folder = shared / module
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / result).exists():
            command = [sys.executable, "-m", module, *args, str(folder)]
            done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def reference_folder(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``reference.npz`` and the images of its cases."""
    module = "tests.golden.nilearn_reference"
    return once(tmp_path_factory, module, str(test_data), result="reference.npz")


@pytest.fixture(scope="session")
def dropin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """nilearn's attributes by case of ``nilearn_dropin``."""
    folder = once(tmp_path_factory, "tests.golden.nilearn_dropin", result="dropin.npz")
    with np.load(folder / "dropin.npz") as arrays:
        return dict(arrays)


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
