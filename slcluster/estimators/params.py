"""What fast engines are called with, from scikit-learn's estimators.

Each function takes an estimator, whose own parameters scikit-learn has checked
(:func:`slcluster.estimators.names.check_parameters`), and the classes it is to tell apart. It gives None where the
estimator asks for anything that its engine does not compute, or that scikit-learn itself may refuse when it fits:
the scikit-learn engine then does what scikit-learn does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

__all__ = [
    "Params",
    "correlation",
    "gnb",
    "lda",
    "logistic",
    "nearest_centroid",
    "ridge",
    "ridge_classifier",
    "svm",
]

#: From an estimator and the classes it is to tell apart, where they are known, what its kernel is called with.
Params = Callable[[Any, np.ndarray | None], dict[str, Any] | None]

#: How far probabilities may be from summing to one. Beyond it scikit-learn warns and rescales, or refuses.
_SUM_TOLERANCE = 1e-9


def _can_weigh(class_weight: Any, classes: np.ndarray | None) -> bool:
    """Whether weights of classes are those of known classes, and none is negative."""
    if classes is None or not isinstance(class_weight, Mapping):
        return True
    try:
        weights = compute_class_weight(class_weight, classes=classes, y=classes)
    except (TypeError, ValueError):
        return False
    return bool(np.isfinite(weights).all() and (weights >= 0).all() and weights.any())


def _weights(class_weight: Any, classes: np.ndarray | None) -> Any:
    """Class weights by code; ``"balanced"`` and None as they are."""
    if classes is None or not isinstance(class_weight, Mapping):
        return class_weight
    return np.asarray(compute_class_weight(class_weight, classes=classes, y=classes), np.float64)


def _are_probabilities(priors: Any, classes: np.ndarray | None) -> bool:
    """Whether these are probabilities of all classes as they stand; the number of classes may not be known."""
    try:
        given = np.asarray(priors, np.float64)
    except (TypeError, ValueError):
        return False
    is_one_each = given.ndim == 1 and (classes is None or len(given) == len(classes))
    return bool(is_one_each and (given >= 0).all() and abs(given.sum() - 1.0) <= _SUM_TOLERANCE)


def svm(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.svm import LinearSVC

    if type(estimator) is not LinearSVC:
        return None
    is_ours = (estimator.penalty, estimator.loss, estimator.multi_class) == ("l2", "squared_hinge", "ovr")
    if not is_ours or not _can_weigh(estimator.class_weight, classes):
        return None
    return {
        "c": float(estimator.C),
        "class_weight": _weights(estimator.class_weight, classes),
        "fit_intercept": bool(estimator.fit_intercept),
        "intercept_scaling": float(estimator.intercept_scaling),
    }


def logistic(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.linear_model import LogisticRegression

    if type(estimator) is not LogisticRegression or estimator.penalty not in ("deprecated", "l2"):
        return None
    is_liblinear = estimator.solver == "liblinear"
    if estimator.l1_ratio not in (0, None) or not np.isfinite(estimator.C):
        return None
    # What scikit-learn refuses, it says better than we could: liblinear tells two classes apart, others have no dual.
    is_refused = classes is not None and len(classes) > 2 if is_liblinear else estimator.dual
    if is_refused or not _can_weigh(estimator.class_weight, classes):
        return None
    return {
        "c": float(estimator.C),
        "class_weight": _weights(estimator.class_weight, classes),
        "fit_intercept": bool(estimator.fit_intercept),
        "intercept_scaling": float(estimator.intercept_scaling) if is_liblinear else None,
    }


def gnb(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.naive_bayes import GaussianNB

    from slcluster.kernels.twins import PooledGaussianNB

    if type(estimator) not in (GaussianNB, PooledGaussianNB):
        return None
    if estimator.priors is not None and not _are_probabilities(estimator.priors, classes):
        return None
    return {
        "var_smoothing": float(estimator.var_smoothing),
        "priors": estimator.priors,
        "is_pooled": type(estimator) is PooledGaussianNB,
    }


def nearest_centroid(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.neighbors import NearestCentroid

    if type(estimator) is not NearestCentroid or estimator.metric != "euclidean":
        return None
    is_ours = isinstance(estimator.priors, str) or _are_probabilities(estimator.priors, classes)
    return {"priors": estimator.priors} if is_ours and estimator.shrink_threshold is None else None


def correlation(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from slcluster.kernels.twins import CorrelationClassifier

    if type(estimator) is not CorrelationClassifier:
        return None
    return {"subtract_mean": bool(estimator.subtract_mean)}


def lda(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    if type(estimator) is not LinearDiscriminantAnalysis or estimator.covariance_estimator is not None:
        return None
    is_svd = estimator.solver == "svd"
    if is_svd and (estimator.shrinkage is not None or estimator.tol < 1e-12):
        return None  # refused by scikit-learn; its rank, by rounding
    if estimator.priors is not None and not _are_probabilities(estimator.priors, classes):
        return None
    if estimator.n_components not in (None, 1):
        return None  # how many there may be depends on the sphere
    names = ("solver", "shrinkage", "priors", "tol")
    return {name: getattr(estimator, name) for name in names}


def _ridge_alphas(estimator: Any) -> list[float] | None:
    """Strengths of the penalty of one of scikit-learn's four ridge estimators; None where it asks for more."""
    if hasattr(estimator, "alphas"):
        is_plain = estimator.cv is None and estimator.scoring is None
        is_plain &= not getattr(estimator, "alpha_per_target", False)
        given = estimator.alphas
    else:
        is_plain = not estimator.positive and estimator.solver in ("auto", "cholesky", "svd")
        is_plain &= np.ndim(estimator.alpha) == 0
        given = estimator.alpha
    try:
        alphas = np.ravel(np.asarray(given, np.float64))
    except (TypeError, ValueError):
        return None
    is_plain &= getattr(estimator, "class_weight", None) is None
    is_plain &= len(alphas) > 0 and bool((alphas > 0).all() and np.isfinite(alphas).all())
    return [float(alpha) for alpha in alphas] if is_plain else None


def ridge(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.linear_model import Ridge, RidgeCV

    alphas = _ridge_alphas(estimator) if type(estimator) in (Ridge, RidgeCV) else None
    return None if alphas is None else {"alphas": alphas, "fit_intercept": bool(estimator.fit_intercept)}


def ridge_classifier(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV

    is_known = type(estimator) in (RidgeClassifier, RidgeClassifierCV)
    alphas = _ridge_alphas(estimator) if is_known else None
    return None if alphas is None else {"alphas": alphas, "fit_intercept": bool(estimator.fit_intercept)}
