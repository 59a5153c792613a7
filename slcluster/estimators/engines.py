"""Which engine computes an estimator: a fast kernel where one computes exactly this, else scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.metrics import get_scorer

from slcluster.errors import InputError
from slcluster.estimators.measures import RSA, Crossnobis, FunctionMeasure, Measure, SplitHalf
from slcluster.estimators.names import nearest
from slcluster.estimators.scoring import scorers_of
from slcluster.kernels.scores import answers_of

__all__ = ["ENGINES", "Engine", "choose_engine", "fast_scorers", "speed_of", "version_of"]

#: From an estimator and the classes it is to tell apart, what its kernel is called with; None where the
#: estimator asks for something else.
Params = Callable[[Any, np.ndarray | None], dict[str, Any] | None]


@dataclass(frozen=True)
class Engine:
    """A code path that fits estimators in spheres.

    Attributes
    ----------
    kernel : str
        Module in :mod:`slcluster.kernels` and function.
    version : int
        Of its numerics; part of a plan's fingerprint.
    twin : str
        The scikit-learn estimator that it computes, for people.
    params : callable
    outputs : tuple of str
        What the kernel can return, see :mod:`slcluster.kernels`.
    speed : float
        Fits of this engine in the time of one of scikit-learn's, roughly: blocks are cut by it.
    """

    kernel: str
    version: int
    twin: str
    params: Params
    outputs: tuple[str, ...]
    speed: float

    def load(self) -> Callable[..., dict[str, np.ndarray]]:
        """The kernel. Compiled code is imported only where it is used."""
        module, _, name = self.kernel.partition(".")
        kernel: Callable[..., dict[str, np.ndarray]] = getattr(
            import_module(f"slcluster.kernels.{module}"), name
        )
        return kernel


def _weights(class_weight: Any, classes: np.ndarray | None) -> Any:
    """Class weights by code; ``"balanced"`` and None as they are."""
    if classes is None or not isinstance(class_weight, Mapping):
        return class_weight
    return np.array([float(class_weight.get(label, 1.0)) for label in classes.tolist()])


def _svm(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.svm import LinearSVC

    if type(estimator) is not LinearSVC:
        return None
    is_ours = (estimator.penalty, estimator.loss, estimator.multi_class) == ("l2", "squared_hinge", "ovr")
    if not is_ours:
        return None
    return {
        "c": float(estimator.C),
        "class_weight": _weights(estimator.class_weight, classes),
        "fit_intercept": bool(estimator.fit_intercept),
        "intercept_scaling": float(estimator.intercept_scaling),
    }


def _logistic(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.linear_model import LogisticRegression

    if type(estimator) is not LogisticRegression or estimator.penalty not in ("deprecated", "l2"):
        return None
    is_liblinear = estimator.solver == "liblinear"
    if estimator.l1_ratio not in (0, None) or not np.isfinite(estimator.C):
        return None
    # liblinear tells two classes apart, and scikit-learn says so better than we could.
    if is_liblinear and classes is not None and len(classes) > 2:
        return None
    return {
        "c": float(estimator.C),
        "class_weight": _weights(estimator.class_weight, classes),
        "fit_intercept": bool(estimator.fit_intercept),
        "intercept_scaling": float(estimator.intercept_scaling) if is_liblinear else None,
    }


def _gnb(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.naive_bayes import GaussianNB

    from slcluster.kernels.twins import PooledGaussianNB

    if type(estimator) not in (GaussianNB, PooledGaussianNB):
        return None
    return {
        "var_smoothing": float(estimator.var_smoothing),
        "priors": estimator.priors,
        "is_pooled": type(estimator) is PooledGaussianNB,
    }


def _nearest_centroid(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.neighbors import NearestCentroid

    is_ours = type(estimator) is NearestCentroid and estimator.metric == "euclidean"
    return {"priors": estimator.priors} if is_ours and estimator.shrink_threshold is None else None


def _correlation(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from slcluster.kernels.twins import CorrelationClassifier

    if type(estimator) is not CorrelationClassifier:
        return None
    return {"subtract_mean": bool(estimator.subtract_mean)}


def _lda(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    if type(estimator) is not LinearDiscriminantAnalysis or estimator.covariance_estimator is not None:
        return None
    is_svd = estimator.solver == "svd"
    if is_svd and (estimator.shrinkage is not None or estimator.tol < 1e-12):
        return None  # refused by scikit-learn; its rank, by rounding
    if estimator.priors is not None and abs(np.sum(estimator.priors) - 1.0) > 1e-9:
        return None  # scikit-learn warns, and makes them sum to one
    names = ("solver", "shrinkage", "priors", "tol")
    return {name: getattr(estimator, name) for name in names}


def _ridge_alphas(estimator: Any) -> list[float] | None:
    """Strengths of the penalty of one of scikit-learn's four ridge estimators; None where it asks for more."""
    if hasattr(estimator, "alphas"):
        is_plain = estimator.cv is None and estimator.scoring is None
        is_plain &= not getattr(estimator, "alpha_per_target", False)
        alphas = list(np.ravel(estimator.alphas))
    else:
        is_plain = not estimator.positive and estimator.solver in ("auto", "cholesky", "svd")
        is_plain &= np.ndim(estimator.alpha) == 0
        alphas = [estimator.alpha]
    is_plain &= getattr(estimator, "class_weight", None) is None and all(alpha > 0 for alpha in alphas)
    return [float(alpha) for alpha in alphas] if is_plain else None


