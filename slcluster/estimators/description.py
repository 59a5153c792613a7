"""Estimators, splitters and scorers as plain data, and back.

A description says everything about an object, so that a plan can be compared, stored and resumed without
unpickling anything.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import numbers
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from slcluster.errors import InputError
from slcluster.estimators.allowed import named_class, refuse_caches

__all__ = ["describe", "rebuild", "words_of"]

#: Modules of ours that hold estimators and nothing else that a store could name.
_OURS = {"slcluster.kernels.twins", "slcluster.estimators.measures"}

#: Keys by which descriptions are told from mappings that happen to be parameters.
_FORMS = {"array", "class", "float", "function", "items", "set", "tuple"}


def describe(value: Any) -> Any:
    """Plain data (JSON-able) that is equal for equal estimators, splitters, scorers and parameters.

    An object with parameters becomes ``{"class": ..., "params": ...}``, a function its qualified name and
    the digest of its source, with what it captured where a name cannot find it again; an array its dtype,
    shape and digest.

    Raises
    ------
    InputError
        If something has no description that two processes would agree on.

    Examples
    --------
    >>> from slcluster.estimators import resolve
    >>> describe(resolve("dummy_regressor"))["class"]
    'sklearn.dummy.DummyRegressor'
    """
    if value is None or isinstance(value, (bool, str, np.bool_)):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if np.isfinite(float(value)) else {"float": str(float(value))}
    if isinstance(value, np.ndarray | list | tuple | set | frozenset | Mapping):
        return _describe_container(value)
    if isinstance(value, type) or inspect.isroutine(value):
        return {"function": _qualified(value), "source": _source_digest(value), **_captured(value)}
    if isinstance(value, functools.partial):
        parts = {"args": value.args, "keywords": value.keywords}
        return {"function": "functools.partial", "of": describe(value.func), **_describe_container(parts)}
    if hasattr(value, "get_params"):
        return {"class": _qualified(type(value)), "params": describe(value.get_params(deep=False))}
    if isinstance(value, np.random.RandomState | np.random.Generator):
        raise InputError("random_state is a generator, whose state a plan cannot hold; pass an integer seed")
    if hasattr(value, "__dict__") and not inspect.ismodule(value):
        return {"class": _qualified(type(value)), "params": describe(vars(value))}
    return {"class": _qualified(type(value)), "repr": repr(value)}


def words_of(value: Any) -> Any:
    """An argument as it was asked for, as plain data for people, not to compare by. Never fails.

    The path of a file, also of an image that was read from one; of pairs of indices and of what has no
    description only what kind of thing it is.

    Examples
    --------
    >>> words_of([([0, 1], [2, 3]), ([2, 3], [0, 1])])
    {'class': 'builtins.list'}
    """
    source = (value.get_filename() or value) if hasattr(value, "get_filename") else value
    if isinstance(source, os.PathLike):
        return os.fspath(source)
    is_short = source is None or isinstance(source, str | numbers.Number | np.ndarray)
    try:
        if is_short or hasattr(source, "split"):
            return describe(source)
    except (InputError, RecursionError):
        pass
    return {"class": _qualified(type(value))}


def _describe_container(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        about = {"dtype": value.dtype.str, "shape": list(value.shape)}
        if value.dtype.kind in "OT":  # whose bytes are addresses
            return {"array": [describe(item) for item in value.ravel().tolist()], **about}
        return {"array": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(), **about}
    if isinstance(value, list):
        return [describe(item) for item in value]
    if isinstance(value, tuple):  # some estimators take nothing else
        return {"tuple": [describe(item) for item in value]}
    if isinstance(value, set | frozenset):
        return {"set": sorted((describe(item) for item in value), key=json.dumps)}
    if all(isinstance(key, str) for key in value) and not _FORMS & set(value):
        return {key: describe(item) for key, item in value.items()}
    return {"items": [[describe(key), describe(item)] for key, item in value.items()]}


def _captured(thing: Any) -> dict[str, Any]:
    """What else decides what a function does, where its module does not have it under its name."""
    if inspect.ismethod(thing):
        return {"of": describe(thing.__self__)}
    found: Any = sys.modules.get(getattr(thing, "__module__", None) or "")
    for part in getattr(thing, "__qualname__", "").split("."):
        found = getattr(found, part, None)
    if found is thing or not inspect.isfunction(thing):
        return {}
    cells = [cell.cell_contents for cell in thing.__closure__ or () if cell.cell_contents is not thing]
    held = {"closure": cells, "defaults": thing.__defaults__, "keywords": thing.__kwdefaults__}
    return {name: describe(value) for name, value in held.items() if value}


def _qualified(thing: Any) -> str:
    module = getattr(thing, "__module__", "builtins")
    # scikit-learn's private modules move; the public one (sklearn.svm, not sklearn.svm._classes) stays.
    public = ".".join(part for part in module.split(".") if not part.startswith("_")) or module
    return f"{public}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def _source_digest(thing: Any) -> str | None:
    try:
        return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def rebuild(description: Any) -> Any:
    """The estimator that :func:`describe` described, if it is one of scikit-learn's own.

    Raises
    ------
    InputError
        For anything that :func:`~slcluster.estimators.allowed.named_class` refuses: a store must not name code to
        import.
    """
    if isinstance(description, list):
        return [rebuild(item) for item in description]
    if not isinstance(description, Mapping):
        return description
    if "float" in description:
        return float(description["float"])
    if "tuple" in description:
        return tuple(rebuild(item) for item in description["tuple"])
    if "set" in description:
        return set(map(rebuild, description["set"]))
    if "items" in description:
        return {rebuild(key): rebuild(item) for key, item in description["items"]}
    if not {"class", "params"} <= set(description):
        if {"function", "array"} & set(description) or {"class", "repr"} <= set(description):
            raise InputError(
                "an estimator holds functions or arrays; resume it by calling slc.searchlight again"
            )
        return {key: rebuild(item) for key, item in description.items()}
    kind = _class_of(description["class"])
    params = rebuild(description["params"])
    refuse_caches(kind, params)
    return kind(**params)


def _class_of(name: str) -> type:
    module, _, class_name = name.rpartition(".")
    if module in _OURS:
        found = getattr(import_module(module), class_name, None)
        if inspect.isclass(found) and found.__module__ == module:
            kind: type = found
            return kind
    elif module.split(".")[0] == "sklearn":
        return named_class(name)
    raise InputError(f"estimator {name} is not scikit-learn's; resume it by calling slc.searchlight again")
