"""One side of a row of the speed table in one fresh process: nilearn's search, or a fast engine of slcluster.

    python benchmarks/searches.py NAME SETTINGS REPORT

SETTINGS is JSON: ``store`` (a subject store), ``features`` (voxels x samples as both sides get them, .npy),
``spec`` (what is fitted: a row of ``rows.py``), ``chosen`` (indices into the mask's voxels: the centers timed, .npy) and
``scores`` (where to save theirs). REPORT is the JSON file to write. Seconds are of this process's CPU: one core
is compared with one core, and on a machine that does other things too the clock on the wall measures those.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

#: A measurement shorter than this is repeated, and its shortest repeat taken.
_LEAST_S, _REPEATS = 1.0, 5


def seconds(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU and wall seconds of some work, the least of its repeats where it is short, and what it returned."""
    cpu, wall, spent = np.inf, np.inf, 0.0
    for _ in range(_REPEATS):
        began, cpu_began = time.perf_counter(), time.process_time()
        found = work()
        took = time.process_time() - cpu_began
        cpu, wall, spent = min(cpu, took), min(wall, time.perf_counter() - began), spent + took
        if spent > _LEAST_S:
            break
    return cpu, wall, found


def make_plan(settings: dict[str, Any], **more: Any) -> Any:
    """The plan of all centers, as the row has it."""
    from sklearn.model_selection import KFold

    import slcluster as slc
    from slcluster.jobs.objects import build_object

    spec = settings["spec"]
    name = spec["estimator"]
    ds = slc.open_store(settings["store"])
    conditions = [name for name in np.unique(ds["condition"].values).tolist() if name != "rest"]
    return slc.plan(
        slc.select(ds, conditions=conditions),
        radius_mm=spec["radius_mm"],
        estimator=build_object({"class": name}) if "." in name else name,
        cv=KFold(spec["n_folds"]) if spec["n_folds"] else None,
        standardize=spec["standardize"],
        **more,
    )


def features(plan: Any, dtype: str | None = None) -> np.ndarray:
    """What both sides fit: mask voxels x samples, prepared."""
    from slcluster.compute import read_slab
    from slcluster.kernels.preparation import prepare

    design, span = plan.design, plan.design.read_span(plan.detrend)
    slab = read_slab(plan, tuple(slice(0, size) for size in plan.geometry.shape))
    x = prepare(
        slab[plan.geometry.mask],
        design.all_runs[span],
        design.chosen - span.start,
        detrend=plan.detrend,
        standardize=plan.standardize,
        zero_nonfinite=False,
    )
    return np.ascontiguousarray(x, dtype)


