"""The Slurm that tests share, and a user's shell on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.throwaway import PACKAGES, missing_programs, shared_slurm


@pytest.fixture(scope="session")
def slurm_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment variables of a running Slurm; the same one for all of xdist's workers."""
    if missing := missing_programs():
        pytest.skip(f"no {', '.join(missing)}: install Debian's {PACKAGES}")
    pytest.importorskip("dask_jobqueue")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # what xdist's workers have in common
    with shared_slurm(shared / "slurm") as environ:
        yield environ


@pytest.fixture
def slurm(slurm_session: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands reach the shared Slurm; the path of its slurm.conf."""
    for name, value in slurm_session.items():
        monkeypatch.setenv(name, value)
    return Path(slurm_session["SLURM_CONF"])
