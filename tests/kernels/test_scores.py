"""Scores from an engine's answers are those that scikit-learn's scorers give the estimator itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    get_scorer,
    log_loss,
    make_scorer,
    matthews_corrcoef,
    r2_score,
    roc_auc_score,
)
from sklearn.model_selection import KFold

from slcluster.kernels.confusion import count_confusion
from slcluster.kernels.generic import SphereFailure
from slcluster.kernels.scores import answers_of, needed_outputs, score

N_CENTERS, N_SAMPLES = 5, 60
FOLDS = [(train, test[::-1]) for train, test in KFold(3).split(np.zeros((N_SAMPLES, 1)))]
TEST = [test for _, test in FOLDS]


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Samples of five spheres, rounded so that decisions tie now and then."""
    return np.random.default_rng(0).normal(size=(N_CENTERS, N_SAMPLES, 4)).round(1)


def _answers(
    x: np.ndarray, targets: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, np.ndarray], list[list[list[Any]]]]:
    """What a fast engine would return, from scikit-learn's own fits; and these fits."""
    n_classes, n_tested = len(labels), sum(map(len, TEST))
    n_columns = 1 if n_classes == 2 else n_classes
    shape = (N_CENTERS, len(targets), n_tested)
    decision, log_proba = np.empty((*shape, n_columns)), np.empty((*shape, n_classes))
    prediction = np.empty(shape, np.int64)
    fitted: list[list[list[Any]]] = []
    edges = np.cumsum([0, *map(len, TEST)])
    for center in range(N_CENTERS):
        fitted.append([])
        for permutation, codes in enumerate(targets):
            fitted[-1].append([])
            for fold, (train, test) in enumerate(FOLDS):
                one = LogisticRegression().fit(x[center, train], labels[codes[train]])
                part = (center, permutation, slice(edges[fold], edges[fold + 1]))
                samples = x[center, test]
                decision[part] = one.decision_function(samples).reshape(len(test), -1)
                log_proba[part] = one.predict_log_proba(samples)
                prediction[part] = np.searchsorted(labels, one.predict(samples))
                fitted[-1][-1].append(one)
    confusion = count_confusion(prediction, targets, np.concatenate(TEST), edges, n_classes)
    found = {"decision": decision, "log_proba": log_proba, "prediction": prediction, "confusion": confusion}
    return found, fitted


def _compare(
    values: np.ndarray, scorers: dict[str, Any], fitted: Any, x: np.ndarray, targets: np.ndarray, labels: Any
) -> None:
    """Every score against what its scorer gives of scikit-learn's own fit."""
    for metric, (name, scorer) in enumerate(scorers.items()):
        expected = [
            [
                [scorer(one, x[c, test], labels[y[test]]) for one, test in zip(fits, TEST, strict=True)]
                for fits, y in zip(fitted[c], targets, strict=True)
            ]
            for c in range(N_CENTERS)
        ]
        np.testing.assert_allclose(values[..., metric], expected, rtol=1e-12, err_msg=name)
        if name in ("accuracy", "balanced_accuracy"):
            assert np.array_equal(values[..., metric], expected)


TWO = ["accuracy", "balanced_accuracy", "roc_auc", "neg_log_loss", "f1_macro", "matthews_corrcoef"]
MANY = ["accuracy", "balanced_accuracy", "roc_auc_ovr", "neg_log_loss", "f1_macro"]


@pytest.mark.parametrize(
    ("labels", "names"), [(["face", "house"], TWO), (["cat", "face", "house"], MANY)], ids=["two", "three"]
)
def test_classification(labels: list[str], names: list[str], x: np.ndarray) -> None:
    classes = np.array(labels)
    rng = np.random.default_rng(1)
    targets = np.stack([rng.permutation(np.arange(N_SAMPLES) % len(labels)) for _ in range(2)])
    found, fitted = _answers(x, targets, classes)
    scorers = {name: get_scorer(name) for name in names}
    scorers["own"] = make_scorer(matthews_corrcoef, sample_weight=None)
    values = score(found, scorers, targets, TEST, classes)
    assert values.shape == (N_CENTERS, 2, 3, len(scorers))
    _compare(values, scorers, fitted, x, targets, classes)


def test_regression(x: np.ndarray) -> None:
    targets = np.random.default_rng(2).normal(size=(1, N_SAMPLES))
    targets[0, TEST[1]] = 3.5  # R² has a rule of its own for constant targets
    scorers = {
        name: get_scorer(name) for name in ("r2", "neg_mean_squared_error", "neg_median_absolute_error")
    }
    fitted = [[Ridge().fit(x[c, train], targets[0, train]) for train, _ in FOLDS] for c in range(N_CENTERS)]
    prediction = np.array(
        [
            [np.concatenate([fitted[c][f].predict(x[c, test]) for f, test in enumerate(TEST)])]
            for c in range(N_CENTERS)
        ]
    )
    values = score({"prediction": prediction}, scorers, targets, TEST, None)
    for metric, scorer in enumerate(scorers.values()):
        expected = [
            [scorer(fitted[c][f], x[c, test], targets[0, test]) for f, test in enumerate(TEST)]
            for c in range(N_CENTERS)
        ]
        np.testing.assert_allclose(values[:, 0, :, metric], expected, rtol=1e-12)


