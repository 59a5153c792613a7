"""Our own tests notice what would be wrong: nine faults, put in one at a time, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations.faults import FAULTS

REPOSITORY = Path(__file__).parents[2]

#: Quick tests of whole maps; every fault must make at least one of each file fail.
SUBSET = [
    "tests/test_lazy.py::test_the_map_itself",
    "tests/test_lazy.py::test_a_radius_on_the_lattice_gives_every_interior_center_its_rim",
    "tests/test_lazy.py::test_a_volume_of_places",
    "tests/test_searchlight.py::test_a_volume_of_places_through_a_store",
]


def _run(fault: str) -> tuple[int, dict[str, str]]:
    """Exit code of pytest over the subset with a fault in the package, and the first error of each failure."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-n",
            "0",
            "-q",
            "-p",
            "tests.mutations.faults",
            "-p",
            "no:cacheprovider",
            *SUBSET,
        ],
        cwd=REPOSITORY,
        env={**os.environ, "SLCLUSTER_FAULT": fault, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = dict(re.findall(r"^FAILED (\S+) - (.*)$", done.stdout, re.MULTILINE))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode, failed


def test_without_a_fault_all_is_well() -> None:
    assert _run("") == (0, {})


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_the_fault_is_noticed(fault: str) -> None:
    code, failed = _run(fault)
    assert code == 1, f"no test noticed {fault}"
    wrong = [name for name, error in failed.items() if error.lower().startswith("assert")]
    for file in ("test_lazy.py", "test_searchlight.py"):
        assert any(file in name for name in wrong), f"{file} did not notice {fault}: {failed}"
