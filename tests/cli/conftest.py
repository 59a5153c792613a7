"""A small simulated subject as files and as a store, and ways to call the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slcluster.cli import cli
from slcluster.ingest import ingest
from slcluster.io.export import write_images
from slcluster.simulate import simulate

Invoke = Callable[..., Result]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """bold, mask and labels of a brain of 9 x 10 x 11 voxels, four runs, face, house and rest."""
    ds = simulate(shape=(9, 10, 11), zooms_mm=(3.5, 3.75, 4.0), n_runs=4, n_informative=1, seed=3)
    return write_images(ds, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="session")
def ready_store(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "sub-03.zarr"
    ingest(files["bold"], path, mask=files["mask"], labels=files["labels"], subject="sub-03")
    return path


@pytest.fixture
def store(ready_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(ready_store, tmp_path / "sub-03.zarr")).relative_to(tmp_path)


@pytest.fixture
def invoke() -> Invoke:
    """Call a command in this process."""

    def call(*words: object) -> Result:
        return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)

    return call


def command(*words: object) -> list[str]:
    """The words of a command in a process of its own."""
    return [sys.executable, "-m", "slcluster", *map(str, words)]


def called(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Call a command in a process of its own."""
    return subprocess.run(
        command(*words), capture_output=True, text=True, cwd=cwd, env=os.environ, check=False
    )
