"""Leave a run to a cluster: check it, write its folder, hand in its coordinator; and call it off again."""

from __future__ import annotations

import getpass
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dask.utils import parse_bytes, parse_timedelta

from slcluster.cluster.batch import make_job
from slcluster.cluster.documents import as_yaml
from slcluster.cluster.home import home_folder
from slcluster.cluster.kinds import BatchProfile, LocalProfile, Profile
from slcluster.cluster.profiles import is_address, load_profile
from slcluster.cluster.quantities import walltime_s
from slcluster.cluster.queues import Queue, State, queue_of
from slcluster.cluster.service import is_service
from slcluster.cluster.submission import check_python, check_submission
from slcluster.errors import InputError, StoreError
from slcluster.jobs import Job
from slcluster.jobs.coordinator import n_blocks_done
from slcluster.jobs.folder import RunFolder

__all__ = ["cancel", "coordinator_script", "resubmit", "submit"]

log = logging.getLogger("slcluster")

#: Seconds that a coordinator gets to stop in good order before its workers are cancelled one by one.
_LEAVE_S = 30.0

#: Keys of a job that say where to compute. The folder of the run keeps that apart.
_WHERE = ("cluster", "workers", "threads", "memory", "credentials")


def submit(job: Job, *, single_job: bool = False) -> RunFolder:
    """Leave a checked job to its cluster. Returns at once; nothing of this process is needed any more.

    Parameters
    ----------
    job : Job
        With ``out``. Its ``cluster`` is a batch system's, or ``local``: a process of this machine then.
    single_job : bool
        Compute inside the coordinator's job, which gets what the profile gives one worker job. For small runs.

    Returns
    -------
    RunFolder
        What is kept beside the result.

    Raises
    ------
    InputError
        The cluster has no queue, or refuses a job of the run.
    StoreError
        A run for this result is in the queue already, or its folder cannot be written.
    """
    if job.out is None:
        raise InputError("--out is missing: where the result store goes")
    profile = _profile(
        job.cluster, job.credentials, workers=job.workers, threads=job.threads, memory=job.memory
    )
    given: dict[str, Any] = job.model_dump(mode="json", exclude_unset=True)
    if job.memory_limit or job.memory:
        given["memory_limit"] = job.memory_limit or job.memory  # what bounds the plan must not be lost
    kept = {name: _absolute(name, value) for name, value in given.items() if name not in _WHERE}
    return _hand_in(RunFolder.beside(job.out), profile, as_yaml(kept), single_job, job.packages)


def resubmit(
    out: str | Path, cluster: str | Path | None = None, *, single_job: bool = False, **asked: Any
) -> RunFolder:
    """Leave an unfinished result to a cluster: one that was submitted before, or one that was not.

    Parameters
    ----------
    out : path
        The result store, or the folder of results; it need not be there yet if its run was submitted.
    cluster : str or path, optional
        As for :func:`submit`; the one that it was submitted to before where not given.
    single_job : bool
    **asked
        ``workers``, ``threads`` and ``memory``; ``credentials`` are refused.

    Raises
    ------
    InputError, StoreError
        As :func:`submit`.
    """
    run = RunFolder.beside(out)
    if cluster is None and not run.exists:
        raise InputError(f"{out} was not submitted before; say where to with --cluster")
    if run.exists:
        run.refuse_foreign()  # its profile is shell lines
    text = run.job_file.read_text() if run.job_file.exists() else None
    packages = run.record().get("allow_import", ()) if run.exists else ()
    return _hand_in(run, _profile(cluster or run.profile_file, **asked), text, single_job, packages)


def cancel(out: str | Path) -> list[str]:
    """Call a submitted run off: its coordinators, and the jobs of its workers. What is done stays done.

    Returns
    -------
    list of str
        Jobs that the queue took off. Where it cannot be asked from here a warning says so, and the coordinator
        ends by itself: it looks every few seconds whether its run was cancelled, and does so first when it starts.

    Raises
    ------
    StorePathError
        No run was submitted for this result.
    SlclusterError
        The queue does not cancel a job.
    """
    run = RunFolder.beside(out)
    queue = queue_of(run.record()["kind"])
    run.refuse_foreign()
    if run.coordinator().get("outcome") != "finished":  # a follow-up may still be in the queue
        run.cancel()
    _tell_of_unreachable(run, queue)
    # The last first: it would take the end of the one before for its cue.
    ended = [made["job"] for made in reversed(run.jobs()) if _is_in_queue(queue, made["job"])]
    for job in ended:
        queue.cancel(job)
    deadline = time.monotonic() + _LEAVE_S
    while any(_is_in_queue(queue, job) for job in ended) and time.monotonic() < deadline:
        time.sleep(0.5)
    left = [job for job in run.coordinator().get("workers", []) if _is_in_queue(queue, job)]
    for job in left:
        queue.cancel(job)
    return [*reversed(ended), *left]


def _tell_of_unreachable(run: RunFolder, queue: Queue) -> None:
    if "ended" in run.coordinator():
        return
    for job in (made["job"] for made in run.jobs()[-2:]):
        if (found := queue.state(job)).state is State.UNKNOWN:
            log.warning(
                "%s cannot be asked for job %s from here (%s): it ends by itself, half a minute from now, or "
                "when it starts if it still waits",
                *(queue.title, job, found.said),
            )


