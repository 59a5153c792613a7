"""The Slurm of the tests: one for all test processes, gone with the last of them, killed or not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

_USER = """
import os, sys, time
from pathlib import Path
from tests.slurm.throwaway import shared_slurm
with shared_slurm(Path(sys.argv[1])) as environ:
    print(environ["SLURM_CONF"], flush=True)
    time.sleep(600)
"""


def test_users_share_one_and_none_is_left(slurm: Path, tmp_path: Path) -> None:
    assert len(_daemons(slurm.parent)) == 6
    folder = tmp_path / "mine"
    users = [
        subprocess.Popen([sys.executable, "-c", _USER, folder], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [user.stdout.readline().strip() for user in users]
    assert said == [str(folder / "slurm.conf")] * 2
    daemons = _daemons(folder)
    assert len(daemons) == 6  # munged, slurmctld, four nodes
    environ = {**os.environ, "SLURM_CONF": said[0]}
    subprocess.run(
        ["sbatch", "--wait", "-o", tmp_path / "said", "--wrap", "echo $SLURMD_NODENAME"],
        env=environ,
        check=True,
    )
    assert (tmp_path / "said").read_text().strip() in {"n1", "n2", "n3", "n4"}
    users[0].kill()
    users[0].wait()
    time.sleep(0.5)
    assert _daemons(folder) == daemons
    users[1].kill()
    users[1].wait()
    assert not psutil.wait_procs(daemons, timeout=300)[1]


def _daemons(folder: Path) -> set[psutil.Process]:
    found = set()
    for process in psutil.process_iter():
        try:
            name, words, environ = process.name(), process.cmdline(), process.environ()
        except psutil.Error:
            continue
        of_folder = environ.get("SLURM_CONF") == str(folder / "slurm.conf")
        if of_folder and name.startswith(("munged", "slurmctld", "slurmd")) and words:
            found.add(process)
    return found
