"""The Slurm that tests share, and a user's shell on it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.runs import ROOT, Run, blocks_of, call, in_queue
from tests.slurm.throwaway import PACKAGES, missing_programs, shared_slurm


@pytest.fixture(scope="session")
def slurm_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment variables of a running Slurm; the same one for all of xdist's workers."""
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)}: install Debian's {PACKAGES}")
    pytest.importorskip("dask_jobqueue")
    with shared_slurm(_shared(tmp_path_factory) / "slurm") as environ:
        yield environ


def _shared(factory: pytest.TempPathFactory) -> Path:
    """A folder that xdist's workers have in common."""
    base = factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture
def slurm(slurm_session: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands reach the shared Slurm, and its jobs our estimators; the path of its slurm.conf."""
    for name, value in slurm_session.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return Path(slurm_session["SLURM_CONF"])


@pytest.fixture(scope="session")
def expected(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The scores of the job without any cluster, computed once."""
    folder = _shared(tmp_path_factory) / "slurm-expected"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "maps.zarr" / "finished.json").exists():
            Run(folder, test_data).call("searchlight", "job.yaml", "--cluster", "local", "--workers", 2)
    return blocks_of(folder / "maps.zarr")


@pytest.fixture
def left_run(slurm: Path, test_data: Path, tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Make a run (what :class:`Run` takes); what it leaves in the queue is taken out."""
    made: list[Run] = []

    def make(**profile: Any) -> Run:
        made.append(Run(tmp_path, test_data, **profile))
        return made[-1]

    yield make
    for run in made:
        if left := set(run.jobs) & in_queue():
            call("scancel", *left)
