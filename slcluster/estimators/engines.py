"""Which engine computes an estimator: a fast kernel where one computes exactly this, else scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.metrics import get_scorer

from slcluster.errors import InputError
from slcluster.estimators import params
from slcluster.estimators.measures import RSA, Crossnobis, FunctionMeasure, Measure, SplitHalf
from slcluster.estimators.names import nearest
from slcluster.estimators.scoring import scorers_of
from slcluster.kernels.scores import answers_of

__all__ = ["ENGINES", "Engine", "choose_engine", "fast_scorers", "speed_of", "version_of"]


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
    params: params.Params
    outputs: tuple[str, ...]
    speed: float

    def load(self) -> Callable[..., dict[str, np.ndarray]]:
        """The kernel. Compiled code is imported only where it is used."""
        module, _, name = self.kernel.partition(".")
        kernel: Callable[..., dict[str, np.ndarray]] = getattr(
            import_module(f"slcluster.kernels.{module}"), name
        )
        return kernel


#: Name → engine. The first that computes an estimator is what ``engine="auto"`` takes.
ENGINES: dict[str, Engine] = {
    "svm": Engine(
        kernel="svm.squared_hinge_svm",
        version=1,
        twin="LinearSVC with the squared hinge loss and the l2 penalty, at its optimum",
        params=params.svm,
        outputs=("confusion", "prediction", "decision", "n_unconverged"),
        speed=60.0,
    ),
    "ridge_classifier": Engine(
        kernel="ridge.ridge_classifier",
        version=1,
        twin="RidgeClassifier and RidgeClassifierCV with their own choice of alpha",
        params=params.ridge_classifier,
        outputs=("confusion", "prediction", "decision"),
        speed=60.0,
    ),
    "ridge": Engine(
        kernel="ridge.ridge",
        version=1,
        twin="Ridge and RidgeCV with its own choice of alpha",
        params=params.ridge,
        outputs=("prediction",),
        speed=30.0,
    ),
    "logistic": Engine(
        kernel="logistic.logistic",
        version=1,
        twin="LogisticRegression with the l2 penalty and a fixed C, at its optimum",
        params=params.logistic,
        outputs=("confusion", "prediction", "decision", "log_proba", "n_unconverged"),
        speed=50.0,
    ),
    "gnb": Engine(
        kernel="gnb.gnb",
        version=1,
        twin="GaussianNB, and PooledGaussianNB with one variance a voxel",
        params=params.gnb,
        outputs=("confusion", "prediction", "log_proba"),
        speed=200.0,
    ),
    "nearest_centroid": Engine(
        kernel="centroid.nearest_centroid",
        version=1,
        twin="NearestCentroid with the Euclidean metric and no shrinkage",
        params=params.nearest_centroid,
        outputs=("confusion", "prediction", "decision", "log_proba"),
        speed=200.0,
    ),
    "lda": Engine(
        kernel="lda.lda",
        version=1,
        twin="LinearDiscriminantAnalysis without a covariance_estimator",
        params=params.lda,
        outputs=("confusion", "prediction", "decision", "log_proba"),
        speed=100.0,
    ),
    "correlation": Engine(
        kernel="correlation.correlation",
        version=1,
        twin="CorrelationClassifier",
        params=params.correlation,
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
