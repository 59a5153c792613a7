"""The drop-in for nilearn's ``SearchLight``: images in, scores out, computed by :func:`slcluster.searchlight`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, is_regressor
from sklearn.utils import ClassifierTags, InputTags, RegressorTags
from sklearn.utils.validation import check_is_fitted

from slcluster.errors import DesignError, InputError
from slcluster.estimator.arguments import (
    check_radius,
    column,
    find_places,
    make_estimator,
    make_splitter,
    uses_cv,
)
from slcluster.estimator.scores import Given, Work, mean_decision, score_centers, score_whole
from slcluster.estimators import resolve
from slcluster.io.grid import check_same_grid
from slcluster.io.images import read_samples, score_image

__all__ = ["SearchLight"]


@dataclass
class _ImageTags(InputTags):
    """scikit-learn's tags of the input, with nilearn's two."""

    niimg_like: bool = True
    surf_img: bool = False


class SearchLight(TransformerMixin, BaseEstimator):
    """Searchlight with nilearn's interface: change one import.

    Takes what ``nilearn.decoding.SearchLight`` takes, and gives its scores, computed by
    :func:`slcluster.searchlight`: with ``engine="sklearn"`` the same to the last bit, by default those of the
    optimum that scikit-learn's solver approaches. Images are read whole; for data beyond memory, durable
    results and clusters use :func:`slcluster.ingest` and :func:`slcluster.searchlight`.

    Parameters
    ----------
    mask_img : path, nibabel image or None, default=None
        Voxels that may be features: those that are neither 0 nor NaN. None takes every voxel, and needs
        ``process_mask_img``. On another grid than the images it is resampled as nilearn does, with a warning.

    process_mask_img : path, nibabel image or None, default=None
        Voxels that are centers; those of ``mask_img`` where None. They must lie on voxels of the images.

    radius : float, default=2.0
        Radius of the spheres in mm; a voxel at exactly the radius belongs.

    estimator : str or scikit-learn estimator, default="svc"
        nilearn's names, ``"gnb"``, ``"nearest_centroid"``, ``"correlation"``, or an estimator or pipeline.

    n_jobs : int, default=1
        Worker processes on this machine; -1 is one for each core. 1 computes in this thread. An active
        ``distributed.Client`` is used instead, whatever ``n_jobs``.

    scoring : str, callable or None, default=None
        One scikit-learn metric; None is the estimator's own score.

    cv : int, splitter, iterable or None, default=None
        None is 5 folds, stratified for a classifier. Train and test samples must not overlap, and every
        class must be in every training part.

    verbose : int, default=0
        1 says on standard output what is computed and how long it took, 2 also how far it is, 3 also by what.

    random_state : int or None, default=0
        Seed of a named estimator that takes one. (nilearn's is not used.)

    estimator_args : mapping or None, default=None
        Parameters of a named estimator.

    engine : str, default="auto"
        ``"auto"`` takes a fast engine where one computes just this estimator and metric, ``"sklearn"``
        always exists; see :func:`slcluster.plan`.

    Attributes
    ----------
    mask_img_ : nibabel image or None
        ``mask_img``, read.

    masked_scores_ : numpy.ndarray, float64 (n_elements_,)
        Scores of the centers, in C order of the process mask. NaN where a center outside the mask has no
        voxel in its sphere; nilearn fails there.

    n_elements_ : int
        Centers.

    process_mask_ : numpy.ndarray of bool (nx, ny, nz)
        The centers, on the grid of the process mask.

    scores_ : numpy.ndarray, float64 (nx, ny, nz)
        Unweighted mean over folds at the centers, 0 elsewhere.

    Notes
    -----
    ``scores_img_`` is ``scores_`` as an image in the space of the process mask.

    Integers become float32, floats keep their type, non-finite values become 0: nilearn's rules, held by tests.
    A fitted object keeps the samples of the mask, which :meth:`transform` trains on.

    Examples
    --------
    >>> from slcluster import simulate
    >>> from slcluster.io.images import score_image
    >>> ds = simulate(shape=(7, 8, 9), n_runs=4, seed=0)
    >>> ds = ds.isel(sample=ds.condition != "rest")
    >>> imgs = score_image(ds.bold.values, ds.affine.values)  # a nibabel image, as any other
    >>> mask_img = score_image(ds.mask.values.astype("uint8"), ds.affine.values)
    >>> found = SearchLight(mask_img, radius=5.6, cv=4).fit(imgs, ds.condition.values)
    >>> found.scores_.shape
    (7, 8, 9)
    """

    def __init__(
        self,
        mask_img: Any = None,
        process_mask_img: Any = None,
        radius: float = 2.0,
        estimator: Any = "svc",
        n_jobs: int | None = 1,
        scoring: Any = None,
        cv: Any = None,
        verbose: int = 0,
        random_state: int | None = 0,
        estimator_args: Mapping[str, Any] | None = None,
        engine: str = "auto",
    ) -> None:
        self.mask_img = mask_img
        self.process_mask_img = process_mask_img
        self.radius = radius
        self.estimator = estimator
        self.n_jobs = n_jobs
        self.scoring = scoring
        self.cv = cv
        self.verbose = verbose
        self.random_state = random_state
        self.estimator_args = estimator_args
        self.engine = engine

    def fit(self, imgs: Any, y: Any, groups: Any = None) -> SearchLight:
        """Score every center.

        Parameters
        ----------
        imgs : path, nibabel image, or a list of these
            4D, or 3D images of one sample each.
        y : array-like, length n_samples
            What to predict: classes for a classifier, numbers for a regressor.
        groups : array-like, length n_samples, optional
            What a splitter such as ``LeaveOneGroupOut`` keeps together.

        Returns
        -------
        SearchLight
            Itself.

        Raises
        ------
        NotAnImageError, GeometryError, InputError
            Images, masks or parameters do not fit.
        DesignError
            Labels, groups or folds cannot be analysed.
        BlockError
            The estimator failed in a sphere; names its voxel.
        """
        check_radius(self.radius)
        estimator = make_estimator(self.estimator, self.random_state, self.estimator_args)
        images = read_samples(imgs)
        n_samples = images.values.shape[3]
        target = column(y, n_samples, "y")
        group = None if groups is None else column(groups, n_samples, "groups")
        places = find_places(self.mask_img, self.process_mask_img, images.values.shape[:3], images.affine)
        given = Given(images.values, target, group, places.mask, images.affine, places.centers, estimator)
        work = Work(self.radius, self.n_jobs, "fit", self.verbose)
        if uses_cv(estimator):
            cv = make_splitter(self.cv, target, group, estimator)
            scores = score_centers(given, work, cv=cv, scoring=self.scoring, engine=self.engine)
        else:
            scores = score_whole(given, work)
        self.mask_img_ = places.mask_img
        self.process_mask_ = places.process_mask
        self.n_elements_ = len(scores)
        self.masked_scores_ = scores
        self.scores_ = _fill(places.process_mask, scores)
        self._process_affine = places.affine
        self._given = given._replace(bold=images.values[places.mask])
        return self

    def transform(self, imgs: Any) -> np.ndarray:
        """How the new images decide: the mean decision at every center, trained on all samples of ``fit``.

        Each center's estimator is fitted to its sphere in the samples that ``fit`` was given, with their
        labels; its decision values of the new samples are averaged. Positive means the second of the two
        classes in sorted order, and the value grows with the distance from the boundary. A regressor gives
        its mean prediction. On the samples of ``fit`` itself it describes the fit, not how well anything can
        be told apart: that is ``scores_``. (nilearn refits on labels it makes up, in spheres elsewhere.)

        Parameters
        ----------
        imgs : path, nibabel image, or a list of these
            On the grid of the images that ``fit`` was given.

        Returns
        -------
        numpy.ndarray
            float64, shape of ``scores_``, 0 outside the centers. Computed by the scikit-learn engine.

        Raises
        ------
        NotFittedError
            Before ``fit``.
        DesignError
            There were other than two classes, or the estimator has no ``decision_function``.
        """
        check_is_fitted(self)
        given = self._given
        n_classes = len(np.unique(given.target))
        can_decide = n_classes == 2 and hasattr(given.estimator, "decision_function")
        if not (can_decide or is_regressor(given.estimator)):
            raise DesignError(
                f"transform averages the decision between two classes; {given.estimator} was fitted to "
                f"{n_classes}{'' if n_classes != 2 else ' and has no decision_function'}. To score new images "
                "use slcluster.searchlight with a cv that trains on the old and tests on the new"
            )
        images = read_samples(imgs)
        shape = given.mask.shape
        check_same_grid("imgs", images.values.shape[:3], images.affine, shape, given.affine)
        n_old, n_new = len(given.target), images.values.shape[3]
        old, new = given.bold, images.values[given.mask]
        bold = np.zeros((*shape, n_old + n_new), np.result_type(old, new))
        bold[given.mask] = np.concatenate([old, new], axis=1)
        # The labels of the new samples are looked at by nobody.
        target = np.concatenate([given.target, np.repeat(given.target[:1], n_new)])
        decision = score_centers(
            given._replace(bold=bold, target=target, group=None),
            Work(self.radius, self.n_jobs, "transform", self.verbose),
            cv=[(np.arange(n_old), np.arange(n_old, n_old + n_new))],
            scoring=mean_decision,
            engine="sklearn",
        )
        return _fill(self.process_mask_, decision)

    def fit_transform(self, imgs: Any, y: Any, groups: Any = None) -> np.ndarray:
        """``fit``, then ``transform`` of the same images."""
        return self.fit(imgs, y, groups=groups).transform(imgs)

    @property
    def scores_img_(self) -> Any:
        """``scores_`` as a NIfTI image, in the space of the process mask."""
        check_is_fitted(self)
        return score_image(self.scores_, self._process_affine)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "scores_")

    @property
    def _estimator_type(self) -> str | None:
        """``"classifier"``, ``"regressor"``, or None where the estimator does not say."""
        try:
            estimator = resolve(self.estimator) if isinstance(self.estimator, str) else self.estimator
        except InputError:
            return None
        is_known = hasattr(estimator, "__sklearn_tags__") and not isinstance(estimator, type)
        return estimator.__sklearn_tags__().estimator_type if is_known else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = _ImageTags()
        tags.target_tags.required = True
        tags.estimator_type = self._estimator_type
        tags.classifier_tags = ClassifierTags() if tags.estimator_type == "classifier" else None
        tags.regressor_tags = RegressorTags() if tags.estimator_type == "regressor" else None
        return tags

    def _more_tags(self) -> Any:
        """nilearn's older name of the tags."""
        return self.__sklearn_tags__()


def _fill(where: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at the true voxels of a mask, in C order, and 0 elsewhere."""
    full = np.zeros(where.shape)
    full[where] = values
    return full
