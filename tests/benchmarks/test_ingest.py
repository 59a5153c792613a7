"""The benchmark of ingest runs to its end; its numbers are looked at elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ingest.py"


def test_quick_mode_prints_a_table_and_saves_json(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(SCRIPT),
        "--quick",
        "--out",
        str(tmp_path / "out.json"),
        "--scratch",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    saved = json.loads((tmp_path / "out.json").read_text())
    assert [result["case"] for result in saved["results"]] == ["quick int16", "quick float32"]
    for result in saved["results"]:
        assert result["peak_bytes"] > 50e6
        assert set(result["runs"]) == {"imports", "ours", "bare"}
        assert result["case"] in done.stdout
    assert {"zarr", "isal", "numpy"} <= set(saved["machine"]["versions"])
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
