from __future__ import annotations

import subprocess
import sys

import pytest

BLOCK = """
import sys

class Blocked:
    names = {"dask", "distributed", "xarray", "zarr", "nibabel", "pandas"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
"""

COMPUTE = """
import numpy as np
from sklearn.svm import LinearSVC
from slcluster.kernels import anova, folds, generic, preparation, spheres
mask = np.ones((3, 4, 5), bool)
found = spheres.find_spheres(np.argwhere(mask), mask, spheres.sphere_offsets(np.eye(4), 1.5, mask.shape))
raw = np.random.default_rng(0).normal(size=(60, 12))
runs, codes = np.arange(12) // 6, np.arange(12) % 2
bold = preparation.prepare(raw, runs, np.arange(12), detrend=True, standardize="run", zero_nonfinite=True)
scores = generic.cross_validate(
    bold, codes[None], [np.arange(6)], [np.arange(6, 12)], found,
    outputs=["score"], estimator=LinearSVC(), scorer=lambda fitted, x, y: fitted.score(x, y),
)
print(scores["score"].shape, len(anova.anova(bold, codes)), folds.to_ranks([codes[:2]], 12).shape)
"""


def test_kernels_compute_without_the_libraries_of_the_layers_above() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + COMPUTE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(60, 1, 1, 1) 3 (1, 12)"


@pytest.mark.parametrize("name", ["xarray", "pandas"])
def test_the_block_above_blocks(name: str) -> None:
    """Else the test above could not fail."""
    done = subprocess.run(
        [sys.executable, "-c", f"{BLOCK}\nimport {name}"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"{name} is blocked" in done.stderr
