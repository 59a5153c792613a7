"""Counts of what was predicted as what."""

from __future__ import annotations

import numpy as np

from slcluster.kernels.compiling import entry

__all__ = ["count_confusion"]


def count_confusion(
    prediction: np.ndarray, targets: np.ndarray, tested: np.ndarray, edges: np.ndarray, n_classes: int
) -> np.ndarray:
    """Test samples of each class predicted as each: int32 (n_centers, n_permutations, n_folds, K, K)."""
    n_centers, n_permutations = prediction.shape[:2]
    confusion = np.zeros((n_centers, n_permutations, len(edges) - 1, n_classes, n_classes), np.int32)
    _count(np.asarray(prediction, np.int64), targets, tested, edges, confusion)
    return confusion


@entry
def _count(prediction, targets, tested, edges, confusion):
    for center in range(prediction.shape[0]):
        for permutation in range(prediction.shape[1]):
            for fold in range(len(edges) - 1):
                for i in range(edges[fold], edges[fold + 1]):
                    found = prediction[center, permutation, i]
                    if found >= 0:
                        confusion[center, permutation, fold, targets[permutation, tested[i]], found] += 1
