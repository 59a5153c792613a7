from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slcluster.errors import DesignError
from slcluster.kernels.folds import Folds, MissingClassError, as_masks, from_ranks, to_ranks, validate_folds


def _folds(*pairs: tuple[list[int], list[int]]) -> Folds:
    return Folds(
        tuple(np.array(train, np.int64) for train, _ in pairs),
        tuple(np.array(test, np.int64) for _, test in pairs),
    )


@given(st.lists(st.lists(st.integers(0, 19), unique=True, max_size=20), max_size=4))
def test_ranks_keep_the_order(index: list[list[int]]) -> None:
    arrays = [np.array(members, np.int64) for members in index]
    back = from_ranks(to_ranks(arrays, 20))
    assert [members.tolist() for members in back] == index
    masks = as_masks(arrays, 20)
    assert [set(np.flatnonzero(row)) for row in masks] == [set(members) for members in index]


GOOD = ([0, 1], [2, 3])


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        (_folds(), "cv gave no folds"),
        (_folds(GOOD, ([], [1])), "fold 1 has an empty train part"),
        (_folds(([1], [])), "fold 0 has an empty test part"),
        (_folds(([0, 4], [1])), "fold 0 has train samples outside 0 to 3"),
        (_folds(GOOD, ([0], [-1])), "fold 1 has test samples outside 0 to 3"),
        (_folds(([0, 1, 1], [2])), "fold 0 names a train sample twice"),
        (_folds(([0, 1, 2], [3, 2])), r"fold 0 tests on 1 samples it was trained on \(first: 2\)"),
    ],
)
def test_folds_that_cannot_be_are_refused(folds: Folds, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        validate_folds(folds, 4, None)


def test_every_training_part_needs_every_class() -> None:
    folds = _folds(([0, 1, 2], [3]), ([1, 3], [0, 2]))
    validate_folds(folds, 4, None)  # numbers to predict have no classes
    with pytest.raises(MissingClassError) as caught:
        validate_folds(folds, 4, np.array([0, 1, 0, 1]))
    assert (caught.value.fold, caught.value.codes) == (1, [0])
