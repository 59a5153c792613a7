"""Scores from what fast engines return, for the metrics that scikit-learn defines.

Accuracy, balanced accuracy, the area under the ROC of two classes, R² and the mean squared error are computed
for all centers at once. Any other scikit-learn scorer sees, one sphere and fold after the other, an estimator
that answers with the engine's predictions, and so gives what it would give for the estimator itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

__all__ = ["answers_of", "needed_outputs", "score"]

#: What an estimator's methods are called, and the output that holds their answer.
_ANSWERS = {"predict": "prediction", "decision_function": "decision", "predict_proba": "log_proba"}


def answers_of(scorer: Any, outputs: Sequence[str]) -> str | None:
    """Which of an engine's outputs a scikit-learn scorer can be computed from; None if from none.

    Parameters
    ----------
    scorer : scorer
        What ``sklearn.metrics.get_scorer`` or ``make_scorer`` gives. A plain callable may look at anything of
        an estimator, so it gets None.
    outputs : sequence of str
        What the engine can return.

    Examples
    --------
    >>> from sklearn.metrics import get_scorer
    >>> answers_of(get_scorer("roc_auc"), ["prediction", "decision"])
    'decision'
    """
    methods = getattr(scorer, "_response_method", ())
    for method in (methods,) if isinstance(methods, str) else methods:
        if _ANSWERS.get(method) in outputs:
            return _ANSWERS[method]
    return None


def needed_outputs(scorers: Mapping[str, Any], outputs: Sequence[str]) -> tuple[str, ...]:
    """The outputs that an engine has to return for these scorers, sorted."""
    needed = set()
    for scorer in scorers.values():
        answer = answers_of(scorer, outputs)
        assert answer is not None, "engines are chosen by what they answer"
        counts = _function(scorer) in _FROM_CONFUSION and "confusion" in outputs
        needed.add("confusion" if counts else answer)
    return tuple(sorted(needed))


def score(
    found: Mapping[str, np.ndarray],
    scorers: Mapping[str, Any],
    targets: np.ndarray,
    test: Sequence[np.ndarray],
    labels: np.ndarray | None,
) -> np.ndarray:
    """Every metric of every center, set of targets and fold.

    Parameters
    ----------
    found : mapping
        What a fast engine returned, see :mod:`slcluster.kernels`.
    scorers : mapping of name to scorer
    targets : array, shape (n_permutations, n_samples)
        Codes of classes, or numbers.
    test : n_folds index arrays
    labels : array, shape (n_classes,), or None
        What codes stand for; None for a regression.

    Returns
    -------
    numpy.ndarray
        float64, shape (n_centers, n_permutations, n_folds, n_metrics). Empty spheres have a number too, which
        the caller replaces.
    """
    some = next(iter(found.values()))
    scores = np.empty((*some.shape[:2], len(test), len(scorers)))
    edges = np.cumsum([0, *map(len, test)])
    for metric, scorer in enumerate(scorers.values()):
        function = _function(scorer)
        for fold, index in enumerate(test):
            part = slice(edges[fold], edges[fold + 1])
            if function in _FROM_CONFUSION and "confusion" in found:
                values = _FROM_CONFUSION[function](found["confusion"][:, :, fold])
            else:
                values = _from_samples(scorer, function, found, part, targets[:, index], labels)
            scores[..., fold, metric] = values
    return scores


def _function(scorer: Any) -> str | None:
    """The name of scikit-learn's function behind a scorer without arguments of its own; None behind others."""
    function: Any = getattr(scorer, "_score_func", None)
    if getattr(scorer, "_kwargs", None) or not getattr(function, "__module__", "").startswith("sklearn."):
        return None
    return str(function.__name__)


def _accuracy(confusion: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # an empty sphere answered nothing
        return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def _balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Mean over the classes that occur of the part of their samples that is hit."""
    n_true = confusion.sum(axis=-1)
    occurs = n_true > 0
    with np.errstate(invalid="ignore"):
        hit_rate = np.diagonal(confusion, axis1=-2, axis2=-1) / n_true
        return np.where(occurs, hit_rate, 0).sum(axis=-1) / occurs.sum(axis=-1)


_FROM_CONFUSION: dict[str | None, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy_score": _accuracy,
    "balanced_accuracy_score": _balanced_accuracy,
}


def _from_samples(
    scorer: Any,
    function: str | None,
    found: Mapping[str, np.ndarray],
    part: slice,
    y: np.ndarray,
    labels: np.ndarray | None,
) -> np.ndarray:
    """One metric in one fold, (n_centers, n_permutations), from each test sample's answer."""
    answer = answers_of(scorer, list(found))
    assert answer is not None
    values = found[answer][:, :, part]
    if labels is None and function in _FROM_NUMBERS:
        return _FROM_NUMBERS[function](values, y) * scorer._sign
    if labels is not None and len(labels) == 2 and function == "roc_auc_score":
        # Probabilities that are 0 or 1 to rounding are ties, for scikit-learn too.
        return _auc(np.exp(values[..., 1]) if answer == "log_proba" else values[..., 0], y)
    return _one_by_one(scorer, answer, values, y, labels)


def _auc(decision: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Area under the ROC as the Mann-Whitney statistic, ties counted half."""
    n_positive = y.sum(axis=-1)
    ranks = rankdata(decision, axis=-1)
    above = (ranks * y).sum(axis=-1) - n_positive * (n_positive + 1) / 2
    return above / (n_positive * (y.shape[-1] - n_positive))


def _r2(predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
    unexplained = ((y - predicted) ** 2).sum(axis=-1)
    total = ((y - y.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        usual = 1 - unexplained / total
    # scikit-learn's convention for constant targets.
    return np.where(total > 0, usual, np.where(unexplained == 0, 1.0, 0.0))


def _mean_squared_error(predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((y - predicted) ** 2).mean(axis=-1)


_FROM_NUMBERS: dict[str | None, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "r2_score": _r2,
    "mean_squared_error": _mean_squared_error,
}


def _one_by_one(
    scorer: Any, answer: str, values: np.ndarray, y: np.ndarray, labels: np.ndarray | None
) -> np.ndarray:
    scores = np.full(values.shape[:2], np.nan)
    nothing = np.empty((y.shape[-1], 1))
    for at in np.ndindex(scores.shape):
        if np.isfinite(values[at]).all() and not (labels is not None and (values[at] == -1).all()):
            twin = _Regressor(values[at]) if labels is None else _Classifier(answer, values[at], labels)
            true = y[at[1]] if labels is None else labels[y[at[1]]]
            scores[at] = scorer(twin, nothing, true)
    return scores


class _Regressor(RegressorMixin, BaseEstimator):
    """Answers with predictions that were made before."""

    def __init__(self, prediction: np.ndarray) -> None:
        self.prediction = prediction

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.prediction


class _Classifier(ClassifierMixin, BaseEstimator):
    """Answers with one kind of predictions that were made before, which is all that its scorer asks for."""

    def __init__(self, answer: str, values: np.ndarray, classes: np.ndarray) -> None:
        self.answer = answer
        self.values = values
        self.classes_ = classes

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self._only("prediction")]

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        values = self._only("decision")
        return values[:, 0] if values.shape[1] == 1 else values

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.exp(self._only("log_proba"))

    def _only(self, answer: str) -> np.ndarray:
        if answer != self.answer:
            raise AttributeError(answer)  # scorers that take either go on to the next
        return self.values
