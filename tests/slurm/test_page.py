"""docs/clusters.md as a new user types it: in an empty folder, with what the page says and nothing else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import slcluster as slc
from tests.slurm.runs import PATIENCE_S

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"


def test_the_page(slurm: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"<!-- page -->\n```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 6
    shim = tmp_path / "bin"
    shim.mkdir()
    for name, words in (("slcluster", "-m slcluster"), ("python", "")):
        (shim / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (shim / name).chmod(0o755)
    home = tmp_path / "empty"
    home.mkdir()
    environ = {**os.environ, "PATH": f"{shim}{os.pathsep}{os.environ['PATH']}"}
    said = []
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=home,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE_S,
        )
        assert done.returncode == 0, block + done.stdout + done.stderr
        said.append(done.stdout)
    assert "#SBATCH -J slcluster\n" in said[0]
    assert "1 workers, all with this slcluster" in said[0]
    assert said[2].count("Searchlight plan") == 3
    assert "submitted to Slurm: job " in said[3]
    assert "submitted to Slurm\n" in said[4]
    assert said[5].count(": finished, ") == 3
    assert (home / "maps" / "sub-01_score.nii.gz").is_file()
    assert all(slc.status(path).is_finished for path in sorted((home / "results").glob("*.zarr")))
