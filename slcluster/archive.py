"""What a result store keeps: the plan it was begun with, and how to read it back as maps, plan or status."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from slcluster import estimators
from slcluster.errors import PlanError, StoreError
from slcluster.filling import mark_centers
from slcluster.geometry import offsets_of
from slcluster.kernels.folds import Folds, from_ranks, to_ranks
from slcluster.kernels.spheres import sphere_halo
from slcluster.maps import maps_dataset, over_folds, plan_attrs, scatter
from slcluster.plan import Design, Geometry, Plan, design_identity, geometry_identity
from slcluster.schema import SCHEMA_VERSION
from slcluster.store.failures import FAILURES_NAME, Failure, read_failures
from slcluster.store.lease import SILENCE_S, is_dead, read_lease, silence_s
from slcluster.store.result import (
    blocks_done,
    create_result,
    is_result_finished,
    read_constants,
    read_result,
    read_result_attrs,
)
from slcluster.store.staging import as_path, is_staging

__all__ = [
    "Status",
    "as_stored",
    "create",
    "how_far",
    "open_result",
    "results_in",
    "status",
    "stored_layout",
    "stored_plan",
]

#: Attributes that only the store needs.
_INTERNAL = (
    "constants",
    "classes",
    "layout",
    "block_centers",
    "is_measure",
    "value_bytes",
    "source_path",
    "source_digest",
    "store_id",
)


#: Failures that a status spells out.
_TOLD = 10


def create(plan: Plan, path: Path) -> None:
    """A new result store that holds the plan and no block."""
    g, d = plan.geometry, plan.design
    n_samples = len(d.targets)
    constants: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "center_ijk": (("center", "axis"), g.centers_ijk),
        "sphere_size": (("center",), g.sphere_size),
        "mask": (("x", "y", "z"), g.mask),
        "process_mask": (("x", "y", "z"), g.process_mask),
        "grid_affine": (("affine_row", "affine_column"), g.affine),
        **{name: ((name,), np.asarray(axis, np.int64)) for name, axis in zip("xyz", g.axes, strict=True)},
        "chosen": (("sample",), d.chosen),
        "all_runs": (("all_sample",), d.all_runs),
        "sample_index": (("sample",), d.sample_index),
        "targets": (("sample",), d.targets),
        "train_rank": (("fold", "sample"), to_ranks(d.folds.train, n_samples)),
        "test_rank": (("fold", "sample"), to_ranks(d.folds.test, n_samples)),
        **({} if d.weights is None else {"weights": (("sample",), d.weights)}),
    }
    if g.fill_mask is not None:
        constants["fill_mask"] = (("x", "y", "z"), g.fill_mask)
    create_result(
        path,
        n_centers=plan.n_centers,
        block_centers=plan.block_centers,
        sizes=dict(zip(("metric", "fold"), plan.score_shape, strict=True)),
        constants=constants,
        attrs={
            **plan_attrs(plan),
            "classes": json.dumps(None if d.classes is None else d.classes.tolist()),
            "layout": json.dumps(plan.layout),
            "block_centers": plan.block_centers,
            "is_measure": int(plan.is_measure),
            "value_bytes": plan.value_bytes,
            "source_path": plan.source_path,
            "source_digest": plan.source_digest,
        },
    )


def as_stored(plan: Plan, path: Path) -> Plan:
    """The requested plan in the blocks that the store already has; refused if it is another analysis."""
    attrs = read_result_attrs(path)
    if attrs["fingerprint"] != plan.fingerprint:
        fields = plan.differences(json.loads(attrs["identity"]))
        raise PlanError(
            f"{path} holds another analysis; it differs in: {', '.join(fields) or 'an unknown field'}; "
            "pass another out, or the arguments it was begun with"
        )
    arrays = read_constants(path)
    geometry = replace(plan.geometry, centers_ijk=arrays["center_ijk"], sphere_size=arrays["sphere_size"])
    return replace(plan, geometry=geometry, block_centers=attrs["block_centers"])


def stored_plan(path: str | Path) -> Plan:
    """The plan that a result store was begun with.

    Raises
    ------
    InputError
        The estimator or a scorer is not scikit-learn's own: a store must not name code to import.
    StoreError
        Missing or damaged, or begun with a version whose numbers may differ from this one's.
    """
    attrs, arrays = read_result_attrs(path), read_constants(path)
    identity = json.loads(attrs["identity"])
    estimator, scorer, scorers = _stored_estimator(path, identity)
    plan = Plan(
        subject=attrs["subject"],
        source_path=attrs["source_path"],
        source_digest=attrs["source_digest"],
        value_bytes=attrs["value_bytes"],
        geometry=_stored_geometry(arrays, identity),
        design=_stored_design(arrays, json.loads(attrs["classes"])),
        estimator=estimator,
        scorer=scorer,
        scorers=scorers,
        layout=stored_layout(attrs),
        engine=identity["engine"],
        standardize=identity["standardize"],
        detrend=identity["detrend"],
        nonfinite=identity["nonfinite"],
        min_voxels=identity["min_voxels"],
        block_centers=attrs["block_centers"],
        attrs={},
        identity=identity,
        arguments=json.loads(attrs.get("arguments", "{}")),  # stores of before there were any lack them
    )
    # What this version makes of the same arrays. Groups are not kept: their folds are.
    now = {
        **design_identity(plan.design),
        **geometry_identity(plan.geometry),
        "groups": identity["groups"],
        "schema_version": SCHEMA_VERSION,
        "engine_version": estimators.version_of(plan.engine),
        "estimator": estimators.describe(estimator),
        "metrics": list(plan.layout.plain),
        "tables": list(plan.layout.tables),
    }
    fields = sorted(name for name, value in now.items() if identity[name] != value)
    if fields or plan.fingerprint != attrs["fingerprint"]:
        raise StoreError(
            f"{path} was begun with another version of slcluster or scikit-learn, or is damaged: "
            f"{', '.join(fields) or 'fingerprint'} differ; finish it with that version, or begin again elsewhere"
        )
    return plan


def _stored_estimator(path: str | Path, identity: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    try:
        estimator = estimators.rebuild(identity["estimator"])
        scoring = identity["scoring"]
        if scoring is not None:  # in the order of the stored scores: JSON has sorted the names
            metrics = {name: scoring[name] for name in identity["metrics"]}
            scoring = {
                name: metric if isinstance(metric, str) else estimators.rebuild(metric)
                for name, metric in metrics.items()
            }
        _, scorer, _ = estimators.make_scorer(scoring, estimator)
        is_generic = identity["engine"] == "sklearn" or isinstance(estimator, estimators.Measure)
        scorers = {} if is_generic else estimators.fast_scorers(scoring, estimator)
    except (ImportError, AttributeError, TypeError) as error:
        raise StoreError(
            f"the estimator that {path} was begun with does not exist in this scikit-learn ({error}); "
            "finish it with that version, or begin again elsewhere"
        ) from error
    return estimator, scorer, scorers


def stored_layout(attrs: Mapping[str, Any]) -> estimators.Layout:
    """What a result's values are called, from the attributes of its store."""
    dims, labels, tables, classes = json.loads(attrs["layout"])
    return estimators.Layout(tuple(dims), tuple(map(tuple, labels)), tuple(tables), tuple(classes))


