"""What we need to know of each batch system beyond dask-jobqueue's classes: one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slcluster.cluster.kinds import BatchProfile, HTCondorProfile, OarProfile, SgeProfile
from slcluster.cluster.quantities import walltime_s

__all__ = ["SYSTEMS", "System"]


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _days_and_clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    return f"{days}-{_clock(rest)}" if days else _clock(rest)


def _hours_and_minutes(seconds: int) -> str:
    minutes = -(-seconds // 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _nothing(profile: Any) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class System:
    """One batch system.

    Attributes
    ----------
    module, job, cluster : str
        Where dask-jobqueue has it.
    submit : str
        The command that must be on the PATH.
    directives : tuple of str
        Options of every job. A job that the system starts again would join as a second worker of the same name.
    logs : tuple of str
        Options that send what a job prints to ``{folder}``.
    written : callable
        Seconds of walltime → text in a job script.
    pays : str
        Keyword of dask-jobqueue's class for the account.
    booked : callable
        Profile → keywords for what the class does not book by itself.
    has_test : bool
        Whether ``submit --test-only SCRIPT`` asks what it thinks of a job.
    stuck : str
        Regular expression of what its queue says of a job that will never start.
    why : tuple of str
        Words of the command that says why ``{job}`` waits, and the regular expression of the reason in it; empty
        where the queue says it anyway.
    """

    module: str
    job: str
    cluster: str
    submit: str
    directives: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    written: Callable[[int], str] = _clock
    pays: str = "account"
    booked: Callable[[Any], dict[str, Any]] = _nothing
    has_test: bool = False
    stuck: str = "(?!)"
    why: tuple[str, ...] = ()

    def walltime(self, profile: BatchProfile) -> str:
        """The profile's walltime as this system's job scripts write it."""
        return self.written(walltime_s(profile.walltime))


def _slots_of_sge(profile: SgeProfile) -> dict[str, Any]:
    from dask.utils import parse_bytes

    options: dict[str, Any] = {}
    if profile.parallel_environment:
        options["directives"] = [f"-pe {profile.parallel_environment} {profile.cores}"]
    if profile.memory_resource:  # of one slot
        mib = -(-parse_bytes(profile.memory) // (profile.cores * 2**20))
        options["resource_spec"] = f"{profile.memory_resource}={mib}M"
    return options


def _memory_of_oar(profile: OarProfile) -> dict[str, Any]:
    return {"memory_per_core_property_name": profile.memory_resource or "not_applicable"}


def _limits_of_htcondor(profile: HTCondorProfile) -> dict[str, Any]:
    """HTCondor has no walltime, and starts jobs again that it had to stop."""
    seconds = walltime_s(profile.walltime)
    over = f"NumJobStarts > 1 || (JobStatus == 2 && time() - EnteredCurrentStatus > {seconds})"
    lines = [f"periodic_remove = {over}"]
    if profile.account:
        lines.append(f"accounting_group = {profile.account}")
    return {"disk": profile.disk, "directives": lines}


SYSTEMS: dict[str, System] = {
    "slurm": System(
        "slurm",
        "SLURMJob",
        "SLURMCluster",
        submit="sbatch",
        directives=("--no-requeue",),
        logs=("-o {folder}/slcluster-%j.out", "-e {folder}/slcluster-%j.err"),
        written=_days_and_clock,
        has_test=True,
        # A site may take jobs that no partition will ever run (EnforcePartLimits=NO), --test-only included.
        stuck="PartitionTimeLimit|PartitionNodeLimit|BadConstraints|JobHeld|InvalidAccount|InvalidQOS|"
        "DependencyNeverSatisfied|launch failed requeued held",
    ),
    "pbs": System(
        "pbs",
        "PBSJob",
        "PBSCluster",
        submit="qsub",
        # Without -S the login shell runs the script, and export is not a word of every shell.
        directives=("-r n", "-S /bin/bash"),
        logs=("-j oe", "-o {folder}/"),
        why=("qstat", "-f", "{job}", r"^\s*comment = (.+)"),
    ),
    "sge": System(
        "sge",
        "SGEJob",
        "SGECluster",
        submit="qsub",
        directives=("-r n", "-S /bin/bash"),
        logs=("-o {folder}/",),  # -j y is dask-jobqueue's
        pays="project",
        booked=_slots_of_sge,
        stuck="^E",
        why=("qstat", "-j", "{job}", r"^scheduling info:\s*(.+)"),
    ),
    "lsf": System(
        "lsf",
        "LSFJob",
        "LSFCluster",
        submit="bsub",
        directives=("-rn",),
        logs=("-o {folder}/slcluster-%J.out", "-e {folder}/slcluster-%J.err"),
        written=_hours_and_minutes,
        why=("bjobs", "-p", "{job}", r"^ +(\S.+);"),
        pays="project",
    ),
    "oar": System(
        "oar",
        "OARJob",
        "OARCluster",
        submit="oarsub",
        logs=("-O {folder}/slcluster-%jobid%.out", "-E {folder}/slcluster-%jobid%.err"),
        pays="project",
        booked=_memory_of_oar,
    ),
    "htcondor": System(
        "htcondor",
        "HTCondorJob",
        "HTCondorCluster",
        submit="condor_submit",
        logs=(
            "Output = {folder}/slcluster-$(ClusterId).out",
            "Error = {folder}/slcluster-$(ClusterId).err",
            "Log = {folder}/slcluster-$(ClusterId).log",
            "Stream_Output = True",
            "Stream_Error = True",
        ),
        booked=_limits_of_htcondor,
        stuck="^5$",
    ),
}
