"""The drop-in ``SearchLight``: what it computes, on what, with what, and what it refuses."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV, KFold, LeaveOneGroupOut, StratifiedKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import SVC, LinearSVC

import slcluster as slc
from slcluster import estimator as module
from slcluster.errors import BlockError, DesignError, GeometryError, InputError, NotAnImageError
from slcluster.estimator import arguments, scores
from slcluster.io.images import read_samples
from tests.conftest import OBLIQUE

SHAPE, N_SAMPLES, RADIUS_MM = (7, 8, 5), 24, 6.0
RUNS = np.repeat(np.arange(4), 6)
Y = np.tile(["face", "house"], 12)


def image(values: np.ndarray, affine: np.ndarray = OBLIQUE) -> nib.Nifti1Image:
    return nib.Nifti1Image(values.astype(np.uint8) if values.dtype == bool else values, affine)


@pytest.fixture(scope="module")
def bold() -> np.ndarray:
    values = np.random.default_rng(0).normal(600, 40, (*SHAPE, N_SAMPLES)).astype(np.float32)
    values[2:5, 3:6, 1:4, Y == "face"] += 40
    return values


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    inside = np.random.default_rng(1).random(SHAPE) < 0.7
    inside[3, 4, 2] = True
    return inside


@pytest.fixture(scope="module")
def centers(mask: np.ndarray) -> np.ndarray:
    return mask & (np.random.default_rng(2).random(SHAPE) < 0.2)


@pytest.fixture(scope="module")
def imgs(bold: np.ndarray) -> nib.Nifti1Image:
    return image(bold)


def build(mask: np.ndarray, centers: np.ndarray | None = None, **options: Any) -> slc.SearchLight:
    process = None if centers is None else image(centers)
    return slc.SearchLight(image(mask), process, **{"radius": RADIUS_MM, "cv": 4, **options})


def test_scores_are_those_of_searchlight(
    bold: np.ndarray, imgs: Any, mask: np.ndarray, centers: np.ndarray
) -> None:
    ds = slc.subject_dataset(bold, affine=OBLIQUE, mask=mask, condition=Y, run=RUNS)
    maps = slc.searchlight(ds, radius_mm=RADIUS_MM, cv=StratifiedKFold(4), process_mask=centers)
    assert maps.attrs["engine"] == "svm"
    found = build(mask, centers).fit(imgs, Y)
    assert np.array_equal(found.masked_scores_, maps["score"].values[centers])
    assert np.array_equal(found.scores_[centers], found.masked_scores_)
    assert (found.scores_[~centers] == 0).all()
    assert found.scores_.dtype == np.float64
    assert found.n_elements_ == centers.sum()
    assert np.array_equal(found.process_mask_, centers)
    assert np.array_equal(found.scores_img_.get_fdata(), found.scores_)
    assert np.allclose(found.scores_img_.affine, OBLIQUE)
    whole = build(mask).fit(imgs, Y)
    assert np.array_equal(whole.process_mask_, mask)
    assert np.array_equal(whole.scores_[centers], found.masked_scores_)


def test_cv_none_is_five_folds_and_stratified_for_a_classifier(
    imgs: Any, mask: np.ndarray, centers: np.ndarray
) -> None:
    # Sorted labels: unstratified folds would test on one class.
    y = np.sort(Y)
    by_default = build(mask, centers, cv=None).fit(imgs, y)
    spelled = build(mask, centers, cv=StratifiedKFold(5)).fit(imgs, y)
    assert np.array_equal(by_default.scores_, spelled.scores_)
    numbers = np.arange(N_SAMPLES) % 7 * 1.5
    by_default = build(mask, centers, cv=None, estimator="ridge").fit(imgs, numbers)
    spelled = build(mask, centers, cv=KFold(5), estimator="ridge").fit(imgs, numbers)
    assert np.array_equal(by_default.scores_, spelled.scores_)


def test_groups_and_a_single_sphere_by_hand(bold: np.ndarray, imgs: Any, mask: np.ndarray) -> None:
    one = np.zeros(SHAPE, bool)
    one[3, 4, 2] = True
    found = build(mask, one, estimator=RidgeClassifier(), cv=LeaveOneGroupOut()).fit(imgs, Y, groups=RUNS)
    ijk = np.argwhere(mask)
    near = np.linalg.norm((ijk - [3, 4, 2]) @ OBLIQUE[:3, :3].T, axis=1) <= RADIUS_MM
    x = bold[tuple(ijk[near].T)].T
    expected = cross_val_score(RidgeClassifier(), x, Y, cv=LeaveOneGroupOut(), groups=RUNS).mean()
    assert found.masked_scores_ == pytest.approx([expected], abs=1e-12)
    ignored = build(mask, one, cv=KFold(4)).fit(imgs, Y, groups=RUNS)
    assert np.array_equal(ignored.scores_, build(mask, one, cv=KFold(4)).fit(imgs, Y).scores_)


def test_files_patterns_and_lists(
    tmp_path: Path, bold: np.ndarray, imgs: Any, mask: np.ndarray, centers: np.ndarray
) -> None:
    expected = build(mask, centers).fit(imgs, Y).scores_
    nib.save(imgs, tmp_path / "bold.nii.gz")
    nib.save(image(mask), tmp_path / "mask.nii")
    for number in range(4):
        nib.save(image(bold[..., number == RUNS]), tmp_path / f"run-{number}.nii.gz")
    from_files = slc.SearchLight(str(tmp_path / "mask.nii"), image(centers), radius=RADIUS_MM, cv=4)
    for given in (
        tmp_path / "bold.nii.gz",
        str(tmp_path / "run-*.nii.gz"),
        [image(bold[..., n]) for n in range(N_SAMPLES)],
        tuple(tmp_path / f"run-{n}.nii.gz" for n in range(4)),
    ):
        assert np.array_equal(from_files.fit(given, Y).scores_, expected)
    assert pickle.loads(pickle.dumps(from_files)).mask_img_.shape == SHAPE


def test_types_of_voxels_are_nilearns(bold: np.ndarray, tmp_path: Path) -> None:
    whole = bold.round().astype(np.int16)
    scaled = image(whole)
    scaled.header.set_slope_inter(0.5, 3)
    nib.save(scaled, tmp_path / "scaled.nii")
    for given, dtype in (
        (image(whole), "int16"),
        (image(bold), "float32"),
        (image(bold.astype(np.float64)), "float64"),
        (tmp_path / "scaled.nii", "float64"),
        (image(whole.astype(">i2")), "int16"),
    ):
        assert read_samples(given).values.dtype == dtype


def test_values_that_are_not_finite_are_zero(bold: np.ndarray, mask: np.ndarray, centers: np.ndarray) -> None:
    holed, filled = bold.copy(), bold.copy()
    for at, value in (((3, 4, 2, 0), np.nan), ((3, 3, 2, 7), np.inf), ((2, 4, 2, 9), -np.inf)):
        holed[at], filled[at] = value, 0
    found = build(mask, centers).fit(image(holed), Y).scores_
    assert np.array_equal(found, build(mask, centers).fit(image(filled), Y).scores_)


def test_a_mask_on_another_grid_is_moved_with_a_warning(
    bold: np.ndarray, imgs: Any, mask: np.ndarray
) -> None:
    begins = OBLIQUE.copy()
    begins[:3, 3] = (OBLIQUE @ [1, 2, 0, 1])[:3]
    cropped = image(mask[1:, 2:], begins)
    with pytest.warns(UserWarning, match=r"mask_img is on another grid .* \(6, 6, 5\), theirs \(7, 8, 5\)"):
        found = slc.SearchLight(cropped, radius=RADIUS_MM, cv=4).fit(imgs, Y)
    inside = mask.copy()
    inside[:1], inside[:, :2] = False, False
    expected = build(inside).fit(imgs, Y)
    assert found.scores_.shape == (6, 6, 5)
    assert np.array_equal(found.masked_scores_, expected.masked_scores_)
    assert np.allclose(found.scores_img_.affine, begins)
    assert found.mask_img_ is cropped


def test_flipped_masks_lose_no_voxel(imgs: Any, mask: np.ndarray, centers: np.ndarray) -> None:
    """nilearn's resampling of a flipped mask drops voxels at edges, by rounding."""
    flipped = OBLIQUE @ np.diag([-1.0, 1, 1, 1])
    flipped[:3, 3] = (OBLIQUE @ [SHAPE[0] - 1, 0, 0, 1])[:3]
    options = {"process_mask_img": image(centers), "radius": RADIUS_MM, "cv": 4}
    with pytest.warns(UserWarning, match=f"resampled to theirs, {mask.sum()} voxels"):
        found = slc.SearchLight(image(mask[::-1], flipped), **options).fit(imgs, Y)
    assert np.array_equal(found.scores_, build(mask, centers).fit(imgs, Y).scores_)


