"""How kernels are compiled: strictly, kept on disk, and once where many processes begin together.

The compiler may neither fuse nor regroup operations: a function that is inlined twice would round in two ways, and a
map depend on how many steps its neighbours took. Where a product and a sum are one rounding,
:data:`~slcluster.kernels.vectors.fma` says so. Numba looks for changes in a function's own file only: who edits what
others call removes their ``__pycache__``.

Numba makes machine code of every function, with all that it calls; entries call tens of functions, of which the
machine code is never used. :func:`inner` leaves that out: kernels compile in half to three quarters of the time, and
are as fast.

Code that a plan does not need takes as long to compile as code that it needs. A parameter that is None or True says
whether a part is wanted; the compiler leaves out what stands under ``if part is not None`` where it is None. (Of
False it would not know.)
"""

from __future__ import annotations

import fcntl
import gc
import inspect
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import update_wrapper, wraps
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import compiler
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import cpu_target
from numba.extending import intrinsic

__all__ = ["entry", "inner", "only_if"]

#: Longest wait for another process. One that is frozen holds its lock and compiles nothing.
_PATIENCE_S = 120.0


class _Part(JITCodeLibrary):
    """Code that becomes part of entries: optimised as a whole and made machine code there, and not here."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


def inner(function: Callable[..., Any]) -> Any:
    """Decorator of what only compiled functions call, with all arguments, by position."""

    @wraps(function)
    def call(typing_context: Any, *kinds: Any) -> Any:
        flags: Any = compiler.Flags()
        flags.nrt, flags.error_model = True, "numpy"
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        context = cpu_target.target_context
        library = _Part(context.codegen(), function.__qualname__)
        part = compiler.compile_extra(typing_context, context, function, kinds, None, flags, {}, library)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            context.active_code_library.add_linking_library(library)
            return context.call_internal(builder, part.fndesc, part.signature, arguments)

        return part.signature, generate

    # Numba takes the parameters from the signature, less its first, the typing context.
    own = inspect.signature(function)
    first = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_ONLY)
    call.__signature__ = own.replace(parameters=[first, *own.parameters.values()])  # type: ignore[attr-defined]
    return intrinsic(call)


class entry:  # a decorator
    """What Python calls, compiled and kept. Of processes that share a cache, one compiles and the others wait.

    Parameters
    ----------
    function : callable
        Of positional arguments.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        # The C wrapper is a way in for other languages.
        options: Any = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
        self._dispatcher: Any = njit(**options)(function)
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
