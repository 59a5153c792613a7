"""The frozen plan of one analysis: everything that decides its numbers, and what it will cost.

A plan is made before anything is computed (:func:`slcluster.planner.plan`), prints itself, travels once to
the workers and is kept in the result. Two plans with the same fingerprint give the same bytes.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from slcluster import blocks
from slcluster.errors import PlanError
from slcluster.estimators import Layout, Measure
from slcluster.kernels.folds import Folds
from slcluster.kernels.spheres import RIM_TOLERANCE, nearest_halo
from slcluster.sizes import format_bytes

__all__ = ["Design", "Geometry", "Plan", "array_digest", "choose_block_centers", "fit_memory"]

#: Seconds that one block should take: far above Dask's cost of a task, cheap to lose.
_BLOCK_S = 5.0

#: A small analysis is still cut this often, so that progress shows and several workers share it.
_MIN_BLOCKS = 32

#: Resident bytes of a worker before any data: Python, Dask, Xarray, Zarr and scikit-learn imported.
_WORKER_BASE_BYTES = 250_000_000


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where spheres lie.

    Attributes
    ----------
    affine : float64 (4, 4)
        Array positions of the analysed grid to mm.
    axes : three int64 arrays
        Voxel indices of the source along x, y and z.
    mask, process_mask : bool (nx, ny, nz)
        Voxels that may be features, voxels that are centers.
    radius_mm : float or None
        None where spheres are a number of voxels alone.
    offsets : int64 (n_offsets, 3)
        In C order; with ``n_voxels`` from near to far.
    halo : three ints
        Voxels a block reads beyond its own centers, at most.
    centers_ijk : int32 (n_centers, 3)
        In block order: block ``i`` is ``centers_ijk[i * block_centers:(i + 1) * block_centers]``.
    sphere_size : int32 (n_centers,)
        Mask voxels in each sphere.
    n_voxels : int or None
        Voxels of a sphere, at most: those nearest to its center.
    center_spacing : three ints
        Every how many-th voxel along each axis is a center.
    fill_mask : bool (nx, ny, nz) or None
        Voxels of which ``process_mask`` is every n-th; None where it is all of them.
    """

    affine: np.ndarray
    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    mask: np.ndarray
    process_mask: np.ndarray
    radius_mm: float | None
    offsets: np.ndarray
    halo: tuple[int, int, int]
    centers_ijk: np.ndarray
    sphere_size: np.ndarray
    n_voxels: int | None = None
    center_spacing: tuple[int, int, int] = (1, 1, 1)
    fill_mask: np.ndarray | None = None

    @property
    def sphere_rule(self) -> str:
        """What makes a voxel one of a sphere, in words."""
        radius = "" if self.radius_mm is None else f"{self.radius_mm:g} mm"
        if self.n_voxels is None:
            return radius
        return f"the {self.n_voxels} nearest voxels{radius and f' within {radius}'}"

    @property
    def shape(self) -> tuple[int, int, int]:
        nx, ny, nz = self.mask.shape
        return nx, ny, nz

    def window(self, centers_ijk: np.ndarray) -> blocks.Window:
        """The voxels that a block of these centers reads."""
        window = blocks.block_window(centers_ijk, self.halo, self.shape)
        if self.n_voxels is None:
            return window
        # One voxel far from all others sets the halo of the plan; the spheres of most blocks reach less far.
        origin = [part.start for part in window]
        halo = nearest_halo(centers_ijk - origin, self.mask[window], self.offsets, self.n_voxels)
        return blocks.block_window(centers_ijk, halo, self.shape)


