"""Our own tests notice what would be wrong: nine faults, put in one at a time, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.mutations.faults import FAULTS

REPOSITORY = Path(__file__).parents[2]

#: Quick tests of whole maps, by the way they are made.
LAZY = [
    "tests/test_lazy.py::test_a_radius_on_the_lattice_gives_every_interior_center_its_rim",
    "tests/test_lazy.py::test_a_volume_of_places",
]
DURABLE = ["tests/test_searchlight.py::test_a_volume_of_places_through_a_store[lattice]"]


def test_every_fault_is_noticed_in_lazy_and_in_durable_maps(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "tests.mutations.faults", str(report), *LAZY, *DURABLE]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert report.exists(), done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found.pop("") == {"code": 0, "failed": {}}, "without a fault all is well"
    assert set(found) == set(FAULTS)
    assert len(FAULTS) == 9
    for fault, what in found.items():
        assert what["code"] == 1, f"no test noticed {fault}: {what}"
        # A test that compared and found a difference; a crash would notice nothing in a subtler case.
        wrong = [name for name, line in what["failed"].items() if line.lower().startswith("assert")]
        for tests in (LAZY, DURABLE):
            assert any(name.startswith(tuple(tests)) for name in wrong), f"{tests} missed {fault}: {what}"
