"""Arithmetic about the mean of problems that know nothing of it.

Raw BOLD lies at some hundred times its variation, and sums of its squares lose the digits that count. With m the
mean of a sphere's voxels over samples and t = w·m + s b, the decision w·x + s b is w·(x - m) + t, and a
regulariser |w|² + b² is |w|² + (t - w·m)² / s²: the same problem in the unknowns w and t.
"""

from __future__ import annotations

import numpy as np

from slcluster.kernels.compiling import inner

__all__ = ["as_rows", "centred", "regulariser"]


@inner
def centred(bold, means, columns):
    """A sphere's voxels x samples in float64, less each voxel's mean; and the means."""
    n_samples = bold.shape[1]
    x, mean = np.empty((len(columns), n_samples)), np.empty(len(columns))
    for j in range(len(columns)):
        source, row, mean[j] = bold[columns[j]], x[j], means[columns[j]]
        for i in range(n_samples):
            row[i] = source[i] - mean[j]
    return x, mean


@inner
def as_rows(x, has_intercept):
    """Samples x unknowns, the intercept's 1 last."""
    n_voxels, n_samples = x.shape
    size = n_voxels + 1 if has_intercept else n_voxels
    rows = np.empty((n_samples, size))
    for j in range(n_voxels):
        source = x[j]
        for i in range(n_samples):
            rows[i, j] = source[i]
    if has_intercept:
        rows[:, n_voxels] = 1.0
    return rows


@inner
def regulariser(matrix, mean, scaling):
    """The quadratic form |w|² + (t - w·m)² / s² into the upper triangle; |w|² alone where the scaling is 0."""
    matrix[:] = 0.0
    for j in range(len(mean)):
        matrix[j, j] = 1.0
    if scaling > 0.0:
        last = len(mean)
        inverse = 1.0 / (scaling * scaling)
        for j in range(last):
            for k in range(j, last):
                matrix[j, k] += mean[j] * mean[k] * inverse
            matrix[j, last] = -mean[j] * inverse
        matrix[last, last] = inverse
