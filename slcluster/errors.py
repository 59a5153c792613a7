"""The exception tree, and warnings. Messages say what was expected, what came, and what to do."""

from __future__ import annotations

import errno
import os
import sys
import warnings

__all__ = [
    "BlockError",
    "ChunkError",
    "DesignError",
    "FailedBlocksError",
    "GeometryError",
    "InputError",
    "NotAnImageError",
    "PlanError",
    "SchemaError",
    "SlclusterError",
    "StoreError",
    "StorePathError",
    "WorkerLostError",
    "cannot_write",
    "may_pass",
    "one_line",
    "warn_caller",
]


class SlclusterError(Exception):
    """Base of every error that slcluster raises on purpose.

    Attributes
    ----------
    may_pass : bool
        Whether the same work may succeed when it is tried again: a disk or a network that failed for a moment.
    """

    may_pass = False


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


class ChunkError(StoreError):
    """One chunk of a store is damaged or cannot be read; the rest of the store may be sound."""


class PlanError(InputError):
    """The analysis as planned cannot be computed, or differs from the one being resumed."""


class BlockError(SlclusterError):
    """Computing one block failed. The message names the subject, the block and the center."""


class WorkerLostError(BlockError):
    """The worker that a block was given to has gone. Which of its blocks took it along is not known yet."""


class FailedBlocksError(BlockError):
    """Some blocks of an analysis failed. The message names them with their errors; the others are done."""


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

#: What a system says of a disk or a network that may answer a moment later.
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENOTCONN,
}


def may_pass(error: BaseException | None) -> bool:
    """Whether an error is the system's, of a kind that may be gone when the same is tried again."""
    if isinstance(error, SlclusterError):
        return error.may_pass
    if not isinstance(error, OSError):
        return False
    return error.errno in _PASSING or isinstance(error, ConnectionError | TimeoutError)


def one_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def cannot_write(path: str | os.PathLike[str], error: OSError, *, after: str = "") -> StoreError:
    """The error for a place where the system does not write, with what helps against its reason."""
    remedy = _REMEDIES.get(error.errno or 0, "free some space or choose another place")
    failure = StoreError(f"cannot write {os.fspath(path)}: {one_line(error)}; {remedy}{after}")
    failure.may_pass = may_pass(error)
    return failure


def warn_caller(message: str) -> None:
    """Warn, pointing at the line that called slcluster, however deep below it this is."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
