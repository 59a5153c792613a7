"""One contender in one fresh process: the same analysis by slcluster, nilearn, nilearn under Dask, or a bare loop.

    python benchmarks/contenders.py NAME SETTINGS REPORT

SETTINGS is JSON: the subject's files, ``workers``, ``scratch`` (a folder of this process's own) and ``scores``
(where to save the scores of all centers, in C order of the process mask). REPORT is the JSON file to write.
Only what is contended is imported, so that memory is what a user of it sees.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from measure import ONE_THREAD, Laps, peak_rss_bytes
from subjects import CONDITIONS, FOLDS, RADIUS_MM

#: Chunks of centers that nilearn under Dask is cut into: as many as slcluster's least number of blocks.
_DASK_CHUNKS = 32


def with_slcluster(settings: dict[str, Any], laps: Laps) -> dict[str, Any]:
    """Files to a finished result store on a local cluster, as a user writes it."""
    from sklearn.model_selection import KFold

    import slcluster as slc
    from slcluster.cluster import connect

    laps.lap("imports")
    ds = _ingested(slc, settings)
    laps.lap("ingest")
    options = {
        "radius_mm": RADIUS_MM,
        "cv": KFold(FOLDS),
        "process_mask": settings["process_mask"],
        "engine": "sklearn",
    }
    with connect("local", workers=settings["workers"], threads=1) as client:
        client.get_task_stream()  # the record begins when it is first asked for
        laps.lap("cluster")
        edges: list[float] = []
        maps = slc.searchlight(
            ds,
            **options,
            out=Path(settings["scratch"]) / "result.zarr",
            client=client,
            progress=lambda step: _lap_blocks(laps, step, edges),
        )
        laps.lap("assemble")
        workers = client.run(peak_rss_bytes)
        blocks = _block_seconds(client)
    laps.lap("shutdown")
    np.save(settings["scores"], maps["score"].values[_centers(settings)])
    found: dict[str, Any] = {
        "workers_rss_bytes": sorted(workers.values()),
        "blocks": blocks,
        "search_edges": edges,
    }
    if settings.get("rereads"):
        found["reading_s"] = _reading_seconds(slc.plan(ds, **options))
    return found


def _ingested(slc: Any, settings: dict[str, Any]) -> Any:
    ds = slc.ingest(
        settings["bold"],
        Path(settings["scratch"]) / "subject.zarr",
        mask=settings["mask"],
        labels=settings["labels"],
    )
    return slc.select(ds, conditions=list(CONDITIONS))


def _lap_blocks(laps: Laps, step: Any, edges: list[float]) -> None:
    """Blocks begin at the first event, which says that none is done, and end with the last."""
    if step.unit == "block" and step.done in (0, step.total):
        laps.lap("search" if step.done else "set-up")
        edges.append(time.time())


def _block_seconds(client: Any) -> dict[str, float]:
    """When blocks were computed on all workers together, from Dask's own record: seconds since the epoch."""
    tasks = [task for task in client.get_task_stream() if str(task["key"]).startswith("('searchlight-")]
    parts = [part for task in tasks for part in task["startstops"] if part["action"] == "compute"]
    return {
        "n": len(parts),
        "first_start": min(part["start"] for part in parts),
        "last_stop": max(part["stop"] for part in parts),
        "sum": sum(part["stop"] - part["start"] for part in parts),
    }


def _reading_seconds(plan: Any) -> float:
    """Reading the slabs of all blocks once more, here and one after the other."""
    from slcluster.blocks import block_window
    from slcluster.compute import read_slab

    began = time.perf_counter()
    for number in range(plan.n_blocks):
        read_slab(plan, block_window(plan.block(number), plan.geometry.halo, plan.geometry.shape))
    return time.perf_counter() - began


def set_up_slcluster(settings: dict[str, Any], laps: Laps) -> dict[str, Any]:
    """The plan of all centers: spheres, blocks, folds, checks."""
    from sklearn.model_selection import KFold

    import slcluster as slc

    ds, make_plan = _ingested(slc, settings), slc.plan
    laps.lap("before")
    plan = make_plan(ds, radius_mm=RADIUS_MM, cv=KFold(FOLDS))
    laps.lap("set-up")
    return {"n_centers": plan.n_centers, "n_memberships": int(plan.geometry.sphere_size.sum())}


