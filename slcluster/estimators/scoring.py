"""Metrics: what a ``scoring`` argument names, as one callable."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import check_scoring, get_scorer, get_scorer_names

from slcluster.errors import InputError
from slcluster.estimators.description import describe
from slcluster.estimators.measures import Measure

__all__ = ["make_scorer", "score_functions", "scorers_of"]


def make_scorer(scoring: Any, estimator: Any) -> tuple[tuple[str, ...], Any, Any]:
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

    A measure has no metrics.

    Raises
    ------
    InputError
        Unknown metric (the nearest are offered), two of one name, any of a measure, or an estimator without ``score`` and no
        scoring.

    Examples
    --------
    >>> from slcluster.estimators import resolve
    >>> make_scorer(["accuracy", "balanced_accuracy"], resolve("svc"))[0]
    ('accuracy', 'balanced_accuracy')
    """
    if isinstance(estimator, Measure):
        if scoring not in (None, "accuracy"):
            raise InputError(f"{estimator!r} is a measure, which no metric scores; leave scoring out")
        return (), None, None
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
    return {} if scoring is None else {n: _function_of(scorer) for n, scorer in scorers_of(scoring).items()}


def scorers_of(scoring: Any) -> dict[str, Any]:
    """scikit-learn's scorer, or the callable given, of each metric by name. ``scoring`` is not None."""
    return {name: _one_scorer(metric) for name, metric in _by_name(scoring).items()}


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
