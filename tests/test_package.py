"""The package's face: public names, laziness, examples, errors, one version."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import slcluster
from slcluster import errors

ROOT = Path(__file__).parent.parent
MODULES = sorted(module.name for module in pkgutil.walk_packages(slcluster.__path__, "slcluster."))


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.mark.parametrize("name", [name for name in slcluster.__all__ if name != "__version__"])
def test_public_names_are_functions_with_docstrings(name: str) -> None:
    public = getattr(slcluster, name)
    assert callable(public)
    assert "Examples" in (public.__doc__ or "") or name in {"open_result", "status"}
    assert name in dir(slcluster)


@pytest.mark.parametrize("name", ["plan", "ingest", "searchlight", "simulate"])
def test_a_function_is_not_hidden_by_its_module(name: str) -> None:
    code = f"import slcluster.{name}; import slcluster; print(callable(slcluster.{name}))"
    assert run(code) == "True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'serchlight'"):
        slcluster.serchlight  # noqa: B018


def test_import_is_cheap() -> None:
    heavy = {"dask", "distributed", "xarray", "zarr", "nibabel", "sklearn", "pandas", "numpy", "matplotlib"}
    loaded = run("import sys, slcluster; print(*{name.split('.')[0] for name in sys.modules})").split()
    assert not heavy & set(loaded)


def test_analysis_does_not_import_what_draws() -> None:
    loaded = run(
        "import sys, slcluster; slcluster.searchlight; slcluster.f_score; print(*sys.modules)"
    ).split()
    assert not {"matplotlib", "nilearn", "bokeh", "dask_jobqueue"} & set(loaded)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), extraglobs={"np": np})
    assert found.failed == 0


def test_every_error_is_ours_and_input_errors_are_value_errors() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if not isinstance(kind, type):
            continue
        assert issubclass(kind, errors.SlclusterError)
    assert issubclass(errors.DesignError, ValueError)
    assert not issubclass(errors.StoreError, ValueError)


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == slcluster.__version__
    assert f"version: {slcluster.__version__}\n" in (ROOT / "CITATION.cff").read_text()
