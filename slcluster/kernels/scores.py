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
from sklearn.utils.metaestimators import available_if

from slcluster.kernels.confusion import count_confusion
from slcluster.kernels.generic import SphereFailure
from slcluster.kernels.moments import samples_of

__all__ = [
    "ANSWERS",
    "TABLES",
    "answers_of",
    "count_pairs",
    "needed_outputs",
    "score",
    "stand_in",
    "table_values",
]

#: Results that are a number for each class, or for each pair of classes, in the order they are stored in.
TABLES = ("hit_rate", "confusion")

#: What an estimator's methods are called, and the output that holds their answer.
ANSWERS = {"predict": "prediction", "decision_function": "decision", "predict_proba": "log_proba"}


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
        if ANSWERS.get(method) in outputs:
            return ANSWERS[method]
    return None


def needed_outputs(
    scorers: Mapping[str, Any], outputs: Sequence[str], tables: Sequence[str] = ()
) -> tuple[str, ...]:
    """The outputs that an engine has to return for these scorers and tables, sorted."""
    needed = {"confusion" if "confusion" in outputs else "prediction"} if tables else set()
    for scorer in scorers.values():
        answer = answers_of(scorer, outputs)
        assert answer is not None, "engines are chosen by what they answer"
        needed.add("confusion" if _is_counted(scorer) and "confusion" in outputs else answer)
    return tuple(sorted(needed))


def score(
    found: Mapping[str, np.ndarray],
    scorers: Mapping[str, Any],
    targets: np.ndarray,
    test: Sequence[np.ndarray],
    labels: np.ndarray | None,
    tables: Sequence[str] = (),
    *,
    is_scored: np.ndarray | None = None,
) -> np.ndarray:
    """Every metric and table of every center, set of targets and fold.

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
    tables : sequence of str
        Of :data:`TABLES`; not for a regression.
    is_scored : array of bool, shape (n_centers,), optional
        Centers whose spheres hold enough voxels; all are NaN of the others. All centers where not given.

    Returns
    -------
    numpy.ndarray
        float64, shape (n_centers, n_permutations, n_folds, n_metrics + n_table_values). A metric is NaN, too, where an
        engine could not decide on some sample.

    Raises
    ------
    SphereFailure
        With the center's row and the fold, caused by the scorer's own error.
    """
    some = next(iter(found.values()))
    counts = _counts(found, targets, test, 0 if labels is None else len(labels)) if tables else None
    extra = None if counts is None else table_values(counts, tables)
    n_values = len(scorers) + (0 if extra is None else extra.shape[-1])
    scores = np.empty((*some.shape[:2], len(test), n_values))
    if extra is not None:
        scores[..., len(scorers) :] = extra
    _, edges = samples_of(test)
    for metric, scorer in enumerate(scorers.values()):
        for fold, index in enumerate(test):
            part = slice(edges[fold], edges[fold + 1])
            if _is_counted(scorer) and "confusion" in found:
                values = _FROM_CONFUSION[_function(scorer)](found["confusion"][:, :, fold]) * scorer._sign
            else:
                values = _from_samples(scorer, found, part, targets[:, index], labels, is_scored, fold)
            scores[..., fold, metric] = values
    if is_scored is not None:
        scores[~is_scored] = np.nan
    return scores


def _counts(
    found: Mapping[str, np.ndarray], targets: np.ndarray, test: Sequence[np.ndarray], n_classes: int
) -> np.ndarray:
    """Test samples of each class predicted as each: (n_centers, n_permutations, n_folds, K, K)."""
    if "confusion" in found:
        return found["confusion"]
    return count_confusion(found["prediction"], targets, *samples_of(test), n_classes)


