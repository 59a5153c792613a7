"""Measures of a sphere that are not a classifier's score: distances, representational similarity, your own.

A measure stands where an estimator stands: it is asked for as one, planned, cut into blocks, stored and resumed.
Its values have dimensions of their own in place of ``metric``, and one value a center in place of one a fold.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from slcluster.errors import DesignError, InputError
from slcluster.estimators.tables import table_names, table_parts
from slcluster.kernels.folds import Folds
from slcluster.kernels.generic import measure_spheres
from slcluster.kernels.spheres import Spheres

__all__ = ["RSA", "Crossnobis", "FunctionMeasure", "Layout", "Measure", "SplitHalf"]


class Layout(NamedTuple):
    """Dimensions of one center's values, and what stands along each.

    Beside metrics there may be tables of classes (:mod:`slcluster.estimators.tables`), which are stored after them.
    """

    dims: tuple[str, ...]
    labels: tuple[tuple[Any, ...], ...]
    tables: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(len, self.labels))

    @property
    def plain(self) -> tuple[str, ...]:
        """One name for each value that is of no table, in C order."""
        if not self.dims:
            return ("value",)
        return tuple(",".join(map(str, at)) for at in itertools.product(*self.labels))

    @property
    def names(self) -> tuple[str, ...]:
        """One name for each value, in the order they are stored in."""
        return (*self.plain, *table_names(self.tables, self.classes))

    @property
    def parts(self) -> dict[str, slice]:
        """Where the values of each table lie among all."""
        n, parts = len(self.plain), table_parts(self.tables, len(self.classes))
        return {name: slice(n + part.start, n + part.stop) for name, part in parts.items()}

    @classmethod
    def metrics(
        cls, names: tuple[str, ...], tables: tuple[str, ...] = (), classes: np.ndarray | None = None
    ) -> Layout:
        """That of scores."""
        of_tables = () if classes is None or not tables else tuple(str(label) for label in classes)
        return cls(("metric",), (names,), tables, of_tables)


class Measure(ABC):
    """Something that a sphere's samples, their classes and runs decide."""

    #: What plans and results call the code path; version of its numerics; of scikit-learn fits in its time.
    engine: ClassVar[str]
    version: ClassVar[int] = 1
    speed: ClassVar[float] = 1.0
    #: Whether it compares classes, so that targets cannot be numbers.
    needs_classes: ClassVar[bool] = True
    #: Whether every fold must test on every class.
    tests_every_class: ClassVar[bool] = False

    def default_folds(self, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """Pairs (train, test) of indices that ``cv=None`` stands for; None where it leaves one group out."""
        return None

    @property
    def uses_folds(self) -> bool:
        """Whether folds mean anything to it."""
        return False

    @abstractmethod
    def layout(
        self, targets: np.ndarray, classes: np.ndarray | None, groups: np.ndarray, size: int
    ) -> Layout:
        """Of the values of one sphere of ``size`` voxels.

        Raises
        ------
        InputError
            The measure cannot be taken of these classes.
        """

    @abstractmethod
    def compute(
        self,
        bold: np.ndarray,
        targets: np.ndarray,
        classes: np.ndarray | None,
        groups: np.ndarray,
        folds: Folds,
        spheres: Spheres,
        n_values: int,
    ) -> np.ndarray:
        """Values of all spheres, float64 (n_centers, n_values); NaN of empty ones."""


def _pair_names(classes: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{a}-{b}" for a, b in itertools.combinations(classes.tolist(), 2))


@dataclass(frozen=True)
class Crossnobis(Measure):
    """Cross-validated Mahalanobis distance of each pair of conditions, mean over folds; zero without effect.

    Dimension ``pair``, named ``"face-house"``. See :func:`slcluster.kernels.crossnobis.crossnobis` for the formula
    and its sources.

    Parameters
    ----------
    shrinkage : "auto", float from 0 to 1, "diagonal" or "none"
        Of the noise covariance: Ledoit and Wolf's, this one, variances alone, or none (squared Euclidean).

    Examples
    --------
    >>> from slcluster import searchlight, simulate
    >>> ds = simulate(shape=(7, 8, 9), n_runs=4, seed=0)
    >>> ds = ds.isel(sample=ds.condition != "rest")
    >>> searchlight(ds, radius_mm=5.6, estimator=Crossnobis()).score.pair.values.tolist()
    ['face-house']
    """

    shrinkage: Any = "auto"

    engine = "crossnobis"
    speed = 30.0

    @property
    def uses_folds(self) -> bool:
        return True

    def __post_init__(self) -> None:
        from slcluster.kernels.noise import parse_shrinkage

        parse_shrinkage(self.shrinkage)

    def layout(
        self, targets: np.ndarray, classes: np.ndarray | None, groups: np.ndarray, size: int
    ) -> Layout:
        assert classes is not None, "designs give classes where they are needed"
        return Layout(("pair",), (_pair_names(classes),))

    def compute(
        self,
        bold: np.ndarray,
        targets: np.ndarray,
        classes: np.ndarray | None,
        groups: np.ndarray,
        folds: Folds,
        spheres: Spheres,
        n_values: int,
    ) -> np.ndarray:
        from slcluster.kernels.crossnobis import crossnobis

        assert classes is not None
        found = crossnobis(
            bold, targets[None], *folds, spheres, n_classes=len(classes), shrinkage=self.shrinkage
        )
        return found["distance"][:, 0]


@dataclass(frozen=True)
class SplitHalf(Measure):
    """How much more a condition's pattern correlates with itself in other runs than with other conditions.

    The measure of Haxby et al. (2001, *Science* 293:2425): mean patterns of odd and of even runs are correlated
    over the voxels of a sphere, and Fisher's z of the correlations averaged. Dimension ``comparison``: ``within``
    conditions, ``between`` them, and their ``difference``, zero on average without effect. See
    :func:`slcluster.kernels.correlation.split_half_correlation` for the formula.

    Where ``cv`` is not given, runs (the values of ``groups``, sorted) are halved: the first, third, fifth ...
    against the others, in one fold. With ``cv`` the training part of each fold is compared with its test part,
    and the mean over folds taken: ``cv=LeaveOneGroupOut()`` compares each run with all others.

    Parameters
    ----------
    subtract_mean : bool
        Subtract from the patterns of each part their mean over conditions first, as Haxby et al. did.

    Examples
    --------
    >>> from slcluster import searchlight, simulate
    >>> ds = simulate(shape=(7, 8, 9), n_runs=4, seed=0)
    >>> ds = ds.isel(sample=ds.condition != "rest")
    >>> maps = searchlight(ds, radius_mm=5.6, estimator=SplitHalf())
    >>> maps.score.sel(comparison="difference").dims
    ('x', 'y', 'z')
    """

    subtract_mean: bool = True

    engine = "split_half"
    speed = 100.0
    tests_every_class = True

    @property
    def uses_folds(self) -> bool:
        return True

    def __post_init__(self) -> None:
        if not isinstance(self.subtract_mean, bool):
            raise InputError(f"subtract_mean must be True or False, got {self.subtract_mean!r}")

    def default_folds(self, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]] | None:
        """Odd against even runs."""
        runs, number = np.unique(groups, return_inverse=True)
        if len(runs) < 2:
            raise DesignError(
                "SplitHalf compares odd with even runs, but there is only one; pass cv= or groups="
            )
        return [(np.flatnonzero(number % 2 == 0), np.flatnonzero(number % 2 == 1))]

    def layout(
        self, targets: np.ndarray, classes: np.ndarray | None, groups: np.ndarray, size: int
    ) -> Layout:
        return Layout(("comparison",), (("within", "between", "difference"),))

    def compute(
        self,
        bold: np.ndarray,
        targets: np.ndarray,
        classes: np.ndarray | None,
        groups: np.ndarray,
        folds: Folds,
        spheres: Spheres,
        n_values: int,
    ) -> np.ndarray:
        from slcluster.kernels.correlation import split_half_correlation

        assert classes is not None
        found = split_half_correlation(
            bold, targets[None], *folds, spheres, n_classes=len(classes), subtract_mean=self.subtract_mean
        )
        return np.stack([z[:, 0].mean(axis=-1) for z in found.values()], axis=-1)


@dataclass(frozen=True, repr=False)
class RSA(Measure):
    """Correlation of a sphere's dissimilarities between conditions with those of models (Kriegeskorte et al. 2008).

    Dimension ``model``. See :func:`slcluster.kernels.rsa.rsa` for the formulas and their sources.

    Parameters
    ----------
    models : mapping of name to square matrix
        Dissimilarities that each model expects: symmetric, in the order of the sorted condition names; or a
        DataFrame whose rows and columns are conditions, in any order.
    dissimilarity : "correlation", "euclidean" or "crossnobis"
        The first two between the mean patterns of conditions over all samples, whatever the folds; the last
        cross-validated, so that noise makes no two conditions differ.
    shrinkage : None, "auto", float from 0 to 1, "diagonal" or "none"
        Noise covariance by which patterns are normalised first. None does not, but for crossnobis distances,
        where it is "auto".
    comparison : "spearman" or "pearson"

    Raises
    ------
    InputError
        A model is not square and symmetric, or does not fit the conditions.

    Examples
    --------
    >>> RSA({"animate": [[0, 1, 1], [1, 0, 0], [1, 0, 0]]})
    RSA(models=[animate], dissimilarity='correlation', shrinkage=None, comparison='spearman')
    """

    models: Mapping[str, Any]
    dissimilarity: str = "correlation"
    shrinkage: Any = None
    comparison: str = "spearman"

    engine = "rsa"
    speed = 30.0

    @property
    def uses_folds(self) -> bool:
        return self.dissimilarity == "crossnobis"

    def __post_init__(self) -> None:
        from slcluster.kernels.noise import parse_shrinkage

        for name, given, known in (
            ("dissimilarity", self.dissimilarity, ("correlation", "euclidean", "crossnobis")),
            ("comparison", self.comparison, ("spearman", "pearson")),
        ):
            if given not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {given!r}")
        if self.shrinkage is not None:
            parse_shrinkage(self.shrinkage)
        if not isinstance(self.models, Mapping) or not self.models:
            raise InputError("models must map at least one name to a matrix of dissimilarities")
        plain = {str(name): _plain_model(str(name), model) for name, model in self.models.items()}
        object.__setattr__(self, "models", plain)

    def __repr__(self) -> str:
        return (
            f"RSA(models=[{', '.join(self.models)}], dissimilarity={self.dissimilarity!r}, "
            f"shrinkage={self.shrinkage!r}, comparison={self.comparison!r})"
        )

    def layout(
        self, targets: np.ndarray, classes: np.ndarray | None, groups: np.ndarray, size: int
    ) -> Layout:
        assert classes is not None, "designs give classes where they are needed"
        if len(classes) < 3:
            raise InputError(
                f"RSA needs at least 3 conditions, got {len(classes)}: with 2 there is one dissimilarity"
            )
        self._pairs(classes)
        return Layout(("model",), (tuple(self.models),))

    def compute(
        self,
        bold: np.ndarray,
        targets: np.ndarray,
        classes: np.ndarray | None,
        groups: np.ndarray,
        folds: Folds,
        spheres: Spheres,
        n_values: int,
    ) -> np.ndarray:
        from slcluster.kernels.rsa import rsa

        assert classes is not None
        found = rsa(
            bold,
            targets[None],
            *folds,
            spheres,
            n_classes=len(classes),
            models=self._pairs(classes),
            dissimilarity=self.dissimilarity,
            shrinkage=self.shrinkage,
            comparison=self.comparison,
        )
        return found["correlation"][:, 0]

    def _pairs(self, classes: np.ndarray) -> np.ndarray:
        """The models' dissimilarities of each pair of classes: float64 (n_models, n_pairs)."""
        upper, found = np.triu_indices(len(classes), 1), []
        names = [str(label) for label in classes]
        for name, model in self.models.items():
            matrix = np.array(model["matrix"])
            if model["conditions"] is not None:
                missing = sorted(set(names) - set(model["conditions"]))
                if missing:
                    raise InputError(f"model {name!r} has no row for {', '.join(missing)}")
                order = [model["conditions"].index(label) for label in names]
                matrix = matrix[np.ix_(order, order)]
            if len(matrix) != len(names):
                raise InputError(
                    f"model {name!r} is {len(matrix)} x {len(matrix)}, but there are {len(names)} conditions: "
                    f"{', '.join(names)}"
                )
            found.append(matrix[upper])
        if any(np.ptp(model) == 0 for model in found):
            raise InputError("a model whose dissimilarities are all equal correlates with nothing")
        return np.array(found)


def _plain_model(name: str, model: Any) -> dict[str, Any]:
    """A model as plain data, which a plan can hold and a store keep."""
    if isinstance(model, Mapping) and set(model) == {"conditions", "matrix"}:
        conditions, model = model["conditions"], model["matrix"]
    else:
        conditions = (
            [str(label) for label in model.index]
            if hasattr(model, "index") and hasattr(model, "columns")
            else None
        )
        if conditions is not None and sorted(conditions) != sorted(map(str, model.columns)):
            raise InputError(f"model {name!r} must have the same conditions as rows and as columns")
        if conditions is not None:
            model = model[list(model.index)]
    try:
        matrix = np.asarray(model, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"model {name!r} must be a square matrix of numbers, got {type(model).__name__}"
        ) from None
    is_square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not is_square or not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T):
        raise InputError(
            f"model {name!r} must be a square, symmetric matrix of finite dissimilarities, got shape {matrix.shape}"
        )
    return {"conditions": conditions, "matrix": matrix.tolist()}


