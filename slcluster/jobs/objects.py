"""Estimators and splitters as a job file writes them: a class of scikit-learn and its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from slcluster.errors import InputError

__all__ = ["build_object"]

#: Classes of ours that a job file may name, as ``slcluster.RSA``.
_MEASURES = ("Crossnobis", "RSA", "SplitHalf")


def build_object(description: Any, home: str = "") -> Any:
    """The object that ``{class: ..., params: ...}`` describes: scikit-learn's, or a measure of ours.

    Parameters may be such descriptions again.

    Parameters
    ----------
    description : mapping
    home : str
        Module of classes that are named without one.

    Raises
    ------
    InputError
        A class from outside scikit-learn (a job file must not name code to import), unknown classes and
        parameters (the nearest are offered), or a value that the class refuses.

    Examples
    --------
    >>> build_object({"class": "sklearn.svm.SVC", "params": {"C": 0.5}})
    SVC(C=0.5)
    """
    if not isinstance(description, Mapping) or "class" not in description:
        raise InputError(f"expected a name or {{class: sklearn..., params: {{...}}}}, got {description!r}")
    unknown = [str(key) for key in description if key not in ("class", "params")]
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r} beside class and params")
    kind = _sklearn_class(str(description["class"]), home)
    params = description.get("params") or {}
    if not isinstance(params, Mapping):
        raise InputError(f"params of {kind.__name__} must be a mapping, got {params!r}")
    known = list(inspect.signature(kind).parameters)
    for name in params:
        if name not in known:
            raise InputError(f"{kind.__name__} has no parameter {name!r}; {_offer(str(name), known)}")
    try:
        made = kind(**{name: _parameter(value) for name, value in params.items()})
        if hasattr(made, "_validate_params"):
            made._validate_params()  # else scikit-learn looks at them in fit, on a worker
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind.__name__}: {' '.join(str(error).split())}") from None
    return made


def _parameter(value: Any) -> Any:
    if isinstance(value, Mapping):
        return build_object(value) if "class" in value else dict(value)
    if not isinstance(value, list):
        return value
    items = [_parameter(item) for item in value]
    # The steps of a pipeline are pairs, which YAML writes as lists.
    is_step = len(items) == 2 and isinstance(items[0], str) and hasattr(items[1], "get_params")
    return tuple(items) if is_step else items


def _sklearn_class(name: str, home: str) -> type:
    module_name, _, class_name = name.rpartition(".")
    module_name = module_name or home
    if module_name == "slcluster" and class_name in _MEASURES:
        import slcluster

        measure: type = getattr(slcluster, class_name)
        return measure
    if module_name.split(".")[0] != "sklearn":
        hint = "" if module_name else "; write it with its module, such as sklearn.svm.SVC"
        raise InputError(f"{name!r} is not a class of scikit-learn{hint}")
    try:
        module = import_module(module_name)
    except (ImportError, ValueError):
        raise InputError(f"{name!r}: scikit-learn has no module {module_name}") from None
    found = getattr(module, class_name, None)
    if not inspect.isclass(found) or not found.__module__.startswith("sklearn."):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value) and key[0] != "_"]
        raise InputError(f"{module_name} has no class {class_name!r}; {_offer(class_name, classes)}")
    return found


def _offer(name: str, known: list[str]) -> str:
    """The nearest names where there are many, else all."""
    from slcluster.estimators import nearest

    offered = nearest(name, known)
    return offered.split("?")[0] + "?" if "?" in offered and len(known) > 12 else offered
