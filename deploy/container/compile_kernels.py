"""Compile what analyses call, so that the workers of an image start warm.

Numba keeps what it compiles in the folder ``NUMBA_CACHE_DIR``, for processors of the kind that this runs on.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from sklearn.base import is_regressor

import slcluster as slc
from slcluster.estimators import Measure
from slcluster.estimators.names import NAMES, resolve

#: Two classes and several are other code, and so are voxels in single and in double precision.
CONDITIONS = (["face", "house"], ["face", "house", "cat"])
PREPARATIONS = (None, "run")


def analyse(ds: xr.Dataset, estimator: str, **options: object) -> None:
    """Map a few centers, where an engine of ours computes the estimator."""
    asked = {"estimator": estimator, "radius_mm": 4.0, "center_spacing": 3, **options}
    plan = slc.plan(ds, **asked)
    if plan.engine != "sklearn":
        slc.searchlight(ds, **asked).compute(scheduler="synchronous")
        print(plan.engine, options, flush=True)


def main() -> None:
    for conditions in CONDITIONS:
        brain = slc.simulate(shape=(7, 8, 9), n_runs=4, n_informative=1, conditions=conditions, seed=0)
        chosen = slc.select(brain, conditions=conditions)
        chosen = chosen.assign_coords(level=("sample", np.linspace(-1, 1, chosen.sizes["sample"])))
        for standardize in PREPARATIONS:
            for name in sorted(NAMES):
                estimator = resolve(name)
                is_numeric = not isinstance(estimator, Measure) and is_regressor(estimator)
                numbers = {"target": "level", "scoring": "r2"} if is_numeric else {}
                analyse(chosen, name, standardize=standardize, **numbers)
        slc.f_score(chosen).compute(scheduler="synchronous")


if __name__ == "__main__":
    main()
