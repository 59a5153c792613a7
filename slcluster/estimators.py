"""The registry of estimators: a name, what it stands for, and which engine computes it.

Names mean what they mean in nilearn 0.14's ``SearchLight``. An engine other than ``"sklearn"`` exists only
beside its scikit-learn twin. Descriptions are plain data that say everything about an estimator, so that a
plan can be compared, stored and resumed without unpickling anything.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import inspect
import json
import numbers
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.metrics import check_scoring, get_scorer, get_scorer_names

from slcluster.errors import InputError

__all__ = [
    "ENGINES",
    "NAMES",
    "choose_engine",
    "describe",
    "is_classification",
    "make_scorer",
    "nearest",
    "rebuild",
    "resolve",
    "score_functions",
]

#: Engines, with the version of their numerics (part of a plan's fingerprint).
ENGINES: dict[str, int] = {"sklearn": 1}

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


#: Keys by which descriptions are told from mappings that happen to be parameters.
_FORMS = {"array", "class", "float", "function", "items", "set", "tuple"}

#: Name → function that makes the estimator.
NAMES: dict[str, Callable[[], BaseEstimator]] = {
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
}


def nearest(name: str, known: list[str]) -> str:
    """A clause that offers the nearest known names: ``"did you mean 'svc'? ..."``."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{hint}known: {', '.join(sorted(known))}"


def resolve(estimator: str | BaseEstimator) -> BaseEstimator:
    """The scikit-learn estimator that a name or an instance stands for.

    Parameters
    ----------
    estimator : str or scikit-learn estimator
        A key of :data:`NAMES`, or any object with ``fit`` and scikit-learn's parameter conventions.

    Returns
    -------
    scikit-learn estimator
        A clone. Every ``random_state`` that was None is :data:`DEFAULT_SEED`, so a map can be repeated.

    Raises
    ------
    InputError
        Unknown name (the nearest are offered), or not a scikit-learn estimator instance.

    Examples
    --------
    >>> resolve("svc").max_iter
    10000
    """
    if isinstance(estimator, str):
        if estimator not in NAMES:
            raise InputError(f"unknown estimator {estimator!r}; {nearest(estimator, list(NAMES))}")
        return _seeded(NAMES[estimator]())
    if isinstance(estimator, type):
        raise InputError(
            f"estimator must be an instance, got the class {estimator.__name__}; write {estimator.__name__}()"
        )
    if not (hasattr(estimator, "fit") and hasattr(estimator, "get_params")):
        raise InputError(
            f"estimator must be a name ({', '.join(sorted(NAMES))}) or a scikit-learn estimator, "
            f"got {type(estimator).__name__}"
        )
    return _seeded(clone(estimator))


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


def is_classification(estimator: BaseEstimator, targets: np.ndarray) -> bool:
    """Whether classes are predicted: by the estimator's own tag, else by whether targets are text or integer."""
    if is_classifier(estimator):
        return True
    if is_regressor(estimator):
        return False
    return targets.dtype.kind not in "fc"


def choose_engine(engine: str, estimator: BaseEstimator) -> str:
    """The code path that will compute ``estimator``.

    ``"auto"`` takes a fast engine where one computes exactly this estimator with these parameters, else
    ``"sklearn"``, which takes everything.

    Raises
    ------
    InputError
        Unknown engine.
    """
    if engine != "auto" and engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}; {nearest(engine, ['auto', *ENGINES])}")
    return "sklearn" if engine == "auto" else engine


