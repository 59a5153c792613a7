"""Kinds of clusters, each as a model of its profile.

One set of keys for every kind; a kind leaves out what it has no use for. ``deploy/profile.schema.json`` is
exported from here.
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from slcluster.cluster.addresses import is_loopback
from slcluster.cluster.quantities import Duration, Environment, Size, Walltime

__all__ = [
    "KINDS",
    "Adapt",
    "BaseProfile",
    "BatchProfile",
    "Coordinator",
    "GatewayProfile",
    "HTCondorProfile",
    "KubernetesProfile",
    "LocalProfile",
    "LsfProfile",
    "OarProfile",
    "PbsProfile",
    "Profile",
    "SgeProfile",
    "SlurmProfile",
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Adapt(_Strict):
    """As many workers as there is work for, between two bounds."""

    minimum: PositiveInt = 1
    """workers that stay, so that one is always there to take over from those that retire"""
    maximum: PositiveInt
    """workers at most"""

    @model_validator(mode="after")
    def _in_order(self) -> Adapt:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum ({self.minimum}) must not be above maximum ({self.maximum})")
        return self


class BaseProfile(_Strict):
    """What every kind has."""

    kind: str
    workers: PositiveInt | None = None
    """worker processes in all"""
    environment: Environment = Field(default_factory=dict)
    """variables set for the workers, as they are written here"""
    extra: dict[str, Any] = Field(default_factory=dict)
    """passed on to the Dask cluster class"""

    @model_validator(mode="after")
    def _dashboards_on_loopback(self) -> BaseProfile:
        options = self.extra.get("scheduler_options") or {}
        if not isinstance(options, dict):
            raise ValueError(f"extra: scheduler_options must be a mapping, got {options!r}")
        for name, address in (*self.extra.items(), *options.items()):
            if name not in ("dashboard_address", "worker_dashboard_address") or address is None:
                continue
            if not is_loopback(str(address).rpartition(":")[0]):
                raise ValueError(
                    f"extra: {name} {address!r} would show pages to whoever reaches this machine: expected an "
                    'address of loopback such as "127.0.0.1:8787"; from elsewhere use ssh -L'
                )
        return self


class LocalProfile(BaseProfile):
    """Workers on this machine, as ``distributed.LocalCluster`` starts them. They listen on loopback alone."""

    kind: Literal["local"] = "local"
    threads: PositiveInt = 1
    """threads of each worker"""
    memory: Size | None = None
    """memory of each worker; an even share of the machine's where not given"""
    local_directory: str | None = None
    """fast local disk for what workers spill"""
    start_timeout: Duration = "60s"
    """how long to wait for workers, at the start and after losing all of them"""
    tls: bool = False
    """encrypt, and let nobody in without a certificate of this run, not even other users of this machine"""


class _Elsewhere(BaseProfile):
    """Workers that somebody else starts for us, and that may be as many as there is work for."""

    adapt: Adapt | None = None
    """instead of workers: as many as there is work for, between a minimum and a maximum"""

    @model_validator(mode="after")
    def _one_of_both(self) -> _Elsewhere:
        if self.workers is not None and self.adapt is not None:
            raise ValueError("workers is a fixed number, adapt a changing one; give one of them")
        return self


class Coordinator(_Strict):
    """The batch job that leads a submitted run, where it differs from the jobs of its workers."""

    cores: PositiveInt = 1
    """cores of its job"""
    memory: Size = "2GB"
    """memory of its job"""
    walltime: Walltime | None = None
    """of its job; that of the workers' jobs where not given. A run that takes longer goes on in a follow-up job"""
    queue: str | None = None
    """queue or partition; that of the workers' jobs where not given"""
    directives: list[str] | None = None
    """further options of the batch system; those of the workers' jobs where not given"""
    reserve: Duration | None = None
    """how long before its walltime it stops; two minutes, or a sixth of a short walltime, where not given"""