@dataclass(frozen=True, eq=False)
class Design:
    """What is predicted from which samples.

    Attributes
    ----------
    chosen : int64 (n_samples,)
        Positions of the analysed samples among all samples that blocks read.
    all_runs : int64 (n_all_samples,)
        Run of every sample that blocks read; detrending needs whole runs.
    sample_index : int64 (n_samples,)
        Positions of the analysed samples in their store.
    targets : int64 or float64 (n_samples,)
        Class codes, or numbers to predict.
    classes : array (n_classes,) or None
        What each code stands for, sorted; None for a regression.
    groups : array (n_samples,)
        What the splitter kept together.
    folds : Folds
        Indices into the analysed samples.
    weights : float64 (n_samples,) or None
        How much each sample counts in a fit; None where all count alike.
    """

    chosen: np.ndarray
    all_runs: np.ndarray
    sample_index: np.ndarray
    targets: np.ndarray
    classes: np.ndarray | None
    groups: np.ndarray
    folds: Folds
    weights: np.ndarray | None = None

    @property
    def class_counts(self) -> dict[str, int]:
        """Samples of each class; empty for a regression."""
        if self.classes is None:
            return {}
        return dict(zip(map(str, self.classes), np.bincount(self.targets).tolist(), strict=True))

    def read_span(self, detrend: bool) -> slice:
        """Samples a block has to read: whole runs to detrend, else from the first to the last chosen one."""
        if detrend:
            return slice(0, len(self.all_runs))
        return slice(int(self.chosen.min()), int(self.chosen.max()) + 1)


