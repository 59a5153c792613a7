"""Metrics: what a ``scoring`` argument names, as one callable."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import check_scoring, get_scorer, get_scorer_names

from slcluster.errors import InputError, one_line
from slcluster.estimators.description import describe
from slcluster.estimators.measures import Measure
from slcluster.kernels.scores import ANSWERS, stand_in

__all__ = ["check_scorers", "make_scorer", "score_functions", "scorers_of"]


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


def check_scorers(
    scoring: Any, estimator: Any, targets: np.ndarray, classes: np.ndarray | None, test: Sequence[np.ndarray]
) -> None:
    """Try scikit-learn's metrics once on these targets and made-up answers: some take only certain classes.

    Parameters
    ----------
    scoring
        What :func:`make_scorer` takes. The estimator's own score and metrics of a user's own are not tried.
    estimator : scikit-learn estimator
    targets : array, shape (n_samples,)
        Codes of classes, or numbers.
    classes : array, shape (n_classes,), or None
    test : n_folds index arrays
        One fold of each set of classes that occurs is tried.

    Raises
    ------
    InputError
        A metric that could not score any sphere, and which could.

    Examples
    --------
    >>> from slcluster.estimators import resolve
    >>> faces, fold = np.array(["face", "house"]), np.arange(2)
    >>> check_scorers("f1", resolve("svc"), np.array([0, 1]), faces, [fold])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    slcluster.errors.InputError: scoring='f1' cannot score face, house: pos_label=1 is not a valid label...
    """
    if scoring is None or not (is_classifier(estimator) if classes is not None else is_regressor(estimator)):
        return
    folds = test if classes is None else {tuple(np.unique(targets[part])): part for part in test}.values()
    for name, scorer in scorers_of(scoring).items():
        module = getattr(_function_of(scorer), "__module__", "")
        answer = _first_answer(scorer, estimator)
        if answer is None or not module.startswith("sklearn."):
            continue
        for part in folds:
            error = _try(scorer, answer, targets[part], classes)
            if error is not None:
                of = "these numbers" if classes is None else ", ".join(map(str, classes))
                raise InputError(
                    f"scoring={name!r} cannot score {of}: {one_line(error).rstrip('.')}; {_instead(name, scorer, classes)}"
                )


def _first_answer(scorer: Any, estimator: Any) -> str | None:
    """What a scorer will ask an estimator for; None where this cannot be told before it is fitted."""
    methods = getattr(scorer, "_response_method", ())
    for method in (methods,) if isinstance(methods, str) else methods:
        if hasattr(estimator, method):
            return ANSWERS.get(method)
    return None


def _try(scorer: Any, answer: str, y: np.ndarray, classes: np.ndarray | None) -> Exception | None:
    """What a scorer raises when every sample is taken for one of the class after its own; None if nothing."""
    if classes is None:
        values, true = y, y
    else:
        guesses, true = (y + 1) % len(classes), classes[y]
        graded = np.where(guesses[:, None] == np.arange(len(classes)), 0.75, 0.25 / (len(classes) - 1))
        decision = graded[:, 1:] - 0.5 if len(classes) == 2 else graded
        values = {"prediction": guesses, "decision": decision, "log_proba": np.log(graded)}[answer]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scorer(stand_in(answer, values, classes), np.empty((len(y), 1)), true)
    except Exception as error:
        return error
    return None


def _instead(name: str, scorer: Any, classes: np.ndarray | None) -> str:
    """A metric that can do what another cannot."""
    function, known = _function_of(scorer), get_scorer_names()
    offers = [repr(other) for other in (f"{name}_macro", f"{name}_ovr") if other in known]
    if classes is not None and len(classes) == 2 and "pos_label" in inspect.signature(function).parameters:
        words = {"pos_label": classes.tolist()[1]}
        if scorer._response_method != "predict":
            words["response_method"] = scorer._response_method
        if scorer._sign < 0:
            words["greater_is_better"] = False
        said = ", ".join(f"{word}={value!r}" for word, value in words.items())
        offers.append(f"sklearn.metrics.make_scorer({function.__name__}, {said})")
    return f"pass scoring={' or '.join(offers)}" if offers else "pass another metric"


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
