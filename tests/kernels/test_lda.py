"""Linear discriminant analysis against scikit-learn's, solver by solver."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from threadpoolctl import threadpool_limits

from slcluster.errors import InputError
from slcluster.kernels.cholesky import factor, inverse_trace
from slcluster.kernels.compiling import entry
from slcluster.kernels.lda import lda
from slcluster.kernels.scatter import joint_scatter, part_moments, shared_parts
from tests.kernels.designs import (
    COLUMNS,
    CONSTANTS,
    KINDS,
    N_SAMPLES,
    SPLITTERS,
    assert_partition_free,
    codes_of,
    folds_of,
    samples_of_kind,
    spheres_of,
)

OUTPUTS = ["confusion", "prediction", "decision", "log_proba"]
#: Those with which every covariance has an inverse, or that define its rank.
ALWAYS: list[dict[str, Any]] = [
    {},
    {"tol": 0.3},
    {"solver": "lsqr", "shrinkage": "auto"},
    {"solver": "eigen", "shrinkage": "auto"},
    {"solver": "lsqr", "shrinkage": 0.3},
    {"solver": "eigen", "shrinkage": 1.0},
]
#: Those with which scikit-learn's answer is rounding, or an error, where a covariance has none.
REGULAR: list[dict[str, Any]] = [
    {"solver": "lsqr"},
    {"solver": "eigen"},
    {"solver": "lsqr", "shrinkage": 0},
]


def _folds_of_answers(folds: Any) -> Any:
    """Each fold's train, test, and where its test samples are in answers."""
    at = 0
    for train, test in zip(*folds, strict=True):
        yield train, test, slice(at, at + len(test))
        at += len(test)


def _assert_equal_to_twin(
    bold: np.ndarray,
    targets: np.ndarray,
    folds: Any,
    columns: Any,
    decimals: float = 1e-9,
    **params: Any,
) -> None:
    n_classes = targets.max() + 1
    found = lda(bold, targets, *folds, spheres_of(columns), outputs=OUTPUTS, n_classes=n_classes, **params)
    n_close = 0
    for center, some in enumerate(columns):
        x = bold[list(some)].T.astype(np.float64)
        for permutation, y in enumerate(targets):
            for fold, (train, test, part) in enumerate(_folds_of_answers(folds)):
                confusion = found["confusion"][center, permutation, fold]
                prediction, decision, log_proba = (
                    found[name][center, permutation, part] for name in OUTPUTS[1:]
                )
                if not len(some):
                    assert (prediction == -1).all()
                    assert not confusion.any()
                    assert np.isnan(decision).all()
                    assert np.isnan(log_proba).all()
                    continue
                twin = LinearDiscriminantAnalysis(**params).fit(x[train], y[train])
                expected = twin.decision_function(x[test]).reshape(len(test), -1)
                scale = np.abs(expected).max()
                np.testing.assert_allclose(decision, expected, rtol=0, atol=decimals * scale)
                np.testing.assert_allclose(
                    np.exp(log_proba), twin.predict_proba(x[test]), rtol=0, atol=decimals * max(scale, 1)
                )
                ordered = np.sort(np.column_stack([expected, -expected]) if n_classes == 2 else expected)
                is_close = ordered[:, -1] - ordered[:, -2] < 1e-6
                n_close += is_close.sum()
                np.testing.assert_array_equal(prediction[~is_close], twin.predict(x[test])[~is_close])
                counts = np.zeros((n_classes, n_classes), int)
                np.add.at(counts, (y[test], prediction), 1)
                np.testing.assert_array_equal(confusion, counts)
    assert n_close <= 1  # of thousands


@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splitter", list(SPLITTERS))
@pytest.mark.parametrize("params", ALWAYS, ids=repr)
def test_it_is_scikit_learn_s(params: dict[str, Any], splitter: str, kind: str, n_classes: int) -> None:
    columns = COLUMNS
    if kind != "standardised" and "shrinkage" in params:
        # Shrinkage gives constant voxels a small variance: their weights are huge, and scikit-learn loses the
        # digits that its baseline takes, see below.
        columns = [[voxel for voxel in some if voxel not in CONSTANTS] for some in COLUMNS]
    _assert_equal_to_twin(samples_of_kind(kind), codes_of(n_classes), folds_of(splitter), columns, **params)