@dataclass(frozen=True, eq=False)
class Plan:
    """One analysis, frozen. Print it before computing; compare fingerprints before resuming.

    Attributes
    ----------
    subject : str
    source_path, source_digest : str or None
        The store that blocks read, and its digest; None when slabs are cut from an array.
    value_bytes : int
        Bytes of one value as stored.
    geometry, design : Geometry, Design
    estimator, scorer : objects
    scorers : mapping
        Metric to scikit-learn scorer, for fast engines.
    layout : Layout
        Dimensions of one center's values: metrics, or a measure's own.
    engine : str
    standardize : None, "run" or "fold"
    detrend : bool
    nonfinite : {"error", "zero", "exclude"}
    min_voxels, block_centers : int
    attrs : mapping
        Attributes of the subject that maps inherit (NIfTI header fields, sources).
    identity : mapping
        Plain data that the fingerprint is taken over.
    arguments : mapping
        Plain data: what was asked for, where the plan itself holds only what became of it (``cv`` became
        folds). For people; not part of the fingerprint.
    """

    subject: str
    source_path: str | None
    source_digest: str | None
    value_bytes: int
    geometry: Geometry
    design: Design
    estimator: Any
    scorer: Any
    scorers: Mapping[str, Any]
    layout: Layout
    engine: str
    standardize: str | None
    detrend: bool
    nonfinite: str
    min_voxels: int
    block_centers: int
    attrs: Mapping[str, Any]
    identity: Mapping[str, Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the identity as canonical JSON. Workers, paths and block size are not in it."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def is_measure(self) -> bool:
        """Whether values are a measure's, one a center, and not scores of every fold."""
        return isinstance(self.estimator, Measure)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of one center's values."""
        return self.layout.names

    @property
    def score_shape(self) -> tuple[int, int]:
        """Values of one center and, of each, the folds."""
        return len(self.metrics), 1 if self.is_measure else len(self.design.folds.train)

    @property
    def n_centers(self) -> int:
        return len(self.geometry.centers_ijk)

    @property
    def n_blocks(self) -> int:
        return blocks.n_blocks(self.n_centers, self.block_centers)

    def block(self, number: int) -> np.ndarray:
        """Centers of one durable block, int32 (n, 3)."""
        return self.geometry.centers_ijk[number * self.block_centers : (number + 1) * self.block_centers]

    @cached_property
    def heaviest_first(self) -> list[int]:
        """Block numbers by falling work, so that no long block is left for the end."""
        starts = np.arange(0, self.n_centers, self.block_centers)
        work = np.add.reduceat(self.geometry.sphere_size.astype(np.int64), starts)
        return np.argsort(-work, kind="stable").tolist()

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing among equally likely classes; None for a regression or a measure."""
        return None if self.design.classes is None or self.is_measure else 1 / len(self.design.classes)

    @cached_property
    def worker_bytes(self) -> int:
        """Projected peak of one worker process with one thread, at the block with the largest window."""
        design = self.design
        n_read = self.design.read_span(self.detrend)
        n_read_samples = n_read.stop - n_read.start
        largest = max(
            int(np.prod(blocks.window_shape(self.geometry.window(self.block(i)))))
            for i in range(self.n_blocks)
        )
        in_float = 8 if self.detrend or self.standardize else max(4, self.value_bytes)
        # The window as stored, its mask voxels in float while they are prepared, and the chosen samples.
        work = largest * (n_read_samples * (self.value_bytes + 2 * in_float) + len(design.chosen) * in_float)
        return _WORKER_BASE_BYTES + work

    @property
    def store_bytes(self) -> int:
        """Projected bytes of the result store's arrays, uncompressed."""
        per_center = 8 * int(np.prod(self.score_shape)) + 16
        return self.n_centers * per_center + self.geometry.mask.size

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Names of the identity's fields that differ from another plan's, sorted."""
        names = set(self.identity) | set(other)
        return sorted(name for name in names if self.identity.get(name) != other.get(name))

    def summary(self) -> dict[str, str]:
        """What people want to know before they start, row by row."""
        g, d = self.geometry, self.design
        sizes = g.sphere_size
        n_train = sorted({len(part) for part in d.folds.train})
        n_test = sorted({len(part) for part in d.folds.test})
        counts = ", ".join(f"{name} {count}" for name, count in d.class_counts.items())
        steps = [
            name
            for name, on in (
                ("detrend runs", self.detrend),
                ("z-score runs", self.standardize == "run"),
                ("z-score by each fold's training samples", self.standardize == "fold"),
            )
            if on
        ]
        folds = f"{len(d.folds.train)}, training on {_span(n_train)} samples, testing on {_span(n_test)}"
        return {
            "subject": self.subject,
            "grid": f"{' x '.join(map(str, g.shape))} voxels, {np.count_nonzero(g.mask):,} in the mask",
            "centers": f"{self.n_centers:,} in {self.n_blocks:,} blocks of {self.block_centers:,}{_of_all(g)}",
            "spheres": f"{g.sphere_rule}: {sizes.min()} to {sizes.max()} voxels, median {np.median(sizes):g}; "
            f"halo {' x '.join(map(str, g.halo))} voxels",
            "samples": f"{len(d.targets)}"
            + (f" ({counts})" if counts else "")
            + (", weighted" if d.weights is not None else ""),
            "folds": folds if d.folds.train else "none: the measure takes all samples at once",
            "estimator": " ".join(repr(self.estimator).split()),
            "values" if self.is_measure else "scores": _some((*self.layout.plain, *self.layout.tables))
            + (f" (chance {self.chance:.3g})" if self.chance else ""),
            "engine": self.engine,
            "preparation": ", ".join(steps) or "none",
            "reads": self.source_path or "an array in memory or a changed Dataset",
            "memory": f"about {format_bytes(self.worker_bytes)} a worker; "
            f"result store about {format_bytes(self.store_bytes)}",
            "fingerprint": self.fingerprint[:16],
        }

    def __str__(self) -> str:
        rows = self.summary()
        width = max(map(len, rows))
        return "\n".join(["Searchlight plan", *(f"  {name:<{width}}  {text}" for name, text in rows.items())])

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for name, text in self.summary().items()
        )
        return f"<table><caption>Searchlight plan</caption>{rows}</table>"

    __repr__ = __str__


def _of_all(geometry: Geometry) -> str:
    """Which voxels are centers, where they are every n-th."""
    if geometry.fill_mask is None:
        return ""
    spacing = " x ".join(map(str, geometry.center_spacing))
    return f"; one of every {spacing} voxels, of {np.count_nonzero(geometry.fill_mask):,}"


def _some(names: tuple[str, ...]) -> str:
    """Names, the middle ones of many left out."""
    return ", ".join(names if len(names) <= 12 else (*names[:6], "...", *names[-3:]))


def _span(values: list[int]) -> str:
    if not values:
        return "no"
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def array_digest(array: np.ndarray) -> str:
    """SHA-256 over dtype, shape and bytes of an array, for the identity of a plan."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind in "UTO":
        content = json.dumps([str(item) for item in array.ravel()]).encode()
    else:
        content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    kind = "text" if array.dtype.kind in "UTO" else array.dtype.str.lstrip("<>|=")
    return hashlib.sha256(f"{kind}{array.shape}".encode() + content).hexdigest()


def geometry_identity(geometry: Geometry) -> dict[str, Any]:
    """The part of a plan's identity that says where spheres lie.

    What is not asked for has no field, so that results begun before there was such a thing can go on.
    """
    fields = {
        "affine": geometry.affine.tolist(),
        "mask": array_digest(geometry.mask),
        "centers": array_digest(geometry.process_mask),
        "radius_mm": geometry.radius_mm,
        "rim_tolerance": RIM_TOLERANCE,
    }
    if geometry.n_voxels is not None:
        fields["n_voxels"] = geometry.n_voxels
    if geometry.fill_mask is not None:
        fields["center_spacing"] = list(geometry.center_spacing)
        fields["fill_mask"] = array_digest(geometry.fill_mask)
    return fields


def design_identity(design: Design) -> dict[str, Any]:
    """The part of a plan's identity that says what is predicted from which samples."""
    folds = [[train.tolist(), test.tolist()] for train, test in zip(*design.folds, strict=True)]
    return {
        "sample_index": array_digest(design.sample_index),
        "chosen": array_digest(design.chosen),
        "runs": array_digest(design.all_runs),
        "targets": array_digest(design.targets),
        "classes": None if design.classes is None else [str(name) for name in design.classes],
        "groups": array_digest(design.groups),
        "folds": hashlib.sha256(json.dumps(folds).encode()).hexdigest(),
        "sample_weight": None if design.weights is None else array_digest(design.weights),
    }


def choose_block_centers(
    sphere_size: np.ndarray, n_samples: int, n_folds: int, n_metrics: int, *, speed: float = 1.0
) -> int:
    """Centers in a block, from a table of costs and never from a clock, so that plans can be repeated.

    A scikit-learn fit and score took 0.8 ms plus 0.17 ms for every voxel at 216 samples, on one core (the
    default ``svc`` on raw BOLD, 8 to 146 voxels a sphere), a fast engine is ``speed`` times as fast; blocks aim
    at five seconds.
    """
    if not len(sphere_size):
        return 1
    fit_s = 0.8e-3 + 0.17e-3 * float(np.mean(sphere_size)) * n_samples / 216
    center_s = n_folds * (fit_s + 0.4e-3 * (n_metrics - 1)) / speed
    fair_share = -(-len(sphere_size) // _MIN_BLOCKS)
    return int(np.clip(_BLOCK_S / center_s, 1, max(1, fair_share)))


def fit_memory(plan: Plan, memory_limit_bytes: int | None, *, may_shrink: bool) -> Plan:
    """A plan whose workers fit the limit: with smaller blocks if allowed, else refused.

    Raises
    ------
    PlanError
        Says what is needed, the limit, and what to change.
    """
    if memory_limit_bytes is None or plan.worker_bytes <= memory_limit_bytes:
        return plan
    while may_shrink and plan.block_centers > 1:
        plan = with_blocks(plan, max(1, plan.block_centers // 4))
        if plan.worker_bytes <= memory_limit_bytes:
            return plan
    advice = "select fewer samples" if may_shrink else "pass a smaller block_centers (or none)"
    size = "radius_mm" if plan.geometry.n_voxels is None else "n_voxels"
    raise PlanError(
        f"a worker needs about {format_bytes(plan.worker_bytes)}, memory_limit is "
        f"{format_bytes(memory_limit_bytes)}; {advice}, use a smaller {size}, or raise the limit"
    )


def with_blocks(plan: Plan, block_centers: int) -> Plan:
    """The same analysis cut into other blocks. Its fingerprint does not change."""
    geometry = plan.geometry
    order = blocks.order_centers(geometry.centers_ijk, block_centers)
    geometry = replace(
        geometry, centers_ijk=geometry.centers_ijk[order], sphere_size=geometry.sphere_size[order]
    )
    return replace(plan, geometry=geometry, block_centers=block_centers)
