"""Estimators and splitters as a job file writes them: a class of scikit-learn and its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from slcluster.errors import InputError

__all__ = ["build_object"]

#: Classes of ours that a job file may name, as ``slcluster.RSA``.
_MEASURES = ("Crossnobis", "RSA", "SplitHalf")


def build_object(description: Any, home: str = "", packages: Collection[str] = ()) -> Any:
    """The object that ``{class: ..., params: ...}`` describes: scikit-learn's, or a measure of ours.

    Parameters may be such descriptions again.

    Parameters
    ----------
    description : mapping
    home : str
        Module of classes that are named without one.
    packages : collection of str
        Further packages whose classes may be named, and are imported: what the user allowed, never the file.

    Raises
    ------
    InputError
        A class from elsewhere (a job file must not name code to import), unknown classes and parameters (the
        nearest are offered), a folder of pickled steps, or a value that the class refuses.

    Examples
    --------
    >>> build_object({"class": "sklearn.svm.SVC", "params": {"C": 0.5}})
    SVC(C=0.5)
    """
    from slcluster.estimators import check_parameters, offer, refuse_caches

    if not isinstance(description, Mapping) or "class" not in description:
        raise InputError(f"expected a name or {{class: sklearn..., params: {{...}}}}, got {description!r}")
    unknown = [str(key) for key in description if key not in ("class", "params")]
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r} beside class and params")
    kind = _named(str(description["class"]), home, packages)
    params = description.get("params") or {}
    if not isinstance(params, Mapping):
        raise InputError(f"params of {kind.__name__} must be a mapping, got {params!r}")
    known = list(inspect.signature(kind).parameters)
    for name in params:
        if name not in known:
            raise InputError(f"{kind.__name__} has no parameter {name!r}; {offer(str(name), known)}")
    refuse_caches(kind, params)
    try:
        made = kind(**{name: _parameter(value, packages) for name, value in params.items()})
        check_parameters(made)  # else scikit-learn looks at them in fit, on a worker
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{kind.__name__}: {' '.join(str(error).split())}") from None
    return made


def _parameter(value: Any, packages: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        return build_object(value, packages=packages) if "class" in value else dict(value)
    if not isinstance(value, list):
        return value
    items = [_parameter(item, packages) for item in value]
    # The steps of a pipeline are pairs, which YAML writes as lists.
    is_step = len(items) == 2 and isinstance(items[0], str) and hasattr(items[1], "get_params")
    return tuple(items) if is_step else items


def _named(name: str, home: str, packages: Collection[str]) -> type:
    module, _, class_name = name.rpartition(".")
    if module == "slcluster" and class_name in _MEASURES:
        import slcluster

        measure: type = getattr(slcluster, class_name)
        return measure
    from slcluster.estimators import named_class

    return named_class(name if module or not home else f"{home}.{name}", packages=packages)
