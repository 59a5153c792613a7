from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.feature_selection import f_classif

from slcluster.kernels.anova import CLIP_NEG_LOG10_P, anova


@pytest.mark.parametrize("n_classes", [2, 3, 8])
@pytest.mark.parametrize("offset", [0.0, 900.0])
def test_equals_f_classif(n_classes: int, offset: float) -> None:
    rng = np.random.default_rng(n_classes)
    codes = rng.permutation(np.arange(100) % n_classes)[:83]  # classes of unequal size
    bold = rng.normal(size=(50, 83)) + 0.3 * codes * rng.normal(size=(50, 1))
    # f_classif subtracts squares, which at an offset costs it up to six digits: it is given none.
    expected_f, expected_p = f_classif(bold.T, codes)
    f, p, neg_log10_p = anova(bold + offset, codes)
    np.testing.assert_allclose(f, expected_f, rtol=1e-9)
    np.testing.assert_allclose(p, expected_p, rtol=1e-8)
    np.testing.assert_allclose(neg_log10_p, np.minimum(-np.log10(expected_p), 10), rtol=1e-7)


def test_large_values_lose_no_digits() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 2
    bold = rng.integers(-30, 30, size=(20, 60)) + 7 * codes
    f, p, _ = anova(bold.astype(np.float64), codes)
    far_f, far_p, _ = anova(bold + 2.0**30, codes)  # exact in float64
    np.testing.assert_allclose(far_f, f, rtol=1e-9)
    np.testing.assert_allclose(far_p, p, rtol=1e-7)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_constant_voxels_are_nan(value: float) -> None:
    bold = np.full((3, 40), value)
    bold[1] = np.random.default_rng(1).normal(size=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        maps = anova(bold, np.arange(40) % 2)
    for values in maps:
        assert np.isnan(values[[0, 2]]).all()
        assert np.isfinite(values[1])


def test_p_that_underflows_is_clipped_at_ten() -> None:
    codes = np.arange(400) % 2
    bold = np.random.default_rng(2).normal(size=(1, 400)) + 200.0 * codes
    _, p, neg_log10_p = anova(bold, codes)
    assert p[0] == 0, "this must underflow, or the test tests nothing"
    assert neg_log10_p[0] == CLIP_NEG_LOG10_P == 10


def test_classes_without_any_spread_have_infinite_f() -> None:
    f, p, neg_log10_p = anova(np.array([[1.0, 1.0, 3.0, 3.0]]), np.array([0, 0, 1, 1]))
    assert (f[0], p[0], neg_log10_p[0]) == (np.inf, 0.0, 10.0)


def test_no_difference_at_all_is_p_one() -> None:
    f, p, neg_log10_p = anova(np.array([[1.0, -1.0, 1.0, -1.0]]), np.array([0, 0, 1, 1]))
    assert (f[0], p[0], neg_log10_p[0]) == (0.0, 1.0, 0.0)


def test_renaming_classes_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    bold, codes = rng.normal(size=(9, 45)), np.arange(45) % 3
    for found, other in zip(anova(bold, codes), anova(bold, np.array([2, 0, 1])[codes]), strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 3, 9])
def test_a_voxel_does_not_depend_on_its_neighbours(n_classes: int) -> None:
    """To the last bit, however many voxels a chunk holds and in whichever memory order."""
    bold, codes = 700 + 11 * np.random.default_rng(6).normal(size=(41, 90)), np.arange(90) % n_classes
    whole = np.array(anova(bold, codes))
    for n in (1, 2, 3, 8, 17):
        for start in range(0, 41 - n, 5):
            assert np.array_equal(anova(bold[start : start + n], codes), whole[:, start : start + n])
    assert np.array_equal(anova(np.asfortranarray(bold), codes), whole)
