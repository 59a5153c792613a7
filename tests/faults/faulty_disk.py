"""Ingest, writing blocks and finishing a result on a disk that fails: one process, one fault after the other.

    python -m tests.faults.faulty_disk FOLDER REPORT N

The faults lie below Python, between it and the C library: a small library that is preloaded refuses calls on the
files that are meant: all of them, or all but the first, up to N - 1. REPORT receives, as JSON, for every stage, error and call what was raised and which rules were
broken.
"""

from __future__ import annotations

import ctypes
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import nibabel
import xarray as xr

import slcluster as slc
from slcluster import durable, quarantine
from slcluster.errors import SlclusterError
from slcluster.store import open_store
from slcluster.store.result import FINISHED_NAME
from tests.conftest import OBLIQUE
from tests.faults.driving import same
from tests.witness import Witness, noise_dataset

CHANGE, WRITE, READ = 1, 2, 4

#: What a full, a read-only and a broken disk refuse.
FAULTS = {
    "ENOSPC": (errno.ENOSPC, {"make": CHANGE, "write": WRITE}),
    "EROFS": (errno.EROFS, {"make": CHANGE}),
    "EIO": (errno.EIO, {"make": CHANGE, "write": WRITE, "read": READ}),
}

#: Six blocks, whose scores tell every value that went into them.
ANALYSIS: dict[str, Any] = {"radius_mm": 5.5, "estimator": Witness(), "scoring": None, "block_centers": 8}


def compiler() -> str | None:
    """A C compiler, where there is one and libraries can be preloaded."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang")))) if sys.platform == "linux" else None


def run(folder: Path, n: int) -> list[dict[str, Any]]:
    """Compile the library, and try everything in a process that has it preloaded, with 0 to n - 1 calls let through."""
    library, report = folder / "faulty_disk.so", folder / "report.json"
    command = [compiler() or "cc", "-shared", "-fPIC", "-O1", "-o", str(library)]
    subprocess.run([*command, str(Path(__file__).with_suffix(".c")), "-ldl", "-lpthread"], check=True)
    work = folder / "work"
    work.mkdir()
    subprocess.run(
        [sys.executable, "-m", "tests.faults.faulty_disk", str(work), str(report), str(n)],
        env={**os.environ, "LD_PRELOAD": str(library)},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    return list(json.loads(report.read_text()))


@contextmanager
def _failing(pattern: str, calls: int, error: int, skip: int) -> Iterator[Callable[[], int]]:
    disk = ctypes.CDLL(None)
    disk.disk_failed.restype = ctypes.c_long
    disk.disk_fail(pattern.encode(), calls, error, ctypes.c_long(skip))
    try:
        yield disk.disk_failed
    finally:
        disk.disk_fail(b"", 0, 0, ctypes.c_long(0))


class _Trials:
    """One folder, a subject's files and store, and what an analysis on a sound disk gives.

    Every trial is None where no call was refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ds = noise_dataset(affine=OBLIQUE)
        nibabel.Nifti1Image(ds["bold"].values, OBLIQUE).to_filename(folder / "bold.nii.gz")
        self.labels, self.mask = ds[["condition", "run"]].to_dataframe().reset_index(drop=True), ds["mask"]
        self.subject = folder / "subject.zarr"
        self._ingest(self.subject)
        self.expected = self._search(folder / "expected.zarr")

    def _ingest(self, path: Path) -> xr.Dataset:
        return slc.ingest(
            self.folder / "bold.nii.gz",
            path,
            mask=self.mask.values,
            labels=self.labels[["condition", "run"]],
            subject="array",
        )

    def _search(self, out: Path) -> xr.Dataset:
        with dask.config.set(scheduler="sync"):
            return slc.searchlight(open_store(self.subject), out=out, **ANALYSIS)

    def ingest(self, calls: int, error: int, skip: int) -> dict[str, Any] | None:
        """The subject store: there whole, or not at all."""
        path = self.folder / "ingest" / "sub.zarr"
        pattern = "bold.nii.gz" if calls == READ else "sub.zarr."
        with _failing(pattern, calls, error, skip) as n_failed:
            told, n = _raised(lambda: self._ingest(path)), n_failed()
        if not n:
            shutil.rmtree(path.parent)
            return None
        rules = {
            "nothing is left behind": not path.parent.is_dir() or os.listdir(path.parent) == [],
            "it works afterwards": self._ingest(path)["bold"].identical(open_store(self.subject)["bold"]),
        }
        shutil.rmtree(path.parent)
        return {**told, "n_refused": n, "broken": _broken(rules)}

    def write(self, calls: int, error: int, skip: int) -> dict[str, Any] | None:
        """Blocks: those that are done stay done."""
        return self._analyse("out.zarr/score" if calls != READ else "subject.zarr/bold/c", calls, error, skip)

    def assemble(self, calls: int, error: int, skip: int) -> dict[str, Any] | None:
        """The mark that all blocks are done, and reading them as maps."""
        pattern = f"out.zarr/{FINISHED_NAME}" if calls != READ else "out.zarr/n_unconverged/c"
        return self._analyse(pattern, calls, error, skip if calls == READ else 0)

    def _analyse(self, pattern: str, calls: int, error: int, skip: int) -> dict[str, Any] | None:
        out = self.folder / "out.zarr"
        with _failing(pattern, calls, error, skip) as n_failed:
            told, n = _raised(lambda: self._search(out)), n_failed()
        if not n:
            shutil.rmtree(out)
            return None
        left = slc.status(out)
        rules = {
            "what is there is sound": slc.fsck(out).is_sound,
            "it does not call itself finished": not left.is_finished,
            "it opens": slc.open_result(out).attrs["n_blocks_done"] == left.n_done,
            "the lease is free": left.holder is None,
            "nothing is left behind": not [*out.rglob("*.partial")],
            "it goes on afterwards": same(self._search(out), self.expected),
        }
        shutil.rmtree(out)
        return {**told, "n_refused": n, "broken": _broken(rules)}


def _raised(work: Callable[[], Any]) -> dict[str, Any]:
    try:
        work()
    except Exception as error:
        return {
            "raised": type(error).__name__,
            "says": str(error),
            "is_typed": isinstance(error, SlclusterError),
        }
    return {"raised": "nothing", "says": "", "is_typed": False}


def _broken(rules: dict[str, bool]) -> list[str]:
    return [rule for rule, is_kept in rules.items() if not is_kept]


def main() -> None:
    folder, report, n = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    logging.getLogger("slcluster").setLevel(logging.CRITICAL)
    quarantine.PAUSES_S = (0.001, 0.001, 0.001)
    durable._VISIBLE_S = 0.001
    trials, found = _Trials(folder), []
    for stage in ("ingest", "write", "assemble"):
        for name, (error, kinds) in FAULTS.items():
            for kind, calls in kinds.items():
                for skip in range(n):
                    told = getattr(trials, stage)(calls, error, skip)
                    if told is None:  # it was done before so many calls
                        continue
                    found.append({"stage": stage, "error": name, "call": kind, "skip": skip, **told})
    report.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
