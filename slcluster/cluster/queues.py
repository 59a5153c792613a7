"""Batch systems as queues: hand in a script, ask what became of it, call it off.

What a queue says of a job is worth showing and never the truth: a job that it has dropped may still compute, and
one that it calls running may hang. What counts is the lease and the blocks of the result store.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import psutil

from slcluster.errors import InputError, SlclusterError

__all__ = ["BatchQueue", "JobState", "LocalQueue", "Queue", "State", "queue_of"]

#: A front end that does not answer for this long is treated as one that is not there.
ANSWER_S = 30.0


class State(StrEnum):
    """What a queue says of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    GONE = "gone"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class JobState:
    """State of a job, and the queue's own words for it."""

    state: State
    said: str = ""

    def __str__(self) -> str:
        return f"{self.state} ({self.said})" if self.said else str(self.state)


class Queue(Protocol):
    """What the kinds of queues have in common."""

    @property
    def title(self) -> str:
        """Its name for people."""

    @property
    def has_dependencies(self) -> bool:
        """Whether a job can wait for the end of another."""

    def submit(self, script: Path, *, after: str | None = None) -> str:
        """Hand in a job script; its number. With ``after`` it waits until that job has ended, however."""

    def state(self, job: str) -> JobState:
        """What the queue says of a job now."""

    def cancel(self, job: str) -> None:
        """Call a job off. One that has ended already is no error."""

    def own_job(self) -> str | None:
        """The job that this process is, or None."""


@dataclass(frozen=True)
class BatchQueue:
    """A batch system through its own commands.

    Attributes
    ----------
    title : str
    submitting : tuple of str
        Words of the command. ``{script}`` is the file; without it the script goes to standard input.
    answer : str
        Regular expression of the job's number in what the command prints.
    asking : tuple of str
        Words of the command that tells the state of ``{job}``.
    waiting, running : str
        Regular expressions in what it prints, with ``{job}`` in them where it lists other jobs too.
    unknown_job : str
        Regular expression of its complaint about a job that it does not know any more.
    cancelling : tuple of str
    variable : str
        Environment variable that tells a job its number; empty where there is none.
    depending : tuple of str
        Options of a job that waits for the end of ``{job}``; empty where the system has none.
    """

    title: str
    submitting: tuple[str, ...]
    answer: str
    asking: tuple[str, ...]
    waiting: str
    running: str
    unknown_job: str
    cancelling: tuple[str, ...]
    variable: str
    depending: tuple[str, ...] = ()

    @property
    def has_dependencies(self) -> bool:
        return bool(self.depending)

    def submit(self, script: Path, *, after: str | None = None) -> str:
        """Hand in a job script.

        Raises
        ------
        InputError
            The system is not here, or refuses the job.
        """
        program, *words = self.submitting
        if after is not None:
            words = [*(word.format(job=after) for word in self.depending), *words]
        takes_file = any("{script}" in word for word in words)
        words = [word.format(script=script) for word in words]
        done = _call([program, *words], stdin=None if takes_file else script)
        if done is None:
            raise InputError(
                f"{program} is not here or does not answer; do this on a machine that submits to {self.title}"
            )
        found = re.search(self.answer, done.stdout)
        if done.returncode or found is None:
            reason = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
            raise InputError(f"{self.title} refuses the job {script}: {reason}")
        return found.group(1)

    def state(self, job: str) -> JobState:
        done = _call([word.format(job=job) for word in self.asking])
        if done is None:
            return JobState(State.UNKNOWN, f"no {self.asking[0]} here")
        number = re.escape(job.partition(".")[0])
        for state, pattern in ((State.RUNNING, self.running), (State.WAITING, self.waiting)):
            found = re.search(pattern.replace("{job}", number), done.stdout, re.MULTILINE)
            if found:
                return JobState(state, " ".join(found.group("said").split()))
        if done.returncode == 0 or re.search(self.unknown_job, done.stdout + done.stderr):
            return JobState(State.GONE)
        return JobState(State.UNKNOWN, " ".join(done.stderr.split()))

    def cancel(self, job: str) -> None:
        """Call a job off.

        Raises
        ------
        SlclusterError
            The system is not here, or the job goes on.
        """
        program, *words = [word.format(job=job) for word in self.cancelling]
        done = _call([program, *words])
        if done is None:
            raise SlclusterError(f"cannot cancel job {job}: no {program} here; do it where {self.title} is")
        if done.returncode and self.state(job).state in (State.WAITING, State.RUNNING):
            raise SlclusterError(f"{self.title} does not cancel job {job}: {' '.join(done.stderr.split())}")

    def own_job(self) -> str | None:
        return os.environ.get(self.variable)


