"""How kernels are compiled: strictly, kept on disk, and once where many processes begin together.

The compiler may neither fuse nor regroup operations: a function that is inlined twice would round in two ways, and a
map depend on how many steps its neighbours took. Where a product and a sum are one rounding,
:data:`~slcluster.kernels.vectors.fma` says so. Numba looks for changes in a function's own file only: who edits what
others call removes their ``__pycache__``.

Code that a plan does not need takes as long to compile as code that it needs. A parameter that is None or True says
whether a part is wanted; the compiler leaves out what stands under ``if part is not None`` where it is None. (Of
False it would not know.)
"""

from __future__ import annotations

import fcntl
import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper
from pathlib import Path
from typing import Any

from numba import njit

__all__ = ["compiled", "entry", "inner", "only_if"]

_OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,  # a way in for C
}

#: Decorator of what both Python and compiled functions call.
compiled: Any = njit(**_OPTIONS)

#: The same for what only compiled functions call. Without a way in from Python it compiles sooner.
inner: Any = njit(**(_OPTIONS | {"no_cpython_wrapper": True}))

#: The same for what is called in one place, of which it becomes a part: what is called is compiled again with each
#: of its callers, up to the entry. Not for loops that all the time goes into: in a large function they run some per
#: cent slower.
inlined: Any = njit(**(_OPTIONS | {"no_cpython_wrapper": True, "inline": "always"}))

#: Longest wait for another process. One that is frozen holds its lock and compiles nothing.
_PATIENCE_S = 120.0


class entry:  # a decorator
    """The same for what only Python calls. Of processes that share a cache, one compiles and the others wait.

    Parameters
    ----------
    function : callable
        Of positional arguments.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._dispatcher = compiled(function)
        update_wrapper(self, function)

    def __call__(self, *args: Any) -> Any:
        types = tuple(map(self._dispatcher.typeof_pyval, args))
        if types not in self._dispatcher.overloads:
            with _alone(self._dispatcher), _unburdened():
                self._dispatcher.compile(types)
        return self._dispatcher(*args)


def only_if(condition: Any) -> bool | None:
    """What a kernel is to be passed for a part that is wanted, or not."""
    return True if condition else None


@contextmanager
def _alone(dispatcher: Any) -> Iterator[None]:
    """Hold the lock of a function in its cache, where there is one and locks work."""
    name = f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}.lock"
    try:
        folder = Path(dispatcher.stats.cache_path)
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
    except (OSError, TypeError):  # nothing can be kept there, or nowhere
        yield
        return
    try:
        _await(handle)
        yield
    finally:
        os.close(handle)  # and the lock with it


@contextmanager
def _unburdened() -> Iterator[None]:
    """Let Python's garbage collector leave alone what was there before: else it looks at all of that again and again."""
    is_ours = gc.get_freeze_count() == 0
    if is_ours:
        gc.freeze()
    try:
        yield
    finally:
        if is_ours:
            gc.unfreeze()


def _await(handle: int) -> None:
    give_up = time.monotonic() + _PATIENCE_S
    while time.monotonic() < give_up:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        except OSError:
            return
        else:
            return
