"""One block: how many threads the libraries under it may use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
