"""The exception tree, and warnings. Messages say what was expected, what came, and what to do."""

from __future__ import annotations

import errno
import os
import sys
import warnings

__all__ = [
    "BlockError",
    "DesignError",
    "GeometryError",
    "InputError",
    "NotAnImageError",
    "PlanError",
    "SchemaError",
    "SlclusterError",
    "StoreError",
    "StorePathError",
    "cannot_write",
    "one_line",
    "warn_caller",
]


class SlclusterError(Exception):
    """Base of every error that slcluster raises on purpose."""


class InputError(SlclusterError, ValueError):
    """A file, an argument or a value is not what was expected."""


class NotAnImageError(InputError, TypeError):
    """Something else than an image was given where an image is needed."""


class GeometryError(InputError):
    """Grids, affines, masks or radii do not fit each other."""


class DesignError(InputError):
    """Labels, runs, conditions or folds cannot be analysed as asked."""


class SchemaError(InputError):
    """A Dataset or a store does not follow the contract in :mod:`slcluster.schema`."""


class StoreError(SlclusterError):
    """A store is missing, unfinished, damaged, leased to another process, or cannot be written."""


class StorePathError(StoreError, InputError):
    """Nothing is where a store was named, or something else is; or something is where a new one shall be."""


class PlanError(InputError):
    """The analysis as planned cannot be computed, or differs from the one being resumed."""


class BlockError(SlclusterError):
    """Computing one block failed. The message names the subject, the block and the center."""


#: What helps against the reasons for which a system does not write.
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space: your quota is used up",
    errno.EACCES: "make it writable for you, or choose another place",
    errno.EPERM: "make it writable for you, or choose another place",
    errno.EROFS: "choose another place: this file system is read-only",
    errno.ENOTDIR: "choose another place: a part of this path is a file, not a folder",
    errno.EEXIST: "choose another place: a part of this path is a file, not a folder",
}


def one_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def cannot_write(path: str | os.PathLike[str], error: OSError, *, after: str = "") -> StoreError:
    """The error for a place where the system does not write, with what helps against its reason."""
    remedy = _REMEDIES.get(error.errno or 0, "free some space or choose another place")
    return StoreError(f"cannot write {os.fspath(path)}: {one_line(error)}; {remedy}{after}")


def warn_caller(message: str) -> None:
    """Warn, pointing at the line that called slcluster, however deep below it this is."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
