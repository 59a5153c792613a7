"""Many processes that begin at once with no compiled kernels, on one shared folder for them.

python -m tests.faults.cold STORE ENGINE... OUT   (one of the processes)
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import dask
import numpy as np

import slcluster as slc
from slcluster.store import open_store

__all__ = ["cold"]

ROOT = Path(__file__).parents[2]


def cold(store: Path, engines: Sequence[str], n_processes: int, folder: Path) -> list[str]:
    """Start them; which rules were broken.

    The second round finds what the first one compiled.
    """
    broken, maps = [], []
    for number in range(2):
        began = [
            _start(store, engines, folder / f"{number}-{k}.npz", folder / "cache") for k in range(n_processes)
        ]
        for process in began:
            _, errors = process.communicate(timeout=900)
            if process.returncode:
                broken.append(f"no process fails: {errors.decode()[-300:]}")
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as loaded:
            maps.append({name: loaded[name] for name in loaded.files})
    for found in maps:
        if any(found[name].tobytes() != maps[0][name].tobytes() for name in engines):
            broken.append("maps are the same")
    return broken


def _start(store: Path, engines: Sequence[str], out: Path, cache: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.cold", str(store), *engines, str(out)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        cwd=ROOT,
        stderr=subprocess.PIPE,
    )


def main() -> None:
    store, *engines, out = sys.argv[1:]
    maps = {}
    with dask.config.set(scheduler="sync"):
        for name in engines:
            found = slc.searchlight(open_store(store), radius_mm=5.5, estimator=name, block_centers=8)
            maps[name] = found["score_fold"].values
            assert found.attrs["engine"] != "sklearn", name
    np.savez(out, **maps)


if __name__ == "__main__":
    main()
