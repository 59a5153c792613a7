"""One-way analysis of variance, every voxel at once."""

from __future__ import annotations

import numpy as np
from scipy.special import fdtrc

__all__ = ["CLIP_NEG_LOG10_P", "anova"]

#: -log10 p is clipped here, as in nilearn's Haxby example: below 1e-10 a p value says no more.
CLIP_NEG_LOG10_P = 10.0


def anova(bold: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F of conditions, its p value, and -log10 p clipped at 10.

    Sums of squares are taken about the grand mean and the class means in two passes, in float64, so raw
    values of large magnitude lose no digits (scikit-learn's ``f_classif`` subtracts uncentred squares).

    Parameters
    ----------
    bold : array, shape (n_voxels, n_samples)
        Finite values.
    codes : array of int, shape (n_samples,)
        Class of each sample, 0 to n_classes - 1, at least two classes and more samples than classes.

    Returns
    -------
    f, p, neg_log10_p : numpy.ndarray
        float64, shape (n_voxels,). NaN where a voxel is constant. Where classes differ but no sample
        differs from its class mean, F is infinite, p is 0 and -log10 p is 10.

    Examples
    --------
    >>> f, p, neg_log10_p = anova(np.array([[1.0, 2.0, 4.0, 5.0]]), np.array([0, 0, 1, 1]))
    >>> f.tolist(), p.round(4).tolist()
    ([18.0], [0.0513])
    """
    n_samples, n_classes = len(codes), int(codes.max()) + 1
    counts = np.bincount(codes, minlength=n_classes).astype(np.float64)
    # C order throughout and no matrix product: a voxel's sums then round alike, alone or among others.
    centred = np.ascontiguousarray(bold, np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    classes = [np.ascontiguousarray(centred[:, codes == code]) for code in range(n_classes)]
    means = np.stack([values.mean(axis=1) for values in classes], axis=1)
    between = (means**2 * counts).sum(axis=1) / (n_classes - 1)
    within = (np.ascontiguousarray(centred - means[:, codes]) ** 2).sum(axis=1) / (n_samples - n_classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        f = between / within
    f[np.ptp(bold, axis=1) == 0] = np.nan
    p = fdtrc(n_classes - 1, n_samples - n_classes, f)
    with np.errstate(divide="ignore"):
        neg_log10_p = np.minimum(-np.log10(p), CLIP_NEG_LOG10_P)
    return f, p, neg_log10_p
