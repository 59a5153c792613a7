"""Adaptive scaling on a real Slurm: jobs come with work and go without."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from slcluster.cluster import connect
from tests.slurm.runs import PATIENCE_S, PROFILE, in_queue


def test_workers_come_with_work_and_go_without(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profile = {**PROFILE, "workers": None, "adapt": {"minimum": 1, "maximum": 3}, "log_directory": "logs"}
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(profile))
    with connect(tmp_path / "slurm.yaml") as client:

        def await_jobs(n_jobs: int) -> None:
            deadline = time.monotonic() + PATIENCE_S
            while len(_jobs(client) & in_queue()) != n_jobs:
                assert time.monotonic() < deadline, f"{_jobs(client)} {in_queue()}"
                time.sleep(0.2)

        await_jobs(1)
        work = client.map(time.sleep, [1.0] * 1000, pure=False)
        await_jobs(3)
        client.wait_for_workers(3, timeout=PATIENCE_S)
        client.cancel(work, force=True)
        await_jobs(1)
        assert client.submit(sum, [1, 2]).result(timeout=PATIENCE_S) == 3


def _jobs(client: object) -> set[str]:
    return {str(job.job_id) for job in client.cluster.workers.values() if job.job_id is not None}
