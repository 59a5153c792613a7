"""Puts one fault after the other into the package and runs some of our tests: which of them notice?

    python -m tests.mutations.faults REPORT TEST...

Each fault replaces a real function, where it is used, by one that is wrong in one way, and leaves all else
alone. REPORT receives, as JSON, for every fault (and for none, under ``""``) pytest's exit code and the tests
that failed with the first line of why.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

from slcluster.kernels.spheres import sphere_sizes

Patch = pytest.MonkeyPatch


def _wrap(patch: Patch, module: str, name: str, change: Callable[..., Any]) -> None:
    """Replace a function of a module by ``change(original, *args, **kwargs)``."""
    where = importlib.import_module(f"slcluster.{module}")
    original = getattr(where, name)
    patch.setattr(where, name, lambda *args, **kwargs: change(original, *args, **kwargs))


def _maps(patch: Patch, change: Callable[[Any], Any]) -> None:
    """Pass the scores of every finished map, lazy and durable, through ``change``."""

    def wrong(original: Any, score: Any, score_fold: Any, sphere_size: Any, **kwargs: Any) -> Any:
        return original(change(score), change(score_fold), sphere_size, **kwargs)

    for module in ("lazy", "archive"):
        _wrap(patch, module, "maps_dataset", wrong)


def radius_in_voxels(patch: Patch) -> None:
    """The affine's scale is ignored: 5.6 mm reach 5.6 voxels, whatever their size."""

    def wrong(original: Any, affine: np.ndarray, radius_mm: float, shape: Any) -> np.ndarray:
        sized = affine.copy()
        sized[:3, :3] /= np.linalg.norm(affine[:3, :3], axis=0)
        return original(sized, radius_mm, shape)

    _wrap(patch, "geometry", "sphere_offsets", wrong)


def ignored_mask(patch: Patch) -> None:
    """Features are taken from outside the mask too; centers stay where they were."""

    def wrong(original: Any, *args: Any, **kwargs: Any) -> Any:
        geometry = original(*args, **kwargs)
        everywhere = np.ones_like(geometry.mask)
        sizes = sphere_sizes(geometry.centers_ijk, everywhere, geometry.offsets)
        return replace(geometry, mask=everywhere, sphere_size=sizes)

    _wrap(patch, "planner", "make_geometry", wrong)


def flipped_x(patch: Patch) -> None:
    """The map runs from right to left."""
    _maps(patch, lambda scores: scores[..., ::-1, :, :])


def transposed_map(patch: Patch) -> None:
    """Scores are laid out with the first axis running fastest, and read as if the last one did."""

    def wrong(scores: Any) -> Any:
        scores = np.asarray(scores)
        return da.asarray(np.swapaxes(scores, -3, -1).reshape(scores.shape))

    _maps(patch, wrong)


def background(patch: Patch) -> None:
    """Where nothing was computed the map says 0, which is a score."""
    _maps(patch, lambda scores: da.nan_to_num(da.asarray(scores)))


def exclusive_rim(patch: Patch) -> None:
    """A voxel whose distance is the radius is left out."""

    def wrong(original: Any, affine: np.ndarray, radius_mm: float, shape: Any) -> np.ndarray:
        offsets = original(affine, radius_mm, shape)
        return offsets[np.linalg.norm(offsets @ affine[:3, :3].T, axis=1) < radius_mm * (1 - 1e-9)]

    _wrap(patch, "geometry", "sphere_offsets", wrong)


def rolled_labels(patch: Patch) -> None:
    """Every label is that of the sample before."""

    def wrong(original: Any, *args: Any) -> Any:
        codes, classes = original(*args)
        return np.roll(codes, 1), classes

    _wrap(patch, "design", "encode_targets", wrong)


def no_cross_validation(patch: Patch) -> None:
    """The estimator has seen its test samples."""

    def wrong(
        original: Any, bold: Any, targets: Any, train: Any, test: Any, spheres: Any, **kwargs: Any
    ) -> Any:
        both = [np.union1d(a, b) for a, b in zip(train, test, strict=True)]
        return original(bold, targets, both, test, spheres, **kwargs)

    _wrap(patch, "compute", "cross_validate", wrong)


def dropped_groups(patch: Patch) -> None:
    """Groups are made up: as many as there are, but dealt out one sample after the other."""

    def wrong(original: Any, cv: Any, labels: Any, group_of: np.ndarray, *args: Any) -> Any:
        made_up = np.arange(len(group_of)) // 2 % len(np.unique(group_of))
        return original(cv, labels, made_up, *args)

    _wrap(patch, "design", "make_folds", wrong)


FAULTS: dict[str, Callable[[Patch], None]] = {
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


class Failures:
    """A pytest plugin that keeps why tests failed."""

    def __init__(self) -> None:
        self.first_lines: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            self.first_lines[report.nodeid] = str(crash.message if crash else report.longrepr).split("\n")[0]


def main(report: Path, tests: list[str]) -> None:
    found: dict[str, Any] = {}
    for name in ("", *FAULTS):
        failures = Failures()
        with Patch.context() as patch:
            if name:
                FAULTS[name](patch)
            code = pytest.main(["-n", "0", "-q", "-p", "no:cacheprovider", *tests], plugins=[failures])
        found[name] = {"code": int(code), "failed": failures.first_lines}
    report.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
