"""The exception tree. Messages say what was expected, what came, and what to do."""

from __future__ import annotations

__all__ = [
    "BlockError",
    "DesignError",
    "GeometryError",
    "InputError",
    "PlanError",
    "SchemaError",
    "SlclusterError",
    "StoreError",
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
