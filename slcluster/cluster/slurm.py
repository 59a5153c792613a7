"""Batch jobs through dask-jobqueue, and what it leaves unsaid."""

from __future__ import annotations

import inspect
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from slcluster.cluster.profiles import SlurmProfile, is_address, load_profile
from slcluster.cluster.settings import DASHBOARD, ONE_THREAD, dask_settings, teaching
from slcluster.errors import InputError

__all__ = ["job_script", "start_slurm"]


def job_script(
    profile: str | Path = "slurm",
    *,
    workers: int | None = None,
    threads: int | None = None,
    memory: str | None = None,
    scheduler: str = "tcp://<scheduler>:<port>",
) -> str:
    """The batch job of a Slurm profile as text. Nothing is started or submitted.

    Parameters
    ----------
    profile, workers, threads, memory
        As for :func:`make_cluster`.
    scheduler : str
        Address that the workers connect to, known only once a cluster runs.

    Raises
    ------
    InputError
        Not a Slurm profile, or dask-jobqueue is not installed.
    """
    chosen = (
        None
        if is_address(profile)
        else load_profile(profile, workers=workers, threads=threads, memory=memory)
    )
    if not isinstance(chosen, SlurmProfile):
        raise InputError(
            f"{profile} submits no batch job; a job script belongs to slurm or a profile with kind: slurm"
        )
    slurm = _jobqueue().slurm
    # extra may also hold keywords of the cluster, which has no part in the script.
    of_job = {
        *inspect.signature(slurm.SLURMJob).parameters,
        *inspect.signature(_jobqueue().core.Job).parameters,
    }
    of_cluster = set(inspect.signature(slurm.SLURMCluster).parameters) - of_job
    options = {name: value for name, value in _job_options(chosen).items() if name not in of_cluster}
    with teaching(chosen):
        script: str = slurm.SLURMJob(scheduler, name="slcluster-worker", **options).job_script()
    return script


def start_slurm(profile: SlurmProfile) -> Any:
    import dask

    _jobqueue()
    from slcluster.cluster.replacing import ReplacingSlurmCluster

    if profile.log_directory:
        Path(profile.log_directory).mkdir(parents=True, exist_ok=True)
    options = {"scheduler_options": {"dashboard_address": DASHBOARD}, **_job_options(profile)}
    with dask.config.set(dask_settings(profile.start_timeout)), teaching(profile):
        cluster = ReplacingSlurmCluster(**options)
    try:
        _check_submission(cluster.job_script())
        cluster.scale(jobs=profile.n_jobs)
    except BaseException:
        cluster.close()
        raise
    return cluster


def _job_options(profile: SlurmProfile) -> dict[str, Any]:
    """Keyword arguments of ``SLURMJob``, the same for a dry run and for the real thing."""
    logs = profile.log_directory
    directives = (
        [f"-{stream} {logs}/slcluster-%j.{ending}" for stream, ending in (("o", "out"), ("e", "err"))]
        if logs
        else []
    )
    return {
        "job_name": "slcluster",
        "cores": profile.cores,
        "processes": profile.processes,
        "memory": profile.memory,
        "walltime": profile.walltime,
        "queue": profile.queue,
        "account": profile.account,
        "interface": profile.interface,
        "local_directory": profile.local_directory,
        "python": shlex.quote(profile.python or sys.executable),
        "job_script_prologue": [
            *profile.prologue,
            *(f"export {name}={value}" for name, value in ONE_THREAD.items()),
        ],
        # A job that Slurm starts again would join as a second worker of the same name.
        "job_extra_directives": ["--no-requeue", *directives, *profile.directives],
        **profile.extra,
    }


def _jobqueue() -> Any:
    try:
        import dask_jobqueue.slurm
    except ImportError:
        raise InputError(
            "batch clusters need dask-jobqueue; install it with: pip install 'slcluster[batch]'"
        ) from None
    return dask_jobqueue


def _check_submission(script: str) -> None:
    """Ask Slurm whether it would take the job: dask-jobqueue leaves sbatch's errors to a log nobody reads."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise InputError(
            "sbatch is not on the PATH; start this on a node of the Slurm cluster, or look with --dry-run"
        )
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        answer = subprocess.run(
            [sbatch, "--test-only", file.name], capture_output=True, text=True, check=False
        )
    if answer.returncode:
        raise InputError(
            f"Slurm refuses the job: {' '.join(answer.stderr.split())}; see the script with --dry-run"
        )
