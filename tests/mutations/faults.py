"""A pytest plugin that puts one fault into the package: the faults that a searchlight's tests must notice.

    SLCLUSTER_FAULT=flipped-x pytest -p tests.mutations.faults tests/test_searchlight.py

Each replaces a real function, where it is used, by one that is wrong in one way, and leaves all else alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import dask.array as da
import numpy as np

from slcluster.kernels.spheres import sphere_sizes


def _wrap(module: ModuleType, name: str, change: Callable[..., Any]) -> None:
    """Replace ``module.name`` by ``change(original, *args, **kwargs)``."""
    original = getattr(module, name)
    setattr(module, name, lambda *args, **kwargs: change(original, *args, **kwargs))


def _modules() -> dict[str, ModuleType]:
    import importlib

    names = ("archive", "compute", "design", "durable", "lazy", "planner", "searchlight")
    return {name: importlib.import_module(f"slcluster.{name}") for name in names}


def _maps(change: Callable[[Any], Any]) -> None:
    """Pass the scores of every finished map, lazy and durable, through ``change``."""

    def wrong(original: Any, score: Any, score_fold: Any, sphere_size: Any, **kwargs: Any) -> Any:
        return original(change(score), change(score_fold), sphere_size, **kwargs)

    for name in ("lazy", "archive"):
        _wrap(_modules()[name], "maps_dataset", wrong)


def radius_in_voxels() -> None:
    """The affine's scale is ignored: 5.6 mm reach 5.6 voxels, whatever their size."""

    def wrong(original: Any, affine: np.ndarray, radius_mm: float, shape: Any) -> np.ndarray:
        sized = affine.copy()
        sized[:3, :3] /= np.linalg.norm(affine[:3, :3], axis=0)
        return original(sized, radius_mm, shape)

    for name in ("planner", "archive"):
        _wrap(_modules()[name], "sphere_offsets", wrong)


def ignored_mask() -> None:
    """Features are taken from outside the mask too; centers stay where they were."""

    def wrong(original: Any, *args: Any, **kwargs: Any) -> Any:
        geometry = original(*args, **kwargs)
        everywhere = np.ones_like(geometry.mask)
        sizes = sphere_sizes(geometry.centers_ijk, everywhere, geometry.offsets)
        return replace(geometry, mask=everywhere, sphere_size=sizes)

    _wrap(_modules()["planner"], "_geometry", wrong)


def flipped_x() -> None:
    """The map runs from right to left."""
    _maps(lambda scores: scores[..., ::-1, :, :])


def transposed_map() -> None:
    """Scores are laid out with the first axis running fastest, and read as if the last one did."""

    def wrong(scores: Any) -> Any:
        scores = np.asarray(scores)
        return da.asarray(np.swapaxes(scores, -3, -1).reshape(scores.shape))

    _maps(wrong)


def background() -> None:
    """Where nothing was computed the map says 0, which is a score."""
    _maps(lambda scores: da.nan_to_num(da.asarray(scores), nan=0.0))


def exclusive_rim() -> None:
    """A voxel whose distance is the radius is left out."""

    def wrong(original: Any, affine: np.ndarray, radius_mm: float, shape: Any) -> np.ndarray:
        offsets = original(affine, radius_mm, shape)
        return offsets[np.linalg.norm(offsets @ affine[:3, :3].T, axis=1) < radius_mm * (1 - 1e-9)]

    for name in ("planner", "archive"):
        _wrap(_modules()[name], "sphere_offsets", wrong)


def rolled_labels() -> None:
    """Every label is that of the sample before."""

    def wrong(original: Any, *args: Any) -> Any:
        codes, classes = original(*args)
        return np.roll(codes, 1), classes

    _wrap(_modules()["design"], "encode_targets", wrong)


def no_cross_validation() -> None:
    """The estimator has seen its test samples."""

    def wrong(
        original: Any, bold: Any, targets: Any, train: Any, test: Any, spheres: Any, **kwargs: Any
    ) -> Any:
        both = [np.union1d(a, b) for a, b in zip(train, test, strict=True)]
        return original(bold, targets, both, test, spheres, **kwargs)

    _wrap(_modules()["compute"], "cross_validate", wrong)


def dropped_groups() -> None:
    """Groups are made up: as many as there are, but dealt out one sample after the other."""

    def wrong(original: Any, cv: Any, labels: Any, group_of: np.ndarray, *args: Any) -> Any:
        made_up = np.arange(len(group_of)) // 2 % len(np.unique(group_of))
        return original(cv, labels, made_up, *args)

    _wrap(_modules()["design"], "_folds", wrong)


FAULTS: dict[str, Callable[[], None]] = {
    "radius-in-voxels": radius_in_voxels,
    "ignored-mask": ignored_mask,
    "flipped-x": flipped_x,
    "transposed-map": transposed_map,
    "background": background,
    "exclusive-rim": exclusive_rim,
    "rolled-labels": rolled_labels,
    "no-cross-validation": no_cross_validation,
    "dropped-groups": dropped_groups,
}


def pytest_configure() -> None:
    fault = os.environ.get("SLCLUSTER_FAULT")
    if fault:
        FAULTS[fault]()