def _ridge(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.linear_model import Ridge, RidgeCV

    alphas = _ridge_alphas(estimator) if type(estimator) in (Ridge, RidgeCV) else None
    return None if alphas is None else {"alphas": alphas, "fit_intercept": bool(estimator.fit_intercept)}


def _ridge_classifier(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.linear_model import RidgeClassifier, RidgeClassifierCV

    is_known = type(estimator) in (RidgeClassifier, RidgeClassifierCV)
    alphas = _ridge_alphas(estimator) if is_known else None
    return None if alphas is None else {"alphas": alphas, "fit_intercept": bool(estimator.fit_intercept)}


#: Name → engine. The first that computes an estimator is what ``engine="auto"`` takes.
ENGINES: dict[str, Engine] = {
    "svm": Engine(
        kernel="svm.squared_hinge_svm",
        version=1,
        twin="LinearSVC with the squared hinge loss and the l2 penalty, at its optimum",
        params=_svm,
        outputs=("confusion", "prediction", "decision"),
        speed=60.0,
    ),
    "ridge_classifier": Engine(
        kernel="ridge.ridge_classifier",
        version=1,
        twin="RidgeClassifier and RidgeClassifierCV with their own choice of alpha",
        params=_ridge_classifier,
        outputs=("confusion", "prediction", "decision"),
        speed=60.0,
    ),
    "ridge": Engine(
        kernel="ridge.ridge",
        version=1,
        twin="Ridge and RidgeCV with its own choice of alpha",
        params=_ridge,
        outputs=("prediction",),
        speed=30.0,
    ),
    "logistic": Engine(
        kernel="logistic.logistic",
        version=1,
        twin="LogisticRegression with the l2 penalty and a fixed C, at its optimum",
        params=_logistic,
        outputs=("confusion", "prediction", "decision", "log_proba"),
        speed=50.0,
    ),
    "gnb": Engine(
        kernel="gnb.gnb",
        version=1,
        twin="GaussianNB, and PooledGaussianNB with one variance a voxel",
        params=_gnb,
        outputs=("confusion", "prediction", "log_proba"),
        speed=200.0,
    ),
    "nearest_centroid": Engine(
        kernel="centroid.nearest_centroid",
        version=1,
        twin="NearestCentroid with the Euclidean metric and no shrinkage",
        params=_nearest_centroid,
        outputs=("confusion", "prediction", "decision", "log_proba"),
        speed=200.0,
    ),
    "lda": Engine(
        kernel="lda.lda",
        version=1,
        twin="LinearDiscriminantAnalysis without a covariance_estimator",
        params=_lda,
        outputs=("confusion", "prediction", "decision", "log_proba"),
        speed=100.0,
    ),
    "correlation": Engine(
        kernel="correlation.correlation",
        version=1,
        twin="CorrelationClassifier",
        params=_correlation,
        outputs=("confusion", "prediction", "decision"),
        speed=100.0,
    ),
    "sklearn": Engine("generic.cross_validate", 1, "any estimator", lambda *_: {}, (), 1.0),
}


#: Measures are engines of their own.
_MEASURES: dict[str, type[Measure]] = {
    kind.engine: kind for kind in (Crossnobis, SplitHalf, RSA, FunctionMeasure)
}


def choose_engine(
    engine: str,
    estimator: Any,
    scoring: Any = "accuracy",
    classes: np.ndarray | None = None,
    *,
    is_weighted: bool = False,
) -> str:
    """The code path that will compute ``estimator``.

    ``"auto"`` takes a fast engine where one computes exactly this estimator and these metrics, else
    ``"sklearn"``, which takes everything.

    Parameters
    ----------
    engine : str
        ``"auto"`` or a key of :data:`ENGINES`.
    estimator : scikit-learn estimator
    scoring
        As :func:`slcluster.plan` takes it.
    classes : array, shape (n_classes,), optional
        What is told apart, where it is known.
    is_weighted : bool
        Samples count differently, which scikit-learn alone takes.

    Raises
    ------
    InputError
        Unknown engine, or one that cannot compute this.
    """
    if isinstance(estimator, Measure):
        if engine not in ("auto", estimator.engine):
            raise InputError(f"{estimator!r} has one engine, {estimator.engine!r}; leave engine out")
        return estimator.engine
    if engine != "auto" and engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}; {nearest(engine, ['auto', *ENGINES])}")
    if engine == "sklearn":
        return engine
    if is_weighted:
        if engine != "auto":
            raise InputError(f"engine={engine!r} takes no sample_weight; pass engine='auto' or 'sklearn'")
        return "sklearn"
    fast = [name for name in ENGINES if name != "sklearn" and _computes(name, estimator, scoring, classes)]
    if engine == "auto":
        return fast[0] if fast else "sklearn"
    if engine not in fast:
        raise InputError(
            f"engine={engine!r} computes {ENGINES[engine].twin} and metrics of its answers, not "
            f"{' '.join(repr(estimator).split())} with scoring={scoring!r}; pass engine='auto' or 'sklearn'"
        )
    return engine


def version_of(engine: str) -> int | None:
    """Version of an engine's numerics, which is part of a plan's fingerprint; None of one that is not known."""
    known = ENGINES.get(engine) or _MEASURES.get(engine)
    return None if known is None else known.version


def speed_of(engine: str) -> float:
    """scikit-learn's fits in the time of one of this engine, roughly."""
    return (ENGINES.get(engine) or _MEASURES[engine]).speed


def fast_scorers(scoring: Any, estimator: BaseEstimator) -> dict[str, Any]:
    """Metrics by name; the estimator's own is accuracy, or R² of a regression."""
    if scoring is None:
        name = "r2" if is_regressor(estimator) else "accuracy"
        return {name: get_scorer(name)}
    return scorers_of(scoring)


def _computes(name: str, estimator: BaseEstimator, scoring: Any, classes: np.ndarray | None) -> bool:
    engine = ENGINES[name]
    if engine.params(estimator, classes) is None:
        return False
    scorers = fast_scorers(scoring, estimator)
    return all(answers_of(scorer, engine.outputs) is not None for scorer in scorers.values())