def _stored_geometry(arrays: Mapping[str, np.ndarray], identity: Mapping[str, Any]) -> Geometry:
    mask, affine, centers = arrays["mask"], arrays["grid_affine"], arrays["center_ijk"]
    # Stores of before there was a number of voxels or a spacing lack their fields.
    radius_mm, n_voxels = identity["radius_mm"], identity.get("n_voxels")
    i, j, k = identity.get("center_spacing", (1, 1, 1))
    offsets = offsets_of(affine, centers, mask, radius_mm, n_voxels)
    return Geometry(
        affine=affine,
        axes=(arrays["x"], arrays["y"], arrays["z"]),
        mask=mask,
        process_mask=arrays["process_mask"],
        radius_mm=radius_mm,
        offsets=offsets,
        halo=sphere_halo(offsets),
        centers_ijk=centers,
        sphere_size=arrays["sphere_size"],
        n_voxels=n_voxels,
        center_spacing=(i, j, k),
        fill_mask=arrays.get("fill_mask"),
    )


def _stored_design(arrays: Mapping[str, np.ndarray], classes: list[Any] | None) -> Design:
    return Design(
        chosen=arrays["chosen"],
        all_runs=arrays["all_runs"],
        sample_index=arrays["sample_index"],
        targets=arrays["targets"],
        classes=None if classes is None else np.array(classes),
        groups=np.zeros(0),
        folds=Folds(from_ranks(arrays["train_rank"]), from_ranks(arrays["test_rank"])),
        weights=arrays.get("weights"),
    )