class BatchProfile(_Elsewhere):
    """Workers in batch jobs, as dask-jobqueue submits them. Each job holds ``processes`` workers."""

    cores: PositiveInt = 1
    """cores of one job; each of its workers has cores / processes threads"""
    processes: PositiveInt = 1
    """workers of one job"""
    memory: Size = "2GB"
    """memory of one job, shared by its workers"""
    walltime: Walltime = "01:00:00"
    """of one job, as [days-]hours:minutes:seconds; its workers retire a while before"""
    queue: str | None = None
    """queue or partition; the site's default where not given"""
    account: str | None = None
    """account or project that pays"""
    local_directory: str | None = None
    """fast local disk for what workers spill"""
    interface: str | None = None
    """network interface that the nodes reach this machine by, such as ib0; by the address of its name else"""
    tls: bool = True
    """encrypt, and let nobody in without a certificate of this run; false on a loopback interface alone"""
    credentials_directory: str | None = None
    """folder that the nodes see, where runs keep their certificates; tls in SLCLUSTER_HOME where not given"""
    log_directory: str | None = None
    """folder for what jobs print; it must be visible from the nodes"""
    prologue: list[str] = Field(default_factory=list)
    """shell lines before the worker starts"""
    directives: list[str] = Field(default_factory=list)
    """further options of the batch system, as its job scripts have them"""
    python: str | None = None
    """interpreter on the nodes; the one that submits where not given"""
    start_timeout: Duration = "1h"
    """how long jobs may wait in the queue before the analysis gives up"""
    coordinator: Coordinator = Field(default_factory=Coordinator)
    """the job that leads a run which was left to the cluster with slcluster submit"""

    @model_validator(mode="after")
    def _whole_threads(self) -> BatchProfile:
        if self.cores % self.processes:
            raise ValueError(
                f"cores ({self.cores}) must be a multiple of processes ({self.processes}): "
                "each worker gets cores / processes threads"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_be_secure(self) -> BatchProfile:
        if odd := {"protocol", "security", "shared_temp_directory"} & set(self.extra):
            raise ValueError(f"extra must not hold {min(odd)}: tls and credentials_directory say it")
        if not isinstance(flags := self.extra.get("worker_extra_args", []), list):
            raise ValueError(f"extra: worker_extra_args must be a list, got {flags!r}")
        return self

    @property
    def n_jobs(self) -> int:
        """Jobs that hold all the workers that are asked for at the start."""
        first = self.adapt.minimum if self.adapt else self.workers or self.processes
        return -(-first // self.processes)


class SlurmProfile(BatchProfile):
    """Slurm, through ``dask_jobqueue.SLURMCluster``."""

    kind: Literal["slurm"] = "slurm"


class PbsProfile(BatchProfile):
    """PBS Pro, OpenPBS and Torque, through ``dask_jobqueue.PBSCluster``."""

    kind: Literal["pbs"] = "pbs"


class SgeProfile(BatchProfile):
    """Grid Engine, through ``dask_jobqueue.SGECluster``."""

    kind: Literal["sge"] = "sge"
    parallel_environment: str | None = None
    """qsub -pe, which books cores; qconf -spl lists the site's"""
    memory_resource: str | None = None
    """resource that books memory for each core, such as h_vmem or mem_free"""

    @model_validator(mode="after")
    def _books_its_cores(self) -> SgeProfile:
        cores = max(self.cores, self.coordinator.cores)
        if cores > 1 and self.parallel_environment is None:
            raise ValueError(
                f"cores is {cores}, and Grid Engine books more than one through a parallel environment "
                "alone; name it with parallel_environment (qconf -spl lists them)"
            )
        return self


class LsfProfile(BatchProfile):
    """LSF, through ``dask_jobqueue.LSFCluster``."""

    kind: Literal["lsf"] = "lsf"


class OarProfile(BatchProfile):
    """OAR, through ``dask_jobqueue.OARCluster``."""

    kind: Literal["oar"] = "oar"
    memory_resource: str | None = None
    """property that holds the memory of a core, such as memcore (oarnodes shows it)"""


class HTCondorProfile(BatchProfile):
    """HTCondor, through ``dask_jobqueue.HTCondorCluster``."""

    kind: Literal["htcondor"] = "htcondor"
    disk: Size = "1GB"
    """disk of one job"""

    @model_validator(mode="after")
    def _as_a_submit_file(self) -> HTCondorProfile:
        if self.queue is not None:
            raise ValueError(
                "HTCondor has no queues; say which machines do under directives (Requirements = ...)"
            )
        if comment := next((line for line in self.prologue if re.search(r"(^|\s)#", line)), None):
            raise ValueError(
                f"prologue of HTCondor is one line of shell, which a comment would end: {comment!r}; remove it"
            )
        odd = [line for line in self.directives if "=" not in line]
        if odd:
            raise ValueError(f'directives of HTCondor are lines such as "Rank = Memory", got {odd[0]!r}')
        return self


class KubernetesProfile(_Elsewhere):
    """Pods, as ``dask_kubernetes.operator.KubeCluster`` asks the Dask operator for them."""

    kind: Literal["kubernetes"] = "kubernetes"
    image: str
    """container image with slcluster, for scheduler and workers"""
    namespace: str | None = None
    """of the pods; that of the current context where not given"""
    cores: PositiveInt = 1
    """cores of a worker, one thread each"""
    memory: Size = "2GB"
    """memory of a worker"""
    local_directory: str | None = None
    """fast local disk for what workers spill"""
    start_timeout: Duration = "10m"
    """how long pods may wait before the analysis gives up"""


class GatewayProfile(_Elsewhere):
    """A cluster that a dask-gateway server starts."""

    kind: Literal["gateway"] = "gateway"
    address: str | None = None
    """of the gateway; Dask's configuration says it where not given"""
    auth: str | None = None
    """basic, kerberos or jupyterhub; Dask's configuration says it where not given"""
    cores: PositiveInt | None = None
    """the server's option worker_cores"""
    memory: Size | None = None
    """the server's option worker_memory, in its unit GiB"""
    start_timeout: Duration = "10m"
    """how long workers may take to come before the analysis gives up"""


Profile = (
    LocalProfile
    | SlurmProfile
    | PbsProfile
    | SgeProfile
    | LsfProfile
    | OarProfile
    | HTCondorProfile
    | KubernetesProfile
    | GatewayProfile
)

#: By the name that a profile gives as its kind.
KINDS: dict[str, type[Profile]] = {model.model_fields["kind"].default: model for model in get_args(Profile)}