class LocalQueue:
    """This machine: a job is a process that nobody waits for. Its number is ``PID.START@HOST``."""

    title = "this machine"
    has_dependencies = False

    def submit(self, script: Path, *, after: str | None = None) -> str:
        process = subprocess.Popen(
            ["/bin/sh", str(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal that closes ends its own session alone
        )
        return _name_of(psutil.Process(process.pid))

    def state(self, job: str) -> JobState:
        if job.partition("@")[2] != socket.gethostname():
            return JobState(State.UNKNOWN, f"ask on {job.partition('@')[2]}")
        return JobState(State.GONE if _process_of(job) is None else State.RUNNING)

    def cancel(self, job: str) -> None:
        if self.state(job).state is State.UNKNOWN:
            raise SlclusterError(f"cannot cancel {job} from here; do it on {job.partition('@')[2]}")
        process = _process_of(job)
        if process is not None:
            process.send_signal(signal.SIGTERM)

    def own_job(self) -> str | None:
        return _name_of(psutil.Process())


def _name_of(process: psutil.Process) -> str:
    return f"{process.pid}.{process.create_time():.2f}@{socket.gethostname()}"


def _process_of(job: str) -> psutil.Process | None:
    """The living process that a job of this machine is."""
    pid, _, start = job.partition("@")[0].partition(".")
    try:
        process = psutil.Process(int(pid))
        is_it = abs(process.create_time() - float(start)) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return None
    return process if is_it else None


def _call(words: list[str], *, stdin: Path | None = None) -> subprocess.CompletedProcess[str] | None:
    """What a command says, or None where it is not here or does not answer."""
    if shutil.which(words[0]) is None:
        return None
    try:
        return subprocess.run(
            words,
            input=None if stdin is None else stdin.read_text(),
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=ANSWER_S,
        )
    except subprocess.TimeoutExpired:
        return None


_QUEUES: dict[str, Queue] = {
    "local": LocalQueue(),
    "slurm": BatchQueue(
        "Slurm",
        submitting=("sbatch", "--parsable", "{script}"),
        answer=r"^(\d+)",
        asking=("squeue", "-h", "-j", "{job}", "-o", "%T %R"),
        waiting=r"^(?P<said>(?:PENDING|SUSPENDED|REQUEUE\w*|SPECIAL_EXIT|STOPPED|RESV_DEL_HOLD)\b.*)",
        running=r"^(?P<said>(?:RUNNING|COMPLETING|CONFIGURING|SIGNALING|STAGE_OUT|RESIZING)\b.*)",
        unknown_job=r"Invalid job id",
        cancelling=("scancel", "{job}"),
        variable="SLURM_JOB_ID",
        depending=("--dependency=afterany:{job}",),
    ),
    "pbs": BatchQueue(
        "PBS",
        submitting=("qsub", "{script}"),
        answer=r"^(\d+\S*)",
        asking=("qstat", "-f", "{job}"),
        waiting=r"^\s*(?P<said>job_state = [QHWT])\b",
        running=r"^\s*(?P<said>job_state = [RESB])\b",
        unknown_job=r"(?i)unknown job id|has finished",
        cancelling=("qdel", "{job}"),
        variable="PBS_JOBID",
        depending=("-W", "depend=afterany:{job}"),
    ),
    "sge": BatchQueue(
        "Grid Engine",
        submitting=("qsub", "-terse", "{script}"),
        answer=r"^(\d+)",
        asking=("qstat", "-u", "*"),
        waiting=r"^\s*{job}\s+\S+\s+\S+\s+\S+\s+(?P<said>\S*q\w*)\s",
        running=r"^\s*{job}\s+\S+\s+\S+\s+\S+\s+(?P<said>[^q\s]+)\s",
        unknown_job=r"(?!)",
        cancelling=("qdel", "{job}"),
        variable="JOB_ID",
        depending=("-hold_jid", "{job}"),
    ),
    "lsf": BatchQueue(
        "LSF",
        submitting=("bsub",),
        answer=r"Job <(\d+)>",
        asking=("bjobs", "-noheader", "-o", "stat", "{job}"),
        waiting=r"^(?P<said>PEND|PSUSP|WAIT)\b",
        running=r"^(?P<said>RUN|USUSP|SSUSP|PROV)\b",
        unknown_job=r"is not found",
        cancelling=("bkill", "{job}"),
        variable="LSB_JOBID",
        depending=("-w", "ended({job})"),
    ),
    "oar": BatchQueue(
        "OAR",
        submitting=("oarsub", "-S", "{script}"),
        answer=r"OAR_JOB_ID=(\d+)",
        asking=("oarstat", "-s", "-j", "{job}"),
        waiting=r"(?P<said>Waiting|Hold|toLaunch|toAckReservation|Resuming)",
        running=r"(?P<said>Launching|Running|Suspended|Finishing)",
        unknown_job=r"(?i)not exist|unknown|not found",
        cancelling=("oardel", "{job}"),
        variable="OAR_JOB_ID",
        depending=("-a", "{job}"),
    ),
    "htcondor": BatchQueue(
        "HTCondor",
        submitting=("condor_submit", "-terse", "{script}"),
        answer=r"^(\d+)\.\d+",
        asking=("condor_q", "{job}", "-af", "JobStatus"),
        waiting=r"^(?P<said>[157])\b",
        running=r"^(?P<said>[26])\b",
        unknown_job=r"(?!)",
        cancelling=("condor_rm", "{job}"),
        variable="",  # it tells a job nothing
    ),
}


def queue_of(kind: str) -> Queue:
    """The queue of a kind of cluster.

    Parameters
    ----------
    kind : str
        As a profile has it: ``"local"``, ``"slurm"``, ``"pbs"``, ...

    Raises
    ------
    InputError
        A kind that has no queue.

    Examples
    --------
    >>> queue_of("local").has_dependencies
    False
    """
    try:
        return _QUEUES[kind]
    except KeyError:
        raise InputError(
            f"nothing can be submitted to kind {kind}; a run can be left to one of {', '.join(_QUEUES)}"
        ) from None
