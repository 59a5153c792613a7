"""A block whose slab does not fit in a worker: cut in parts, with the bytes of the whole."""

from __future__ import annotations

import os
from pathlib import Path

import dask
import numpy as np
import pytest

import slcluster as slc
from slcluster.cluster import connect
from slcluster.store import open_store, write_array_store
from tests.conftest import OBLIQUE
from tests.faults.driving import same
from tests.faults.slow import Slow

#: Of a worker. It needs 200 to 250 MB before any data.
LIMIT = "480MB"


#: From one corner to the other, so that the slab of all is the whole grid and those of parts are small.
SHAPE = (128, 10, 13)
CENTERS = tuple(np.linspace(0, [size - 1 for size in SHAPE], 16).round().astype(int).T)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 samples of a long grid: small integers that compress well, 270 MB in float64."""
    bold = np.zeros((*SHAPE, 2000), np.int16)
    bold[CENTERS] = np.random.default_rng(0).integers(0, 9, (16, 2000))
    ds = slc.subject_dataset(bold, affine=OBLIQUE, condition=["a", "b"] * 1000, run=np.repeat([0, 1], 1000))
    return write_array_store(ds, tmp_path_factory.mktemp("wide") / "wide.zarr")


def test_a_block_that_meets_the_memory_limit(wide: Path, tmp_path: Path) -> None:
    """Its nanny kills the worker; the block comes back in parts, and its neighbour is not blamed."""
    centers = np.zeros(SHAPE, bool)
    centers[CENTERS] = True
    options = {
        "radius_mm": 4.5,
        "estimator": Slow(str(tmp_path / "log"), pause_s=0.05),
        "scoring": None,
        "standardize": "run",
        "process_mask": centers,
        "block_centers": 16,
    }
    expected = slc.searchlight(open_store(wide), **{**options, "block_centers": 1}).compute(scheduler="sync")
    with (
        dask.config.set({"distributed.worker.memory.monitor-interval": "20ms"}),
        connect("local", workers=1, memory=LIMIT) as client,
    ):
        before = client.run(os.getpid)
        found = slc.searchlight(open_store(wide), out=tmp_path / "out.zarr", client=client, **options)
        after = client.run(os.getpid)
    assert set(before.values()) != set(after.values()), "the worker was killed"
    assert found.attrs["n_blocks"] == 1
    assert same(found, expected)