def make_scorer(scoring: Any, estimator: BaseEstimator) -> tuple[tuple[str, ...], Any, Any]:
    """Names of the metrics, one callable that computes them all, and their description.

    Parameters
    ----------
    scoring : None, str, callable, sequence of str, or mapping of name to str or callable
        None is the estimator's own ``score``.
    estimator : scikit-learn estimator

    Returns
    -------
    names : tuple of str
    scorer : callable
        ``scorer(fitted, X, y)``: a number for one metric, a mapping for several.
    description : JSON-able
        Enters the fingerprint.

    Raises
    ------
    InputError
        Unknown metric (the nearest are offered), two of one name, or an estimator without ``score`` and no
        scoring.

    Examples
    --------
    >>> make_scorer(["accuracy", "balanced_accuracy"], resolve("svc"))[0]
    ('accuracy', 'balanced_accuracy')
    """
    if scoring is None:
        if not hasattr(estimator, "score"):
            raise InputError(f"{type(estimator).__name__} has no score method; pass scoring=")
        own = "r2" if is_regressor(estimator) else "accuracy" if is_classifier(estimator) else "score"
        return (own,), check_scoring(estimator, None), None
    scoring = _by_name(scoring)
    scorers = {name: _one_scorer(metric) for name, metric in scoring.items()}
    description = {
        name: metric if isinstance(metric, str) else describe(metric) for name, metric in scoring.items()
    }
    if len(scorers) == 1:
        return tuple(scorers), next(iter(scorers.values())), description
    return tuple(scorers), check_scoring(estimator, scorers), description


def score_functions(scoring: Any) -> dict[str, Callable[..., Any]]:
    """The function of targets and predictions behind each metric; behind a plain callable itself.

    Parameters
    ----------
    scoring
        What :func:`make_scorer` takes.

    Examples
    --------
    >>> score_functions("roc_auc")["roc_auc"].__name__
    'roc_auc_score'
    """
    scorers = {} if scoring is None else _by_name(scoring)
    return {name: _function_of(_one_scorer(metric)) for name, metric in scorers.items()}


def _function_of(scorer: Any) -> Any:
    return getattr(scorer, "_score_func", scorer)


def _metric_name(metric: Any) -> str:
    return metric if isinstance(metric, str) else getattr(_function_of(metric), "__name__", "score")


def _by_name(metrics: Any) -> dict[str, Any]:
    """Metrics by the names that users will read."""
    if isinstance(metrics, str) or callable(metrics):
        return {_metric_name(metrics): metrics}
    if isinstance(metrics, Mapping):
        return _some(dict(metrics))
    if not isinstance(metrics, Iterable):
        raise _no_scoring(metrics)
    by_name: dict[str, Any] = {}
    for metric in metrics:
        name = _metric_name(metric)
        if name in by_name:
            raise InputError(f"two metrics are called {name!r}; pass a mapping of names to scorers")
        by_name[name] = metric
    return _some(by_name)


def _some(metrics: dict[str, Any]) -> dict[str, Any]:
    if not metrics:
        raise InputError("scoring names no metric; pass at least one")
    return metrics


def _no_scoring(value: Any) -> InputError:
    return InputError(
        f"scoring must be None, a metric's name, a callable, or several of these, got {value!r}"
    )


