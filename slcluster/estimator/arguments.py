"""nilearn's arguments in slcluster's terms, checked."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import check_array
from sklearn.utils.validation import has_fit_parameter

from slcluster.errors import DesignError, InputError, warn_caller
from slcluster.estimators import Measure, resolve
from slcluster.io.images import center_voxels, feature_mask, is_in, read_image

__all__ = ["Places", "check_radius", "column", "find_places", "make_estimator", "make_splitter", "uses_cv"]

#: What makes a named estimator what it is: ``estimator_args`` cannot set it, as in nilearn.
_FIXED = {
    "svc": {"penalty"},
    "logistic": {"l1_ratios", "solver", "use_legacy_attributes", "scoring"},
    "dummy": {"strategy"},
    "svr": {"kernel"},
}


def check_radius(radius: Any) -> None:
    """Refuse what is no length, in the argument's own name."""
    is_number = isinstance(radius, Real) and not isinstance(radius, bool)
    if not is_number or not (np.isfinite(radius) and radius > 0):
        raise InputError(f"radius must be a positive number of millimetres, got {radius!r}")


def column(values: Any, n_samples: int, name: str) -> np.ndarray:
    """One value a sample, as an array of text, booleans or numbers.

    Raises
    ------
    InputError
        None, of another length, or not one-dimensional.
    ValueError
        scikit-learn's, where it contains NaN or infinities.
    """
    if values is None:
        raise InputError(f"SearchLight requires {name} to be passed, but the target {name} is None")
    values = check_array(values, ensure_2d=False, dtype=None, input_name=name)
    if values.ndim != 1:
        raise InputError(f"{name} has shape {values.shape}; expected one value for each volume")
    if len(values) != n_samples:
        raise InputError(
            f"imgs and {name} have inconsistent numbers of samples: {n_samples} volumes, {len(values)} values; "
            "expected one for each volume"
        )
    return np.array(values.tolist()) if values.dtype == object else values


def make_estimator(estimator: Any, random_state: Any, estimator_args: Any) -> BaseEstimator:
    """The scikit-learn estimator that a name or an instance stands for, with its parameters.

    Raises
    ------
    InputError
        Unknown name or parameter, a measure, a class in place of an instance, or a parameter that the name decides.
    """
    made = resolve(estimator)
    if isinstance(made, Measure):
        raise InputError(
            f"estimator={estimator!r} is a measure of spheres, not an estimator to score; map it with slcluster.searchlight"
        )
    if not isinstance(estimator, str):
        if estimator_args:
            raise InputError(
                f"estimator_args is for named estimators; set {', '.join(estimator_args)} on "
                f"{type(estimator).__name__} itself"
            )
        return made
    args = {} if estimator_args is None else estimator_args
    if not isinstance(args, Mapping):
        raise InputError(f"estimator_args must be a mapping of parameters to values, got {args!r}")
    fixed = next((names for start, names in _FIXED.items() if estimator.startswith(start)), set())
    if refused := sorted(fixed & set(args)):
        raise InputError(
            f"estimator_args cannot set {', '.join(refused)}, which {estimator!r} decides; pass an instance "
            f"of {type(made).__name__} as estimator"
        )
    known = made.get_params()
    if unknown := sorted(set(args) - set(known)):
        raise InputError(
            f"{type(made).__name__} has no parameter {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    seed = {"random_state": random_state} if known.get("random_state") is not None else {}
    return resolve(made.set_params(**{**seed, **args}))


def uses_cv(estimator: BaseEstimator) -> bool:
    """Whether scores are cross-validated: unless the estimator says ``nilearn_searchlight_uses_cv = False``.

    Raises
    ------
    InputError
        It says so and lacks what is then called: ``fit(X, y, groups=)`` and ``score(X, y, groups=)``.
    """
    if getattr(estimator, "nilearn_searchlight_uses_cv", True):
        return True
    if not hasattr(estimator, "score") or not has_fit_parameter(estimator, "groups"):
        raise InputError(
            f"{type(estimator).__name__} says nilearn_searchlight_uses_cv=False; it needs fit(X, y, groups=None) "
            "and score(X, y, groups=None), which then see all samples"
        )
    warn_caller(
        "Use a custom estimator without cross-validation at your own risk: its score is of the samples that it "
        "was fitted to"
    )
    return False


def make_splitter(cv: Any, target: np.ndarray, group: np.ndarray | None, estimator: BaseEstimator) -> Any:
    """What scikit-learn's ``cross_val_score`` makes of ``cv``: None is 5 folds, stratified for a classifier.

    Raises
    ------
    DesignError
        The splitter needs groups and there are none.
    """
    if cv is None or (isinstance(cv, Integral) and not isinstance(cv, bool)):
        try:
            cv = check_cv(cv, target, classifier=is_classifier(estimator))
        except ValueError as error:
            raise DesignError(f"cv={cv!r}: {error}") from None
    if group is None and hasattr(cv, "split"):
        try:
            next(iter(cv.split(np.zeros((len(target), 1)), target, None)))
        except ValueError as error:
            if "groups" in str(error):
                raise DesignError(
                    f"cv={cv!r} keeps groups together and there are none; fit(imgs, y, groups=...) takes one "
                    "value for each volume, such as its run"
                ) from None
        except StopIteration:
            pass  # what it gives is checked where folds are made
    return cv


class Places(NamedTuple):
    """Features and centers of an analysis.

    Attributes
    ----------
    mask_img : nibabel image or None
    mask : bool, grid of the images
    process_mask : bool, on a grid of its own
    affine : (4, 4), of that grid
    centers : int (n_centers, 3)
        Voxels of the images, in C order of ``process_mask``.
    """

    mask_img: Any
    mask: np.ndarray
    process_mask: np.ndarray
    affine: np.ndarray
    centers: np.ndarray


def find_places(mask_img: Any, process_mask_img: Any, shape: tuple[int, ...], affine: np.ndarray) -> Places:
    """Read both masks and lay them on the grid of the images.

    Raises
    ------
    NotAnImageError, GeometryError, InputError
        No mask at all, or none that fits.
    """
    if mask_img is None and process_mask_img is None:
        raise InputError(
            "mask_img and process_mask_img are both None; pass mask_img, for example "
            "nilearn.masking.compute_epi_mask(imgs)"
        )
    features = None if mask_img is None else read_image(mask_img, "mask_img")
    name, process = "mask_img", features
    if process_mask_img is not None:
        name, process = "process_mask_img", read_image(process_mask_img, "process_mask_img")
    mask = np.ones(shape, bool)
    if features is not None:
        mask, is_moved = feature_mask(features, shape, affine)
        if is_moved:
            warn_caller(
                f"mask_img is on another grid than the images (shape {tuple(features.shape[:3])}, theirs "
                f"{tuple(shape)}): resampled to theirs, {np.count_nonzero(mask)} voxels"
            )
    assert process is not None
    inside, own = is_in(process, name), np.asarray(process.affine, np.float64)
    return Places(features, mask, inside, own, center_voxels(inside, own, shape, affine))