def coordinator_script(
    run: RunFolder, profile: Profile, *, single_job: bool = False, packages: Sequence[str] = ()
) -> str:
    """The batch job that leads a run, as text; it may import the packages that the user let it."""
    python = shlex.quote((isinstance(profile, BatchProfile) and profile.python) or sys.executable)
    folder, log = shlex.quote(str(run.path)), shlex.quote(str(run.coordinator_log))
    allowed = "".join(f" --allow-import {shlex.quote(package)}" for package in packages)
    # The current folder is no place for modules: anybody may have left a yaml.py there.
    words = f"{python} -P -m slcluster coordinate {folder}{allowed}"
    if isinstance(profile, LocalProfile):
        return f"#!/bin/sh\ncd {folder} && exec {words} >>{log} 2>&1\n"
    assert isinstance(profile, BatchProfile)
    own = _coordinator_profile(run, profile, single_job)
    words += f" --stop-after {_stop_after_s(own)}"
    command = f"cd {folder} && exec {words} >>{log} 2>&1"
    script: str = make_job(own, command=command).job_script()
    return script


def _coordinator_profile(run: RunFolder, profile: BatchProfile, single_job: bool) -> BatchProfile:
    own = profile.coordinator
    return profile.model_copy(
        update={
            "cores": profile.cores if single_job else own.cores,
            "memory": profile.memory if single_job else own.memory,
            "processes": 1,
            "walltime": own.walltime or profile.walltime,
            "queue": own.queue or profile.queue,
            "directives": profile.directives if own.directives is None else own.directives,
            "log_directory": str(run.logs),
            "extra": {**profile.extra, "job_name": "slcluster-run"},
        }
    )


def _stop_after_s(own: BatchProfile) -> int:
    walltime, reserve = walltime_s(own.walltime), own.coordinator.reserve
    before = int(parse_timedelta(reserve)) if reserve else min(120, walltime // 6)
    if before >= walltime:
        raise InputError(
            f"coordinator: its reserve ({reserve}) is not below its walltime ({own.walltime}); nothing would be computed"
        )
    return walltime - before


def _profile(cluster: str | Path, credentials: Path | None = None, **asked: Any) -> Profile:
    if is_address(cluster) or is_service(cluster):
        raise InputError(
            f"{cluster} is a cluster that runs already and takes no jobs; submit to local, a batch system or a profile"
        )
    if credentials is not None:
        raise InputError(
            "credentials are of a cluster that runs already, and a submitted run makes its own; leave them out"
        )
    profile = load_profile(cluster, **asked)
    queue_of(profile.kind)  # refuses kinds without one
    return profile


def _hand_in(
    run: RunFolder, profile: Profile, job_text: str | None, single_job: bool, packages: Sequence[str]
) -> RunFolder:
    _refuse_second(run)
    queue = queue_of(profile.kind)
    if isinstance(profile, BatchProfile):
        # Named here: a batch system need not pass SLCLUSTER_HOME on to the coordinator.
        keys = profile.credentials_directory or str(home_folder() / "tls")
        profile = profile.model_copy(update={"log_directory": str(run.logs), "credentials_directory": keys})
    script = coordinator_script(run, profile, single_job=single_job, packages=packages)
    if isinstance(profile, BatchProfile):
        check_python(profile)
        check_submission(profile.kind, script)
        if not single_job:
            check_submission(profile.kind, make_job(profile).job_script())
    texts = {run.script: script, run.profile_file: _as_yaml(profile), run.cluster_file: _as_yaml(profile)}
    if single_job and isinstance(profile, BatchProfile):
        texts[run.cluster_file] = _as_yaml(_inside(profile))
    if job_text is not None:
        texts[run.job_file] = job_text
    record = {
        "kind": profile.kind,
        "submitted": time.time(),
        "host": socket.gethostname(),
        "user": _user(),
        "allow_import": list(packages),
    }
    run.create(texts, record)
    run.add_job(queue.submit(run.script), n_done=n_blocks_done(run))
    return run


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container in which nobody has this number
        return str(os.getuid())


def _refuse_second(run: RunFolder) -> None:
    if not run.exists:
        return
    queue = queue_of(run.record()["kind"])
    for made in run.jobs()[-2:]:
        if _is_in_queue(queue, made["job"]):
            raise StoreError(
                f"{run.out} was submitted already: job {made['job']} of {queue.title} is "
                f"{queue.state(made['job'])}; wait for it, or end it: slcluster cancel {run.out}"
            )


def _is_in_queue(queue: Any, job: str) -> bool:
    return queue.state(job).state in (State.WAITING, State.RUNNING)


def _inside(profile: BatchProfile) -> LocalProfile:
    """The workers of one job of a profile, as processes of the machine that the coordinator is on."""
    return LocalProfile(
        workers=profile.processes,
        threads=profile.cores // profile.processes,
        memory=f"{parse_bytes(profile.memory) // profile.processes}B",
        local_directory=profile.local_directory,
        environment=profile.environment,
        tls=profile.tls,  # others may have jobs on this node
    )


def _as_yaml(profile: Profile) -> str:
    values = {"kind": profile.kind, **profile.model_dump(mode="json", exclude_unset=True)}
    return as_yaml(values)


def _absolute(name: str, value: Any) -> Any:
    """A path of a job from anywhere: the job file moves into the folder of the run."""
    if name not in ("bold", "mask", "labels", "events", "process_mask", "store", "out", "export"):
        return value
    if isinstance(value, list):
        return [str(Path(item).expanduser().absolute()) for item in value]
    return None if value is None else str(Path(value).expanduser().absolute())