def _one_scorer(metric: Any) -> Any:
    if callable(metric):
        return metric
    if not isinstance(metric, str):
        raise _no_scoring(metric)
    if metric not in get_scorer_names():
        close = difflib.get_close_matches(metric, get_scorer_names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise InputError(f"unknown scorer {metric!r}; {hint}sklearn.metrics.get_scorer_names() lists all")
    return get_scorer(metric)


def describe(value: Any) -> Any:
    """Plain data (JSON-able) that is equal for equal estimators, splitters, scorers and parameters.

    An object with parameters becomes ``{"class": ..., "params": ...}``, a function its qualified name and
    the digest of its source, with what it captured where a name cannot find it again; an array its dtype,
    shape and digest.

    Raises
    ------
    InputError
        If something has no description that two processes would agree on.

    Examples
    --------
    >>> describe(resolve("dummy_regressor"))["class"]
    'sklearn.dummy.DummyRegressor'
    """
    if value is None or isinstance(value, (bool, str, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if np.isfinite(float(value)) else {"float": str(float(value))}
    if isinstance(value, np.ndarray | list | tuple | set | frozenset | Mapping):
        return _describe_container(value)
    if isinstance(value, type) or inspect.isroutine(value):
        return {"function": _qualified(value), "source": _source_digest(value), **_captured(value)}
    if isinstance(value, functools.partial):
        parts = {"args": value.args, "keywords": value.keywords}
        return {"function": "functools.partial", "of": describe(value.func), **_describe_container(parts)}
    if hasattr(value, "get_params"):
        return {"class": _qualified(type(value)), "params": describe(value.get_params(deep=False))}
    if isinstance(value, np.random.RandomState | np.random.Generator):
        raise InputError("random_state is a generator, whose state a plan cannot hold; pass an integer seed")
    if hasattr(value, "__dict__") and not inspect.ismodule(value):
        return {"class": _qualified(type(value)), "params": describe(vars(value))}
    return {"class": _qualified(type(value)), "repr": repr(value)}


def _describe_container(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        about = {"dtype": value.dtype.str, "shape": list(value.shape)}
        if value.dtype.kind in "OT":  # whose bytes are addresses
            return {"array": [describe(item) for item in value.ravel().tolist()], **about}
        return {"array": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(), **about}
    if isinstance(value, list):
        return [describe(item) for item in value]
    if isinstance(value, tuple):  # some estimators take nothing else
        return {"tuple": [describe(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"set": sorted((describe(item) for item in value), key=json.dumps)}
    if all(isinstance(key, str) for key in value) and not _FORMS & set(value):
        return {key: describe(item) for key, item in value.items()}
    return {"items": [[describe(key), describe(item)] for key, item in value.items()]}


def _captured(thing: Any) -> dict[str, Any]:
    """What else decides what a function does, where its module does not have it under its name."""
    if inspect.ismethod(thing):
        return {"of": describe(thing.__self__)}
    found: Any = sys.modules.get(getattr(thing, "__module__", None) or "")
    for part in getattr(thing, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    if found is thing or not inspect.isfunction(thing):
        return {}
    cells = [cell.cell_contents for cell in thing.__closure__ or () if cell.cell_contents is not thing]
    held = {"closure": cells, "defaults": thing.__defaults__, "keywords": thing.__kwdefaults__}
    return {name: describe(value) for name, value in held.items() if value}


def _qualified(thing: Any) -> str:
    module = getattr(thing, "__module__", "builtins")
    # scikit-learn's private modules move; the public one (sklearn.svm, not sklearn.svm._classes) stays.
    public = ".".join(part for part in module.split(".") if not part.startswith("_")) or module
    return f"{public}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def _source_digest(thing: Any) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def rebuild(description: Any) -> Any:
    """The estimator that :func:`describe` described, if it is one of scikit-learn's own.

    Raises
    ------
    InputError
        For anything outside the ``sklearn`` package: a store must not name code to import.
    """
    if isinstance(description, list):
        return [rebuild(item) for item in description]
    if not isinstance(description, Mapping):
        return description
    if "float" in description:
        return float(description["float"])
    if "tuple" in description:
        return tuple(rebuild(item) for item in description["tuple"])
    if "set" in description:
        return set(map(rebuild, description["set"]))
    if "items" in description:
        return {rebuild(key): rebuild(item) for key, item in description["items"]}
    if not {"class", "params"} <= set(description):
        if {"function", "array"} & set(description) or {"class", "repr"} <= set(description):
            raise InputError(
                "an estimator holds functions or arrays; resume it by calling slc.searchlight again"
            )
        return {key: rebuild(item) for key, item in description.items()}
    module, _, name = description["class"].rpartition(".")
    if module.split(".")[0] != "sklearn":
        raise InputError(
            f"estimator {description['class']} is not scikit-learn's; resume it by calling slc.searchlight again"
        )
    return getattr(import_module(module), name)(**rebuild(description["params"]))