@pytest.mark.parametrize("n_classes", [2, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splitter", list(SPLITTERS))
@pytest.mark.parametrize("params", REGULAR, ids=repr)
def test_without_shrinkage(params: dict[str, Any], splitter: str, kind: str, n_classes: int) -> None:
    columns = [[*range(7)], [50], [*range(20, 50)], [], [5, 6]]
    _assert_equal_to_twin(samples_of_kind(kind), codes_of(n_classes), folds_of(splitter), columns, **params)


@pytest.mark.parametrize("params", [*ALWAYS, *REGULAR], ids=repr)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_its_priors(n_classes: int, params: dict[str, Any]) -> None:
    priors = (np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum()).tolist()
    columns = [[*range(7)], [50], [*range(20, 50)], []]
    columns += [[*range(80)]] if params in ALWAYS else []
    _assert_equal_to_twin(
        samples_of_kind("raw"), codes_of(n_classes), folds_of("runs"), columns, priors=priors, **params
    )


@pytest.mark.parametrize("solver", ["svd", "lsqr"])
@pytest.mark.parametrize("priors", [[0.0, 1.0], [1.0, 0.0], [0.5, 0.0, 0.5]], ids=repr)
def test_a_class_without_a_chance_is_never_predicted(priors: list[float], solver: str) -> None:
    y, folds, bold = codes_of(len(priors)), folds_of("runs"), samples_of_kind("standardised")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = lda(
            bold,
            y,
            *folds,
            spheres_of(COLUMNS[:2]),
            outputs=OUTPUTS,
            n_classes=len(priors),
            solver=solver,
            priors=priors,
        )
        twin = LinearDiscriminantAnalysis(solver=solver, priors=priors)
        for train, test, part in _folds_of_answers(folds):
            for center in range(2):
                x = bold[list(COLUMNS[center])].T
                fitted = twin.fit(x[train], y[1, train])
                expected = fitted.decision_function(x[test]).reshape(len(test), -1)
                np.testing.assert_allclose(found["decision"][center, 1, part], expected, rtol=1e-8, atol=1e-9)
                np.testing.assert_allclose(
                    found["log_proba"][center, 1, part], fitted.predict_log_proba(x[test]), rtol=1e-8
                )
    assert not (found["prediction"] == priors.index(0.0)).any()


def test_means_on_a_line_have_one_direction() -> None:
    """Of eight classes; a distance of less than ``tol`` of the largest counts with ``svd`` no more."""
    y, rng = codes_of(8), np.random.default_rng(1)
    noise, away = rng.normal(size=(10, N_SAMPLES)), rng.normal(size=(10, 2))
    for k in range(8):
        noise[:, y[0] == k] -= noise[:, y[0] == k].mean(axis=1, keepdims=True)
    for tiny in (0.0, 1e-3):
        bold = noise + 50 * away[:, :1] * y[0] + tiny * away[:, 1:] * (y[0] % 2)
        folds = [np.arange(N_SAMPLES)], [np.arange(N_SAMPLES)]
        _assert_equal_to_twin(bold, y[:1], folds, [[*range(10)]], decimals=1e-8)


@pytest.mark.parametrize("n_classes", [2, 8])
def test_nearly_singular_covariances_go_by_singular_values(n_classes: int) -> None:
    """Directions on both sides of ``tol``: the squares of their singular values are 1e-6 to 1e-12."""
    bold, rng = samples_of_kind("standardised")[:40], np.random.default_rng(2)
    columns = []
    for at, size in enumerate([1e-2, 1e-3, 2e-4, 5e-5, 1e-6]):
        bold[30 + at] = bold[at] + size * rng.normal(size=N_SAMPLES)
        columns.append([*range(10), 30 + at])
    _assert_equal_to_twin(bold, codes_of(n_classes), folds_of("k-fold"), columns, decimals=1e-8)


def test_a_voxel_that_only_the_class_decides_does_not_count() -> None:
    """scikit-learn's ``svd`` divides by no deviation within classes, though such a voxel tells all."""
    bold, y = samples_of_kind("raw"), codes_of(2)[:1]
    bold[3] = 600 + 3 * y
    _assert_equal_to_twin(bold, y, folds_of("k-fold"), [[0, 1, 3], [2, 3, 4, 5]])


@pytest.mark.parametrize("n_classes", [2, 8])
def test_logarithms_end_where_scikit_learn_s_do(n_classes: int) -> None:
    bold, y, folds = samples_of_kind("standardised"), codes_of(n_classes), folds_of("k-fold")
    bold[:3] += 300 * y[0]
    found = lda(bold, y, *folds, spheres_of([[0, 1, 2, 5]]), outputs=OUTPUTS, n_classes=n_classes)
    x, n_ends = bold[[0, 1, 2, 5]].T, 0
    for train, test, part in _folds_of_answers(folds):
        expected = LinearDiscriminantAnalysis().fit(x[train], y[0, train]).predict_log_proba(x[test])
        n_ends += (expected == np.log(np.finfo(float).smallest_normal)).sum()
        np.testing.assert_allclose(found["log_proba"][0, 0, part], expected, rtol=1e-6, atol=1e-9)
    assert n_ends > 0


@pytest.mark.parametrize("shrinkage", ["auto", 0.3])
def test_constant_voxels_of_large_mean(shrinkage: Any) -> None:
    """scikit-learn, given voxels less their first sample, tells what it lost in those as they are."""
    bold, folds, y = samples_of_kind("large").astype(np.float64), folds_of("runs"), codes_of(2)
    params: dict[str, Any] = {
        "outputs": ["decision"],
        "n_classes": 2,
        "solver": "lsqr",
        "shrinkage": shrinkage,
    }
    found = lda(bold, y, *folds, spheres_of(COLUMNS[4:5]), **params)["decision"][0]
    x = (bold - bold[:, :1])[COLUMNS[4]].T
    for permutation in range(2):
        for train, test, part in _folds_of_answers(folds):
            twin = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
            expected = twin.fit(x[train], y[permutation, train]).decision_function(x[test])
            np.testing.assert_allclose(found[permutation, part, 0], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("solver", ["svd", "lsqr", "eigen"])
@pytest.mark.parametrize("n_classes", [2, 8])
def test_a_sphere_without_any_variance_goes_by_the_priors(n_classes: int, solver: str) -> None:
    bold, folds = samples_of_kind("large"), folds_of("k-fold")
    priors = np.arange(n_classes, 0, -1) / np.arange(1, n_classes + 1).sum()
    found = lda(
        bold,
        codes_of(n_classes),
        *folds,
        spheres_of([CONSTANTS]),
        outputs=OUTPUTS,
        n_classes=n_classes,
        solver=solver,
        priors=priors.tolist(),
    )
    assert (found["prediction"] == 0).all()
    np.testing.assert_allclose(
        found["log_proba"], np.log(priors) + np.zeros(found["log_proba"].shape), rtol=1e-9
    )


@pytest.mark.parametrize("solver", ["lsqr", "eigen"])
def test_more_voxels_than_samples_without_shrinkage_has_the_least_norm(solver: str) -> None:
    bold, y, folds = samples_of_kind("standardised"), codes_of(2)[:1], folds_of("k-fold")
    found = lda(bold, y, *folds, spheres_of(COLUMNS[2:3]), outputs=["decision"], n_classes=2, solver=solver)
    for train, test, part in _folds_of_answers(folds):
        x, code = bold.T, y[0, train]
        means = np.stack([x[train][code == k].mean(axis=0) for k in range(2)])
        away = x[train] - means[code]
        weights = np.linalg.pinv(away.T @ away / len(train), rcond=1e-10, hermitian=True) @ (
            means[1] - means[0]
        )
        odds = np.log((code == 1).sum() / (code == 0).sum())
        expected = (x[test] - means.mean(axis=0)) @ weights + odds
        np.testing.assert_allclose(found["decision"][0, 0, part, 0], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("params", [*ALWAYS, *REGULAR], ids=repr)
@pytest.mark.parametrize("n_classes", [2, 8])
def test_a_sphere_is_the_same_bytes_among_any_others(n_classes: int, params: dict[str, Any]) -> None:
    bold, y, folds = samples_of_kind("raw"), codes_of(n_classes), folds_of("k-fold")
    with threadpool_limits(1):
        assert_partition_free(
            lambda spheres: lda(bold, y, *folds, spheres, outputs=OUTPUTS, n_classes=n_classes, **params)
        )


@pytest.mark.parametrize("params", [ALWAYS[0], ALWAYS[2]], ids=repr)
def test_a_set_of_targets_is_the_same_bytes_among_any_others(params: dict[str, Any]) -> None:
    bold, folds, y = samples_of_kind("raw"), folds_of("runs"), codes_of(8)
    spheres = spheres_of(COLUMNS)
    together = lda(bold, y, *folds, spheres, outputs=OUTPUTS, n_classes=8, **params)
    for number in range(2):
        alone = lda(bold, y[[number]], *folds, spheres, outputs=OUTPUTS, n_classes=8, **params)
        for name in OUTPUTS:
            assert alone[name].tobytes() == together[name][:, [number]].tobytes()


def test_threads_give_the_same_bytes() -> None:
    bold, folds, y = samples_of_kind("raw"), folds_of("runs"), codes_of(2)

    def compute(params: dict[str, Any]) -> bytes:
        return lda(bold, y, *folds, spheres_of(COLUMNS), outputs=OUTPUTS, n_classes=2, **params)[
            "decision"
        ].tobytes()

    jobs = [ALWAYS[0], ALWAYS[2], REGULAR[1]] * 4
    with threadpool_limits(1), ThreadPoolExecutor(4) as pool:
        expected = {repr(params): compute(params) for params in jobs[:3]}
        for params, found in zip(jobs, pool.map(compute, jobs), strict=True):
            assert found == expected[repr(params)]


def test_outputs_asked_for_change_no_other() -> None:
    bold, folds, y = samples_of_kind("raw"), folds_of("runs"), codes_of(8)
    params: dict[str, Any] = {"n_classes": 8, "solver": "lsqr", "shrinkage": "auto"}
    whole = lda(bold, y, *folds, spheres_of(COLUMNS), outputs=OUTPUTS, **params)
    for name in OUTPUTS:
        alone = lda(bold, y, *folds, spheres_of(COLUMNS), outputs=[name], **params)
        assert list(alone) == [name]
        assert alone[name].tobytes() == whole[name].tobytes()
        assert alone[name].dtype == whole[name].dtype


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"priors": [0.5, 0.6]}, "2 probabilities"),
        ({"priors": [1.5, -0.5]}, "2 probabilities"),
        ({"solver": "qr"}, "solver must be"),
        ({"shrinkage": 0.1}, "solver='svd' has no shrinkage"),
        ({"solver": "lsqr", "shrinkage": 1.1}, "shrinkage must be"),
        ({"solver": "eigen", "shrinkage": "oas"}, "shrinkage must be"),
        ({"tol": -1.0}, "tol must be"),
        ({"outputs": ["joint_log_proba"]}, "joint_log_proba"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    params: dict[str, Any] = {"outputs": OUTPUTS, "n_classes": 2, **wrong}
    with pytest.raises(InputError, match=message):
        lda(samples_of_kind("raw"), codes_of(2), *folds_of("runs"), spheres_of(COLUMNS), **params)


# --- what it is made of


_part_moments = entry(lambda rows, members, edges: part_moments(rows, members, edges))
_joint_scatter = entry(
    lambda counts, means, scatters, is_in, mean, scatter: joint_scatter(
        counts, means, scatters, is_in, mean, scatter
    )
)
_factor = entry(lambda matrix, size: factor(matrix, size))
_inverse_trace = entry(lambda matrix, size: inverse_trace(matrix, size))


@pytest.mark.parametrize("splitter", list(SPLITTERS))
def test_scatters_of_shared_parts_are_those_of_training_parts(splitter: str) -> None:
    train, rows = folds_of(splitter)[0], np.random.default_rng(0).normal(size=(N_SAMPLES, 6)) + 1e4
    members, edges, in_fold = shared_parts(train, N_SAMPLES)
    assert len(edges) - 1 <= len(train) + 1
    moments = _part_moments(rows, members, edges)
    for fold, index in enumerate(train):
        mean, scatter = np.empty(6), np.empty((6, 6))
        assert _joint_scatter(*moments, in_fold[fold], mean, scatter) == len(index)
        np.testing.assert_allclose(mean, rows[index].mean(axis=0), rtol=1e-14)
        expected = np.cov(rows[index].T, ddof=0) * len(index)
        np.testing.assert_allclose(np.triu(scatter), np.triu(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 3, 4, 18, 61])
def test_the_trace_of_the_inverse(size: int) -> None:
    rows = np.random.default_rng(size).normal(size=(90, size))
    matrix = rows.T @ rows
    work = matrix.copy()
    assert _factor(work, size)
    np.testing.assert_allclose(_inverse_trace(work, size), np.trace(np.linalg.inv(matrix)), rtol=1e-10)