def count_pairs(true: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Samples of each true class predicted as each: int64 (n_classes, n_classes), from codes of both."""
    return np.bincount(true * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def table_values(counts: np.ndarray, tables: Sequence[str]) -> np.ndarray:
    """Tables of classes side by side, from counts of what was predicted as what.

    Parameters
    ----------
    counts : array of int, shape (..., n_classes, n_classes)
        True classes in rows.
    tables : sequence of str
        Of :data:`TABLES`.

    Returns
    -------
    numpy.ndarray
        float64, shape (..., n_values): hit rates, NaN of classes that do not occur; then counts, row by row.

    Examples
    --------
    >>> table_values(np.array([[3, 1], [0, 0]]), ("hit_rate", "confusion")).tolist()
    [0.75, nan, 3.0, 1.0, 0.0, 0.0]
    """
    parts = []
    if "hit_rate" in tables:
        n_true = counts.sum(axis=-1)
        hits = np.diagonal(counts, axis1=-2, axis2=-1)
        parts.append(np.divide(hits, n_true, out=np.full(n_true.shape, np.nan), where=n_true > 0))
    if "confusion" in tables:
        parts.append(counts.reshape(*counts.shape[:-2], -1).astype(np.float64))
    return np.concatenate(parts, axis=-1)


def _function(scorer: Any) -> str | None:
    """The name of scikit-learn's function behind a scorer without arguments of its own; None behind others."""
    function: Any = getattr(scorer, "_score_func", None)
    if getattr(scorer, "_kwargs", None) or not getattr(function, "__module__", "").startswith("sklearn."):
        return None
    return str(function.__name__)


def _is_counted(scorer: Any) -> bool:
    """Whether a scorer is one of counts of predictions, and is asked about predictions."""
    return _function(scorer) in _FROM_CONFUSION and answers_of(scorer, ["prediction"]) is not None


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
    found: Mapping[str, np.ndarray],
    part: slice,
    y: np.ndarray,
    labels: np.ndarray | None,
    is_scored: np.ndarray | None,
    fold: int,
) -> np.ndarray:
    """One metric in one fold, (n_centers, n_permutations), from each test sample's answer."""
    answer = answers_of(scorer, list(found))
    assert answer is not None
    values, function = found[answer][:, :, part], _function(scorer)
    if labels is None and function in _FROM_NUMBERS:
        return _FROM_NUMBERS[function](values, y) * scorer._sign
    is_graded = answer in ("decision", "log_proba")
    if labels is not None and len(labels) == 2 and is_graded and function == "roc_auc_score":
        # Probabilities that are 0 or 1 to rounding are ties, for scikit-learn too.
        return _auc(np.exp(values[..., 1]) if answer == "log_proba" else values[..., 0], y) * scorer._sign
    scores = np.full(values.shape[:2], np.nan)
    nothing = np.empty((y.shape[-1], 1))
    # A probability of zero is an answer, the logarithm of which is infinite.
    is_answered = ~np.isnan(values).reshape(*scores.shape, -1).any(axis=-1)
    for at in np.argwhere(is_answered if is_scored is None else is_answered & is_scored[:, None]):
        center, permutation = at
        true = y[permutation] if labels is None else labels[y[permutation]]
        try:
            scores[center, permutation] = scorer(
                stand_in(answer, values[center, permutation], labels), nothing, true
            )
        except Exception as error:
            raise SphereFailure(int(center), fold) from error
    return scores


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


def stand_in(answer: str, values: np.ndarray, labels: np.ndarray | None) -> BaseEstimator:
    """An estimator whose one answer, whatever the samples, is known already; it has no other methods.

    Parameters
    ----------
    answer : str
        ``prediction``, ``decision`` or ``log_proba``.
    values : array, shape (n_tested, ...)
        One center's, permutation's and fold's, as :mod:`slcluster.kernels` describes them.
    labels : array, shape (n_classes,), or None
        None for a regression.
    """
    return _Regressor(values) if labels is None else _Classifier(answer, values, labels)


class _Regressor(RegressorMixin, BaseEstimator):
    """Answers with predictions that were made before."""

    def __init__(self, prediction: np.ndarray) -> None:
        self.prediction = prediction

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.prediction


def _answers(answer: str) -> Any:
    """Decorator of a method that only stand-ins with this answer have: scorers ask which methods there are."""
    return available_if(lambda twin: twin.answer == answer)


class _Classifier(ClassifierMixin, BaseEstimator):
    """Answers with one kind of predictions that were made before, which is all that its scorer asks for."""

    def __init__(self, answer: str, values: np.ndarray, classes: np.ndarray) -> None:
        self.answer = answer
        self.values = values
        self.classes_ = classes

    @_answers("prediction")
    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.classes_[self.values]

    @_answers("decision")
    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return self.values[:, 0] if self.values.shape[1] == 1 else self.values

    @_answers("log_proba")
    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        return np.exp(self.values)
