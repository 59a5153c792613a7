"""Estimators that scikit-learn lacks, in its manner: the slow twins of kernels that have none there."""

from __future__ import annotations

from typing import Any

from sklearn.naive_bayes import GaussianNB

__all__ = ["PooledGaussianNB"]


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