@dataclass(frozen=True, repr=False)
class FunctionMeasure(Measure):
    """A function of yours: ``function(X, y, groups)`` gives a number, an array, or a mapping of names to these.

    ``X`` is samples x voxels of one sphere, ``y`` its conditions or numbers, ``groups`` the runs. When planned
    it is called once on noise, to learn the form of what it gives: of a mapping of numbers the dimension is
    ``metric``, of an array ``value`` (``value_0``, ``value_1`` of more dimensions); arrays in a mapping are
    spread over ``metric`` as ``name[0]``, ``name[1]``.
    """

    function: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]

    engine = "function"
    speed = 2.0
    needs_classes = False

    def __repr__(self) -> str:
        return f"FunctionMeasure({_name(self.function)})"

    def layout(
        self, targets: np.ndarray, classes: np.ndarray | None, groups: np.ndarray, size: int
    ) -> Layout:
        noise = np.random.default_rng(0).normal(size=(len(targets), size))
        try:
            found = self.function(noise, targets if classes is None else classes[targets], groups)
        except Exception as error:
            raise InputError(
                f"{_name(self.function)}(X, y, groups) failed on noise of {len(targets)} samples x {size} voxels: "
                f"{type(error).__name__}: {error}"
            ) from error
        return _layout_of(found, _name(self.function))

    def compute(
        self,
        bold: np.ndarray,
        targets: np.ndarray,
        classes: np.ndarray | None,
        groups: np.ndarray,
        folds: Folds,
        spheres: Spheres,
        n_values: int,
    ) -> np.ndarray:
        def values(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            found = _flat(self.function(x, y, groups))
            if len(found) != n_values:
                raise ValueError(
                    f"gave {len(found)} values for a sphere of {x.shape[1]} voxels, and {n_values} when planned"
                )
            return found

        return measure_spheres(
            bold, targets if classes is None else classes[targets], spheres, values, n_values
        )


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _layout_of(found: Any, name: str) -> Layout:
    try:
        flat = _flat(found)
    except (TypeError, ValueError):
        raise InputError(
            f"{name}(X, y, groups) must give a number, an array or a mapping of names to these, "
            f"got {type(found).__name__}"
        ) from None
    if not len(flat):
        raise InputError(f"{name}(X, y, groups) gave no value")
    if isinstance(found, Mapping):
        names: list[str] = []
        for key, value in found.items():
            shape = np.shape(value)
            names += [f"{key}[{','.join(map(str, at))}]" for at in np.ndindex(shape)] if shape else [str(key)]
        return Layout.metrics(tuple(names))
    shape = np.shape(found)
    dims = ("value",) if len(shape) == 1 else tuple(f"value_{axis}" for axis in range(len(shape)))
    return Layout(dims, tuple(tuple(range(size)) for size in shape))


def _flat(found: Any) -> np.ndarray:
    parts = found.values() if isinstance(found, Mapping) else (found,)
    return np.concatenate([np.zeros(0), *(np.ravel(np.asarray(part, np.float64)) for part in parts)])