def with_nilearn(settings: dict[str, Any]) -> dict[str, Any]:
    """nilearn's ``search_light`` over the centers chosen; its adjacency apart."""
    from nilearn.decoding.searchlight import search_light
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold, LeaveOneGroupOut

    plan = make_plan(settings)
    design, spec = plan.design, settings["spec"]
    y, runs = design.classes[design.targets], design.all_runs[design.chosen]
    ijk = np.argwhere(plan.geometry.mask)[np.load(settings["chosen"])]
    set_up, _, adjacency = seconds(lambda: nilearn_adjacency(plan, ijk, spec["radius_mm"]))
    x = np.load(settings["features"]).T  # as masking leaves it: samples x voxels, of contiguous voxels
    cv = KFold(spec["n_folds"]) if spec["n_folds"] else LeaveOneGroupOut()

    def search(part: Any) -> np.ndarray:
        return search_light(x, y, plan.estimator, part, runs, "accuracy", cv, n_jobs=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        search(adjacency[:2])  # imports that it puts off
        cpu, wall, scores = seconds(lambda: search(adjacency))
    np.save(settings["scores"], scores)
    return {"cpu_s": cpu, "wall_s": wall, "set_up_s": set_up, "n_centers": len(ijk)}


def nilearn_adjacency(plan: Any, ijk: np.ndarray, radius_mm: float) -> Any:
    """The sparse centers x mask voxels that ``SearchLight.fit`` makes, without the masking of images."""
    import nibabel as nib
    from nilearn.image import coord_transform
    from nilearn.maskers.nifti_spheres_masker import apply_mask_and_get_affinity

    affine = plan.geometry.affine
    mask = nib.Nifti1Image(plan.geometry.mask.astype(np.uint8), affine)
    seeds = np.asarray(coord_transform(*ijk.T, affine)).T
    return apply_mask_and_get_affinity(seeds, None, radius_mm, True, mask_img=mask)[1]


def with_slcluster(settings: dict[str, Any]) -> dict[str, Any]:
    """The fast engine on the same centers, spheres and samples at hand as nilearn has them; then whole blocks."""
    from slcluster.kernels.spheres import Spheres, find_spheres

    plan = make_plan(settings)
    geometry, x = plan.geometry, np.load(settings["features"])
    spheres = find_spheres(
        np.argwhere(geometry.mask)[np.load(settings["chosen"])], geometry.mask, geometry.offsets
    )
    score = _scorer(plan)
    few = spheres.indptr[:3]
    score(x, Spheres(few, spheres.indices[: few[-1]]))  # compiles, or loads what was compiled
    cpu, wall, scores = seconds(lambda: score(x, spheres))
    np.save(settings["scores"], scores.mean(axis=-1))
    found = {
        "engine": plan.engine,
        "cpu_s": cpu,
        "wall_s": wall,
        "n_centers": len(scores),
        "mean_voxels": float(geometry.sphere_size.mean()),
    }
    found |= _in_blocks(plan, settings["n_in_blocks"])
    if settings.get("wants_bounds"):
        from bounds import bounds_of

        # In blocks, what voxels share is spread over the spheres that share it.
        found["bounds"] = bounds_of(plan, x, spheres, found["blocks_cpu_s"] / found["n_in_blocks"])
    return found


def _scorer(plan: Any) -> Callable[[np.ndarray, Any], np.ndarray]:
    """Accuracy by center and fold, from the kernel alone: what a block does once it has samples and spheres."""
    from slcluster.estimators import ENGINES
    from slcluster.kernels.scores import score

    design, engine = plan.design, ENGINES[plan.engine]
    params = engine.params(plan.estimator, design.classes) | {"n_classes": len(design.classes)}
    kernel, folds, targets = engine.load(), design.folds, design.targets[None]

    def scored(x: np.ndarray, spheres: Any) -> np.ndarray:
        found = kernel(x, targets, folds.train, folds.test, spheres, outputs=("confusion",), **params)
        return score(found, plan.scorers, targets, folds.test, design.classes)[:, 0, :, 0]

    return scored


def _in_blocks(plan: Any, n_centers: int) -> dict[str, Any]:
    """Whole blocks of the plan, spread over the brain: spheres, preparation, kernel and scorer. Reading is apart."""
    from slcluster.blocks import block_window
    from slcluster.compute import read_slab, score_centers

    n_blocks = min(plan.n_blocks, -(-n_centers // plan.block_centers))
    cpu, wall, n = 0.0, 0.0, 0
    for number in np.arange(n_blocks) * plan.n_blocks // n_blocks:
        centers = plan.block(int(number))
        window = block_window(centers, plan.geometry.halo, plan.geometry.shape)
        slab = read_slab(plan, window)
        if n == 0:
            score_centers(plan, centers[:2], slab, window, name="block")  # values may be of another type
        began, cpu_began = time.perf_counter(), time.process_time()
        score_centers(plan, centers, slab, window, name="block")
        cpu, wall = cpu + time.process_time() - cpu_began, wall + time.perf_counter() - began
        n += len(centers)
    return {"blocks_cpu_s": cpu, "blocks_wall_s": wall, "n_in_blocks": n, "n_all": plan.n_centers}


def set_up_nilearn(settings: dict[str, Any]) -> dict[str, Any]:
    """nilearn's adjacency of all centers chosen."""
    plan = make_plan(settings)
    ijk = np.argwhere(plan.geometry.mask)[np.load(settings["chosen"])]
    cpu, wall, adjacency = seconds(lambda: nilearn_adjacency(plan, ijk, settings["spec"]["radius_mm"]))
    return {"cpu_s": cpu, "wall_s": wall, "n_centers": len(ijk), "digest": _digest(adjacency.rows)}


def set_up_slcluster(settings: dict[str, Any]) -> dict[str, Any]:
    """The same spheres, from the affine and the mask."""
    from slcluster.kernels.spheres import find_spheres, sphere_offsets

    plan = make_plan(settings)
    geometry = plan.geometry
    ijk = np.argwhere(geometry.mask)[np.load(settings["chosen"])]

    def find() -> Any:
        offsets = sphere_offsets(geometry.affine, settings["spec"]["radius_mm"], geometry.mask.shape)
        return find_spheres(ijk, geometry.mask, offsets)

    cpu, wall, spheres = seconds(find)
    rows = np.split(spheres.indices, spheres.indptr[1:-1])
    whole, _, _ = seconds(lambda: make_plan(settings))
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "n_centers": len(ijk),
        "digest": _digest(rows),
        "whole_plan_cpu_s": whole,
    }


def _digest(rows: Iterable[Any]) -> str:
    """Of all spheres' voxels, in order."""
    from hashlib import sha256

    digest = sha256()
    for row in rows:
        digest.update(np.append(np.sort(np.asarray(row, np.int64)), -1).tobytes())
    return digest.hexdigest()


SIDES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "nilearn": with_nilearn,
    "slcluster": with_slcluster,
    "nilearn-set-up": set_up_nilearn,
    "slcluster-set-up": set_up_slcluster,
}


def main() -> None:
    name, settings, report = sys.argv[1:]
    Path(report).write_text(json.dumps(SIDES[name](json.loads(settings))))


if __name__ == "__main__":
    main()
