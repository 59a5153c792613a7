"""One small subject, and the map of an analysis that nothing disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

from slcluster.store import write_array_store
from tests.conftest import OBLIQUE
from tests.faults.driving import N_BLOCKS, analyse
from tests.witness import noise_dataset


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A subject store of 47 mask voxels."""
    return write_array_store(
        noise_dataset(affine=OBLIQUE), tmp_path_factory.mktemp("faults") / "subject.zarr"
    )


@pytest.fixture(scope="session")
def undisturbed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    folder = tmp_path_factory.mktemp("undisturbed")
    maps = analyse(store, folder / "out.zarr", folder / "log", block_centers=2)
    assert maps.attrs["n_blocks"] == N_BLOCKS
    return maps
