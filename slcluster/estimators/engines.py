"""Which engine computes an estimator: a fast kernel where one computes exactly this, else scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, is_regressor
from sklearn.metrics import get_scorer

from slcluster.errors import InputError
from slcluster.estimators.names import nearest
from slcluster.estimators.scoring import scorers_of
from slcluster.kernels.scores import answers_of

__all__ = ["ENGINES", "Engine", "choose_engine", "fast_scorers"]

#: From an estimator and the classes it is to tell apart, what its kernel is called with; None where the
#: estimator asks for something else.
Params = Callable[[Any, np.ndarray | None], dict[str, Any] | None]


@dataclass(frozen=True)
class Engine:
    """A code path that fits estimators in spheres.

    Attributes
    ----------
    kernel : str
        Module in :mod:`slcluster.kernels` and function.
    version : int
        Of its numerics; part of a plan's fingerprint.
    twin : str
        The scikit-learn estimator that it computes, for people.
    params : callable
    outputs : tuple of str
        What the kernel can return, see :mod:`slcluster.kernels`.
    speed : float
        Fits of this engine in the time of one of scikit-learn's, roughly: blocks are cut by it.
    """

    kernel: str
    version: int
    twin: str
    params: Params
    outputs: tuple[str, ...]
    speed: float

    def load(self) -> Callable[..., dict[str, np.ndarray]]:
        """The kernel. Compiled code is imported only where it is used."""
        module, _, name = self.kernel.partition(".")
        kernel: Callable[..., dict[str, np.ndarray]] = getattr(
            import_module(f"slcluster.kernels.{module}"), name
        )
        return kernel


def _weights(class_weight: Any, classes: np.ndarray | None) -> Any:
    """Class weights by code; ``"balanced"`` and None as they are."""
    if classes is None or not isinstance(class_weight, Mapping):
        return class_weight
    return np.array([float(class_weight.get(label, 1.0)) for label in classes.tolist()])


def _svm(estimator: Any, classes: np.ndarray | None) -> dict[str, Any] | None:
    from sklearn.svm import LinearSVC

    if type(estimator) is not LinearSVC:
        return None
    is_ours = (estimator.penalty, estimator.loss, estimator.multi_class) == ("l2", "squared_hinge", "ovr")
    if not is_ours:
        return None
    return {
        "c": float(estimator.C),
        "class_weight": _weights(estimator.class_weight, classes),
        "fit_intercept": bool(estimator.fit_intercept),
        "intercept_scaling": float(estimator.intercept_scaling),
    }


#: Name → engine. The first that computes an estimator is what ``engine="auto"`` takes.
ENGINES: dict[str, Engine] = {
    "svm": Engine(
        kernel="svm.squared_hinge_svm",
        version=1,
        twin="LinearSVC with the squared hinge loss and the l2 penalty, at its optimum",
        params=_svm,
        outputs=("confusion", "prediction", "decision"),
        speed=60.0,
    ),
    "sklearn": Engine("generic.cross_validate", 1, "any estimator", lambda *_: {}, (), 1.0),
}


def choose_engine(engine: str, estimator: BaseEstimator, scoring: Any = "accuracy") -> str:
    """The code path that will compute ``estimator``.

    ``"auto"`` takes a fast engine where one computes exactly this estimator and these metrics, else
    ``"sklearn"``, which takes everything.

    Parameters
    ----------
    engine : str
        ``"auto"`` or a key of :data:`ENGINES`.
    estimator : scikit-learn estimator
    scoring
        As :func:`slcluster.plan` takes it.

    Raises
    ------
    InputError
        Unknown engine, or one that cannot compute this.
    """
    if engine != "auto" and engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}; {nearest(engine, ['auto', *ENGINES])}")
    if engine == "sklearn":
        return engine
    fast = [name for name in ENGINES if name != "sklearn" and _computes(name, estimator, scoring)]
    if engine == "auto":
        return fast[0] if fast else "sklearn"
    if engine not in fast:
        raise InputError(
            f"engine={engine!r} computes {ENGINES[engine].twin} and metrics of its answers, not "
            f"{' '.join(repr(estimator).split())} with scoring={scoring!r}; pass engine='auto' or 'sklearn'"
        )
    return engine


def fast_scorers(scoring: Any, estimator: BaseEstimator) -> dict[str, Any]:
    """Metrics by name; the estimator's own is accuracy, or R² of a regression."""
    if scoring is None:
        name = "r2" if is_regressor(estimator) else "accuracy"
        return {name: get_scorer(name)}
    return scorers_of(scoring)


def _computes(name: str, estimator: BaseEstimator, scoring: Any) -> bool:
    engine = ENGINES[name]
    if engine.params(estimator, None) is None:
        return False
    scorers = fast_scorers(scoring, estimator)
    return all(answers_of(scorer, engine.outputs) is not None for scorer in scorers.values())