def open_result(path: str | Path) -> xr.Dataset:
    """Open a result store, finished or not, as maps.

    Parameters
    ----------
    path : path
        What was passed as ``out``.

    Returns
    -------
    xarray.Dataset
        ``score``, ``score_fold`` (float64, NaN outside the centers and in blocks not done) and
        ``sphere_size`` (int32), in memory. ``attrs`` say how they were made; ``n_blocks_done`` and
        ``n_blocks`` how far; ``n_blocks_failed`` how many of the others were given up, with their errors in
        ``failures``; ``n_unconverged`` in how many fits the estimator stopped before it converged.

    Raises
    ------
    StoreError
        Missing, not a result, or damaged.
    InputError
        It is no path.

    Examples
    --------
    >>> import tempfile
    >>> from slcluster import searchlight, select, simulate
    >>> ds = select(simulate(shape=(5, 6, 7), n_runs=2, seed=0), conditions=["face", "house"])
    >>> out = tempfile.mkdtemp() + "/out.zarr"
    >>> maps = searchlight(ds, radius_mm=5.6, estimator="gnb", out=out)
    >>> open_result(out).identical(maps)
    True
    """
    path = as_path(path, "a result store")
    attrs = read_result_attrs(path)
    arrays, done = read_result(path)
    if is_result_finished(path) and not done.all():
        raise StoreError(
            f"{path} was finished, but {np.count_nonzero(~done)} of its {len(done)} blocks are damaged or gone; "
            f"compute them again: slcluster resume {path}"
        )
    failures = _failures(path, done)
    shape, centers, layout = arrays["mask"].shape, arrays["center_ijk"], stored_layout(attrs)
    score_fold = arrays["score"]
    public = {key: value for key, value in attrs.items() if key not in _INTERNAL}
    step = np.diag(
        [
            *(axis[1] - axis[0] if len(axis) > 1 else 1 for axis in (arrays["x"], arrays["y"], arrays["z"])),
            1.0,
        ]
    )
    step[:3, 3] = [arrays[name][0] for name in "xyz"]
    maps = maps_dataset(
        scatter(centers, over_folds(score_fold, layout), shape, np.nan),
        scatter(centers, score_fold, shape, np.nan),
        scatter(centers, arrays["sphere_size"], shape, 0),
        layout=layout,
        is_measure=bool(attrs["is_measure"]),
        axes={name: arrays[name] for name in "xyz"},
        affine=arrays["grid_affine"] @ np.linalg.inv(step),
        attrs={
            **public,
            "n_blocks": len(done),
            "n_blocks_done": int(done.sum()),
            "n_blocks_failed": len(failures),
            **({"failures": "; ".join(failure.error for failure in failures)} if failures else {}),
            "n_unconverged": int(arrays["n_unconverged"].sum()),
        },
    )
    return mark_centers(maps, arrays["process_mask"], arrays.get("fill_mask"))