def test_a_mask_that_must_be_resampled_needs_nilearn(
    imgs: Any, centers: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted = OBLIQUE.copy()
    shifted[:3, 3] += OBLIQUE[:3, :3] @ [0.4, 0, 0]
    made = slc.SearchLight(image(np.ones(SHAPE, bool), shifted), image(centers), radius=RADIUS_MM, cv=4)
    monkeypatch.setitem(sys.modules, "nilearn.image", None)
    with pytest.raises(InputError, match=r"needs nilearn: pip install 'slcluster\[plot\]'"):
        made.fit(imgs, Y)


def test_works_without_nilearn() -> None:
    code = (
        "import sys; sys.modules['nilearn'] = None\n"
        "import doctest, slcluster.estimator as m\n"
        "print(doctest.testmod(m).failed, doctest.testmod(m).attempted > 5)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 True"


def test_centers_with_no_voxel_in_reach_are_nan(imgs: Any) -> None:
    corner, center = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    corner[0, 0, 0] = center[0, 0, 1] = center[6, 7, 4] = True
    with pytest.warns(UserWarning, match="2 of 2 centers lie outside the mask"):
        found = build(corner, center).fit(imgs, Y)
    assert np.isfinite(found.masked_scores_).tolist() == [True, False]


@pytest.mark.parametrize("engine", ["auto", "sklearn"])
def test_processes_give_the_same_bytes(engine: str, imgs: Any, mask: np.ndarray, centers: np.ndarray) -> None:
    alone = build(mask, centers, engine=engine).fit(imgs, Y)
    together = build(mask, centers, engine=engine, n_jobs=2).fit(imgs, Y)
    assert together.masked_scores_.tobytes() == alone.masked_scores_.tobytes()


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np, slcluster as slc\n"
        "from slcluster.io.images import score_image\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "class Own(LogisticRegression):\n    pass\n"
        "rng = np.random.default_rng(0)\n"
        "imgs = score_image(rng.normal(size=(4, 5, 3, 20)), np.diag([3.0, 3, 4, 1]))\n"
        "mask = score_image(np.ones((4, 5, 3)), np.diag([3.0, 3, 4, 1]))\n"
        "found = slc.SearchLight(mask, radius=4, n_jobs=2, estimator=Own(), verbose=1)\n"
        "print('once', found.fit(imgs, np.arange(20) % 2).masked_scores_.size)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("once 60") == 1
    assert "[SearchLight.fit] 60 centers, 5 folds, engine sklearn" in done.stdout
    assert done.stderr == ""


@pytest.fixture
def client() -> Iterator[Any]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_an_active_client_is_used(
    client: Any, imgs: Any, mask: np.ndarray, centers: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = build(mask, centers)
    monkeypatch.setattr(scores, "active_client", lambda: None)
    expected = alone.fit(imgs, Y).scores_
    monkeypatch.undo()

    def started(n_workers: int) -> Any:
        raise AssertionError(f"started {n_workers} processes beside the client")

    monkeypatch.setattr(scores, "connect_processes", started)
    asked: list[int] = []
    compute = client.compute
    monkeypatch.setattr(client, "compute", lambda work: [asked.append(len(work)), compute(work)][1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Dask warns of voxels in a graph
        found = build(mask, centers, n_jobs=3).fit(imgs, Y)
    assert sum(asked) > 1
    assert np.array_equal(found.scores_, expected)
    closed = Client(client.cluster, set_as_default=False)
    closed.close()
    monkeypatch.setattr(scores, "active_client", lambda: closed)
    with pytest.raises(InputError, match="the client is closed"):
        build(mask, centers).fit(imgs, Y)


def test_a_failing_sphere_is_named_here_and_on_a_cluster(
    imgs: Any, mask: np.ndarray, centers: np.ndarray
) -> None:
    voxel = tuple(np.argwhere(centers)[0].tolist())
    for n_jobs in (1, 2):
        broken = build(mask, centers, estimator=SVC(kernel="precomputed"), n_jobs=n_jobs)
        with pytest.raises(BlockError, match=r"center at voxel \(\d, \d, \d\), fold 0: ValueError"):
            broken.fit(imgs, Y)
    assert not hasattr(broken, "scores_"), voxel


def test_it_is_a_scikit_learn_estimator(imgs: Any, mask: np.ndarray, centers: np.ndarray) -> None:
    made = build(mask, centers, estimator=GaussianNB(), scoring="balanced_accuracy", verbose=0)
    copy = clone(made)
    assert copy is not made
    assert copy.get_params(deep=False).keys() == made.get_params(deep=False).keys()
    assert (
        copy.set_params(radius=3.0, estimator__var_smoothing=1e-3).get_params()["estimator__var_smoothing"]
        == 1e-3
    )
    fitted = made.fit(imgs, Y)
    assert fitted is made
    back = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(back.scores_, fitted.scores_)
    assert np.array_equal(back.scores_img_.affine, fitted.scores_img_.affine)
    assert is_classifier(made)
    assert is_classifier(slc.SearchLight())
    assert is_classifier(slc.SearchLight(estimator="gnb"))
    assert is_regressor(slc.SearchLight(estimator="svr"))
    assert slc.SearchLight(estimator=BaseEstimator())._estimator_type is None
    assert slc.SearchLight(estimator="unknown")._estimator_type is None
    with pytest.raises(NotFittedError):
        slc.SearchLight().scores_img_  # noqa: B018


def test_it_has_nilearns_arguments_in_nilearns_order() -> None:
    import inspect

    nilearn = pytest.importorskip("nilearn.decoding")
    ours = list(inspect.signature(slc.SearchLight.__init__).parameters.values())
    theirs = list(inspect.signature(nilearn.SearchLight.__init__).parameters.values())
    assert [(p.name, p.default) for p in ours[: len(theirs)]] == [(p.name, p.default) for p in theirs]
    assert [p.name for p in ours[len(theirs) :]] == ["engine"]
    for method in ("fit", "transform", "fit_transform"):
        theirs_of = inspect.signature(getattr(nilearn.SearchLight, method)).parameters
        assert list(inspect.signature(getattr(slc.SearchLight, method)).parameters) == list(theirs_of)


def test_arguments_of_named_estimators() -> None:
    make = arguments.make_estimator
    assert make("svc", 0, {"C": 0.1, "max_iter": 7}).get_params().items() >= {"C": 0.1, "max_iter": 7}.items()
    assert make("svc", 3, None).random_state == 3
    assert make("svc", 3, {"random_state": 4}).random_state == 4
    assert make("svc", 0, None).C == 1.0, "nothing of an earlier call is left"
    assert make("svc", None, None).random_state == 0
    for estimator, args, message in (
        ("svc", {"penalty": "l1"}, "cannot set penalty, which 'svc' decides; pass an instance of LinearSVC"),
        ("svc", {"c": 1}, "LinearSVC has no parameter c; known: C, "),
        ("svc", [1], "estimator_args must be a mapping"),
        (GaussianNB(), {"priors": None}, "set priors on GaussianNB itself"),
        (GaussianNB, None, "got the class GaussianNB"),
        ("scv", None, "did you mean 'svr' or 'svc'"),
        ("crossnobis", None, "is a measure of spheres, not an estimator to score"),
        (len, None, "is a measure of spheres, not an estimator to score"),
    ):
        with pytest.raises(InputError, match=message):
            make(estimator, 0, args)


def test_estimator_arguments_change_the_scores(imgs: Any, mask: np.ndarray, centers: np.ndarray) -> None:
    plain = build(mask, centers).fit(imgs, Y).scores_
    weak = build(mask, centers, estimator_args={"C": 1e-9}).fit(imgs, Y).scores_
    assert not np.array_equal(plain, weak)
    same = build(mask, centers, estimator=LinearSVC(C=1e-9)).fit(imgs, Y).scores_
    assert np.array_equal(weak, same)


class Own(BaseEstimator):
    """Validates itself: scores the share of groups that it saw."""

    nilearn_searchlight_uses_cv = False

    def fit(self, X: np.ndarray, y: np.ndarray, groups: Any = None) -> Own:
        self.seen_ = (len(X), len(np.unique(y)), None if groups is None else len(np.unique(groups)))
        return self

    def score(self, X: np.ndarray, y: np.ndarray, groups: Any = None) -> float:
        assert self.seen_[:2] == (len(X), 2)
        return float(X.shape[1]) if groups is None else -float(self.seen_[2])


def test_an_estimator_that_validates_itself(
    bold: np.ndarray, imgs: Any, mask: np.ndarray, centers: np.ndarray
) -> None:
    ds = slc.subject_dataset(bold, affine=OBLIQUE, mask=mask, condition=Y, run=RUNS)
    sizes = slc.searchlight(ds, radius_mm=RADIUS_MM, process_mask=centers)["sphere_size"].values[centers]
    with pytest.warns(UserWarning, match="Use a custom estimator without cross-validation at your own risk"):
        found = build(mask, centers, estimator=Own()).fit(imgs, Y)
    assert found.masked_scores_.tolist() == sizes.tolist()
    with pytest.warns(UserWarning, match="Use a custom estimator"):
        found.fit(imgs, Y, groups=RUNS)
    assert set(found.masked_scores_) == {-4.0}
    lacking = GaussianNB()
    lacking.nilearn_searchlight_uses_cv = False
    made = build(mask, centers, estimator=lacking)
    type_of = type("NoGroups", (GaussianNB,), {"nilearn_searchlight_uses_cv": False})
    made.estimator = type_of()
    with pytest.raises(InputError, match=r"NoGroups says nilearn_searchlight_uses_cv=False; it needs fit"):
        made.fit(imgs, Y)


def test_transform_is_the_mean_decision_of_the_new_images(
    bold: np.ndarray, mask: np.ndarray, centers: np.ndarray
) -> None:
    is_new = RUNS == 3
    old, new = image(bold[..., ~is_new]), bold[..., is_new]
    made = build(mask, centers, estimator=RidgeClassifier(alpha=50.0)).fit(old, Y[~is_new])
    faces, houses = (made.transform(image(new[..., Y[is_new] == name])) for name in ("face", "house"))
    assert faces.shape == SHAPE
    assert (faces[~centers] == 0).all()
    ijk = np.argwhere(mask)
    for center in np.argwhere(centers)[::5]:
        near = np.linalg.norm((ijk - center) @ OBLIQUE[:3, :3].T, axis=1) <= RADIUS_MM
        x = bold[tuple(ijk[near].T)].T
        fitted = RidgeClassifier(alpha=50.0).fit(x[~is_new], Y[~is_new])
        expected = fitted.decision_function(x[is_new][Y[is_new] == "face"]).mean()
        assert faces[tuple(center)] == pytest.approx(expected, abs=1e-9)
    at_signal = np.zeros(SHAPE, bool)
    at_signal[2:5, 3:6, 1:4] = True
    # Second in sorted order is "house": positive.
    assert faces[centers & at_signal].mean() < 0 < houses[centers & at_signal].mean()
    fresh = clone(made)
    both = fresh.fit_transform(old, Y[~is_new])
    assert np.array_equal(both, fresh.transform(old))
    assert np.array_equal(pickle.loads(pickle.dumps(made)).transform(image(new)), made.transform(image(new)))


def test_transform_of_a_regressor_is_its_mean_prediction(
    bold: np.ndarray, mask: np.ndarray, centers: np.ndarray
) -> None:
    numbers = np.linspace(10, 20, N_SAMPLES)
    made = build(mask, centers, estimator="ridge").fit(image(bold), numbers)
    assert np.median(made.transform(image(bold[..., :8]))[centers]) < 15


def test_transform_refuses_what_it_cannot_decide(
    imgs: Any, bold: np.ndarray, mask: np.ndarray, centers: np.ndarray
) -> None:
    with pytest.raises(NotFittedError):
        build(mask, centers).transform(imgs)
    three = build(mask, centers, cv=3).fit(imgs, np.arange(N_SAMPLES) % 3)
    with pytest.raises(DesignError, match=r"between two classes; .* was fitted to 3"):
        three.transform(imgs)
    with pytest.raises(
        DesignError, match=r"fitted to 2 and has no decision_function.*use slcluster.searchlight"
    ):
        build(mask, centers, estimator=GaussianNB()).fit(imgs, Y).transform(imgs)
    two = build(mask, centers).fit(imgs, Y)
    with pytest.raises(GeometryError, match=r"imgs has shape \(6, 8, 5\), the samples have \(7, 8, 5\)"):
        two.transform(image(bold[1:]))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"mask_img": None, "process_mask_img": None}, InputError, "both None; pass mask_img"),
        ({"mask_img": 1}, NotAnImageError, "mask_img: input should be a NiftiLike object .* got int"),
        ({"mask_img": np.ones(SHAPE)}, TypeError, "an array does not say where it lies, wrap it"),
        ({"mask_img": "nowhere.nii"}, InputError, "mask_img: no such file: nowhere.nii"),
        ({"mask_img": image(np.zeros(SHAPE, bool))}, InputError, "mask_img is invalid as it is empty"),
        (
            {"process_mask_img": image(np.ones((8, 8, 5), bool))},
            GeometryError,
            "40 of 320 centers lie outside",
        ),
        (
            {"process_mask_img": image(np.ones(SHAPE, bool), OBLIQUE + np.eye(4, k=3) * 1.5)},
            GeometryError,
            "280 of 280 centers lie between voxels of the images; .*resample_to_img",
        ),
        (
            {"mask_img": image(np.ones(SHAPE, bool), OBLIQUE + np.eye(4, k=3) * 900)},
            GeometryError,
            "different places",
        ),
        ({"scoring": "hit_rate"}, InputError, "scoring='hit_rate' is a table of classes"),
        ({"scoring": ["accuracy", "confusion"]}, InputError, "scoring='confusion' is a table of classes"),
        ({"verbose": "x"}, InputError, "verbose must be a whole number, got 'x'"),
        ({"radius": 0}, InputError, "radius must be a positive number of millimetres, got 0"),
        ({"radius": "6"}, InputError, "radius must be a positive number of millimetres, got '6'"),
        ({"n_jobs": 0}, InputError, "n_jobs must be a number of processes, or -1"),
        ({"n_jobs": "all"}, InputError, "n_jobs must be a number of processes, or -1"),
        ({"cv": LeaveOneGroupOut()}, DesignError, r"fit\(imgs, y, groups=...\) takes one"),
        ({"cv": 1}, DesignError, "cv=1: k-fold cross-validation requires"),
        ({"cv": 13}, DesignError, "cannot split"),
        ({"scoring": ["accuracy", "roc_auc"]}, InputError, "scoring names 2 metrics; pass one"),
        ({"scoring": "acuracy"}, InputError, "did you mean 'accuracy'"),
        ({"engine": "fast"}, InputError, "unknown engine 'fast'"),
        ({"imgs": np.ones((*SHAPE, N_SAMPLES))}, NotAnImageError, "imgs: input should be a NiftiLike object"),
        ({"imgs": image(np.ones(SHAPE))}, InputError, "imgs is one 3D image"),
        ({"imgs": []}, InputError, "imgs is empty"),
        ({"imgs": "sub-*.nii"}, InputError, "no file matches sub-"),
        ({"imgs": [image(np.ones(SHAPE)), "x.nii"]}, InputError, r"imgs\[1\]: no such file"),
        ({"imgs": [image(np.ones(SHAPE)), image(np.ones((6, 8, 5)))]}, GeometryError, r"imgs\[1\] has shape"),
        ({"imgs": image(np.ones((*SHAPE, N_SAMPLES), np.complex64))}, InputError, "voxels of type complex64"),
        ({"y": None}, InputError, "requires y to be passed, but the target y is None"),
        ({"y": Y[:-1]}, InputError, "imgs and y have inconsistent numbers of samples: 24 volumes, 23 values"),
        ({"y": np.full(N_SAMPLES, np.nan)}, ValueError, "Input y contains NaN"),
        ({"y": np.stack([Y, Y], axis=1)}, InputError, r"y has shape \(24, 2\); expected one value for each"),
        ({"y": ["face"] * N_SAMPLES}, DesignError, "only one class"),
        ({"groups": RUNS[:3]}, InputError, "imgs and groups have inconsistent numbers of samples"),
    ],
)
def test_errors_teach(
    change: dict, kind: type, message: str, imgs: Any, mask: np.ndarray, centers: np.ndarray
) -> None:
    given = {"mask_img": image(mask), "process_mask_img": image(centers), "radius": RADIUS_MM, "cv": 4}
    given |= {"imgs": imgs, "y": Y, "groups": None} | change
    images, y, groups = (given.pop(name) for name in ("imgs", "y", "groups"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(kind, match=message):
            slc.SearchLight(**given).fit(images, y, groups=groups)


def test_a_damaged_file_says_so(tmp_path: Path, imgs: Any, mask: np.ndarray) -> None:
    nib.save(imgs, tmp_path / "bold.nii.gz")
    whole = (tmp_path / "bold.nii.gz").read_bytes()
    (tmp_path / "bold.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"imgs is damaged or cut off: .*; get a fresh copy"):
        build(mask).fit(tmp_path / "bold.nii.gz", Y)
    (tmp_path / "bold.nii.gz").write_bytes(b"no image at all")
    with pytest.raises(InputError, match=r"imgs: cannot read .*bold.nii.gz"):
        build(mask).fit(tmp_path / "bold.nii.gz", Y)


def test_numbers_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dask.system.CPU_COUNT", 4)
    assert [scores._count(n) for n in (None, 1, 3, np.int64(2), -1, -2, -9)] == [1, 1, 3, 2, 4, 3, 1]


def test_what_it_says(
    imgs: Any, mask: np.ndarray, centers: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for verbose in range(4):
        build(mask, centers, verbose=verbose).fit(imgs, Y)
        said.append(capsys.readouterr().out.splitlines())
    assert said[0] == []
    assert said[1][0] == f"[SearchLight.fit] {centers.sum()} centers, 4 folds, engine svm"
    assert said[1][-1].startswith("[SearchLight.fit] done in ")
    assert len(said[1]) == 2 < len(said[2]) < len(said[3])
    assert said[2][-2].split()[1].split("/")[0] == said[2][-2].split()[1].split("/")[1]


def test_a_search_over_parameters_within_spheres(imgs: Any, mask: np.ndarray) -> None:
    one = np.zeros(SHAPE, bool)
    one[3, 4, 2] = True
    searched = GridSearchCV(RidgeClassifier(), {"alpha": [1.0, 100.0]}, cv=2)
    found = build(mask, one, estimator=searched).fit(imgs, Y)
    assert 0 <= found.masked_scores_[0] <= 1
    assert module.SearchLight is slc.SearchLight
