"""A block whose slab does not fit in a worker: cut in parts, with the bytes of the whole."""

from __future__ import annotations

import os
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

import slcluster as slc
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE
from tests.faults.driving import same
from tests.faults.slow import Slow

#: Of a worker. It needs 200 to 250 MB before any data.
LIMIT_BYTES = 480_000_000


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 samples of a long grid: 16 MB of small integers on disk, 130 MB in float64, several times in a worker."""
    shape = (128, 10, 13)
    rng = np.random.default_rng(0)
    bold = np.zeros((*shape, 1000), np.int16)
    bold[:, 4:7, 5:8] = rng.integers(0, 9, (128, 3, 3, 1000))
    ds = slc.subject_dataset(bold, affine=OBLIQUE, condition=["a", "b"] * 500, run=np.repeat([0, 1], 500))
    path = write_array_store(ds, tmp_path_factory.mktemp("wide") / "wide.zarr")
    return path


def test_a_block_that_meets_the_memory_limit(wide: Path, tmp_path: Path) -> None:
    """Its nanny kills the worker; the block comes back in parts, and its neighbour is not blamed."""
    centers = np.zeros((128, 10, 13), bool)
    centers[::8, 5, 6] = True
    options = {
        "radius_mm": 4.5,
        "estimator": Slow(str(tmp_path / "log"), pause_s=0.05),
        "scoring": None,
        "standardize": "run",
        "process_mask": centers,
        "block_centers": 16,
    }
    expected = slc.searchlight(open_store(wide), **{**options, "block_centers": 1}).compute(scheduler="sync")
    memory = {
        f"distributed.worker.memory.{name}": value
        for name, value in {"terminate": 0.95, "pause": False, "spill": False, "target": False}.items()
    }
    with (
        dask.config.set({**memory, "distributed.worker.memory.monitor-interval": "20ms"}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit=LIMIT_BYTES,
            dashboard_address=None,
            silence_logs=60,
        ) as cluster,
        Client(cluster) as client,
    ):
        before = client.run(os.getpid)
        found = slc.searchlight(open_store(wide), out=tmp_path / "out.zarr", client=client, **options)
        after = client.run(os.getpid)
    assert set(before.values()) != set(after.values()), "the worker was killed"
    assert found.attrs["n_blocks"] == 1
    assert same(found, expected)
