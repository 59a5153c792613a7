"""One block: what it scores and says when it fails, how many threads the libraries under it may use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.naive_bayes import GaussianNB

import slcluster as slc
from slcluster.compute import score_centers
from slcluster.errors import BlockError
from tests.conftest import OBLIQUE
from tests.witness import noise_dataset

#: Threads of BLAS and OpenMP that a function of a sphere sees, in two blocks at once, and what is left afterwards.
SCRIPT = """
import json
import numpy as np, slcluster as slc
from threadpoolctl import threadpool_info

def threads():
    return {pool["num_threads"] for pool in threadpool_info()}

seen = set()

def measure(X, y, groups):
    seen.update(threads())
    return 0.0

before = threads()
ds = slc.simulate(shape=(5, 6, 4), n_runs=2, n_informative=1, seed=0)
ds = slc.select(ds, conditions=["face", "house"])
lazy = slc.searchlight(ds, radius_mm=4.0, estimator=measure, block_centers=8)
seen.clear()  # planning tries a function once, outside of any block
lazy.compute(scheduler="threads", num_workers=2)
print(json.dumps({"before": sorted(before), "inside": sorted(seen), "after": sorted(threads())}))
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has one thread anyway")
def test_libraries_have_one_thread_inside_a_block_and_theirs_again_after_it(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert max(found["before"]) > 1, "nothing to limit here"
    assert found["inside"] == [1]
    assert found["after"] == found["before"]


#: Pages that one block of large spheres takes from the system, once all is compiled.
PAGES = """
import resource
import numpy as np, slcluster as slc
from slcluster.compute import score_centers

ds = slc.simulate(shape=(9, 9, 9), n_runs=12, n_informative=1, seed=0)
ds = slc.select(ds, conditions=["face", "house"])
plan = slc.plan(ds, n_voxels=200, estimator="ridge_classifier", cv=2)
samples, window = ds["bold"].values, tuple(slice(0, size) for size in ds["bold"].shape[:3])

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    score_centers(plan, plan.geometry.centers_ijk[:40], samples, window, name="block 0")
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
print(pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_a_worker_keeps_the_memory_that_the_next_sphere_needs_again(tmp_path: Path) -> None:
    """Dask's nannies tell their workers to give all back; 40 spheres of 200 voxels then took 17,000 pages."""
    env = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    words = [sys.executable, "-c", PAGES]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 5000


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    return noise_dataset(affine=OBLIQUE)


def _failing(true: np.ndarray, predicted: np.ndarray) -> float:
    raise ZeroDivisionError("nothing to divide by")


def test_a_scorer_that_fails_is_told_alike_by_every_engine(ds: xr.Dataset) -> None:
    said = []
    for engine in ("auto", "sklearn"):
        maps = slc.searchlight(
            ds, radius_mm=5.5, estimator="gnb", scoring={"bad": make_scorer(_failing)}, engine=engine
        )
        assert maps.attrs["engine"] == {"auto": "gnb"}.get(engine, engine)
        with pytest.raises(
            BlockError, match="center at voxel .* fold 0: ZeroDivisionError: nothing to"
        ) as caught:
            maps.compute(scheduler="sync")
        said.append(str(caught.value))
    assert said[0] == said[1]


@pytest.mark.filterwarnings(
    "ignore:divide by zero:RuntimeWarning"
)  # the logarithm of the prior, in scikit-learn
def test_a_prior_of_zero_is_scored_as_scikit_learn_does(ds: xr.Dataset) -> None:
    """Log probabilities are minus infinity then; the loss is what clipping makes of it."""
    ds = ds.assign(bold=ds["bold"].astype(np.float64))
    fast, slow = (
        slc.searchlight(
            ds, radius_mm=5.5, estimator=GaussianNB(priors=[0, 1]), scoring="neg_log_loss", engine=engine
        ).compute(scheduler="sync")
        for engine in ("auto", "sklearn")
    )
    assert fast.attrs["engine"] == "gnb"
    assert np.isfinite(fast["score"].values[ds["mask"].values]).all()
    np.testing.assert_allclose(fast["score_fold"], slow["score_fold"], rtol=1e-12)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("estimator", ["svc", LogisticRegression()], ids=["svm", "logistic"])
def test_fits_that_do_not_converge_are_counted_on_fast_engines(estimator: Any, ds: xr.Dataset) -> None:
    """Squares of one voxel's values are infinite; the spheres that hold it are told apart from all others."""
    ds = ds.assign(bold=ds["bold"].astype(np.float64))
    bold, voxel = ds["bold"].values, tuple(np.argwhere(ds["mask"].values)[0])
    bold[voxel] *= 1e200
    plan = slc.plan(ds, radius_mm=3.1, estimator=estimator)
    assert plan.engine != "sklearn"
    window = tuple(slice(0, size) for size in plan.geometry.shape)
    found = score_centers(plan, plan.geometry.centers_ijk, bold, window, name="all")
    spacing_mm = plan.geometry.affine[:3, :3] @ (plan.geometry.centers_ijk - voxel).T
    holds_it = np.linalg.norm(spacing_mm, axis=0) <= 3.1
    assert 0 < holds_it.sum() < len(holds_it)
    assert found.n_unconverged.tolist() == np.repeat(holds_it[:, None], 3, axis=1).astype(int).tolist()
