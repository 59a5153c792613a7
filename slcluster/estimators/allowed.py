"""What a file may name: classes of scikit-learn that compute and do nothing else.

Job files and stores come from others. A module that is imported runs its code, and scikit-learn too has functions
that delete folders and classes that load what was pickled.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from importlib import import_module
from numbers import Number
from typing import Any

from slcluster.errors import InputError
from slcluster.estimators.names import nearest

__all__ = ["named_class", "offer", "refuse_caches"]

#: Modules of scikit-learn whose estimators, splitters and kernels may be named.
_MODULES = frozenset(
    f"sklearn.{name}"
    for name in (
        *("calibration", "cluster", "compose", "covariance", "cross_decomposition", "decomposition"),
        *("discriminant_analysis", "dummy", "ensemble", "feature_selection", "gaussian_process"),
        *("gaussian_process.kernels", "impute", "isotonic", "kernel_approximation", "kernel_ridge"),
        *("linear_model", "manifold", "mixture", "model_selection", "multiclass", "multioutput"),
        *("naive_bayes", "neighbors", "neural_network", "pipeline", "preprocessing", "random_projection"),
        *("semi_supervised", "svm", "tree"),
    )
)


class _NoSuchClassError(InputError, AttributeError):
    """Another version of scikit-learn may have it."""


#: What makes a class one of those.
_TRAITS = ("fit", "split", "diag")


def named_class(name: str, *, packages: Collection[str] = ()) -> type:
    """The class that a file names.

    Parameters
    ----------
    name : str
        With its module: ``"sklearn.svm.SVC"``.
    packages : collection of str
        Further packages, or modules, that the user let be imported.

    Raises
    ------
    InputError
        From elsewhere, or not an estimator, splitter or kernel. Modules that are not allowed are not imported.

    Examples
    --------
    >>> named_class("sklearn.svm.SVC").__name__
    'SVC'
    """
    module_name, _, class_name = name.rpartition(".")
    package = next((p for p in packages if module_name == p or module_name.startswith(f"{p}.")), None)
    if package is None and module_name.split(".")[0] != "sklearn":
        hint = "; write it with its module, such as sklearn.svm.SVC"
        if module_name:
            hint = f"; if you trust its code, let it be imported: --allow-import {module_name.split('.')[0]}"
        raise InputError(f"{name!r} is not a class of scikit-learn{hint}")
    if package is None and (module_name := _listed(module_name)) not in _MODULES:
        raise InputError(
            f"{name!r}: {module_name} is not one of scikit-learn's modules of estimators, splitters and kernels, "
            "such as sklearn.svm"
        )
    try:
        module = import_module(module_name)
        found: Any = getattr(module, class_name, None)
    except (ImportError, ValueError) as error:
        raise InputError(f"{name!r}: {' '.join(str(error).split())}") from None
    home = "sklearn" if package is None else package
    if not _is_of(found, home) or class_name[:1] == "_":
        classes = [key for key, value in vars(module).items() if _is_of(value, home) and key[0] != "_"]
        raise _NoSuchClassError(f"{module_name} has no class {class_name!r}; {offer(class_name, classes)}")
    if not any(hasattr(found, trait) for trait in _TRAITS):
        raise InputError(
            f"{name!r} is not an estimator, a splitter or a kernel; a file may name nothing else"
        )
    kind: type = found
    return kind


def refuse_caches(kind: type, params: Mapping[str, Any]) -> None:
    """Refuse folders of cached steps: joblib keeps them pickled, and whoever writes there has their code run.

    Also among the values that a search over parameters sets.

    Raises
    ------
    InputError
    """
    if _names_cache(params):
        raise InputError(
            f"{kind.__name__}: a file must not name a folder of cached steps (memory), which are pickled; leave it out"
        )


def _names_cache(value: Any) -> bool:
    if isinstance(value, Mapping):
        # A condition may be called memory too, and have a weight.
        return any(
            (str(key).rpartition("__")[2] == "memory" and not isinstance(item, Number | None))
            or _names_cache(item)
            for key, item in value.items()
        )
    return isinstance(value, list | tuple) and any(map(_names_cache, value))


def _listed(module_name: str) -> str:
    """The allowed module that a module is a part of, else itself."""
    parts = module_name.split(".")
    outer = (".".join(parts[:n_parts]) for n_parts in range(len(parts), 1, -1))
    return next((name for name in outer if name in _MODULES), module_name)


def _is_of(found: Any, package: str) -> bool:
    return inspect.isclass(found) and (
        found.__module__ == package or found.__module__.startswith(f"{package}.")
    )


def offer(name: str, known: list[str]) -> str:
    """The nearest names where there are many, else all."""
    offered = nearest(name, known)
    return offered.split("?")[0] + "?" if "?" in offered and len(known) > 12 else offered
