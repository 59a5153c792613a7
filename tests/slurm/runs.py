"""Runs on the real slice that are left to Slurm, as a user types them, and ways to look at them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import slcluster as slc
from slcluster.jobs.folder import RunFolder

#: Much longer than anything takes on a busy machine.
PATIENCE_S = 300.0

PROFILE: dict[str, Any] = {
    "kind": "slurm",
    "queue": "normal",
    "walltime": "00:10:00",
    "workers": 2,
    "memory": "1GB",
    "interface": "lo",
}

ROOT = Path(__file__).parents[2]

#: 133 blocks of four centers.
JOB: dict[str, Any] = {
    "store": "subject.zarr",
    "conditions": ["face", "house"],
    "radius_mm": 5.6,
    "cv": {"class": "KFold", "params": {"n_splits": 4}},
    "engine": "sklearn",
    "block_centers": 4,
    "out": "maps.zarr",
}


class Run:
    """One analysis of the real slice in a folder of its own.

    Parameters
    ----------
    folder, data : Path
    pause_s : float
        Slept before each of the 2120 fits.
    **profile
        Other values in the profile.
    """

    def __init__(self, folder: Path, data: Path, *, pause_s: float = 0.0, **profile: Any) -> None:
        haxby = data / "haxby2001"
        self.folder, self.out = folder, folder / "maps.zarr"
        self.kept = RunFolder.beside(self.out)
        files = {"bold": "subj1/bold.nii.gz", "mask": "mask.nii.gz", "labels": "subj1/labels.txt"}
        job = {**{key: str(haxby / name) for key, name in files.items()}, **JOB}
        if pause_s:
            job["estimator"] = {"class": "tests.slurm.patient.Patient", "params": {"pause_s": pause_s}}
        self._imports = ["--allow-import", "tests"] if pause_s else []
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        (folder / "slurm.yaml").write_text(yaml.safe_dump({**PROFILE, **profile}))

    def call(self, *words: object, expected: int = 0) -> str:
        """What a command of ours prints."""
        done = subprocess.run(
            [sys.executable, "-m", "slcluster", *map(str, words)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout if not expected else done.stderr

    def submit(self, *words: object) -> str:
        """The number of the coordinator's job."""
        words = ("submit", "job.yaml", "--cluster", "slurm.yaml", *self._imports, *words)
        return self.call(*words).split("job ")[1].split()[0]

    @property
    def n_done(self) -> int:
        return slc.status(self.out).n_done if self.out.exists() else 0

    @property
    def coordinator(self) -> dict[str, Any]:
        return self.kept.coordinator()

    @property
    def log(self) -> str:
        return self.kept.coordinator_log.read_text()

    def await_that(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not in time: {what}\n{self.call('status', self.out)}\n{self.log}")
            time.sleep(0.2)

    def await_blocks(self, n_more: int) -> None:
        """Return in the middle of the run, after so many more blocks."""
        least = self.n_done + n_more
        self.await_that(lambda: self.n_done >= least, f"{least} blocks")
        assert not slc.status(self.out).is_finished, "the run was over before it could be disturbed"

    def await_end(self) -> None:
        """Return when the result is complete and nothing of the run is in the queue."""

        def is_finished() -> bool:
            assert self.coordinator.get("outcome") != "failed", self.log
            return self.out.exists() and slc.status(self.out).is_finished

        self.await_that(is_finished, "the result")
        self.await_that(lambda: not set(self.jobs) & in_queue(), "an empty queue")

    @property
    def jobs(self) -> list[str]:
        """Coordinators and workers, as far as they are known."""
        return [*(made["job"] for made in self.kept.jobs()), *self.coordinator.get("workers", [])]

    def blocks(self) -> dict[str, bytes]:
        """Every file with scores, by name."""
        return blocks_of(self.out)


def blocks_of(out: Path) -> dict[str, bytes]:
    """Every file with scores, sphere sizes or centers of a result, by name."""
    names = ("score", "n_unconverged", "sphere_size", "center_ijk")
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for name in names
        for path in sorted((out / name).rglob("*"))
        if path.is_file()
    }
    assert len(found) > 2 * 133
    return found


def in_queue() -> set[str]:
    """Numbers of the jobs that Slurm knows and that have not ended."""
    return set(call("squeue", "-h", "-o", "%i").split())


def call(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ).stdout
