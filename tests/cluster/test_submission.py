"""What goes wrong between a submission and the first worker, and what we say of it.

The batch systems here are small scripts on the PATH that answer as the real ones do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import dask
import pytest

import slcluster as slc
from slcluster.cluster import connect
from slcluster.cluster.queues import queue_of
from slcluster.cluster.systems import SYSTEMS
from slcluster.cluster.watching import last_words
from slcluster.errors import InputError, SlclusterError

pytest.importorskip("dask_jobqueue")

Install = Callable[[str, str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a command of a name and a body on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()

    def write(name: str, body: str) -> Path:
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return path

    for name in ("scancel", "qdel", "bkill", "oardel", "condor_rm"):
        write(name, "exit 0")
    return write


def written(folder: Path, text: str) -> Path:
    path = folder / "profile.yaml"
    path.write_text(text + "\ninterface: lo\nlog_directory: logs\n")
    return path


def test_no_such_command_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="sbatch is not on the PATH; start this on a machine that submits"):
        slc.make_cluster(written(tmp_path, "kind: slurm"))


def test_slurm_refuses_in_its_own_words(install: Install, tmp_path: Path) -> None:
    """An sbatch that answers as Slurm 22.05 does to a partition that does not exist."""
    install(
        "sbatch",
        '[ "$1" = --test-only ] && grep -q "^#SBATCH -p nowhere$" "$2" || exit 0\n'
        'echo "allocation failure: Invalid partition name specified" >&2\nexit 1',
    )
    with pytest.raises(
        InputError, match="Slurm refuses the job: allocation failure: Invalid partition name specified; see"
    ):
        slc.make_cluster(written(tmp_path, "kind: slurm\nqueue: nowhere"))


@pytest.mark.parametrize("kind", [kind for kind, system in SYSTEMS.items() if not system.has_test])
def test_a_refusal_is_told_in_the_words_of_the_system(kind: str, install: Install, tmp_path: Path) -> None:
    system = SYSTEMS[kind]
    install(system.submit, f'echo "{system.submit}: no such project" >&2\nexit 170')
    with pytest.raises(
        InputError,
        match=f"{queue_of(kind).title} refuses the job: {system.submit}: no such project; see the script",
    ):
        slc.make_cluster(written(tmp_path, f"kind: {kind}"))


#: What the submission prints, and the command that knows of job 123 with what it prints, and what we make of it.
PENDING = {
    "slurm": ("Submitted batch job 123", "squeue", "PENDING (Resources)", "PENDING (Resources)"),
    "pbs": (
        "123.server",
        "qstat",
        "Job Id: 123.server\n    job_state = Q\n    comment = Not Running: Insufficient ncpus",
        "job_state = Q): Not Running: Insufficient ncpus",
    ),
    "sge": (
        'Your job 123 ("slcluster") has been submitted',
        "qstat",
        "    123 0.0 slcluster ann qw 11/25/2026\nscheduling info:   not in a queue that fits",
        "waiting (qw): not in a queue that fits",
    ),
    "lsf": (
        "Job <123> is submitted to queue <normal>.",
        "bjobs",
        "PEND\n Job slot limit reached;",
        "waiting (PEND): Job slot limit reached",
    ),
    "oar": ("OAR_JOB_ID=123", "oarstat", "123: Waiting", "waiting (Waiting)"),
    "htcondor": ("1 job(s) submitted to cluster 123.", "condor_q", "1", "waiting (1)"),
}


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_queue_that_gives_no_worker(kind: str, install: Install, tmp_path: Path) -> None:
    answer, asked, prints, told = PENDING[kind]
    install(SYSTEMS[kind].submit, f"[ \"$1\" = --test-only ] || echo '{answer}'")
    install(asked, f"cat <<'END'\n{prints}\nEND")
    profile = written(tmp_path, f"kind: {kind}\nstart_timeout: 1s")
    with (
        pytest.raises(SlclusterError, match=r"no worker started \(waited 1s\); .* says: job 123") as caught,
        connect(profile),
    ):
        pass
    assert told in str(caught.value)


#: Jobs that run for real, on this machine, and are listed for as long as they do.
RUNNING = """touch running
cp $1 job.sh  # it is gone when we have answered
(bash job.sh > logs/slcluster.o123 2>&1; rm running) > /dev/null 2>&1 &
echo 123.server"""
LISTING = "[ -e running ] && echo 'job_state = R' || { echo 'qstat: Unknown Job Id 123' >&2; exit 153; }"


def test_jobs_that_end_at_once_are_told_with_their_last_words(install: Install, tmp_path: Path) -> None:
    """The interpreter works on the nodes alone, or so it seems; really it has no Dask."""
    python = install("bare-python", f'exec {sys.executable} -S "$@"')
    install("qsub", RUNNING)
    install("qstat", LISTING)
    profile = written(tmp_path, f"kind: pbs\npython: {python}\nprologue: [cd /]")
    with (
        pytest.raises(SlclusterError, match=r"batch jobs ended before a worker came \(123\)") as caught,
        connect(profile),
    ):
        pass
    assert "logs/slcluster.o123 ends with: " in str(caught.value)
    assert "No module named" in str(caught.value)


def test_a_job_that_is_held_for_an_error(install: Install, tmp_path: Path) -> None:
    install("qsub", f"echo '{PENDING['sge'][0]}'")
    install("qstat", "echo '    123 0.0 slcluster ann Eqw 11/25/2026 12:00:00 1'")
    with (
        pytest.raises(
            SlclusterError, match="Grid Engine will not start the jobs as they are: job 123 is waiting .Eqw.;"
        ),
        connect(written(tmp_path, "kind: sge")),
    ):
        pass


def test_a_job_that_no_partition_will_run(install: Install, tmp_path: Path) -> None:
    install("sbatch", "[ \"$1\" = --test-only ] || echo 'Submitted batch job 123'")
    install("squeue", "echo 'PENDING (PartitionTimeLimit)'")
    with (
        pytest.raises(
            SlclusterError, match=r"Slurm will not .*\(PENDING \(PartitionTimeLimit\)\); change what"
        ),
        connect(written(tmp_path, "kind: slurm")),
    ):
        pass


def test_a_system_that_does_not_answer_refuses_nothing(install: Install, tmp_path: Path) -> None:
    said = "allocation failure: Socket timed out on send/recv operation"
    install("sbatch", f"echo '{said}' >&2\nexit 1")
    with pytest.raises(SlclusterError, match=f"^Slurm does not answer: {said}; try again later"):
        slc.make_cluster(written(tmp_path, "kind: slurm"))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f'exec {sys.executable} -S "$@"', "cannot compute: .*No module named .*; install slcluster there"),
        ("echo 0.0.1", r"has slcluster 0\.0\.1, this process .*; install the same"),
    ],
    ids=["without Dask", "another version"],
)
def test_an_interpreter_that_could_not_compute(
    body: str, message: str, install: Install, tmp_path: Path
) -> None:
    """No job is burnt for it: there is no qsub here."""
    python = install("other-python", body)
    with pytest.raises(InputError, match=f"python: {python} {message}"):
        slc.make_cluster(written(tmp_path, f"kind: pbs\npython: {python}"))


def test_what_is_no_interpreter(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"python: {tmp_path} is not an interpreter: Permission denied"):
        slc.make_cluster(written(tmp_path, f"kind: pbs\npython: {tmp_path}"))


def test_both_ends_notice_a_cut_link_while_the_cluster_lives(install: Install, tmp_path: Path) -> None:
    install("qsub", "echo 123.server")
    key, variable = "distributed.comm.timeouts.tcp", "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP"
    before = dask.config.get(key)
    with slc.make_cluster(written(tmp_path, "kind: pbs")) as cluster:
        assert dask.config.get(key) == "11s"
        assert f"export {variable}=11s\n" in cluster.job_script()
    assert dask.config.get(key) == before
    with slc.make_cluster(written(tmp_path, f"kind: pbs\nenvironment: {{{variable}: 40s}}")):
        assert dask.config.get(key) == "40s"


def test_last_words_are_of_our_jobs_alone(tmp_path: Path) -> None:
    (tmp_path / "slcluster-1123.err").write_text("another\n")
    assert last_words(str(tmp_path), ["123"]) == f"nothing of theirs is in {tmp_path}"
    (tmp_path / "slcluster-123.err").write_text("first\nlast \n\n")
    assert last_words(str(tmp_path), ["123"]) == f"{tmp_path}/slcluster-123.err ends with: last"
    assert last_words(None, ["123"]) == "give log_directory to keep what jobs print"