def with_nilearn(settings: dict[str, Any], laps: Laps) -> dict[str, Any]:
    """nilearn's own class as a user calls it, with ``n_jobs`` processes. Only watched: nothing in it is changed."""
    import nilearn.decoding.searchlight as module
    from sklearn.model_selection import KFold

    laps.lap("imports")
    image, y = _selected(settings)
    laps.lap("load")
    search = module.search_light
    module.search_light = _between_laps(search, laps)
    found = module.SearchLight(
        settings["mask"],
        process_mask_img=settings["process_mask"],
        radius=RADIUS_MM,
        estimator="svc",
        n_jobs=settings["workers"],
        scoring="accuracy",
        cv=KFold(FOLDS),
    ).fit(image, y)
    laps.lap("assemble")
    np.save(settings["scores"], found.masked_scores_)
    return {}


def with_a_class(settings: dict[str, Any], laps: Laps) -> dict[str, Any]:
    """nilearn's ``SearchLight`` or ours behind the same arguments, in one process; twice, so that the second is warm."""
    from sklearn.model_selection import KFold

    if settings["library"] == "nilearn":
        from nilearn.decoding import SearchLight
    else:
        from slcluster import SearchLight
    laps.lap("imports")
    image, y = _selected(settings)
    laps.lap("load")
    options: dict[str, Any] = {"engine": settings["engine"]} if settings["engine"] else {}
    for stage in ("first fit", "fit"):
        found = SearchLight(
            settings["mask"],
            process_mask_img=settings["process_mask"],
            radius=RADIUS_MM,
            cv=KFold(FOLDS),
            **options,
        ).fit(image, y)
        laps.lap(stage)
    np.save(settings["scores"], found.scores_[_centers(settings)])
    return {}


def _between_laps(search: Callable[..., Any], laps: Laps) -> Callable[..., Any]:
    """The part of ``fit`` that goes through centers; what came before it is set-up."""

    def timed(*arguments: Any, **options: Any) -> Any:
        laps.lap("set-up")
        scores = search(*arguments, **options)
        laps.lap("search")
        return scores

    return timed


def with_nilearn_on_dask(settings: dict[str, Any], laps: Laps) -> dict[str, Any]:
    """nilearn's public pieces on Dask: chunks of centers are tasks, and inside a task nothing is parallel.

    joblib's Dask backend would turn every center's inner cross-validation into tasks of its own, at three to
    five times the time of no Dask at all; this is what someone who knows both would write instead.
    """
    from nilearn.decoding.searchlight import search_light
    from sklearn.model_selection import KFold
    from sklearn.svm import LinearSVC

    laps.lap("imports")
    image, y = _selected(settings)
    laps.lap("load")
    x, adjacency = _adjacency(settings, image, settings["process_mask"])
    parts = np.array_split(np.arange(adjacency.shape[0]), min(_DASK_CHUNKS, adjacency.shape[0]))
    laps.lap("set-up")
    estimator = LinearSVC(max_iter=10_000, random_state=0)
    with _local_client(settings["workers"]) as client:
        laps.lap("cluster")
        shared = client.scatter(x, broadcast=True)
        futures = [
            client.submit(
                search_light, shared, y, estimator, adjacency[part], None, "accuracy", KFold(FOLDS), n_jobs=1
            )
            for part in parts
        ]
        scores = np.concatenate(client.gather(futures))
        laps.lap("search")
        workers = client.run(peak_rss_bytes)
    laps.lap("shutdown")
    np.save(settings["scores"], scores)
    return {"workers_rss_bytes": sorted(workers.values()), "n_parts": len(parts)}


