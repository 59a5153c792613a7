"""Processes killed in mid-run. ``python -m tests.faults`` tries more often."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

from tests.faults.kills import kill

TRIALS = {"driver": 8, "worker": 6, "scheduler": 4, "group": 6}


@pytest.mark.parametrize(
    ("what", "trial"), [(what, trial) for what, n in TRIALS.items() for trial in range(n)]
)
def test_killed(what: str, trial: int, store: Path, undisturbed: xr.Dataset, tmp_path: Path) -> None:
    assert kill(what, trial, store, undisturbed, tmp_path).broken == ()
