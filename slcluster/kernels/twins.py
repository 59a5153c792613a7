"""Estimators that scikit-learn lacks, in its manner: the slow twins of kernels that have none there."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.naive_bayes import GaussianNB
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from slcluster.kernels.correlation import FLAT

__all__ = ["CorrelationClassifier", "PooledGaussianNB"]


class PooledGaussianNB(GaussianNB):
    """Gaussian naive Bayes with one variance per voxel, the same in every class.

    The variance of voxel v is its estimate of maximum likelihood, the mean over all N training samples of the
    squared distance from the mean of the sample's own class:

        s²(v) = 1/N Σᵢ (xᵢ(v) - m(yᵢ, v))² + var_smoothing · maxᵤ var(u)

    with var(u) the variance of voxel u over all training samples. The rest, parameters included, is
    scikit-learn's ``GaussianNB``. Classes of few samples borrow the others' variance, and the decision is
    linear in the voxels. PyMVPA's ``GNB(common_variance=True)`` is the same without the smoothing.

    Examples
    --------
    >>> x, y = np.array([[0.0], [2.0], [10.0], [16.0]]), np.array([0, 0, 1, 1])
    >>> PooledGaussianNB(var_smoothing=0).fit(x, y).var_.tolist()
    [[5.0], [5.0]]
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PooledGaussianNB:
        """Fit to samples x voxels and their classes."""
        super().fit(X, y, sample_weight)
        # Each class's share of the samples, whatever the priors.
        share = self.class_count_ / self.class_count_.sum()
        self.var_[:] = share @ (self.var_ - self.epsilon_) + self.epsilon_
        return self

    @property
    def partial_fit(self) -> Any:
        """Not there: once pooled, the classes' own variances that an update starts from are gone."""
        raise AttributeError("PooledGaussianNB is fitted at once; call fit with all samples")


class CorrelationClassifier(ClassifierMixin, BaseEstimator):
    """The class whose mean training pattern correlates most, over voxels, with a sample (Haxby et al. 2001).

    Correlations are Pearson's, rounded to 12 decimals so that patterns that correlate equally but for rounding
    are ties, which go to the first class. With a pattern that does not vary over voxels a correlation is
    undefined; it is taken as 0. So it is with one voxel, and with two all are 1 or -1.

    Parameters
    ----------
    subtract_mean : bool
        Subtract the mean over classes of the mean training patterns from these and from samples, so that what
        all classes share counts for nothing. Without, voxels of raw BOLD differ by their baselines more than
        by anything else, and all correlations are near 1.

    Attributes
    ----------
    classes_ : numpy.ndarray, shape (n_classes,)
    patterns_ : numpy.ndarray, shape (n_classes, n_voxels)
        Mean training patterns.

    References
    ----------
    Haxby et al. (2001), *Science* 293:2425-2430. There, patterns of one half of the runs were told apart by
    their correlation with those of the other, after the mean over categories was subtracted in each half.

    Examples
    --------
    >>> x, y = np.array([[1.0, 2, 3], [3, 2, 1], [2, 4, 6], [7, 5, 1]]), np.array([0, 1, 0, 1])
    >>> CorrelationClassifier().fit(x, y).predict([[0, 0, 1], [5, 4, 4]]).tolist()
    [0, 1]
    """

    def __init__(self, *, subtract_mean: bool = False) -> None:
        self.subtract_mean = subtract_mean

    def fit(self, X: Any, y: Any) -> CorrelationClassifier:
        """Take the mean pattern of each class from samples x voxels."""
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(
                f"CorrelationClassifier needs samples of at least 2 classes; the data contains 1 class: {self.classes_[0]!r}"
            )
        self.patterns_ = np.stack([X[y == label].mean(axis=0) for label in self.classes_])
        return self

    def correlate(self, X: Any) -> np.ndarray:
        """Correlation of each sample with each class: float64 (n_samples, n_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        shared = self.patterns_.mean(axis=0) if self.subtract_mean else np.zeros(X.shape[1])
        samples, patterns = _unit(X, shared), _unit(self.patterns_, shared)
        return np.round(samples @ patterns.T, 12)

    def decision_function(self, X: Any) -> np.ndarray:
        """Correlations with the classes; of two classes, the second's less the first's, (n_samples,)."""
        r = self.correlate(X)
        return r[:, 1] - r[:, 0] if len(self.classes_) == 2 else r

    def predict(self, X: Any) -> np.ndarray:
        """The class of the largest correlation."""
        best = self.correlate(X).argmax(axis=1)
        return self.classes_[best]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Of scikit-learn's checks, some have two features, with which all correlations are 1 or -1.
        tags.classifier_tags.poor_score = True
        return tags


def _unit(patterns: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Patterns less ``shared``, less their mean over voxels, of length 1; zero where only rounding varies."""
    away = patterns - shared
    away = away - away.mean(axis=1, keepdims=True)
    length = np.linalg.norm(away, axis=1, keepdims=True)
    varies = length > FLAT * np.linalg.norm(patterns, axis=1, keepdims=True)
    return np.divide(away, length, out=np.zeros_like(away), where=varies)
