"""A pytest plugin that puts slcluster's ``SearchLight`` where nilearn's tests look for nilearn's.

    python -m pytest -p tests.nilearn_suite --pyargs nilearn.decoding.tests.test_searchlight

Test modules, and nilearn's checks of estimators, take the class by name when they are imported, which is after
plugins are.
"""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

import slcluster

nilearn_searchlight = import_module("nilearn.decoding.searchlight")
nilearn_decoding = import_module("nilearn.decoding")

assert "nilearn._utils.estimator_checks" not in sys.modules
for module in (nilearn_searchlight, nilearn_decoding):
    module.SearchLight = slcluster.SearchLight  # type: ignore[attr-defined]


def pytest_configure(config: pytest.Config) -> None:
    """Marks that nilearn's own configuration knows."""
    for mark in ("slow", "thread_unsafe"):
        config.addinivalue_line("markers", f"{mark}: nilearn's")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Nothing that was collected may still test nilearn's class."""
    checks = import_module("nilearn._utils.estimator_checks")
    assert checks.SearchLight is slcluster.SearchLight
    assert nilearn_searchlight.SearchLight is slcluster.SearchLight
