from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import detrend as scipy_detrend

from slcluster.kernels.preparation import as_features, detrend_runs, prepare, zscore_runs

RUNS = np.array([0] * 9 + [4] * 7 + [2] * 8)
#: Samples of two of the three runs, not in order.
CHOSEN = np.array([17, 1, 2, 5, 7, 8, 16, 20, 22])


@pytest.fixture(scope="module")
def bold() -> np.ndarray:
    """Raw-like values with a drift in every run."""
    rng = np.random.default_rng(5)
    drift = np.concatenate([np.arange(9), 3 * np.arange(7), -2 * np.arange(8)])
    return 700 + 11 * rng.normal(size=(6, len(RUNS))) + rng.normal(size=(6, 1)) * drift * 4


def _prepare(bold: np.ndarray, **options: object) -> np.ndarray:
    how = {"detrend": False, "standardize": None, "zero_nonfinite": False, **options}
    return prepare(bold, RUNS, CHOSEN, **how)


def test_zscore_is_that_of_nilearn(bold: np.ndarray) -> None:
    from nilearn.signal import standardize_signal

    found = zscore_runs(bold, RUNS)
    for run in np.unique(RUNS):
        here = run == RUNS
        expected = standardize_signal(bold[:, here].T.copy(), standardize="zscore_sample").T
        np.testing.assert_allclose(found[:, here], expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found[:, here].std(axis=1, ddof=1), 1, rtol=1e-12)


@pytest.mark.parametrize("value", [0.1, 1e8 / 3, 12345.678])
def test_constant_voxels_are_exactly_zero(value: float) -> None:
    """0.1 summed and divided is not 0.1 again; the rounding left over must not become a z-score."""
    bold = np.full((2, 24), value)
    bold[1, RUNS == 2] = np.arange(8)  # constant in two of the runs only
    for found in (
        zscore_runs(bold, RUNS),
        detrend_runs(bold, RUNS),
        zscore_runs(detrend_runs(bold, RUNS), RUNS),
    ):
        assert (found[0] == 0).all()
        assert (found[1, RUNS != 2] == 0).all()
    assert (np.abs(zscore_runs(bold, RUNS)[1, RUNS == 2]) > 0.1).all()


def test_a_run_of_one_sample_is_zero() -> None:
    assert zscore_runs(np.array([[5.0, 1.0, 2.0]]), np.array([0, 1, 1]))[0, 0] == 0


def test_detrend_is_that_of_scipy_run_by_run(bold: np.ndarray) -> None:
    found = detrend_runs(bold, RUNS)
    for run in np.unique(RUNS):
        here = run == RUNS
        np.testing.assert_allclose(found[:, here], scipy_detrend(bold[:, here], axis=1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_samples", [1, 2])
def test_a_line_fits_a_run_of_two_samples(n_samples: int) -> None:
    runs = np.array([0] * n_samples + [1] * 5)
    found = detrend_runs(np.random.default_rng(0).normal(size=(3, n_samples + 5)), runs)
    assert (found[:, :n_samples] == 0).all()
    assert (found[:, n_samples:] != 0).any()


def test_the_order_is_detrend_whole_runs_then_choose_then_zscore(bold: np.ndarray) -> None:
    found = _prepare(bold, detrend=True, standardize="run")
    expected = zscore_runs(detrend_runs(bold, RUNS)[:, CHOSEN], RUNS[CHOSEN])
    assert np.array_equal(found, expected)
    chosen_first = zscore_runs(detrend_runs(bold[:, CHOSEN], RUNS[CHOSEN]), RUNS[CHOSEN])
    zscored_whole = zscore_runs(detrend_runs(bold, RUNS), RUNS)[:, CHOSEN]
    for other in (chosen_first, zscored_whole):
        assert np.abs(found - other).max() > 0.1, "the steps do not commute"


def test_chosen_samples_come_in_the_order_chosen(bold: np.ndarray) -> None:
    assert np.array_equal(_prepare(bold), bold[:, CHOSEN])
    assert _prepare(bold).flags.c_contiguous


def test_non_finite_values_become_zero_before_anything_else(bold: np.ndarray) -> None:
    spoilt = bold.astype(np.float32)
    spoilt[2, 3], spoilt[4, 20] = np.nan, -np.inf
    zeroed = np.where(np.isfinite(spoilt), spoilt, 0).astype(np.float32)
    options = {"detrend": True, "standardize": "run"}
    found = _prepare(spoilt, zero_nonfinite=True, **options)
    assert np.array_equal(found, _prepare(zeroed, **options))
    assert np.isfinite(found).all()
    assert _prepare(spoilt, zero_nonfinite=True).dtype == np.float32


def test_nothing_given_is_changed(bold: np.ndarray) -> None:
    before = bold.copy()
    _prepare(bold, detrend=True, standardize="run", zero_nonfinite=True)
    assert np.array_equal(bold, before)


@pytest.mark.parametrize(
    ("stored", "seen"),
    [
        ("int16", "float32"),
        ("uint8", "float32"),
        ("int32", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
def test_dtypes_that_estimators_get(stored: str, seen: str) -> None:
    bold = np.arange(48).reshape(2, 24).astype(stored)
    assert as_features(bold).dtype == seen
    assert _prepare(bold).dtype == seen
    assert np.array_equal(_prepare(bold), bold[:, CHOSEN])
    assert _prepare(bold, standardize="run").dtype == np.float64


@given(
    bold=hnp.arrays(np.float64, (3, 24), elements=st.floats(-1e6, 1e6, width=32)),
    scale=st.floats(0.5, 20),
    shift=st.integers(-1000, 1000),
)
@settings(max_examples=50, deadline=None)
def test_zscores_do_not_know_units(bold: np.ndarray, scale: float, shift: int) -> None:
    """Whatever the scanner's scale, a voxel that varies clearly has the same z-scores; all are finite."""
    found, other = zscore_runs(bold, RUNS), zscore_runs(bold * scale + shift, RUNS)
    assert np.isfinite(found).all()
    for run in np.unique(RUNS):
        part = bold[:, run == RUNS]
        clear = np.ptp(part, axis=1) > 1e-3 * (1 + np.abs(part).max(axis=1))
        np.testing.assert_allclose(found[clear][:, run == RUNS], other[clear][:, run == RUNS], atol=1e-6)


@pytest.mark.parametrize(
    "clean",
    [
        zscore_runs,
        detrend_runs,
        lambda bold, runs: prepare(
            bold, runs, np.arange(5, 60), detrend=True, standardize="run", zero_nonfinite=False
        ),
    ],
    ids=["zscore", "detrend", "prepare"],
)
def test_a_voxel_does_not_depend_on_its_neighbours(clean: Any) -> None:
    """To the last bit: blocks hold one voxel or thousands, in any memory order, and the map is the same."""
    runs = np.array([0] * 9 + [4] * 17 + [2] * 38)
    bold = 700 + 11 * np.random.default_rng(6).normal(size=(41, len(runs)))
    whole = clean(bold, runs)
    for n in (1, 2, 3, 8, 17):
        for start in range(0, 41 - n, 5):
            assert np.array_equal(clean(bold[start : start + n], runs), whole[start : start + n])
    assert np.array_equal(clean(np.asfortranarray(bold), runs), whole)
    assert np.array_equal(clean(bold[::-1], runs)[::-1], whole)
