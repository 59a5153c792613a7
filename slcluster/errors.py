"""The exception tree, and warnings. Messages say what was expected, what came, and what to do."""

from __future__ import annotations

import sys
import warnings

__all__ = [
    "BlockError",
    "DesignError",
    "GeometryError",
    "InputError",
    "PlanError",
    "SchemaError",
    "SlclusterError",
    "StoreError",
    "warn_caller",
]


class SlclusterError(Exception):
    """Base of every error that slcluster raises on purpose."""


class InputError(SlclusterError, ValueError):
    """A file, an argument or a value is not what was expected."""


class GeometryError(InputError):
    """Grids, affines, masks or radii do not fit each other."""


class DesignError(InputError):
    """Labels, runs, conditions or folds cannot be analysed as asked."""


class SchemaError(InputError):
    """A Dataset or a store does not follow the contract in :mod:`slcluster.schema`."""


class StoreError(SlclusterError):
    """A store is missing, unfinished, damaged, leased to another process, or cannot be written."""


class PlanError(InputError):
    """The analysis as planned cannot be computed, or differs from the one being resumed."""


class BlockError(SlclusterError):
    """Computing one block failed. The message names the subject, the block and the center."""


def warn_caller(message: str) -> None:
    """Warn, pointing at the line that called slcluster, however deep below it this is."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
