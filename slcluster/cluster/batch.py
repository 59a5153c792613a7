"""Batch jobs through dask-jobqueue: from a profile to a job, its script, and a cluster of such jobs."""

from __future__ import annotations

import inspect
import logging
import os
import re
import shlex
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from slcluster.cluster.addresses import host_of
from slcluster.cluster.kinds import BatchProfile, HTCondorProfile
from slcluster.cluster.listening import issue_for, job_credentials, job_flags, listening_host, refuse_plain
from slcluster.cluster.profiles import is_address, load_profile
from slcluster.cluster.quantities import walltime_s
from slcluster.cluster.queues import queue_of
from slcluster.cluster.security import Credentials
from slcluster.cluster.settings import DASHBOARD, dask_settings, job_environment, network_settings, teaching
from slcluster.cluster.submission import check_python, check_submission
from slcluster.cluster.systems import SYSTEMS
from slcluster.errors import InputError

__all__ = ["job_script", "lifetime_s", "make_job", "start_batch"]

log = logging.getLogger("slcluster")

#: No blanks, quotes, and signs that a batch system replaces, such as ``%``.
_PLAIN_PATH = re.compile(r"[\w/.+=:@~-]+")


def job_script(
    profile: str | Path = "slurm",
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | None = None,
    scheduler: str | None = None,
) -> str:
    """The batch job of a profile as text. Nothing is started or submitted.

    Parameters
    ----------
    profile, workers, threads, memory
        As for :func:`make_cluster`.
    scheduler : str, optional
        Address that the workers connect to, known only once a cluster runs, as are the certificates.

    Raises
    ------
    InputError
        Not a profile of a batch system, or dask-jobqueue is not installed.
    """
    chosen = (
        None
        if is_address(profile)
        else load_profile(profile, workers=workers, threads=threads, memory=memory)
    )
    if not isinstance(chosen, BatchProfile):
        raise InputError(
            f"{profile} submits no batch job; a job script belongs to {', '.join(SYSTEMS)} or a profile of one"
        )
    script: str = make_job(chosen, scheduler).job_script()
    return script


def make_job(
    profile: BatchProfile,
    scheduler: str | None = None,
    *,
    name: str = "slcluster-worker",
    command: str | None = None,
) -> Any:
    """One batch job of a profile. Nothing is submitted.

    Parameters
    ----------
    profile : BatchProfile
    scheduler : str, optional
        Address that the workers connect to.
    name : str
        Of the worker.
    command : str, optional
        Shell line to execute in place of the workers. What is above it, from the header to the variables, is
        the same.

    Returns
    -------
    dask_jobqueue.core.Job
        ``job_script()`` is its text.

    Raises
    ------
    InputError
        dask-jobqueue is not installed, or does not know a keyword under ``extra``.
    """
    system = SYSTEMS[profile.kind]
    module = _jobqueue(system.module)
    job_class = getattr(module, system.job)
    # extra may also hold keywords of the cluster, which has no part in the script.
    of_job = {
        *inspect.signature(job_class).parameters,
        *inspect.signature(_jobqueue("core").Job).parameters,
    }
    of_cluster = set(inspect.signature(_jobqueue("core").JobQueueCluster).parameters) - of_job
    where = scheduler or f"{'tls' if profile.tls else 'tcp'}://<scheduler>:<port>"
    options = _job_options(profile, host_of(where))
    with teaching(profile):
        job = job_class(where, name=name, **{k: v for k, v in options.items() if k not in of_cluster})
    if command is not None:
        first = job._job_script_prologue if isinstance(profile, HTCondorProfile) else []
        job._command_template = "; ".join([*first, command])
    return job


def start_batch(profile: BatchProfile, credentials: Credentials | None = None) -> Any:
    """A cluster whose jobs have been submitted. It removes its credentials when it closes."""
    import dask

    system = SYSTEMS[profile.kind]
    _jobqueue(system.module)
    from slcluster.cluster.replacing import replacing_cluster

    check_python(profile)
    if profile.log_directory:
        Path(profile.log_directory).expanduser().mkdir(parents=True, exist_ok=True)
    host = listening_host(profile)
    credentials = credentials or issue_for(profile)
    scheduler = {"dashboard_address": DASHBOARD, **({} if profile.interface else {"host": host})}
    network = network_settings(profile)
    try:
        options = _job_options(profile, host, credentials)
        options["scheduler_options"] = {**scheduler, **options.get("scheduler_options", {})}
        with dask.config.set({**dask_settings(profile.start_timeout), **network}), teaching(profile):
            cluster = replacing_cluster(profile.kind)(**options)
    except BaseException:
        if credentials is not None:
            credentials.remove()
        raise
    cluster.hold(network)
    cluster.credentials = credentials
    try:
        refuse_plain(cluster.scheduler_address)
        log.info("the scheduler listens on %s", cluster.scheduler_address)
        check_submission(profile.kind, cluster.job_script())
        _submit(cluster, profile)
    except BaseException:
        cluster.close()
        raise
    return cluster


