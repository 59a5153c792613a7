"""What the name of an estimator stands for: names mean what they mean in nilearn 0.14's ``SearchLight``."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from slcluster.errors import InputError, one_line
from slcluster.estimators.measures import Crossnobis, FunctionMeasure, Measure, SplitHalf

__all__ = [
    "DEFAULT_SEED",
    "NAMES",
    "check_parameters",
    "is_classification",
    "nearest",
    "resolve",
    "weight_argument",
]

#: Iterations nilearn gives to the estimators that stop at a number of them.
_MAX_ITER = 10_000

#: Seed of an estimator or splitter that was given none.
DEFAULT_SEED = 0


def _svc(penalty: str) -> Callable[[], BaseEstimator]:
    def make() -> BaseEstimator:
        from sklearn.svm import LinearSVC

        return LinearSVC(penalty=penalty, max_iter=_MAX_ITER, random_state=0)

    return make


def _logistic(l1_ratio: int) -> Callable[[], BaseEstimator]:
    def make() -> BaseEstimator:
        from sklearn.linear_model import LogisticRegressionCV

        return LogisticRegressionCV(
            l1_ratios=(l1_ratio,), solver="liblinear", use_legacy_attributes=False, scoring="neg_log_loss"
        )

    return make


def _linear_model(name: str) -> Callable[[], BaseEstimator]:
    def make() -> BaseEstimator:
        from sklearn import linear_model

        return getattr(linear_model, name)()

    return make


def _svr() -> BaseEstimator:
    from sklearn.svm import SVR

    return SVR(kernel="linear", max_iter=_MAX_ITER)


def _dummy_classifier() -> BaseEstimator:
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="stratified", random_state=0)


def _dummy_regressor() -> BaseEstimator:
    from sklearn.dummy import DummyRegressor

    return DummyRegressor(strategy="mean")


def _gnb() -> BaseEstimator:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB()


def _gnb_pooled() -> BaseEstimator:
    from slcluster.kernels.twins import PooledGaussianNB

    return PooledGaussianNB()


def _nearest_centroid() -> BaseEstimator:
    from sklearn.neighbors import NearestCentroid

    return NearestCentroid()


def _lda() -> BaseEstimator:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis()


def _correlation(*, subtract_mean: bool) -> Callable[[], BaseEstimator]:
    def make() -> BaseEstimator:
        from slcluster.kernels.twins import CorrelationClassifier

        return CorrelationClassifier(subtract_mean=subtract_mean)

    return make


#: Name → function that makes the estimator.
NAMES: dict[str, Callable[[], BaseEstimator | Measure]] = {
    "svc": _svc("l2"),
    "svc_l1": _svc("l1"),
    "svc_l2": _svc("l2"),
    "logistic": _logistic(0),
    "logistic_l1": _logistic(1),
    "logistic_l2": _logistic(0),
    "ridge_classifier": _linear_model("RidgeClassifierCV"),
    "dummy_classifier": _dummy_classifier,
    "ridge": _linear_model("RidgeCV"),
    "ridge_regressor": _linear_model("RidgeCV"),
    "lasso": _linear_model("LassoCV"),
    "lasso_regressor": _linear_model("LassoCV"),
    "svr": _svr,
    "dummy_regressor": _dummy_regressor,
    # Ours, which nilearn has not.
    "gnb": _gnb,
    "gnb_pooled": _gnb_pooled,
    "nearest_centroid": _nearest_centroid,
    "lda": _lda,
    "correlation": _correlation(subtract_mean=False),
    "correlation_centered": _correlation(subtract_mean=True),
    "crossnobis": Crossnobis,
    "split_half": SplitHalf,
}


def nearest(name: str, known: list[str]) -> str:
    """A clause that offers the nearest known names: ``"did you mean 'svc'? ..."``."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}known: {', '.join(sorted(known))}"


