"""Targets, groups and folds: what is refused, and in which words."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import xarray as xr
from sklearn.linear_model import Ridge
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)

import slcluster as slc
from slcluster.errors import DesignError, InputError
from slcluster.plan import Design
from tests.conftest import OBLIQUE
from tests.witness import Total, noise_dataset

MY_AUC = make_scorer(roc_auc_score, response_method="decision_function")


@pytest.fixture(scope="module")
def ds() -> xr.Dataset:
    """24 samples of face and house in turn, three runs of 8; further columns."""
    made = noise_dataset(affine=OBLIQUE)
    return made.assign_coords(
        rt=("sample", np.linspace(0.2, 1.5, 24)),
        level=("sample", np.arange(24) % 3),
        hand=("sample", np.array(["left", "right", "right", "left"] * 6, dtype=object)),
    )


def _design(ds: xr.Dataset, **options: Any) -> Design:
    return slc.plan(ds, radius_mm=5.5, **options).design


def _refused(ds: xr.Dataset, words: str, kind: type[Exception] = DesignError, **options: Any) -> None:
    with pytest.raises(kind, match=words) as caught:
        _design(ds, **options)
    assert "\n" not in str(caught.value)


def _replaced(ds: xr.Dataset, condition: list[str]) -> xr.Dataset:
    return ds.assign_coords(condition=("sample", condition))


# --- targets


def test_text_and_integers_are_classes_sorted(ds: xr.Dataset) -> None:
    design = _design(ds)
    assert design.classes.tolist() == ["face", "house"]
    assert np.array_equal(design.targets, np.arange(24) % 2)
    assert design.class_counts == {"face": 12, "house": 12}
    by_level = _design(ds, target="level", cv=StratifiedKFold(4))
    assert by_level.classes.tolist() == [0, 1, 2]
    assert by_level.class_counts == {"0": 8, "1": 8, "2": 8}
    assert _design(ds, target="hand").classes.tolist() == ["left", "right"]


def test_numbers_are_predicted_by_a_regressor(ds: xr.Dataset) -> None:
    design = _design(ds, estimator=Ridge(), target="rt", scoring="r2", cv=3)
    assert design.classes is None
    assert np.array_equal(design.targets, np.linspace(0.2, 1.5, 24))
    assert design.class_counts == {}


def test_numbers_on_a_scale_are_no_classes(ds: xr.Dataset) -> None:
    """scikit-learn says "Unknown label type"; fast engines would take them."""
    for estimator in ("svc", "lda", "gnb"):
        _refused(ds, "'rt' holds numbers such as 0.2, which are no classes", target="rt", estimator=estimator)
    whole = ds.assign_coords(rt=("sample", np.tile([1.0, 2.0], 12)))
    assert _design(whole, target="rt").classes.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("column", ["condition", "rt"])
def test_one_class(ds: xr.Dataset, column: str) -> None:
    one = ds.assign_coords({column: ("sample", ["face"] * 24)})
    _refused(
        one,
        f"'{column}' has only one class in the selected samples .face.; select at least two",
        target=column,
    )


def test_no_samples(ds: xr.Dataset) -> None:
    _refused(ds.isel(sample=[]), "the selection has no samples")


def test_an_unknown_column(ds: xr.Dataset) -> None:
    _refused(
        ds, "target='conditoin' is not a column of the samples; did you mean 'condition'", target="conditoin"
    )
    _refused(ds, "groups='runs' is not a column of the samples; did you mean 'run'", groups="runs")
    _refused(ds, "target='affine' is not a column of the samples", target="affine")


def test_regressions_need_numbers(ds: xr.Dataset) -> None:
    _refused(
        ds, "'condition' holds text .'face'.; a regression needs numbers", estimator="ridge", scoring="r2"
    )
    holes = ds.assign_coords(rt=("sample", [np.nan, *[1.0] * 23]))
    _refused(holes, "'rt' holds 1 non-finite values", estimator="ridge", scoring="r2", target="rt")
    _refused(
        ds,
        "scoring='accuracy' is for predicted classes; pass scoring='r2'",
        InputError,
        estimator="ridge",
        target="rt",
        cv=3,
    )


def test_rest_among_the_classes_is_warned_of(ds: xr.Dataset) -> None:
    resting = _replaced(ds, ["face", "rest"] * 12)
    with pytest.warns(UserWarning, match=r"'rest' is one of the classes; select conditions first") as caught:
        slc.plan(resting, radius_mm=5.5)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _design(ds)


# --- folds


def test_none_leaves_one_run_out(ds: xr.Dataset) -> None:
    folds = _design(ds).folds
    runs = ds["run"].values
    assert [np.unique(runs[test]).tolist() for test in folds.test] == [[0], [1], [2]]
    assert all(np.array_equal(np.union1d(a, b), np.arange(24)) for a, b in zip(*folds, strict=True))


def test_one_run_has_nothing_to_leave_out(ds: xr.Dataset) -> None:
    one = ds.isel(sample=slice(0, 8))
    _refused(one, r"cv=None leaves one run out, but there is only one; pass cv= \(for example cv=5\)")
    _refused(ds, "groups=None puts all samples in one; pass cv= .* or groups=", groups=None)
    assert len(_design(one, cv=4).folds.train) == 4


@pytest.mark.parametrize(
    "cv",
    [
        3,
        KFold(4),
        StratifiedKFold(3, shuffle=True, random_state=5),
        LeaveOneGroupOut(),
        GroupKFold(2),
        TimeSeriesSplit(3),
        PredefinedSplit(np.arange(24) % 4),
        ShuffleSplit(4, train_size=0.4, test_size=0.2, random_state=5),
    ],
    ids=lambda cv: type(cv).__name__,
)
def test_folds_are_the_splitters_own_in_order(cv: Any, ds: xr.Dataset) -> None:
    splitter = StratifiedKFold(3) if cv == 3 else cv
    y, groups = np.array(ds["condition"].values.tolist()), ds["run"].values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = list(splitter.split(np.zeros((24, 1)), y, groups))
    folds = _design(ds, cv=cv).folds
    assert len(folds.train) == len(expected)
    for train, test, (a, b) in zip(*folds, expected, strict=True):
        assert np.array_equal(train, a)
        assert np.array_equal(test, b)


def test_an_integer_is_not_stratified_for_a_regression(ds: xr.Dataset) -> None:
    folds = _design(ds, estimator=Ridge(), target="rt", scoring="r2", cv=4).folds
    assert [test.tolist() for test in folds.test] == [list(range(i, i + 6)) for i in range(0, 24, 6)]


@pytest.mark.parametrize(
    "cv",
    [ShuffleSplit(3), StratifiedKFold(3, shuffle=True), RepeatedStratifiedKFold(n_splits=3, n_repeats=2)],
)
def test_a_splitter_without_a_seed_gets_one(cv: Any, ds: xr.Dataset) -> None:
    one, two = _design(ds, cv=cv).folds, _design(ds, cv=cv).folds
    assert all(np.array_equal(a, b) for a, b in zip(one.train, two.train, strict=True))
    assert cv.random_state is None, "the user's own is not changed"


def test_pairs_of_indices_or_booleans(ds: xr.Dataset) -> None:
    first = np.arange(24) < 12
    for cv in ([(first, ~first)], iter([(np.flatnonzero(first), list(range(12, 24)))])):
        folds = _design(ds, cv=cv).folds
        assert folds.train[0].tolist() == list(range(12))
        assert folds.test[0].tolist() == list(range(12, 24))


@pytest.mark.parametrize(
    ("cv", "words"),
    [
        ("5", "cv='5' is not a number of folds, a splitter or pairs of indices"),
        (2.5, "cv=2.5 is not a number of folds"),
        (1, "cv=1 is not a number of folds"),
        (0, "cv=0 is not a number of folds"),
        (13, r"cannot split the selected samples: n_splits=13"),
        (KFold(40), "cannot split the selected samples"),
        (GroupKFold(4), "cannot split the selected samples"),
        ([], "cv gave no folds"),
        ([1, 2], r"cv must yield pairs \(train, test\)"),
        ([([0, 1], [2, 3], [4])], r"cv must yield pairs \(train, test\)"),
        ([([0.5, 1], [2])], r"cv must yield pairs \(train, test\)"),
        ([(["a"], ["b"])], r"cv must yield pairs \(train, test\)"),
        ([([0, 1], [[2, 3], [4, 5]])], r"cv must yield pairs \(train, test\)"),
        ([(np.ones(12, bool), np.arange(12, 24))], "fold 0 has 12 booleans for 24 samples"),
        ([([0, 1], [24])], "fold 0 has test samples outside 0 to 23"),
        ([([0, 1, 2], [2, 3])], "fold 0 tests on 1 samples it was trained on"),
        ([([0, 1], [])], "fold 0 has an empty test part"),
        ({"train": [0], "test": [1]}, r"cv must yield pairs \(train, test\)"),
    ],
    ids=repr,
)
def test_folds_that_make_no_sense(cv: Any, words: str, ds: xr.Dataset) -> None:
    _refused(ds, words, cv=cv)


def test_a_training_fold_without_a_class(ds: xr.Dataset) -> None:
    only = _replaced(ds, ["face"] * 8 + ["face", "house"] * 4 + ["face"] * 8)
    _refused(only, r"fold 1 \(testing on group \[1\]\) trains without any sample of house; change cv or")
    three = _replaced(ds, ["cat", "dog"] * 4 + ["face", "face"] * 8)
    _refused(three, r"fold 0 \(testing on group \[0\]\) trains without any sample of cat, dog")


def test_a_test_fold_without_a_class_matters_only_to_some_scorers(ds: xr.Dataset) -> None:
    uneven = _replaced(ds, ["face"] * 8 + ["face", "house"] * 8)
    for scoring in ("accuracy", "balanced_accuracy", None, "f1_macro"):
        _design(uneven, scoring=scoring)
    for scoring in ("roc_auc", ["accuracy", "roc_auc"], {"auc": "roc_auc"}, "neg_log_loss", MY_AUC):
        _refused(
            uneven,
            r"the test part of fold 0 has no sample of house, which \w+ needs; change cv",
            scoring=scoring,
        )


# --- groups


def test_groups_may_be_any_column(ds: xr.Dataset) -> None:
    design = _design(ds, groups="hand")
    assert len(design.folds.train) == 2
    assert set(np.array(["left", "right", "right", "left"] * 6)[design.folds.test[0]]) == {"left"}
    assert design.groups.tolist() == ds["hand"].values.tolist()


def test_an_estimator_of_no_kind_follows_its_targets(ds: xr.Dataset) -> None:
    class Plain(Total):
        def __sklearn_tags__(self) -> Any:
            tags = super().__sklearn_tags__()
            tags.estimator_type = None
            return tags

    assert _design(ds, estimator=Plain(), scoring=None).classes.tolist() == ["face", "house"]
    assert _design(ds, estimator=Plain(), scoring=None, target="rt", cv=3).classes is None
