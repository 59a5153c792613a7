"""Queues: a real one of this machine; the front ends of systems that cannot run here, by what they are known to print.

Slurm's own commands are tried on a real Slurm in tests/slurm.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from slcluster.cluster.queues import JobState, LocalQueue, State, queue_of
from slcluster.errors import InputError, SlclusterError

#: Of Grid Engine's list of jobs.
_HEAD = "job-ID  prior   name       user  state submit/start at  queue  slots\n---\n"

#: Per kind: what submitting prints; then what asking prints (exit code, standard output, error) and what it means.
SPOKEN = {
    "slurm": (
        "123",
        "123",
        [
            ((0, "PENDING (Dependency)", ""), State.WAITING),
            ((0, "RUNNING n1", ""), State.RUNNING),
            ((0, "COMPLETING n1", ""), State.RUNNING),
            ((0, "COMPLETED n1", ""), State.GONE),
            ((0, "", ""), State.GONE),
            ((1, "", "slurm_load_jobs error: Invalid job id specified"), State.GONE),
            ((1, "", "slurm_load_jobs error: Unable to contact slurm controller"), State.UNKNOWN),
        ],
    ),
    "pbs": (
        "123.server.site",
        "123.server.site",
        [
            ((0, "Job Id: 123.server.site\n    job_state = Q\n", ""), State.WAITING),
            ((0, "Job Id: 123.server.site\n    job_state = H\n", ""), State.WAITING),
            ((0, "Job Id: 123.server.site\n    job_state = R\n", ""), State.RUNNING),
            ((0, "Job Id: 123.server.site\n    job_state = C\n", ""), State.GONE),
            ((153, "", "qstat: Unknown Job Id 123.server.site"), State.GONE),
            (
                (35, "", "qstat: 123.server.site Job has finished, use -x or -H to obtain job history"),
                State.GONE,
            ),
            ((1, "", "cannot connect to server"), State.UNKNOWN),
        ],
    ),
    "sge": (
        "123",
        "123",
        [
            (
                (
                    0,
                    _HEAD,
                    "",
                ),
                State.GONE,
            ),
            (
                (0, f"{_HEAD}    123 0.55500 slcluster- me    qw    11/25/2026 22:00:00   1\n", ""),
                State.WAITING,
            ),
            (
                (0, f"{_HEAD}    123 0.00000 slcluster- me    hqw   11/25/2026 22:00:00   1\n", ""),
                State.WAITING,
            ),
            (
                (0, f"{_HEAD}    123 0.55500 slcluster- me    r     11/25/2026 22:00:00 all.q@n1  1\n", ""),
                State.RUNNING,
            ),
            (
                (0, f"{_HEAD}    123 0.55500 slcluster- me    dr    11/25/2026 22:00:00 all.q@n1  1\n", ""),
                State.RUNNING,
            ),
            (
                (0, f"{_HEAD}   1234 0.55500 slcluster- me    r     11/25/2026 22:00:00 all.q@n1  1\n", ""),
                State.GONE,
            ),
            ((1, "", "error: unable to contact qmaster"), State.UNKNOWN),
        ],
    ),
    "lsf": (
        "Job <123> is submitted to queue <normal>.",
        "123",
        [
            ((0, "PEND", ""), State.WAITING),
            ((0, "RUN", ""), State.RUNNING),
            ((0, "SSUSP", ""), State.RUNNING),
            ((0, "EXIT", ""), State.GONE),
            ((255, "", "Job <123> is not found"), State.GONE),
            ((255, "", "LSF is down. Please wait ..."), State.UNKNOWN),
        ],
    ),
    "oar": (
        "[ADMISSION RULE] Modify resource description with type constraints\nOAR_JOB_ID=123\n",
        "123",
        [
            ((0, "123: Waiting", ""), State.WAITING),
            ((0, "123: Running", ""), State.RUNNING),
            ((0, "123: Terminated", ""), State.GONE),
        ],
    ),
    "htcondor": (
        "123.0 - 123.0",
        "123",
        [
            ((0, "1", ""), State.WAITING),
            ((0, "5", ""), State.WAITING),
            ((0, "2", ""), State.RUNNING),
            ((0, "4", ""), State.GONE),
            ((0, "", ""), State.GONE),
            ((1, "", "Error: Couldn't contact the condor_collector"), State.UNKNOWN),
        ],
    ),
}
FRONT_ENDS = {
    "slurm": ("sbatch", "squeue"),
    "pbs": ("qsub", "qstat"),
    "sge": ("qsub", "qstat"),
    "lsf": ("bsub", "bjobs"),
    "oar": ("oarsub", "oarstat"),
    "htcondor": ("condor_submit", "condor_q"),
}
CASES = [(kind, said, means) for kind, (_, _, answers) in SPOKEN.items() for said, means in answers]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that is all of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def speak(folder: Path, name: str, code: int, out: str, error: str) -> None:
    """A command that prints this, and notes its words."""
    path = folder / name
    noted = folder.parent / f"{name}.words"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(noted)!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        f"sys.stdout.write({out!r}); sys.stderr.write({error!r}); sys.exit({code})\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(("kind", "said", "means"), CASES)
def test_what_a_queue_says_of_a_job(
    kind: str, said: tuple[int, str, str], means: State, commands: Path
) -> None:
    speak(commands, FRONT_ENDS[kind][1], *said)
    assert queue_of(kind).state(SPOKEN[kind][1]).state is means


@pytest.mark.parametrize("kind", SPOKEN)
def test_submitting(kind: str, commands: Path, tmp_path: Path) -> None:
    answer, number, _ = SPOKEN[kind]
    queue, name = queue_of(kind), FRONT_ENDS[kind][0]
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n")
    speak(commands, name, 0, answer, "")
    assert queue.submit(script) == number
    assert queue.has_dependencies == (kind != "htcondor")
    if queue.has_dependencies:
        assert queue.submit(script, after="77") == number
        assert "77" in (tmp_path / f"{name}.words").read_text()
    speak(commands, name, 1, "", "no such\n  queue")
    with pytest.raises(InputError, match="refuses the job .*no such queue"):
        queue.submit(script)


@pytest.mark.parametrize("kind", SPOKEN)
def test_a_machine_without_the_queue(kind: str, commands: Path, tmp_path: Path) -> None:
    queue = queue_of(kind)
    assert queue.state("1") == JobState(State.UNKNOWN, f"no {FRONT_ENDS[kind][1]} here")
    with pytest.raises(SlclusterError, match="cannot cancel job 1: no "):
        queue.cancel("1")
    script = tmp_path / "job.sh"
    script.touch()
    with pytest.raises(InputError, match=f"{FRONT_ENDS[kind][0]} is not here"):
        queue.submit(script)


def test_kinds_without_a_queue() -> None:
    with pytest.raises(InputError, match="nothing can be submitted to kind kubernetes"):
        queue_of("kubernetes")


def test_this_machine(tmp_path: Path) -> None:
    queue, script = LocalQueue(), tmp_path / "job.sh"
    script.write_text(f"#!/bin/sh\ncd {tmp_path} && exec sleep 600\n")
    code = f"from pathlib import Path; from slcluster.cluster.queues import *; print(LocalQueue().submit(Path({str(script)!r})))"
    job = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    process = psutil.Process(int(job.partition(".")[0]))
    assert queue.state(job).state is State.RUNNING  # its parent has ended
    assert os.getsid(process.pid) == process.pid
    queue.cancel(job)
    deadline = time.monotonic() + 300
    while queue.state(job).state is State.RUNNING and time.monotonic() < deadline:
        time.sleep(0.05)
    assert queue.state(job).state is State.GONE
    queue.cancel(job)
    elsewhere = f"{job.partition('@')[0]}@elsewhere"
    assert queue.state(elsewhere) == JobState(State.UNKNOWN, "ask on elsewhere")
    with pytest.raises(SlclusterError, match="do it on elsewhere"):
        queue.cancel(elsewhere)
    other_start = f"{os.getpid()}.1.00@{job.partition('@')[2]}"
    assert queue.state(other_start).state is State.GONE  # a number that was given out again