@contextmanager
def _local_client(workers: int) -> Iterator[Any]:
    """Processes of one thread on loopback, as slcluster's local cluster has them."""
    import dask
    from distributed import Client, LocalCluster

    environ = {"distributed.nanny.pre-spawn-environ": {**ONE_THREAD, "MALLOC_TRIM_THRESHOLD_": "65536"}}
    with (
        dask.config.set(environ),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def set_up_nilearn(settings: dict[str, Any], laps: Laps) -> dict[str, Any]:
    """Masking and the adjacency of all centers, which ``fit`` does before it searches."""
    import nilearn.decoding.searchlight  # noqa: F401 (imports are not set-up)

    image, _ = _selected(settings)
    laps.lap("before")
    _, adjacency = _adjacency(settings, image, settings["mask"])
    laps.lap("set-up")
    return {"n_centers": adjacency.shape[0], "n_memberships": int(adjacency.nnz)}


def _adjacency(settings: dict[str, Any], image: Any, centers: str) -> tuple[np.ndarray, Any]:
    """Samples x mask voxels, and the sparse centers x mask voxels, as ``SearchLight.fit`` gets them."""
    import nibabel as nib
    from nilearn.image import coord_transform
    from nilearn.maskers.nifti_spheres_masker import apply_mask_and_get_affinity

    where = nib.Nifti1Image.from_filename(centers)
    ijk = np.nonzero(np.asarray(where.dataobj))
    seeds = np.asarray(coord_transform(*ijk, where.affine)).T
    return apply_mask_and_get_affinity(
        seeds, image, RADIUS_MM, True, mask_img=nib.Nifti1Image.from_filename(settings["mask"])
    )


def bare_loop(settings: dict[str, Any], laps: Laps) -> dict[str, Any]:
    """``cross_val_score`` of every center, one after the other: the work that an engine cannot do without."""
    import nibabel as nib
    from scipy.spatial import KDTree
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.svm import LinearSVC

    laps.lap("imports")
    image, y = _selected(settings)
    mask = nib.Nifti1Image.from_filename(settings["mask"])
    inside = np.asarray(mask.dataobj) != 0
    x = np.asarray(image.dataobj)[inside].astype(np.float32).T
    voxels_mm = nib.affines.apply_affine(mask.affine, np.argwhere(inside))
    centers_mm = nib.affines.apply_affine(mask.affine, np.argwhere(_centers(settings)))
    spheres = KDTree(voxels_mm).query_ball_point(centers_mm, RADIUS_MM, return_sorted=True)
    spheres = spheres[:: settings.get("every", 1)]
    estimator, folds = LinearSVC(max_iter=10_000, random_state=0), KFold(FOLDS)
    laps.lap("set-up")
    scores = np.empty(len(spheres))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for row, columns in enumerate(spheres):
            scores[row] = cross_val_score(estimator, x[:, columns], y, cv=folds, scoring="accuracy").mean()
    laps.lap("search")
    np.save(settings["scores"], scores)
    return {"n_centers": len(scores)}


def _selected(settings: dict[str, Any]) -> tuple[Any, Any]:
    """The image of the samples analysed, in memory, and their labels: NumPy's text, which indexes fastest."""
    import nibabel as nib
    import pandas as pd

    table = pd.read_csv(settings["labels"], sep=" ")
    chosen = table["labels"].isin(CONDITIONS).to_numpy()
    whole = nib.Nifti1Image.from_filename(settings["bold"])
    image = nib.Nifti1Image(np.asarray(whole.dataobj)[..., chosen], whole.affine, whole.header)
    return image, np.array(table["labels"][chosen].tolist())


def _centers(settings: dict[str, Any]) -> np.ndarray:
    import nibabel as nib

    return np.asarray(nib.Nifti1Image.from_filename(settings["process_mask"]).dataobj) != 0


CONTENDERS: dict[str, Callable[[dict[str, Any], Laps], dict[str, Any]]] = {
    "slcluster": with_slcluster,
    "slcluster-set-up": set_up_slcluster,
    "nilearn": with_nilearn,
    "nilearn-dask": with_nilearn_on_dask,
    "nilearn-set-up": set_up_nilearn,
    "class": with_a_class,
    "bare-loop": bare_loop,
}


def main() -> None:
    name, settings, report = sys.argv[1:]
    laps = Laps()
    found = CONTENDERS[name](json.loads(settings), laps)
    found |= {"stages": laps.stages, "rss_bytes": peak_rss_bytes()}
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
