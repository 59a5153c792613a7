"""Searchlight decoding of fMRI, from one slice on a laptop to cohorts on a cluster.

Public names load on first use, so that a worker or a command pays only for what it needs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "Crossnobis": "estimators",
    "RSA": "estimators",
    "SearchLight": "estimator",
    "SplitHalf": "estimators",
    "attach": "cluster",
    "f_score": "inference",
    "fill_centers": "filling",
    "fsck": "fsck",
    "ingest": "ingest",
    "make_cluster": "cluster",
    "onsets": "lags",
    "open_result": "searchlight",
    "open_store": "store",
    "plan": "planner",
    "searchlight": "searchlight",
    "select": "store",
    "simulate": "simulate",
    "status": "searchlight",
    "subject_dataset": "schema",
    "time_resolved": "lags",
    "to_nifti": "io",
}

__all__ = [
    "RSA",
    "Crossnobis",
    "SearchLight",
    "SplitHalf",
    "__version__",
    "attach",
    "f_score",
    "fill_centers",
    "fsck",
    "ingest",
    "make_cluster",
    "onsets",
    "open_result",
    "open_store",
    "plan",
    "searchlight",
    "select",
    "simulate",
    "status",
    "subject_dataset",
    "time_resolved",
    "to_nifti",
]

if TYPE_CHECKING:
    from slcluster.cluster import attach, make_cluster
    from slcluster.estimator import SearchLight
    from slcluster.estimators import RSA, Crossnobis, SplitHalf
    from slcluster.filling import fill_centers
    from slcluster.fsck import fsck
    from slcluster.inference import f_score
    from slcluster.ingest import ingest
    from slcluster.io import to_nifti
    from slcluster.lags import onsets, time_resolved
    from slcluster.planner import plan
    from slcluster.schema import subject_dataset
    from slcluster.searchlight import open_result, searchlight, status
    from slcluster.simulate import simulate
    from slcluster.store import open_store, select


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'slcluster' has no attribute {name!r}")
    value = getattr(import_module(f"slcluster.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


class _Package(ModuleType):
    """Keeps ``slcluster.plan`` the function, whichever of function and module ``plan`` is imported first."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOME and isinstance(value, ModuleType):
            return  # the import system binding a submodule; it stays reachable through sys.modules
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