def _submit(cluster: Any, profile: BatchProfile) -> None:
    """The first jobs; the batch system has answered when this returns."""
    from slcluster.cluster.replacing import job_of_worker

    cluster.scale(jobs=profile.n_jobs)
    cluster.sync(cluster._correct_state)
    if not any(job.job_id for job in cluster.workers.values()):
        raise InputError(
            f"{queue_of(profile.kind).title} refuses the job: {cluster.refused}; see the script with --dry-run"
        )
    cluster.has_begun = True
    cluster.loop.add_callback(cluster.look)
    if profile.adapt:
        cluster.adapt(
            minimum=profile.adapt.minimum,
            maximum=profile.adapt.maximum,
            worker_key=job_of_worker if profile.processes > 1 else None,
        )


def lifetime_s(walltime: int) -> tuple[int, int]:
    """When workers retire: seconds after their start, and by how many more or less that is drawn.

    The last of them go a reserve before the walltime kills the job. They must not all go at once: somebody has
    to be there while the next job waits.

    Examples
    --------
    >>> lifetime_s(4 * 3600)
    (12300, 1800)
    >>> lifetime_s(60)
    (40, 10)
    """
    reserve = min(300, walltime // 6)
    stagger = min(1800, walltime // 6)
    return walltime - reserve - stagger, stagger


def _job_options(profile: BatchProfile, host: str, credentials: Credentials | None = None) -> dict[str, Any]:
    """Keyword arguments of dask-jobqueue's job class, the same for a dry run and for the real thing."""
    system = SYSTEMS[profile.kind]
    booked = system.booked(profile)
    logs = [line.format(folder=_log_folder(profile)) for line in system.logs if profile.log_directory]
    directives = [*system.directives, *booked.pop("directives", []), *logs, *profile.directives]
    lifetime, stagger = lifetime_s(walltime_s(profile.walltime))
    extra = dict(profile.extra)
    variables = {**_safe_path(), **job_environment(profile)}
    options: dict[str, Any] = {
        "job_name": "slcluster",
        "cores": profile.cores,
        "processes": profile.processes,
        "memory": profile.memory,
        "interface": profile.interface,
        "local_directory": profile.local_directory,
        "python": shlex.quote(profile.python or sys.executable),
        "worker_extra_args": [
            *("--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"),
            *job_flags(profile, host),
            *extra.pop("worker_extra_args", []),
        ],
        "job_script_prologue": [
            *profile.prologue,
            *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        ],
        "job_extra_directives": directives,
        **job_credentials(profile, credentials),
        **booked,
    }
    if isinstance(profile, HTCondorProfile):  # its jobs are submit files, not shell scripts
        lines = (line.partition("=") for line in directives)
        options["job_extra_directives"] = {name.strip(): value.strip() for name, _, value in lines}
    else:
        options["queue"] = profile.queue
        options["walltime"] = system.walltime(profile)
        options[system.pays] = profile.account
    return {**options, **extra}


def _safe_path() -> dict[str, str]:
    """Workers look for modules in the current folder where this process does: for a notebook, not for the command.

    It is theirs too, and a stray queue.py there would be taken for Python's own.
    """
    return {} if {"", os.getcwd()} & set(sys.path) else {"PYTHONSAFEPATH": "1"}


def _log_folder(profile: BatchProfile) -> str:
    """Where the batch system writes logs. Its directives know no quotes that all systems read alike."""
    folder = profile.log_directory or ""
    if not _PLAIN_PATH.fullmatch(folder):
        raise InputError(
            f"{folder!r} cannot stand in a job script, as the folder of logs must: expected letters, digits and "
            f"any of / . _ - + = : @ ~ in log_directory, and in the path of a result that is submitted"
        )
    return folder


def _jobqueue(module: str) -> Any:
    before = signal.getsignal(signal.SIGINT)
    try:
        return import_module(f"dask_jobqueue.{module}")
    except ImportError:
        raise InputError(
            "batch clusters need dask-jobqueue; install it with: pip install 'slcluster[batch]'"
        ) from None
    finally:
        # On import it makes of Ctrl-C an exit without a word.
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)
