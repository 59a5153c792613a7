"""The batch job as text, held whole; and what happens where Slurm is not, or says no."""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from pathlib import Path

import dask
import pytest
import yaml

import slcluster as slc
from slcluster.cluster import job_script
from slcluster.cluster.batch import _job_options
from slcluster.cluster.profiles import load_profile
from slcluster.errors import InputError

dask_jobqueue = pytest.importorskip("dask_jobqueue")

PROFILE = """
kind: slurm
workers: 8
cores: 4
processes: 2
memory: 8GB
walltime: 02:00:00
queue: long
account: neuro
interface: ib0
local_directory: /scratch/$USER
log_directory: logs
prologue: [module load gcc, ulimit -n 4096]
directives: [--constraint=haswell]
extra: {death_timeout: 300, scheduler_options: {port: 8786}}
"""

SCRIPT = """\
#!/usr/bin/env bash

#SBATCH -J slcluster
#SBATCH -p long
#SBATCH -A neuro
#SBATCH -n 1
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH -t 02:00:00
#SBATCH --no-requeue
#SBATCH -o logs/slcluster-%j.out
#SBATCH -e logs/slcluster-%j.err
#SBATCH --constraint=haswell
module load gcc
ulimit -n 4096
export OMP_NUM_THREADS=1
export OPENBLAS_NUM_THREADS=1
export MKL_NUM_THREADS=1
export NUMBA_NUM_THREADS=1
PYTHON -m distributed.cli.dask_worker tcp://<scheduler>:<port> --name slcluster-worker --nthreads 2 \
--memory-limit 3.73GiB --nworkers 2 --nanny --death-timeout 300 --local-directory /scratch/$USER --interface ib0
"""


@pytest.fixture(autouse=True)
def _no_site_settings() -> object:
    """A jobqueue.yaml of whoever runs the tests must not change the text."""
    defaults = yaml.safe_load((Path(dask_jobqueue.__file__).parent / "jobqueue.yaml").read_text())
    with dask.config.set({"jobqueue.slurm": defaults["jobqueue"]["slurm"]}):
        yield


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "slurm.yaml"
    path.write_text(PROFILE)
    return path


def normal(script: str) -> str:
    return script.replace(shlex.quote(sys.executable), "PYTHON")


def test_the_whole_job_script(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert normal(job_script(profile)).strip() == SCRIPT.strip()
    assert not (tmp_path / "logs").exists()  # looking writes nothing


def test_flags_change_the_script(profile: Path) -> None:
    script = job_script(profile, threads=1, memory="3GB", scheduler="tcp://login:1234")
    assert "--cpus-per-task=2\n" in script
    assert "--mem=6G\n" in script
    assert "dask_worker tcp://login:1234 " in script
    assert "--nthreads 1 --memory-limit 2.79GiB" in script


def test_the_cluster_submits_the_script_of_the_dry_run(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profile.write_text(
        PROFILE.replace("interface: ib0\n", "interface: lo\n").replace(
            ", scheduler_options: {port: 8786}", ""
        )
    )
    options = _job_options(load_profile(profile))
    with dask_jobqueue.SLURMCluster(
        scheduler_options={"dashboard_address": "127.0.0.1:0"}, **options
    ) as cluster:
        real = cluster.job_script().replace("dummy-name", "slcluster-worker")
    real = re.sub(r"tcp://[0-9.:]+", "tcp://<scheduler>:<port>", real)
    assert real == job_script(profile)


def test_an_interpreter_with_a_space_stays_one_word(profile: Path) -> None:
    profile.write_text(PROFILE + "python: /shared/my envs/bin/python\n")
    assert "'/shared/my envs/bin/python' -m distributed.cli.dask_worker" in job_script(profile)


@pytest.mark.parametrize("spec", ["local", "tcp://127.0.0.1:8786"])
def test_what_has_no_job_script(spec: str) -> None:
    with pytest.raises(InputError, match=f"{spec} submits no batch job"):
        job_script(spec)


def test_an_unknown_keyword_is_named(profile: Path) -> None:
    profile.write_text("kind: slurm\nextra: {wall: 1}\n")
    with pytest.raises(InputError, match=r"extra \(wall\) is not what Dask takes: .*wall"):
        job_script(profile)


def test_without_dask_jobqueue_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with pytest.raises(InputError, match=r"pip install 'slcluster\[batch\]'"):
        job_script("slurm")


def test_no_sbatch_here(profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    profile.write_text("kind: slurm\ninterface: lo\n")
    with pytest.raises(InputError, match="sbatch is not on the PATH"):
        slc.make_cluster(profile)


def test_slurm_refuses_in_its_own_words(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An sbatch that answers as Slurm 22.05 does to a partition that does not exist."""
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        '#!/bin/sh\n[ "$1" = --test-only ] && grep -q "^#SBATCH -p nowhere$" "$2" || exit 0\n'
        'echo "allocation failure: Invalid partition name specified" >&2\nexit 1\n'
    )
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    profile.write_text("kind: slurm\ninterface: lo\nqueue: nowhere\n")
    with pytest.raises(
        InputError, match="Slurm refuses the job: allocation failure: Invalid partition name specified; see"
    ):
        slc.make_cluster(profile)
