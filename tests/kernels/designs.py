"""Samples, classes, folds and spheres on which kernels are held to their twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.model_selection import KFold, LeaveOneGroupOut, ShuffleSplit

from slcluster.kernels.spheres import Spheres

N_SAMPLES, N_VOXELS = 96, 90
RUNS = np.repeat(np.arange(6), 16)
SPLITTERS: dict[str, Any] = {
    "k-fold": KFold(4),
    "runs": LeaveOneGroupOut(),
    "shuffled with a train size": ShuffleSplit(3, train_size=0.5, test_size=0.2, random_state=0),
}
#: Voxels 80 and 81 repeat 1 and 2; 82 to 84 are constant.
DUPLICATES, CONSTANTS = [80, 81], [82, 83, 84]
#: Few voxels, one, more than there are training samples, none, duplicates and constants.
COLUMNS: list[Sequence[int]] = [
    [*range(7)],
    [50],
    [*range(N_VOXELS)],
    [],
    [1, 2, 3, *DUPLICATES, *CONSTANTS],
    [*range(20, 55)],
    [5, 6],
]
KINDS = ["standardised", "raw", "large"]


def spheres_of(columns: Sequence[Sequence[int]]) -> Spheres:
    return Spheres(np.cumsum([0, *map(len, columns)]), np.concatenate([*columns, []]).astype(np.int64))


def folds_of(splitter: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    groups = RUNS if splitter == "runs" else None
    pairs = list(SPLITTERS[splitter].split(np.zeros((N_SAMPLES, 1)), None, groups))
    return [train for train, _ in pairs], [test for _, test in pairs]


def codes_of(n_classes: int) -> np.ndarray:
    """(2, n_samples): two of each of eight classes a run, or the like; in their order and permuted in runs."""
    rng = np.random.default_rng(n_classes)
    orders = [np.concatenate([rng.permutation(16) for _ in range(6)]) for _ in range(2)]
    return np.stack(orders) % n_classes


def samples_of_kind(kind: str) -> np.ndarray:
    """Noise that neighbours share, and a weak pattern of each class."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N_VOXELS, N_SAMPLES))
    z = z + np.roll(z, 1, axis=0) + 0.5 * rng.normal(size=(N_VOXELS, 8))[:, codes_of(8)[0]]
    z[DUPLICATES], z[CONSTANTS] = z[[1, 2]], 0.0
    if kind == "standardised":
        return z
    baseline = rng.uniform(0.7, 1.3, size=(N_VOXELS, 1))
    baseline[DUPLICATES] = baseline[[1, 2]]
    if kind == "raw":
        return (600 * baseline + 12 * z).astype(np.float32)
    return np.round(20_000 * baseline + 150 * z).astype(np.int16).astype(np.float32)


def assert_partition_free(compute: Any, seed: int = 5) -> None:
    """``compute(spheres)``, a dict of arrays, gives each sphere the same bytes among any others."""
    rng = np.random.default_rng(seed)
    columns = [sorted(rng.permutation(80)[:n].tolist()) for n in (5, 40, 62, 1, 8, 0, 64, 3)]
    together = compute(spheres_of(columns))
    for order in (list(range(len(columns)))[::-1], rng.permutation(len(columns)).tolist(), [1], [4, 2], [6]):
        apart = compute(spheres_of([columns[i] for i in order]))
        for name, values in apart.items():
            assert values.tobytes() == together[name][order].tobytes(), name
