"""Fixtures shared by all tests: the real slice, and small grids that no symmetry can hide a bug in."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Tests run side by side, one process a core: libraries that start threads of their own would only wait for each
# other (scikit-learn's nearest centroid took six times as long). Read when NumPy is loaded, so before it is.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import psutil
import pytest

#: Oblique, flipped and anisotropic: nothing about it is the identity.
OBLIQUE = np.array(
    [
        [-3.0, 0.4, 0.1, 41.5],
        [0.3, 3.6, -0.5, -60.25],
        [0.2, 0.6, 4.1, -12.75],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Root of the real test data; tests that use it skip where it is not available."""
    root = os.environ.get("SLCLUSTER_TEST_DATA")
    if not root:
        pytest.skip("SLCLUSTER_TEST_DATA is not set: no real fMRI data to test on")
    path = Path(root).resolve()
    if not (path / "haxby2001" / "subj1" / "bold.nii.gz").is_file():
        pytest.fail(f"SLCLUSTER_TEST_DATA={root} has no haxby2001/subj1/bold.nii.gz")
    return path


@pytest.fixture
def oblique() -> np.ndarray:
    return OBLIQUE.copy()


@pytest.fixture(autouse=True)
def no_broken_client_stays_active() -> Iterator[None]:
    """Every later test that computes would be handed to it, and wait for ever."""
    yield
    if "distributed" in sys.modules:
        from distributed.client import _get_global_client, _set_global_client

        client = _get_global_client()
        if client is not None and client.status != "running":
            _set_global_client(None)
            pytest.fail(f"the test leaves {client!r}, which is {client.status}, as the active client")


def has_ended(pid: int) -> bool:
    """Whether a process does nothing more; its parent may not have asked for its exit code yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