@dataclass(frozen=True)
class Status:
    """How far a result is, read from its store alone. Printable.

    Attributes
    ----------
    path, subject : str
    is_finished : bool
    n_blocks, n_done, n_centers : int
    holder : str or None
        Process and host of the driver that computes it now.
    seconds_running : float or None
        Since that driver began.
    seconds_silent : float or None
        Since its last sign of life, of which there is one every ten seconds.
    blocks_per_s : float or None
        Rate of that driver.
    seconds_left : float or None
    failures : tuple of Failure
        Blocks that were given up, with their errors. Going on tries them again.
    """

    path: str
    subject: str
    is_finished: bool
    n_blocks: int
    n_done: int
    n_centers: int
    holder: str | None
    seconds_running: float | None
    seconds_silent: float | None
    blocks_per_s: float | None
    seconds_left: float | None
    failures: tuple[Failure, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether the driver gave no sign of life for so long that another may take over."""
        return (self.seconds_silent or 0) > SILENCE_S

    @property
    def state(self) -> str:
        """``"finished"``, ``"running"`` or ``"interrupted"``."""
        if self.is_finished:
            return "finished"
        return "running" if self.holder is not None and not self.is_silent else "interrupted"

    def __str__(self) -> str:
        text = f"{self.path}\n  {self.subject}: {self.state}, {self.n_done} of {self.n_blocks} blocks done"
        if self.is_silent:
            text += f"\n  no sign of life from {self.holder} for {self.seconds_silent:.0f} s"
        elif self.holder:
            text += f"\n  computed by {self.holder} for {self.seconds_running:.0f} s"
        if self.state == "running" and self.blocks_per_s:
            text += f", {self.blocks_per_s:.3g} blocks/s, about {self.seconds_left:.0f} s left"
        if self.failures:
            text += f"\n  {len(self.failures)} failed:"
            text += "".join(f"\n    {failure.error}" for failure in self.failures[:_TOLD])
            if len(self.failures) > _TOLD:
                text += f"\n    and {len(self.failures) - _TOLD} more (see {FAILURES_NAME} in the store)"
        if self.state == "interrupted":
            text += f"\n  to go on: slcluster resume {self.path}"
        return text


def status(path: str | Path) -> Status:
    """How far a result is, from its store alone, also while it is computed elsewhere.

    Parameters
    ----------
    path : path
        What was passed as ``out``.

    Returns
    -------
    Status
        Blocks done and in all, who computes it, how fast, and how long it still takes. Printable.

    Raises
    ------
    StoreError
        Missing or not a result.
    InputError
        It is no path.

    Examples
    --------
    >>> import tempfile
    >>> from slcluster import searchlight, select, simulate
    >>> ds = select(simulate(shape=(5, 6, 7), n_runs=2, seed=0), conditions=["face", "house"])
    >>> out = tempfile.mkdtemp() + "/out.zarr"
    >>> maps = searchlight(ds, radius_mm=5.6, estimator="gnb", out=out)
    >>> found = status(out)
    >>> found.is_finished, found.n_done == found.n_blocks
    (True, True)
    """
    path = as_path(path, "a result store")
    attrs = read_result_attrs(path)
    return how_far(path, attrs, blocks_done(path))


def how_far(path: Path, attrs: Mapping[str, Any], done: np.ndarray) -> Status:
    """The status of a result of which it is known what is done.

    Parameters
    ----------
    path : Path
    attrs : mapping
        Attributes of the store.
    done : bool array, shape (n_blocks,)
    """
    n_done, n_blocks, held = int(done.sum()), len(done), read_lease(path)
    running = silent = rate = left = None
    if held and not is_dead(held):
        running, silent = max(0.0, time.time() - held["started"]), silence_s(held)
        fresh = n_done - held["n_done_at_start"]
        rate = fresh / running if running and fresh > 0 else None
        left = (n_blocks - n_done) / rate if rate else None
    return Status(
        path=str(path),
        subject=attrs["subject"],
        is_finished=is_result_finished(path) and n_done == n_blocks,
        n_blocks=n_blocks,
        n_done=n_done,
        n_centers=attrs["n_centers"],
        holder=None if running is None or held is None else f"process {held['pid']} on {held['host']}",
        seconds_running=running,
        seconds_silent=silent,
        blocks_per_s=rate,
        seconds_left=left,
        failures=_failures(path, done),
    )


def _failures(path: Path, done: np.ndarray) -> tuple[Failure, ...]:
    """Of blocks that are not done: what was repaired since is no failure."""
    return tuple(one for one in read_failures(path) if one.block < len(done) and not done[one.block])


def results_in(path: str | Path, kinds: tuple[str, ...] = ("result",)) -> list[Path]:
    """The store at a path, or those in the folder there, of these kinds; none where nothing is."""
    path = Path(path).expanduser()
    if (path / "zarr.json").exists():
        return [path] if _kind(path / "zarr.json") in kinds else []
    found = (child for child in path.glob("*/zarr.json") if not is_staging(child.parent))
    return sorted(child.parent for child in found if _kind(child) in kinds)


def _kind(metadata: Path) -> str | None:
    try:
        return str(json.loads(metadata.read_text())["attributes"]["slcluster"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