def resolve(estimator: Any) -> Any:
    """The scikit-learn estimator or the measure that a name or an instance stands for.

    Parameters
    ----------
    estimator : str, scikit-learn estimator, measure or function
        A key of :data:`NAMES`, any object with ``fit`` and scikit-learn's parameter conventions, a
        :class:`~slcluster.estimators.Measure`, or a function of X, y and groups.

    Returns
    -------
    scikit-learn estimator or Measure
        A clone. Every ``random_state`` that was None is :data:`DEFAULT_SEED`, so a map can be repeated.

    Raises
    ------
    InputError
        Unknown name (the nearest are offered), not a scikit-learn estimator instance, or one with a parameter
        that scikit-learn refuses.

    Examples
    --------
    >>> resolve("svc").max_iter
    10000
    """
    if isinstance(estimator, str):
        if estimator not in NAMES:
            raise InputError(f"unknown estimator {estimator!r}; {nearest(estimator, list(NAMES))}")
        made = NAMES[estimator]()
        return made if isinstance(made, Measure) else _seeded(made)
    if isinstance(estimator, Measure):
        return estimator
    if isinstance(estimator, type):
        raise InputError(
            f"estimator must be an instance, got the class {estimator.__name__}; write {estimator.__name__}()"
        )
    if callable(estimator) and not hasattr(estimator, "fit"):
        return FunctionMeasure(estimator)
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise InputError(
            f"estimator must be a name ({', '.join(sorted(NAMES))}), a scikit-learn estimator "
            f"or a function of X, y and groups, "
            f"got {type(estimator).__name__}"
        )
    mine = _seeded(clone(estimator))
    check_parameters(mine)
    return mine


def check_parameters(made: Any) -> None:
    """Have scikit-learn look at an object's parameters now: by itself it does so in ``fit``, on a worker.

    Parameters
    ----------
    made : object
        An estimator, a pipeline with all its steps, a splitter; what checks nothing is not checked.

    Raises
    ------
    InputError
        On one line, what scikit-learn expects.

    Examples
    --------
    >>> from sklearn.svm import LinearSVC
    >>> check_parameters(LinearSVC(C=-1))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    slcluster.errors.InputError: LinearSVC: The 'C' parameter of LinearSVC must be a float in the range ...
    """
    parts = [step for _, step in made.steps] if isinstance(made, Pipeline) else [made]
    for part in parts:
        if part is not made and isinstance(part, Pipeline):
            check_parameters(part)
        elif hasattr(part, "_parameter_constraints"):
            try:
                part._validate_params()
            except (TypeError, ValueError) as error:
                raise InputError(f"{type(part).__name__}: {one_line(error)}") from None


def _seeded(estimator: BaseEstimator) -> BaseEstimator:
    params = estimator.get_params(deep=True)
    for value in params.values():
        # The splitter of a search within each sphere; cloning copied it.
        if hasattr(value, "split") and getattr(value, "random_state", DEFAULT_SEED) is None:
            value.random_state = DEFAULT_SEED
    unset = {
        name: DEFAULT_SEED
        for name, value in params.items()
        if name.split("__")[-1] == "random_state" and value is None
    }
    return estimator.set_params(**unset) if unset else estimator


def is_classification(estimator: Any, targets: np.ndarray) -> bool:
    """Whether classes are predicted: by the estimator's own tag, else by whether targets are text or integer."""
    if isinstance(estimator, Measure):
        return estimator.needs_classes or targets.dtype.kind not in "fc"
    if is_classifier(estimator):
        return True
    if is_regressor(estimator):
        return False
    return targets.dtype.kind not in "fc"


def weight_argument(estimator: Any) -> str | None:
    """What ``fit`` calls the weights of samples; None where it takes none.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> weight_argument(make_pipeline(StandardScaler(), resolve("svc")))
    'linearsvc__sample_weight'
    """
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = weight_argument(last)
        return None if inner is None else f"{name}__{inner}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None