def test_losses_are_negative(x: np.ndarray) -> None:
    """A scorer of which less is better is negated, whichever way it is computed."""
    labels, targets = np.array(["face", "house"]), np.arange(N_SAMPLES)[None] % 2
    found, fitted = _answers(x, targets, labels)
    graded = ("decision_function", "predict_proba")
    scorers = {
        "accuracy": make_scorer(accuracy_score, greater_is_better=False),
        "balanced": make_scorer(balanced_accuracy_score, greater_is_better=False),
        "auc": make_scorer(roc_auc_score, greater_is_better=False, response_method=graded),
        "probable": make_scorer(roc_auc_score, greater_is_better=False, response_method="predict_proba"),
        "other": make_scorer(matthews_corrcoef, greater_is_better=False),
    }
    _compare(score(found, scorers, targets, TEST, labels), scorers, fitted, x, targets, labels)
    numbers = np.random.default_rng(2).normal(size=(1, N_SAMPLES))
    tested = numbers[:, np.concatenate(TEST)][None] + 0.5
    values = score({"prediction": tested}, {"r2": get_scorer("r2")}, numbers, TEST, None)
    less = score(
        {"prediction": tested}, {"r2": make_scorer(r2_score, greater_is_better=False)}, numbers, TEST, None
    )
    np.testing.assert_array_equal(less, -values)


def test_a_metric_is_computed_from_the_answer_that_its_scorer_asks_for(x: np.ndarray) -> None:
    """The area under the ROC of predictions is not that of decisions."""
    labels, targets = np.array([0, 1]), np.arange(N_SAMPLES)[None] % 2
    found, fitted = _answers(x, targets, labels)
    scorers = {"hard": make_scorer(roc_auc_score), "soft": get_scorer("roc_auc")}
    _compare(score(found, scorers, targets, TEST, labels), scorers, fitted, x, targets, labels)


def test_a_class_of_probability_zero_is_scored(x: np.ndarray) -> None:
    """Its logarithm is minus infinity, which is an answer; NaN is none, and an empty sphere has none."""
    labels, targets = np.array(["face", "house"]), np.arange(N_SAMPLES)[None] % 2
    log_proba = np.broadcast_to(
        np.log([0.0, 1.0], where=[False, True], out=np.full(2, -np.inf)), (4, 1, N_SAMPLES, 2)
    )
    found = {"log_proba": log_proba.copy()}
    found["log_proba"][2, 0, 0, 0] = found["log_proba"][3] = np.nan
    values = score(
        found,
        {"loss": get_scorer("neg_log_loss"), "auc": get_scorer("roc_auc")},
        targets,
        TEST,
        labels,
        is_scored=np.array([True, False, True, True]),
    )
    expected = -log_loss(labels[targets[0, TEST[0]]], np.exp(log_proba[0, 0, : len(TEST[0])]), labels=labels)
    assert values[0, 0, 0, 0] == expected
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[[1, 3]]).all()
    assert np.isnan(values[2, 0, :, 0]).tolist() == [True, False, False]


def test_a_decision_of_minus_one_is_a_decision() -> None:
    decision, targets = np.full((1, 1, N_SAMPLES, 1), -1.0), np.arange(N_SAMPLES)[None] % 2
    scorer = get_scorer("average_precision")
    values = score({"decision": decision}, {"ap": scorer}, targets, TEST, np.array([0, 1]))
    assert values[0, 0, :, 0].tolist() == [0.5] * 3


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scorers_are_asked_for_what_an_engine_has(n_classes: int, x: np.ndarray) -> None:
    """Some take decisions or probabilities, whichever there is, and look for the method."""
    labels, targets = np.arange(n_classes), np.arange(N_SAMPLES)[None] % n_classes
    found, _ = _answers(x, targets, labels)
    scorers = {"ap": get_scorer("average_precision"), "top": get_scorer("top_k_accuracy")}
    scorers["auc"] = get_scorer("roc_auc" if n_classes == 2 else "roc_auc_ovr")
    for answer in ("decision", "log_proba"):
        if (answer, n_classes) == ("decision", 3):
            scorers.pop("auc")  # of probabilities only
        values = score({answer: found[answer]}, scorers, targets, TEST, labels)
        assert np.isfinite(values).all()


def test_a_scorer_that_fails_names_the_center_and_the_fold(x: np.ndarray) -> None:
    def moody(true: np.ndarray, predicted: np.ndarray) -> float:
        if predicted.tolist() == trap:
            raise ZeroDivisionError("not this one")
        return 0.0

    labels, targets = np.array(["face", "house"]), np.arange(N_SAMPLES)[None] % 2
    found, fitted = _answers(x, targets, labels)
    trap = fitted[3][0][1].predict(x[3, TEST[1]]).tolist()
    with pytest.raises(SphereFailure) as caught:
        score(found, {"moody": make_scorer(moody)}, targets, TEST, labels)
    assert (caught.value.center, caught.value.fold) == (3, 1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_what_a_scorer_needs() -> None:
    every = ("confusion", "prediction", "decision", "log_proba")
    scorers = {name: get_scorer(name) for name in ("accuracy", "roc_auc", "f1_macro", "neg_log_loss")}
    assert needed_outputs(scorers, every) == ("confusion", "decision", "log_proba", "prediction")
    assert needed_outputs({"a": scorers["accuracy"]}, every) == ("confusion",)
    assert answers_of(scorers["roc_auc"], ["prediction", "log_proba"]) == "log_proba"
    assert answers_of(scorers["neg_log_loss"], ["prediction", "decision"]) is None
    assert answers_of(lambda fitted, X, y: 0.0, every) is None  # may look at anything of the estimator
